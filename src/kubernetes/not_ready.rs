//! Why a workload or one of its sources has no endpoint, from what the watches know. Pure.

use super::index::health::WatchHealth;
use super::index::{SourceSnapshot, WorkloadSnapshot};
use super::objects::workload::PodTemplate;
use crate::backend::EndpointSource;
use crate::cause::{Cause, NotReadyReason};
use crate::config::ServicePort;
use crate::workload::WorkloadId;

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
        let kind = kind.kubernetes_name();
        (Cause::WorkloadMissing, format!("there is no {kind} {namespace}/{name}"))
    } else {
        return None;
    };
    Some(NotReadyReason { cause, detail })
}

/// Why a source cannot have endpoints: its Service is missing, has no such port, or leads to no pod of the workload. If
/// the Service `is_selecting` pods of it, they have more labels than their template.
pub fn unusable_source(
    workload: &WorkloadId,
    source: &EndpointSource,
    snapshot: &SourceSnapshot,
    template: Option<&PodTemplate>,
    is_selecting: bool,
) -> Option<NotReadyReason> {
    let EndpointSource::Service { name, port, .. } = source else { return None };
    let WorkloadId { kind, namespace, name: workload } = workload;
    let subject = format!("Service {namespace}/{name}");
    let pods = format!("the pods of {} {namespace}/{workload}", kind.kubernetes_name());
    let Some(service) = &snapshot.service else {
        let detail = format!("there is no {subject}");
        return Some(NotReadyReason { cause: Cause::ServiceMissing, detail });
    };
    let (cause, detail) = if service.is_external_name {
        let fix = "name a Service that selects the pods";
        let detail = format!("{subject} has the type ExternalName, so it has no endpoints: {fix}");
        (Cause::ServiceExternalName, detail)
    } else if let Some(port) = service.port(port) {
        let template = template?;
        match &port.target {
            _ if !is_selecting && !service.may_select(&template.labels) => {
                let selector = service.selector.as_deref().unwrap_or("");
                let labels = template.labels.iter().map(|(key, value)| format!("{key}={value}"));
                let labels = join_or_none(labels);
                let detail = format!("{subject} selects {selector}, and {pods} have {labels}");
                (Cause::SelectorMismatch, detail)
            }
            ServicePort::Name(target)
                if service.selector.is_some() && !template.port_names.contains(target) =>
            {
                let names = join_or_none(template.port_names.iter().cloned());
                let detail =
                    format!("{subject} has the target port `{target}`, and {pods} name {names}");
                (Cause::PortMissing, detail)
            }
            _ => return None,
        }
    } else {
        let ports = join_or_none(service.ports.iter().map(|port| port.number.to_string()));
        (Cause::PortMissing, format!("{subject} has no port {port}, only {ports}"))
    };
    Some(NotReadyReason { cause, detail })
}

/// Why a workload has no pods although it is to have replicas, where nothing else is known.
pub fn no_pods(
    workload: &WorkloadId,
    snapshot: &WorkloadSnapshot,
    terminating: Option<&str>,
) -> Option<NotReadyReason> {
    let WorkloadId { kind, namespace, name } = workload;
    let subject = format!("{} {namespace}/{name}", kind.kubernetes_name());
    if snapshot.workload.as_ref().is_some_and(|workload| workload.is_paused) {
        let detail = format!("{subject} is paused: kubectl rollout resume continues it");
        return Some(NotReadyReason { cause: Cause::DeploymentPaused, detail });
    }
    let detail = format!("pod {} has not ended, and {subject} has no new one", terminating?);
    Some(NotReadyReason { cause: Cause::PodTerminating, detail })
}

/// Another writer has scaled the workload to zero since agimo scaled it up.
pub fn contested(workload: &WorkloadId, snapshot: &WorkloadSnapshot) -> NotReadyReason {
    let WorkloadId { kind, namespace, name } = workload;
    let writers = snapshot.workload.iter().flat_map(|workload| workload.replicas_writers.iter());
    let writers: Vec<_> = writers.cloned().collect();
    let writer = if writers.is_empty() {
        "another writer, which the object does not name,".to_owned()
    } else {
        format!("the field manager {}", writers.join(", "))
    };
    let message = format!("{writer} has scaled it to zero since agimo scaled it up");
    let subject = format!("{} {namespace}/{name}", kind.kubernetes_name());
    NotReadyReason { cause: Cause::ScaledDown, detail: detail(&subject, &message) }
}

