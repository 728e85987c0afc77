//! Parses one `[[services]]` table: the keys its type requires, and the rules between its keys.

use std::ops::Range;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::section::{Layers, Section};
use super::tls;
use crate::config::keys::{ServiceType, TYPES, TableScope};
use crate::config::protocol::EndpointProtocol;
use crate::config::report::Problem;
use crate::config::scaling::{AutoscalingConfig, Mode, Scaler};
use crate::config::{
    Affinity, KubernetesConfig, KubernetesKind, ProcessConfig, ReadinessCheck, ServiceConfig, Via,
    WorkloadConfig, service_name,
};

/// There is a decision each second.
const SHORTEST_PANIC_WINDOW: Duration = Duration::from_secs(1);
const SHORTEST_STABLE_WINDOW: Duration = Duration::from_secs(6);

/// A parsed service, with the values that must be unique among services.
pub(super) struct ParsedService {
    /// `None` if a key is missing or invalid; the problem has been recorded.
    pub(super) config: Option<ServiceConfig>,
    /// Host and path prefix, and the place of the host.
    pub(super) route: Option<((String, String), Range<usize>)>,
    /// The place of a fixed port.
    pub(super) port: Option<Range<usize>>,
    /// The place that names the workload, or that says who scales it.
    pub(super) workload: Range<usize>,
}

/// Parses a service of the file `text`; `span` is the place where its table begins.
pub(super) fn parse(
    text: &str,
    table: &DeTable<'_>,
    span: Range<usize>,
    top: &Section,
    defaults: &Section,
    problems: &mut Vec<Problem>,
) -> ParsedService {
    let service_type = service_type(table);
    let scope = TableScope::Service(service_type);
    let own = Section::read(text, table, span, scope, problems);
    own.report_missing_keys(scope, problems);
    let layers = Layers { own: &own, outer: Some(top), defaults };
    let config = match service_type {
        Some(service_type) => checked(&layers, service_type, problems),
        None => None,
    };

    let route = layers.text("host").zip(layers.text("path_prefix"));
    ParsedService {
        config,
        route: route.zip(own.span_of("host")),
        port: own.span_of("port"),
        workload: workload_span(&layers),
    }
}

/// The service of these keys, and every rule between them that it breaks.
pub(super) fn checked(
    layers: &Layers<'_>,
    service_type: ServiceType,
    problems: &mut Vec<Problem>,
) -> Option<ServiceConfig> {
    problems.extend(fixed_port_with_replicas(layers));
    problems.extend(affinity_without_pods(layers, service_type));
    if service_type == ServiceType::Process {
        problems.extend(readiness_over_tls(layers));
    }
    if matches!(service_type, ServiceType::Kubernetes(_)) {
        problems.extend(autoscaling_conflict(layers));
        problems.extend(early_ready_of_service(layers));
    }
    service(layers, service_type, problems)
}

fn workload_span(layers: &Layers<'_>) -> Range<usize> {
    let own = layers.own;
    let written = own.span_of("scaler").or_else(|| own.span_of("name"));
    written.or_else(|| own.span_of("host")).unwrap_or_else(|| own.span.clone())
}

/// The value of `type`, which decides the keys that are allowed. An invalid one is reported when the keys are read.
fn service_type(table: &DeTable<'_>) -> Option<ServiceType> {
    let DeValue::String(written) = table.get("type")?.get_ref() else {
        return None;
    };
    TYPES.iter().find(|(spelling, _)| spelling == written).map(|(_, service_type)| *service_type)
}

fn service(
    layers: &Layers<'_>,
    service_type: ServiceType,
    problems: &mut Vec<Problem>,
) -> Option<ServiceConfig> {
    let tls = tls::endpoint_tls(layers, problems);
    let host = layers.text("host")?;
    let workload = match service_type {
        ServiceType::Kubernetes(kind) => WorkloadConfig::Kubernetes(kubernetes(layers, kind)?),
        ServiceType::Process => WorkloadConfig::Process(process(layers, &host)?.into()),
    };
    Some(ServiceConfig {
        host,
        path_prefix: layers.text("path_prefix")?,
        strip_prefix: layers.boolean("strip_prefix")?,
        workload,
        hold_timeout: layers.duration("hold_timeout")??,
        max_held: layers.number("max_held")?,
        sleep_after: layers.duration("sleep_after")??,
        awake: layers.schedules("awake")?,
        connect_timeout: layers.duration("connect_timeout")??,
        response_timeout: layers.duration("response_timeout")?,
        idle_timeout: layers.duration("idle_timeout")?,
        half_closed_timeout: layers.duration("half_closed_timeout")?,
        body_timeout: layers.duration("body_timeout")?,
        tls: tls?.shared(),
        redirect_to_https: layers.count("redirect_to_https")?,
        keep_alive: layers.keep_alive("keep_alive")?,
        protocol: EndpointProtocol::from_spelling(&layers.text("protocol")?)?,
        affinity: Affinity::from_spelling(&layers.text("affinity")?)?,
        max_held_per_address: layers.count("max_held_per_address")?,
        max_body: layers.size("max_body")?,
    })
}

