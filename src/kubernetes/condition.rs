//! Why a workload is not ready, from what the index knows of it. Pure; it looks at no pod.

use super::index::Seen;
use super::pods;
use crate::cause::{Cause, NotReadyReason};
use crate::config::{KubernetesConfig, KubernetesKind};

/// Why nothing can be sent to the workload, or woken: something is missing, or nothing is known.
pub fn trouble(config: &KubernetesConfig, seen: &Seen) -> Option<NotReadyReason> {
    let KubernetesConfig { namespace, name, service_name, service_port, .. } = config;
    let because = |cause, detail: String| Some(NotReadyReason { cause, detail });
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
pub fn delay(config: &KubernetesConfig, seen: &Seen) -> Option<NotReadyReason> {
    let refused = seen.workload.as_ref().and_then(|workload| workload.refused.as_ref());
    let subject = || format!("{} {}/{}", kind_of(config), config.namespace, config.name);
    let refused = refused.map(|message| NotReadyReason {
        cause: Cause::PodsRefused,
        detail: pods::detail(&subject(), message),
    });
    let fault =
        || seen.fault.clone().map(|detail| NotReadyReason { cause: Cause::Unknown, detail });
    refused.or_else(fault)
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
    use crate::config::{Scaler, ServicePort, Via};

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
}
