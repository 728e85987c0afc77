//! One `[[services]]` table: what its type needs, and the rules that join its keys. It sees no other service.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::section::{Layers, Section};
use crate::config::keys::table::TABLE;
use crate::config::keys::{Fallback, Scope, ServiceType, TYPES};
use crate::config::report::Problem;
use crate::config::{
    KubernetesConfig, KubernetesKind, ProcessConfig, Scaler, ServiceConfig, Via, WorkloadConfig,
};

/// A service as far as it could be read, with what no other service may have.
pub(super) struct Read {
    /// Absent where anything is missing or wrong; that has been noted.
    pub(super) config: Option<ServiceConfig>,
    /// Host and path prefix, and where the host stands.
    pub(super) route: Option<((String, String), Range<usize>)>,
    /// Where a fixed port stands.
    pub(super) port: Option<Range<usize>>,
}

/// Reads a service; `span` is where its table begins.
pub(super) fn read(
    table: &DeTable<'_>,
    span: Range<usize>,
    top: &Section,
    defaults: &Section,
    problems: &mut Vec<Problem>,
) -> Read {
    let found = service_type(table);
    let scope = Scope::Service(found);
    let own = Section::read(table, span, scope, problems);
    note_missing(&own, scope, problems);
    let layers = Layers { own: &own, outer: Some(top), defaults };
    problems.extend(port_for_many(&layers));

    let route = layers.text("host").zip(layers.text("path_prefix"));
    Read {
        config: found.and_then(|found| service(&layers, found)),
        route: route.zip(own.span_of("host")),
        port: own.span_of("port"),
    }
}

/// Needed before the other keys can be judged; a wrong one is reported with them.
fn service_type(table: &DeTable<'_>) -> Option<ServiceType> {
    let DeValue::String(written) = table.get("type")?.get_ref() else {
        return None;
    };
    TYPES.iter().find(|(spelling, _)| spelling == written).map(|(_, found)| *found)
}

fn service(layers: &Layers<'_>, found: ServiceType) -> Option<ServiceConfig> {
    let host = layers.text("host")?;
    let workload = match found {
        ServiceType::Kubernetes(kind) => WorkloadConfig::Kubernetes(kubernetes(layers, kind)?),
        ServiceType::Process => WorkloadConfig::Process(process(layers, &host)?),
    };
    Some(ServiceConfig {
        host,
        path_prefix: layers.text("path_prefix")?,
        workload,
        hold_timeout: layers.duration("timeout")??,
        max_held: layers.number("max_held")?,
        sleep_after: layers.duration("sleep_after")??,
        connect_timeout: layers.duration("connect_timeout")??,
        response_timeout: layers.duration("response_timeout")?,
        idle_timeout: layers.duration("idle_timeout")?,
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
        via: Via::from_spelling(&layers.text("via")?)?,
    })
}

fn process(layers: &Layers<'_>, host: &str) -> Option<ProcessConfig> {
    // Wrong is not the same as absent.
    if ["name", "workdir", "port"].iter().any(|name| layers.is_wrong(name)) {
        return None;
    }
    Some(ProcessConfig {
        name: layers.text("name").unwrap_or_else(|| host.to_owned()),
        command: layers.texts("command")?,
        env: layers.environment("env")?,
        workdir: layers.text("workdir").map(Into::into),
        port: layers.number("port"),
        readiness: layers.readiness("readiness")?,
        start_timeout: layers.duration("start_timeout")??,
        stop_grace: layers.duration("stop_grace")??,
        replicas: layers.number("replicas")?,
    })
}

fn note_missing(own: &Section, scope: Scope, problems: &mut Vec<Problem>) {
    for key in TABLE {
        let required = key.fallback == Fallback::Required && key.place.allows(scope);
        // Without a type nobody knows what else is needed.
        let known = scope != Scope::Service(None) || matches!(key.name, "host" | "type");
        if required && known && !own.has(key.name) {
            problems.push(Problem {
                span: own.span.clone(),
                message: format!("this service has no `{}`", key.name),
                help: format!("write, for example, {}", key.example),
                related: None,
            });
        }
    }
}

/// Processes beside each other cannot listen on one port.
fn port_for_many(layers: &Layers<'_>) -> Option<Problem> {
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