fn kubernetes(layers: &Layers<'_>, kind: KubernetesKind) -> Option<KubernetesConfig> {
    Some(KubernetesConfig {
        kind,
        namespace: layers.text("namespace")?,
        name: layers.text("name")?,
        service_name: layers.text("service_name")?,
        service_port: layers.service_port("service_port")?,
        scaler: Scaler::from_spelling(&layers.text("scaler")?)?,
        mode: Mode::from_spelling(&layers.text("mode")?)?,
        via: Via::from_spelling(&layers.text("via")?)?,
        early_ready: layers.boolean("early_ready")?,
        cluster_names: layers.boolean("cluster_names")?,
        autoscaling: autoscaling(layers)?,
    })
}

fn autoscaling(layers: &Layers<'_>) -> Option<AutoscalingConfig> {
    Some(AutoscalingConfig {
        target_concurrency: layers.count("target_concurrency")?,
        target_rate: layers.count("target_rate")?,
        min_replicas: layers.number("min_replicas")?,
        max_replicas: layers.number("max_replicas")?,
        activation_replicas: layers.number("activation_replicas")?,
        stable_window: layers.duration("stable_window")??,
        panic_window: layers.duration("panic_window")??,
        panic_threshold: layers.number("panic_threshold")?,
        max_scale_up_rate: layers.number("max_scale_up_rate")?,
        max_scale_down_rate: layers.number("max_scale_down_rate")?,
        scale_down_delay: layers.duration("scale_down_delay")??,
        scale_down_cuts_tunnels: layers.boolean("scale_down_cuts_tunnels")?,
    })
}

/// Bounds of the own scaler that contradict each other.
fn autoscaling_conflict(layers: &Layers<'_>) -> Option<Problem> {
    let config = autoscaling(layers)?;
    let problem = |key: &str, message: String, help: &str| {
        let span = layers.span_of(key)?;
        Some(Problem { span, message, help: help.to_owned(), related: None })
    };
    let AutoscalingConfig { min_replicas, max_replicas, stable_window, panic_window, .. } = config;
    if min_replicas > max_replicas {
        let key =
            if layers.span_of("min_replicas").is_some() { "min_replicas" } else { "max_replicas" };
        let message =
            format!("min_replicas ({min_replicas}) is larger than max_replicas ({max_replicas})");
        return problem(key, message, "write a smaller `min_replicas` or a larger `max_replicas`");
    }
    if stable_window < SHORTEST_STABLE_WINDOW {
        let message = "`stable_window` is shorter than 6 s".to_owned();
        return problem(
            "stable_window",
            message,
            "write a longer time, such as stable_window = \"1m\"",
        );
    }
    if panic_window < SHORTEST_PANIC_WINDOW || panic_window > stable_window {
        let key =
            if layers.span_of("panic_window").is_some() { "panic_window" } else { "stable_window" };
        let message = "`panic_window` is not between 1 s and `stable_window`".to_owned();
        return problem(key, message, "write, for example, a tenth of `stable_window`");
    }
    None
}

/// Without a `name` of its own, every service has a process of its own.
fn process(layers: &Layers<'_>, host: &str) -> Option<ProcessConfig> {
    // These keys are optional, and an invalid value must not count as an absent one.
    if ["name", "workdir", "port"].iter().any(|name| layers.is_invalid(name)) {
        return None;
    }
    Some(ProcessConfig {
        name: match layers.text("name") {
            Some(name) => name,
            None => service_name(host, &layers.text("path_prefix")?),
        },
        command: layers.texts("command")?,
        env: layers.environment("env")?,
        workdir: layers.text("workdir").map(Into::into),
        port: layers.number("port"),
        readiness: layers.readiness_check("readiness")?,
        start_timeout: layers.duration("start_timeout")??,
        stop_grace: layers.duration("stop_grace")??,
        replicas: layers.number("replicas")?,
    })
}

