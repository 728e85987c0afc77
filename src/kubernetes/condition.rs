//! Why a workload is not ready, from what the index knows of it. Pure; it looks at no pod.

use super::index::Seen;
use super::pods;
use crate::backend::{Cause, Kept, Trouble};
use crate::config::{KubernetesConfig, KubernetesKind, Scaler};

/// Why nothing can be sent to the workload, or woken: something is missing, or nothing is known.
pub fn trouble(config: &KubernetesConfig, seen: &Seen) -> Option<Trouble> {
    let KubernetesConfig { namespace, name, service_name, service_port, .. } = config;
    let because = |cause, detail: String| Some(Trouble { cause, detail });
    if seen.unwatched {
        let detail = format!("--watch-namespaces does not name {namespace}");
        return because(Cause::NamespaceUnwatched, detail);
    }
    if !seen.synced {
        let fault = seen.fault.clone();
        let detail = fault.unwrap_or_else(|| "the API server has not answered yet".to_owned());
        return because(Cause::Unknown, detail);
    }
    if seen.workload.is_none() {
        let kind = kind_of(config);
        return because(Cause::WorkloadMissing, format!("there is no {kind} {namespace}/{name}"));
    }
    let Some(service) = &seen.service else {
        let detail = format!("there is no Service {namespace}/{service_name}");
        return because(Cause::ServiceMissing, detail);
    };
    if service.port(service_port).is_none() {
        let has: Vec<_> = service.ports.iter().map(|port| port.number.to_string()).collect();
        let has = has.join(", ");
        let detail =
            format!("Service {namespace}/{service_name} has no port {service_port}, only {has}");
        return because(Cause::PortMissing, detail);
    }
    None
}

/// Why a wake lasts, where its pods do not say.
pub fn delay(config: &KubernetesConfig, seen: &Seen) -> Option<Trouble> {
    let refused = seen.workload.as_ref().and_then(|workload| workload.refused.as_ref());
    let subject = || format!("{} {}/{}", kind_of(config), config.namespace, config.name);
    let refused = refused.map(|message| Trouble {
        cause: Cause::PodsRefused,
        detail: pods::detail(&subject(), message),
    });
    let fault = || seen.fault.clone().map(|detail| Trouble { cause: Cause::Unknown, detail });
    refused.or_else(fault)
}

/// Why agimo must not put the workload to sleep, where it has so many replicas of its own.
pub fn kept(config: &KubernetesConfig, seen: &Seen, peers: usize) -> Option<Kept> {
    match config.scaler {
        Scaler::External => Some(Kept::External),
        Scaler::Agimo if seen.followers > 1 => Some(Kept::Services),
        Scaler::Agimo => (peers > 1).then_some(Kept::Peers),
    }
}

/// What the log says of it; a scaler that was configured is no news.
pub fn of_keeping(kept: Kept) -> Option<&'static str> {
    match kept {
        Kept::External => None,
        Kept::Peers => Some(
            "agimo runs more than once and cannot know what the others have open: \
             it wakes the workload and does not put it to sleep",
        ),
        Kept::Services => Some(
            "several services lead to the workload and none knows what another has open: \
             each wakes it, and none puts it to sleep",
        ),
    }
}

/// The kind as Kubernetes writes it.
pub fn kind_of(config: &KubernetesConfig) -> &'static str {
    match config.kind {
        KubernetesKind::Deployment => "Deployment",
        KubernetesKind::StatefulSet => "StatefulSet",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::objects::{PortObject, ServiceObject, WorkloadObject};
    use super::*;
    use crate::config::{ServicePort, Via};

    fn config() -> KubernetesConfig {
        KubernetesConfig {
            kind: KubernetesKind::Deployment,
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            service_name: "web-http".to_owned(),
            service_port: ServicePort::Name("http".to_owned()),
            scaler: Scaler::Agimo,
            via: Via::Pod,
        }
    }

    fn service(port: &str) -> Option<Arc<ServiceObject>> {
        Some(Arc::new(ServiceObject {
            ports: vec![PortObject {
                name: port.to_owned(),
                number: 8080,
                target: ServicePort::Number(80),
            }],
            selector: None,
            prefers_ipv6: false,
            cluster_ip: None,
        }))
    }

    #[test]
    fn what_is_missing_is_named_the_first_thing_first() {
        let told =
            |seen: &Seen| trouble(&config(), seen).map(|trouble| (trouble.cause, trouble.detail));
        let mut seen = Seen::default();
        assert_eq!(told(&seen).unwrap().0, Cause::Unknown);
        seen.fault = Some("the API server cannot be read".to_owned());
        assert_eq!(told(&seen).unwrap().1, "the API server cannot be read");
        seen.synced = true;
        let expected = (Cause::WorkloadMissing, "there is no Deployment default/web".to_owned());
        assert_eq!(told(&seen).unwrap(), expected);
        seen.workload = Some(WorkloadObject {
            replicas: 0,
            resource_version: "1".to_owned(),
            refused: Some("exceeded quota: q".to_owned()),
        });
        assert_eq!(told(&seen).unwrap().0, Cause::ServiceMissing);
        seen.service = service("grpc");
        let (cause, detail) = told(&seen).unwrap();
        assert_eq!(cause, Cause::PortMissing);
        assert_eq!(detail, "Service default/web-http has no port http, only 8080");
        seen.service = service("http");
        assert_eq!(told(&seen), None);
        let delay = delay(&config(), &seen).unwrap();
        assert_eq!(delay.cause, Cause::PodsRefused);
        assert_eq!(delay.detail, "Deployment default/web: exceeded quota: q");
        seen.unwatched = true;
        assert_eq!(told(&seen).unwrap().0, Cause::NamespaceUnwatched);
    }

    #[test]
    fn only_who_knows_of_all_work_may_put_it_to_sleep() {
        let mut seen = Seen { followers: 1, ..Seen::default() };
        assert_eq!(kept(&config(), &seen, 0), None);
        assert_eq!(kept(&config(), &seen, 1), None);
        assert_eq!(kept(&config(), &seen, 2), Some(Kept::Peers));
        seen.followers = 2;
        assert_eq!(kept(&config(), &seen, 1), Some(Kept::Services));
        let external = KubernetesConfig { scaler: Scaler::External, ..config() };
        assert_eq!(kept(&external, &seen, 2), Some(Kept::External));
    }
}
