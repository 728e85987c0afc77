//! The few fields of Kubernetes objects that agimo keeps, read and checked once.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::config::ServicePort;

/// An object's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    pub namespace: String,
    pub name: String,
}

/// An EndpointSlice: some endpoints of one Service, all of one address family, with the same ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service whose endpoints these are.
    pub service: ObjectName,
    pub is_ipv6: bool,
    /// Name of the Service's port and number of the pods' port. The name is empty where the Service's port has none.
    pub ports: Vec<(String, u16)>,
    pub endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    pub address: IpAddr,
    /// The pod's UID; absent where no pod is behind the address.
    pub pod: Option<Arc<str>>,
    /// The pod is ready and does not terminate.
    pub ready: bool,
    pub terminating: bool,
    /// It terminates and still serves.
    pub last_resort: bool,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceObject {
    pub ports: Vec<PortObject>,
    /// The label selector of its pods; absent where it selects none.
    pub selector: Option<String>,
    pub prefers_ipv6: bool,
    /// Absent for a headless Service.
    pub cluster_ip: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortObject {
    pub name: String,
    pub number: u16,
    /// The pod's port: a number, or the name of a container port.
    pub target: ServicePort,
}

/// A Deployment or StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadObject {
    pub replicas: u32,
    pub resource_version: String,
    /// Why its pods are rejected, where its controller reports it.
    pub pods_rejected: Option<String>,
    /// A change has not reached all replicas, or is paused.
    pub is_rolling_out: bool,
}

// === impl ObjectName ===

impl ObjectName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn of<K: ResourceExt>(object: &K) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Slice ===

impl Slice {
    /// `None` where the slice belongs to no Service or holds no addresses.
    pub fn read(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.labels().get("kubernetes.io/service-name")?;
        let is_ipv6 = match slice.address_type.as_str() {
            "IPv4" => false,
            "IPv6" => true,
            _ => return None,
        };
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            if !is_tcp(port.protocol.as_deref()) {
                return None;
            }
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), number))
        });
        let endpoints = slice.endpoints.iter().filter_map(|endpoint| {
            // Further addresses have no meaning (discovery/v1 Endpoint).
            let address = endpoint.addresses.first()?.parse().ok()?;
            let conditions = endpoint.conditions.as_ref();
            let condition =
                |of: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| {
                    conditions.and_then(of)
                };
            // Absent means ready (discovery/v1 EndpointConditions).
            let ready = condition(|conditions| conditions.ready).unwrap_or(true);
            let serving = condition(|conditions| conditions.serving).unwrap_or(ready);
            let terminating = condition(|conditions| conditions.terminating).unwrap_or(false);
            let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref());
            Some(SliceEndpoint {
                address,
                pod: pod.map(Into::into),
                // `ready` is always true where the Service publishes addresses of pods that are not ready
                // (publishNotReadyAddresses); `serving` is the readiness of the pod.
                ready: serving && !terminating,
                terminating,
                last_resort: serving && terminating,
            })
        });
        Some(Self {
            service: ObjectName::new(&slice.namespace().unwrap_or_default(), service),
            is_ipv6,
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        })
    }
}

// === impl ServiceObject ===

impl ServiceObject {
    pub fn read(service: &Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let port = |port: k8s_openapi::api::core::v1::ServicePort| {
            if !is_tcp(port.protocol.as_deref()) {
                return None;
            }
            let number = u16::try_from(port.port).ok()?;
            let target = match port.target_port {
                Some(IntOrString::Int(0)) | None => ServicePort::Number(number),
                Some(IntOrString::Int(target)) => ServicePort::Number(u16::try_from(target).ok()?),
                Some(IntOrString::String(name)) => ServicePort::Name(name),
            };
            Some(PortObject { name: port.name.unwrap_or_default(), number, target })
        };
        let selector = spec.selector.filter(|labels| !labels.is_empty()).map(|labels| {
            let labels: Vec<_> =
                labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            labels.join(",")
        });
        Self {
            ports: spec.ports.into_iter().flatten().filter_map(port).collect(),
            selector,
            prefers_ipv6: spec
                .ip_families
                .iter()
                .flatten()
                .next()
                .is_some_and(|family| family == "IPv6"),
            cluster_ip: spec.cluster_ip.and_then(|address| address.parse().ok()),
        }
    }

    /// The port with this number or name.
    pub fn port(&self, wanted: &ServicePort) -> Option<&PortObject> {
        self.ports.iter().find(|port| match wanted {
            ServicePort::Number(number) => port.number == *number,
            ServicePort::Name(name) => port.name == *name,
        })
    }
}