/// `affinity = "host"` where no label of the host can name a pod, or no pod has a name that stays.
fn affinity_without_pods(layers: &Layers<'_>, service_type: ServiceType) -> Option<Problem> {
    let is_host = layers.text("affinity").as_deref() == Some(Affinity::Host.as_str());
    let span = layers.span_of("affinity").filter(|_| is_host)?;
    let is_wildcard = layers.text("host")?.starts_with("*.");
    let (message, help) = if service_type != ServiceType::Kubernetes(KubernetesKind::StatefulSet) {
        let help = "write type = \"statefulset\", or affinity = \"cookie\"";
        ("only the pods of a StatefulSet have names that stay", help)
    } else if layers.text("via")? != Via::Pod.as_str() {
        let message = "the address of the Service does not lead to a pod that is chosen";
        (message, "remove `via`, or write affinity = \"off\"")
    } else if !is_wildcard {
        let message = "the first label of the host is to name the pod, and this host is fixed";
        (message, "write a wildcard, for example host = \"*.example.com\"")
    } else {
        return None;
    };
    Some(Problem { span, message: message.to_owned(), help: help.to_owned(), related: None })
}

/// `early_ready` where requests do not go to the pods.
fn early_ready_of_service(layers: &Layers<'_>) -> Option<Problem> {
    let is_early = layers.boolean("early_ready")? && layers.text("via")? != Via::Pod.as_str();
    let span = layers.span_of("early_ready").filter(|_| is_early)?;
    Some(Problem {
        span,
        message:
            "the address of the Service leads to a pod only when Kubernetes knows that it is ready"
                .to_owned(),
        help: "remove `early_ready` or `via`".to_owned(),
        related: layers.span_of("via").map(|span| (span, "requests go to the Service".to_owned())),
    })
}

/// A readiness check by HTTP of an application that speaks TLS: the check does not.
fn readiness_over_tls(layers: &Layers<'_>) -> Option<Problem> {
    let protocol = EndpointProtocol::from_spelling(&layers.text("protocol")?)?;
    let ReadinessCheck::Http(path) = layers.readiness_check("readiness")? else { return None };
    if !protocol.requires_tls() {
        return None;
    }
    let span = layers.span_of("readiness").or(layers.span_of("protocol"))?;
    Some(Problem {
        span,
        message: format!(
            "the readiness check GET {path} is without TLS, and the application speaks TLS"
        ),
        help: "write readiness = \"tcp\"".to_owned(),
        related: layers.span_of("protocol").map(|span| (span, "it speaks TLS".to_owned())),
    })
}

/// A fixed port with several replicas: they cannot all listen on it.
fn fixed_port_with_replicas(layers: &Layers<'_>) -> Option<Problem> {
    let span = layers.own.span_of("port")?;
    let replicas: u32 = layers.number("replicas").filter(|replicas| *replicas > 1)?;
    Some(Problem {
        span,
        message: format!("{replicas} processes cannot share one `port`"),
        help: "remove `port` (agimo gives each process its own in PORT) or write replicas = 1"
            .to_owned(),
        related: layers
            .span_of("replicas")
            .map(|span| (span, "the number of processes".to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use crate::config::parse::parse;
    use crate::config::report::one_line;

    #[test]
    fn contradicting_bounds_of_the_scaler_are_reported() {
        for (keys, part) in [
            ("min_replicas = 20", "min_replicas (20) is larger than max_replicas (10)"),
            ("stable_window = '5s'", "`stable_window` is shorter than 6 s"),
            ("early_ready = true\nvia = 'service'", "leads to a pod only when Kubernetes knows"),
            ("panic_window = '2m'", "`panic_window` is not between 1 s and `stable_window`"),
        ] {
            let text = format!(
                "[[services]]\nhost = 'a'\ntype = 'deploy'\nnamespace = 'n'\nname = 'w'\nservice_name = 'w'\n\
                 service_port = 80\n{keys}\n"
            );
            let problems = parse(&text).expect_err("a problem");
            let found = one_line("", &text, &problems[0]);
            assert!(problems.len() == 1 && found.contains(part), "{found}");
        }
    }
}
