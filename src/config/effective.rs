//! The configuration as `/config` on the admin port shows it: every default filled in, every secret masked. The output
//! is a valid configuration again.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::annotations::AnnotationsConfig;
use super::scaling::AutoscalingConfig;
use super::tls::{CertificatePaths, ClientCertificates, ClientTls, EndpointTls, EndpointTrust};
use super::{
    ClientLimits, Config, KeepAlive, KubernetesConfig, MASK, ProcessConfig, ReadinessCheck,
    ServiceConfig, ServicePort, WorkloadConfig,
};

// === impl Config ===

impl Config {
    /// Every value under the key that sets it: sizes in bytes, durations as in the file, the values of environment
    /// variables as `***`.
    pub fn effective(&self) -> Value {
        let Self {
            max_held_total,
            trusted_proxies,
            max_idle_upstream,
            client,
            tls,
            proxy_protocol,
            record_requests,
            annotations,
            services,
        } = self;
        let ClientLimits {
            max_head,
            max_uri,
            max_headers,
            head_timeout,
            keep_alive_timeout,
            max_head_memory,
            max_connections,
            max_connections_per_address,
        } = client;
        let mut shown = json!({
            "max_held_total": max_held_total,
            "trusted_proxies": trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "max_head": max_head,
            "max_uri": max_uri,
            "max_headers": max_headers,
            "head_timeout": duration(*head_timeout),
            "keep_alive_timeout": duration(*keep_alive_timeout),
            "max_head_memory": max_head_memory,
            "max_connections": max_connections.map_or(off(), |most| json!(most)),
            "max_connections_per_address": max_connections_per_address.map_or(off(), |most| json!(most)),
            "max_idle_upstream": max_idle_upstream,
            "proxy_protocol": proxy_protocol.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "record_requests": record_requests,
            "annotations": annotations.is_some(),
            "services": services.iter().map(service).collect::<Vec<_>>(),
        });
        self::client_tls(tls, &mut shown);
        if let Some(AnnotationsConfig { managed_by, allowed_hosts, defaults: _ }) = annotations {
            if let Some(managed_by) = managed_by {
                shown["managed_by"] = json!(managed_by);
            }
            if let Some(allowed_hosts) = allowed_hosts {
                shown["allowed_hosts"] = json!(allowed_hosts);
            }
        }
        shown
    }
}

/// Adds the keys of TLS to clients.
fn client_tls(tls: &ClientTls, shown: &mut Value) {
    let ClientTls { certificates, client_certificates, ticket_key } = tls;
    if let Some(ClientCertificates { ca, is_required }) = client_certificates {
        shown["client_ca"] = json!(ca.path);
        shown["client_certificate"] = json!(if *is_required { "required" } else { "optional" });
    }
    if let Some(ticket_key) = ticket_key {
        shown["ticket_key"] = json!(ticket_key.path);
    }
    if !certificates.is_empty() {
        let table = |paths: &CertificatePaths| json!({ "certificate": paths.certificate.path, "key": paths.key.path });
        shown["tls"] = certificates.iter().map(table).collect();
    }
}