fn join_or_none(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
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
        let subject = format!("{} {namespace}/{name}", kind.kubernetes_name());
        NotReadyReason { cause: Cause::PodsRefused, detail: detail(&subject, message) }
    });
    rejected.or_else(|| {
        let detail = health.fault.clone()?;
        Some(NotReadyReason { cause: Cause::Unknown, detail })
    })
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
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::objects::workload::WorkloadObject;
    use super::super::objects::{PortObject, ServiceObject};
    use super::*;
    use crate::config::Via;
    use crate::workload::WorkloadKind;

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
        let rejected = Some("exceeded quota: q".to_owned());
        let object = WorkloadObject { pods_rejected: rejected, ..WorkloadObject::default() };
        snapshot.workload = Some(Arc::new(object));
        assert_eq!(reason(&health, &snapshot), None);
        let delay = delayed_wake(&workload(), &health, &snapshot).unwrap();
        assert_eq!(delay.cause, Cause::PodsRefused);
        assert_eq!(delay.detail, "Deployment default/web: exceeded quota: q");
        snapshot.is_unwatched = true;
        assert_eq!(reason(&health, &snapshot).unwrap().0, Cause::NamespaceUnwatched);
    }

    #[test]
    fn a_source_names_what_keeps_its_service_from_having_endpoints() {
        let source = EndpointSource::Service {
            name: "web-http".to_owned(),
            port: ServicePort::Name("http".to_owned()),
            via: Via::Pod,
        };
        let port = |name: &str, target: ServicePort| {
            vec![PortObject {
                name: name.to_owned(),
                number: 8080,
                target,
                protocol: Default::default(),
            }]
        };
        let web = || ServicePort::Name("web".to_owned());
        let service = ServiceObject {
            ports: port("http", web()),
            selector: Some("app=web,pod-template-hash=x".to_owned()),
            ..ServiceObject::default()
        };
        let template = PodTemplate {
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            port_names: vec!["web".to_owned()],
            ..PodTemplate::default()
        };
        let reason = |template: &PodTemplate, service: Option<ServiceObject>| {
            let snapshot =
                SourceSnapshot { service: service.map(Arc::new), ..SourceSnapshot::default() };
            let reason = unusable_source(&workload(), &source, &snapshot, Some(template), false);
            reason.map(|reason| (reason.cause, reason.detail))
        };
        assert_eq!(reason(&template, Some(service.clone())), None);
        let detail = "there is no Service default/web-http".to_owned();
        assert_eq!(reason(&template, None), Some((Cause::ServiceMissing, detail)));
        let of_other_port = ServiceObject { ports: port("grpc", web()), ..service.clone() };
        let detail = "Service default/web-http has no port http, only 8080".to_owned();
        assert_eq!(reason(&template, Some(of_other_port)), Some((Cause::PortMissing, detail)));
        let alias = ServiceObject { is_external_name: true, ..ServiceObject::default() };
        assert_eq!(reason(&template, Some(alias)).unwrap().0, Cause::ServiceExternalName);
        let of_others = ServiceObject { selector: Some("app=shop".to_owned()), ..service.clone() };
        let detail = "Service default/web-http selects app=shop, and the pods of Deployment default/web have app=web";
        let expected = (Cause::SelectorMismatch, detail.to_owned());
        assert_eq!(reason(&template, Some(of_others)), Some(expected));
        let without_port = PodTemplate { port_names: Vec::new(), ..template };
        let detail = "Service default/web-http has the target port `web`, and the pods of Deployment default/web \
                      name none";
        let expected = (Cause::PortMissing, detail.to_owned());
        assert_eq!(reason(&without_port, Some(service.clone())), Some(expected));
        let unselective = ServiceObject { selector: None, ..service };
        assert_eq!(reason(&without_port, Some(unselective)), None, "its slices are made by hand");
    }

    #[test]
    fn another_writer_is_named_as_far_as_the_object_names_it() {
        let mut snapshot = WorkloadSnapshot::default();
        let of = |snapshot: &WorkloadSnapshot| contested(&workload(), snapshot).detail;
        assert!(of(&snapshot).contains("which the object does not name"));
        let writers = vec!["argocd-controller".to_owned()];
        let object =
            WorkloadObject { replicas_writers: writers.into(), ..WorkloadObject::default() };
        snapshot.workload = Some(Arc::new(object));
        let detail = "Deployment default/web: the field manager argocd-controller has scaled it to zero since agimo \
                      scaled it up";
        assert_eq!(of(&snapshot), detail);
    }
}