/// A Service may have a TCP and a UDP port of the same number, for HTTP/3. Absent means TCP (core/v1 ServicePort).
fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}

// === impl WorkloadObject ===

impl WorkloadObject {
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let conditions =
            deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let pods_rejected = conditions
            .filter(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
            .find_map(|condition| condition.message.clone());
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas);
        Self {
            pods_rejected,
            is_rolling_out: is_rolling_out(deployment),
            ..Self::new(replicas, deployment.resource_version())
        }
    }

    /// A StatefulSet has no condition that says why its pods are rejected; only its events do.
    pub fn of_stateful_set(set: &StatefulSet) -> Self {
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        let status = set.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let is_partial = strategy.is_some_and(|strategy| {
            let partition = strategy.rolling_update.as_ref().and_then(|update| update.partition);
            strategy.type_.as_deref() == Some("OnDelete") || partition.is_some_and(|from| from > 0)
        });
        // The current revision becomes the update revision when all pods have it (apps/v1 StatefulSetStatus).
        let has_two =
            status.is_some_and(|status| status.current_revision != status.update_revision);
        let is_rolling_out = lags(observed, set.metadata.generation) || (has_two && !is_partial);
        Self { is_rolling_out, ..Self::new(replicas, set.resource_version()) }
    }

    fn new(replicas: Option<i32>, resource_version: Option<String>) -> Self {
        Self {
            // The default is 1 (apps/v1 DeploymentSpec).
            replicas: replicas.unwrap_or(1).try_into().unwrap_or(0),
            resource_version: resource_version.unwrap_or_default(),
            pods_rejected: None,
            is_rolling_out: false,
        }
    }
}

/// Whether the controller has not seen the newest change. Without a status nothing is known of it.
fn lags(observed: Option<i64>, newest: Option<i64>) -> bool {
    observed.is_some() && observed < newest
}

/// Whether a Deployment has replicas of an older template, or its newest ones were never all available. The reason of
/// the condition Progressing tells the latter (Kubernetes, Deployment status), and stays as it is when a complete
/// Deployment is scaled.
fn is_rolling_out(deployment: &Deployment) -> bool {
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let Some(status) = &deployment.status else { return is_paused };
    let has_old = status.replicas.unwrap_or(0) > status.updated_replicas.unwrap_or(0);
    let progressing =
        status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let is_complete = progressing
        .is_none_or(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"));
    is_paused
        || lags(status.observed_generation, deployment.metadata.generation)
        || has_old
        || !is_complete
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_tcp_ports_count() {
        let ports = json!([
            { "name": "http3", "port": 443, "protocol": "UDP", "targetPort": 8443 },
            { "name": "https", "port": 443, "protocol": "TCP", "targetPort": 9443 },
            { "name": "plain", "port": 80 },
        ]);
        let service = json!({ "metadata": { "name": "web" }, "spec": { "ports": ports } });
        let service = ServiceObject::read(&serde_json::from_value(service).unwrap());
        let port = service.port(&ServicePort::Number(443)).unwrap();
        assert_eq!((port.name.as_str(), &port.target), ("https", &ServicePort::Number(9443)));
        assert!(service.port(&ServicePort::Number(80)).is_some());
        let slice = json!({
            "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "ports": [
                { "name": "http3", "port": 8443, "protocol": "UDP" },
                { "name": "https", "port": 9443, "protocol": "TCP" },
            ],
            "endpoints": [],
        });
        let slice = Slice::read(&serde_json::from_value(slice).unwrap()).unwrap();
        assert_eq!(slice.ports, [("https".to_owned(), 9443)]);
    }

    #[test]
    fn an_endpoint_is_ready_if_it_serves_and_does_not_terminate() {
        for (conditions, ready, last_resort) in [
            (json!({}), true, false),
            (json!({ "ready": true, "serving": true, "terminating": false }), true, false),
            // publishNotReadyAddresses: `ready` says nothing.
            (json!({ "ready": true, "serving": false, "terminating": false }), false, false),
            (json!({ "ready": true, "serving": true, "terminating": true }), false, true),
            (json!({ "ready": false }), false, false),
        ] {
            let slice = json!({
                "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
                "addressType": "IPv4",
                "endpoints": [{ "addresses": ["10.0.0.1"], "conditions": conditions }],
            });
            let slice = Slice::read(&serde_json::from_value(slice).unwrap()).unwrap();
            let endpoint = &slice.endpoints[0];
            assert_eq!(
                (endpoint.ready, endpoint.last_resort),
                (ready, last_resort),
                "{conditions}"
            );
        }
    }
}
