//! Why a workload or one of its sources has no endpoint, from what the watches know. Pure.

use super::index::health::WatchHealth;
use super::index::{SourceSnapshot, WorkloadSnapshot};
use crate::backend::EndpointSource;
use crate::cause::{Cause, NotReadyReason};
use crate::workload::{WorkloadId, WorkloadKind};

/// Longest detail that is passed on: messages of Kubernetes can be pages long.
const MAX_DETAIL_CHARS: usize = 400;

/// Why nothing can be known of the workload, or nothing can be scaled: no watch, no answer, no such object.
pub fn missing_workload(
    workload: &WorkloadId,
    health: &WatchHealth,
    snapshot: &WorkloadSnapshot,
) -> Option<NotReadyReason> {
    let WorkloadId { kind, namespace, name } = workload;
    let (cause, detail) = if snapshot.is_unwatched {
        let detail = format!("--watch-namespaces does not name {namespace}");
        (Cause::NamespaceUnwatched, detail)
    } else if !health.is_synced {
        let detail = health.fault.clone();
        let detail = detail.unwrap_or_else(|| "the API server has not answered yet".to_owned());
        (Cause::Unknown, detail)
    } else if snapshot.workload.is_none() {
        let kind = object_kind(*kind);
        (Cause::WorkloadMissing, format!("there is no {kind} {namespace}/{name}"))
    } else {
        return None;
    };
    Some(NotReadyReason { cause, detail })
}

/// Why a source cannot have endpoints: its Service is missing, or has no such port.
pub fn missing_source(
    namespace: &str,
    source: &EndpointSource,
    snapshot: &SourceSnapshot,
) -> Option<NotReadyReason> {
    let EndpointSource::Service { name, port, .. } = source else { return None };
    let Some(service) = &snapshot.service else {
        let detail = format!("there is no Service {namespace}/{name}");
        return Some(NotReadyReason { cause: Cause::ServiceMissing, detail });
    };
    if service.port(port).is_some() {
        return None;
    }
    let ports: Vec<_> = service.ports.iter().map(|port| port.number.to_string()).collect();
    let ports = ports.join(", ");
    let detail = format!("Service {namespace}/{name} has no port {port}, only {ports}");
    Some(NotReadyReason { cause: Cause::PortMissing, detail })
}

/// Why a wake takes long, where no pod gives a reason: the pods are rejected, or the API server cannot be read.
pub fn delayed_wake(
    workload: &WorkloadId,
    health: &WatchHealth,
    snapshot: &WorkloadSnapshot,
) -> Option<NotReadyReason> {
    let WorkloadId { kind, namespace, name } = workload;
    let object = snapshot.workload.as_ref();
    let rejected = object.and_then(|object| object.pods_rejected.as_ref()).map(|message| {
        let subject = format!("{} {namespace}/{name}", object_kind(*kind));
        NotReadyReason { cause: Cause::PodsRefused, detail: detail(&subject, message) }
    });
    rejected.or_else(|| {
        let detail = health.fault.clone()?;
        Some(NotReadyReason { cause: Cause::Unknown, detail })
    })
}

/// The kind as Kubernetes writes it.
pub fn object_kind(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
        WorkloadKind::Process => "Process",
    }
}

/// A subject and a message on one line of bounded length.
pub fn detail(subject: &str, message: &str) -> String {
    let line = format!("{subject}: {}", message.trim());
    let line: String = line
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(MAX_DETAIL_CHARS)
        .collect();
    line.trim_end().trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::objects::{PortObject, ServiceObject, WorkloadObject};
    use super::*;
    use crate::config::{ServicePort, Via};

    fn workload() -> WorkloadId {
        WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        }
    }

    #[test]
    fn the_first_missing_thing_is_named() {
        let mut health = WatchHealth::default();
        let mut snapshot = WorkloadSnapshot::default();
        let reason = |health: &WatchHealth, snapshot: &WorkloadSnapshot| {
            missing_workload(&workload(), health, snapshot)
                .map(|reason| (reason.cause, reason.detail))
        };
        assert_eq!(reason(&health, &snapshot).unwrap().0, Cause::Unknown);
        health.fault = Some("cannot reach the API server".to_owned());
        assert_eq!(reason(&health, &snapshot).unwrap().1, "cannot reach the API server");
        health.is_synced = true;
        let expected = (Cause::WorkloadMissing, "there is no Deployment default/web".to_owned());
        assert_eq!(reason(&health, &snapshot).unwrap(), expected);
        snapshot.workload = Some(WorkloadObject {
            replicas: 0,
            resource_version: "1".to_owned(),
            pods_rejected: Some("exceeded quota: q".to_owned()),
            is_rolling_out: false,
        });
        assert_eq!(reason(&health, &snapshot), None);
        let delay = delayed_wake(&workload(), &health, &snapshot).unwrap();
        assert_eq!(delay.cause, Cause::PodsRefused);
        assert_eq!(delay.detail, "Deployment default/web: exceeded quota: q");
        snapshot.is_unwatched = true;
        assert_eq!(reason(&health, &snapshot).unwrap().0, Cause::NamespaceUnwatched);
    }

    #[test]
    fn a_source_names_its_missing_service_or_port() {
        let source = EndpointSource::Service {
            name: "web-http".to_owned(),
            port: ServicePort::Name("http".to_owned()),
            via: Via::Pod,
        };
        let service = |port: &str| {
            let port =
                PortObject { name: port.to_owned(), number: 8080, target: ServicePort::Number(80) };
            let service = ServiceObject {
                ports: vec![port],
                selector: None,
                prefers_ipv6: false,
                cluster_ip: None,
            };
            SourceSnapshot { service: Some(Arc::new(service)), ..SourceSnapshot::default() }
        };
        let reason = |snapshot: &SourceSnapshot| missing_source("default", &source, snapshot);
        assert_eq!(reason(&SourceSnapshot::default()).unwrap().cause, Cause::ServiceMissing);
        let missing = reason(&service("grpc")).unwrap();
        assert_eq!(missing.cause, Cause::PortMissing);
        assert_eq!(missing.detail, "Service default/web-http has no port http, only 8080");
        assert_eq!(reason(&service("http")), None);
    }
}