/// The keys of TLS to the application that are set.
fn endpoint_tls(tls: &EndpointTls) -> Map<String, Value> {
    let EndpointTls { server_name, trust: EndpointTrust { ca, certificate, insecure } } = tls;
    let files = [
        ("tls_ca", ca.as_deref()),
        ("tls_certificate", certificate.as_ref().map(|pair| &pair.certificate)),
        ("tls_key", certificate.as_ref().map(|pair| &pair.key)),
    ];
    let files = files.into_iter().filter_map(|(key, file)| Some((key, json!(file?.path))));
    let name = server_name.iter().map(|name| ("tls_server_name", json!(name)));
    name.chain([("tls_insecure", json!(insecure))])
        .chain(files)
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn service(service: &ServiceConfig) -> Value {
    let mut shown = Map::new();
    let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    put("host", json!(service.host));
    put("path_prefix", json!(service.path_prefix));
    put("strip_prefix", json!(service.strip_prefix));
    put("hold_timeout", duration(service.hold_timeout));
    put("max_held", json!(service.max_held));
    put("sleep_after", duration(service.sleep_after));
    put("awake", service.awake.iter().map(ToString::to_string).collect());
    put("connect_timeout", duration(service.connect_timeout));
    put("response_timeout", service.response_timeout.map_or(off(), duration));
    put("idle_timeout", service.idle_timeout.map_or(off(), duration));
    put("half_closed_timeout", service.half_closed_timeout.map_or(off(), duration));
    put("body_timeout", service.body_timeout.map_or(off(), duration));
    put("keep_alive", keep_alive(service.keep_alive));
    put("protocol", json!(service.protocol.as_str()));
    put("redirect_to_https", service.redirect_to_https.map_or(off(), |port| json!(port)));
    put("affinity", json!(service.affinity.as_str()));
    put("max_held_per_address", service.max_held_per_address.map_or(off(), |most| json!(most)));
    put("max_body", service.max_body.map_or(off(), |bytes| json!(bytes)));
    shown.extend(endpoint_tls(&service.tls));
    shown.extend(match &service.workload {
        WorkloadConfig::Kubernetes(config) => kubernetes(config),
        WorkloadConfig::Process(config) => process(config),
    });
    Value::Object(shown)
}

fn keep_alive(keep_alive: KeepAlive) -> Value {
    match keep_alive {
        KeepAlive { most_idle: Some(most), .. } => json!(most),
        KeepAlive { idle_for, .. } => idle_for.map_or(off(), duration),
    }
}

fn kubernetes(config: &KubernetesConfig) -> Map<String, Value> {
    let KubernetesConfig {
        kind,
        namespace,
        name,
        service_name,
        service_port,
        scaler,
        mode,
        via,
        early_ready,
        cluster_names,
        autoscaling,
    } = config;
    let service_port = match service_port {
        ServicePort::Number(number) => json!(number),
        ServicePort::Name(name) => json!(name),
    };
    Map::from_iter([
        ("type".to_owned(), json!(kind.as_str())),
        ("namespace".to_owned(), json!(namespace)),
        ("name".to_owned(), json!(name)),
        ("service_name".to_owned(), json!(service_name)),
        ("service_port".to_owned(), service_port),
        ("scaler".to_owned(), json!(scaler.as_str())),
        ("mode".to_owned(), json!(mode.as_str())),
        ("via".to_owned(), json!(via.as_str())),
        ("early_ready".to_owned(), json!(early_ready)),
        ("cluster_names".to_owned(), json!(cluster_names)),
    ])
    .into_iter()
    .chain(self::autoscaling(autoscaling))
    .collect()
}

fn autoscaling(config: &AutoscalingConfig) -> [(String, Value); 12] {
    let AutoscalingConfig {
        target_concurrency,
        target_rate,
        min_replicas,
        max_replicas,
        activation_replicas,
        stable_window,
        panic_window,
        panic_threshold,
        max_scale_up_rate,
        max_scale_down_rate,
        scale_down_delay,
        scale_down_cuts_tunnels,
    } = config;
    let count = |value: &Option<u32>| value.map_or(off(), |count| json!(count));
    [
        ("target_concurrency", count(target_concurrency)),
        ("target_rate", count(target_rate)),
        ("min_replicas", json!(min_replicas)),
        ("max_replicas", json!(max_replicas)),
        ("activation_replicas", json!(activation_replicas)),
        ("stable_window", duration(*stable_window)),
        ("panic_window", duration(*panic_window)),
        ("panic_threshold", json!(panic_threshold)),
        ("max_scale_up_rate", json!(max_scale_up_rate)),
        ("max_scale_down_rate", json!(max_scale_down_rate)),
        ("scale_down_delay", duration(*scale_down_delay)),
        ("scale_down_cuts_tunnels", json!(scale_down_cuts_tunnels)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn process(config: &ProcessConfig) -> Map<String, Value> {
    let env = config.env.iter().map(|(name, value)| (name.clone(), json!(format!("{value:?}"))));
    let mut shown = Map::from_iter([
        ("type".to_owned(), json!("process")),
        ("name".to_owned(), json!(config.name)),
        ("command".to_owned(), masked_command(config)),
        ("env".to_owned(), Value::Object(env.collect())),
    ]);
    if let Some(workdir) = &config.workdir {
        shown.insert("workdir".to_owned(), json!(workdir.to_string_lossy()));
    }
    if let Some(port) = config.port {
        shown.insert("port".to_owned(), json!(port));
    }
    let readiness = match &config.readiness {
        ReadinessCheck::Tcp => "tcp",
        ReadinessCheck::Http(path) => path,
    };
    shown.insert("readiness".to_owned(), json!(readiness));
    shown.insert("start_timeout".to_owned(), duration(config.start_timeout));
    shown.insert("stop_grace".to_owned(), duration(config.stop_grace));
    shown.insert("replicas".to_owned(), json!(config.replicas));
    shown
}

/// The program, and its arguments masked: any of them may be a secret.
fn masked_command(config: &ProcessConfig) -> Value {
    let mask = |(at, word): (usize, &String)| if at == 0 { word.clone() } else { MASK.to_owned() };
    config.command.iter().enumerate().map(mask).collect()
}

fn duration(duration: Duration) -> Value {
    json!(humantime::format_duration(duration).to_string())
}

fn off() -> Value {
    json!("off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;
    use proptest::prelude::*;

    /// The output of `effective` as a configuration file. Its JSON strings, numbers and arrays are valid TOML.
    fn as_toml(shown: &Value) -> String {
        let lines = |table: &Value| -> String {
            let keys = table.as_object().into_iter().flatten();
            let keys = keys.filter(|(key, _)| !["services", "tls"].contains(&key.as_str()));
            let line = |(key, value): (&String, &Value)| match value.as_object() {
                Some(inner) => {
                    let inner: Vec<_> =
                        inner.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                    format!("{key} = {{ {} }}\n", inner.join(", "))
                }
                None => format!("{key} = {value}\n"),
            };
            keys.map(line).collect()
        };
        let tables = |name: &str| -> String {
            let tables = shown.get(name).and_then(Value::as_array).into_iter().flatten();
            tables.map(|table| format!("[[{name}]]\n{}", lines(table))).collect()
        };
        lines(shown) + &tables("services") + &tables("tls")
    }

    #[test]
    fn defaults_are_filled_in_and_secrets_masked() {
        let text = "[[services]]\nhost = 'A.b.'\ntype = 'process'\ncommand = ['x', '--password=hunter2']\nenv = { KEY = 'hunter2' }";
        let shown = parse(text).unwrap().effective();
        assert_eq!(shown["max_held_total"], 10000);
        assert_eq!(shown["max_head"], 32768);
        let service = &shown["services"][0];
        assert_eq!(service["host"], "a.b");
        assert_eq!(service["name"], "a.b");
        assert_eq!(service["hold_timeout"], "30s");
        assert!(service.get("timeout").is_none(), "only the documented name is shown");
        assert_eq!(service["sleep_after"], "5m");
        assert_eq!(service["response_timeout"], "off");
        assert_eq!(service["env"]["KEY"], "***");
        assert!(service.get("port").is_none());
        assert!(!shown.to_string().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn the_output_parses_to_the_same_configuration(
            top in "((hold_)?timeout = '[1-9][0-9]{0,2}(ms|s|m)'\n)?(max_body = '[1-9]MB'\n)?(idle_timeout = '1h 5s'\n)?(keep_alive = ('off'|'9s'|[1-9])\n)?(max_connections = ([1-9]00|'off')\n)?(tls_ca = '[a-z]'\n)?(redirect_to_https = [1-9]00\n)?",
            networks in prop::collection::vec(any::<[u8; 4]>().prop_map(|[a, b, c, d]| format!("{a}.{b}.{c}.{d}/{}", a % 33)), 0..3),
            labels in prop::collection::vec("[a-z][a-z0-9]{0,5}", 1..4),
            prefix in "/[a-z/]{0,6}",
            command in prop::collection::vec("[ -&(-~]{1,8}", 1..2),
            own in "(sleep_after = '[1-9]m 3s'\n)?(replicas = [1-9]\n|port = [1-9][0-9]{3}\n)?(readiness = '/[a-z]{0,4}'\n)?(workdir = '/[a-z]{1,4}'\n)?(name = '[a-z ]{1,4}'\n)?",
        ) {
            let text = format!(
                "trusted_proxies = {networks:?}\n{top}[[services]]\nhost = '{}.Test'\ntype = 'process'\n\
                 path_prefix = '{prefix}'\ncommand = {command:?}\n{own}\
                 [[services]]\nhost = '*.k8s'\ntype = 'sts'\nnamespace = 'n'\nname = 'a.b'\nservice_name = 's'\nservice_port = 'web'\nvia = 'service'\naffinity = 'cookie'\n\
                 tls_server_name = 'x'\ntls_certificate = 'c'\ntls_key = 'k'\n[[tls]]\ncertificate = 'a'\nkey = 'b'",
                labels.join("."),
            );
            let config = parse(&text).unwrap();
            let shown = as_toml(&config.effective());
            prop_assert_eq!(parse(&shown).unwrap(), config);
        }
    }
}
