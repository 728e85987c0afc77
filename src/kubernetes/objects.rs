//! The few fields of Kubernetes objects that agimo keeps, read and checked once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::config::ServicePort;
use crate::config::protocol::EndpointProtocol;

pub mod requests;
pub mod scaler;
pub mod workload;

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
    /// Absent where no pod is behind the address.
    pub pod: Option<PodIdentity>,
    /// The pod is ready and does not terminate.
    pub ready: bool,
    pub terminating: bool,
    /// It terminates and still serves.
    pub last_resort: bool,
}

/// A pod, told from earlier and later ones of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    pub name: Arc<str>,
    pub uid: Arc<str>,
}

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceObject {
    pub ports: Vec<PortObject>,
    /// The label selector of its pods; absent where it selects none.
    pub selector: Option<String>,
    pub prefers_ipv6: bool,
    /// Absent for a headless Service.
    pub cluster_ip: Option<IpAddr>,
    /// It is an alias of a name in DNS, and has no endpoints (core/v1 ServiceSpec, type ExternalName).
    pub is_external_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortObject {
    pub name: String,
    pub number: u16,
    /// The pod's port: a number, or the name of a container port.
    pub target: ServicePort,
    /// What its `appProtocol` says.
    pub protocol: EndpointProtocol,
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
            let pod = endpoint.target_ref.as_ref().and_then(|target| {
                let (name, uid) = (target.name.as_deref()?, target.uid.as_deref()?);
                Some(PodIdentity { name: name.into(), uid: uid.into() })
            });
            Some(SliceEndpoint {
                address,
                pod,
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
            let protocol = port.app_protocol.as_deref().map(EndpointProtocol::from_app_protocol);
            let protocol = protocol.unwrap_or_default();
            Some(PortObject { name: port.name.unwrap_or_default(), number, target, protocol })
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
            is_external_name: spec.type_.as_deref() == Some("ExternalName"),
        }
    }

    /// Whether it may select pods with these labels. Labels that controllers add to each pod are taken for granted.
    pub fn may_select(&self, labels: &BTreeMap<String, String>) -> bool {
        let Some(selector) = &self.selector else { return true };
        // Neither keys nor values have a comma or an equals sign (Kubernetes, labels and selectors).
        let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
        let mut required = pairs.filter(|(key, _)| !LABELS_OF_CONTROLLERS.contains(key));
        required.all(|(key, value)| labels.get(key).is_some_and(|found| found == value))
    }

    /// A label that every pod has which it selects, as `key=value`.
    pub fn selected_label(&self) -> Option<&str> {
        let mut pairs = self.selector.as_deref()?.split(',');
        pairs.find(|pair| {
            let key = pair.split_once('=').map_or(*pair, |(key, _)| key);
            !LABELS_OF_CONTROLLERS.contains(&key)
        })
    }

    /// The port with this number or name.
    pub fn port(&self, wanted: &ServicePort) -> Option<&PortObject> {
        self.ports.iter().find(|port| match wanted {
            ServicePort::Number(number) => port.number == *number,
            ServicePort::Name(name) => port.name == *name,
        })
    }
}

/// Labels that the controllers of Deployments and StatefulSets add to their pods (Kubernetes, well-known labels).
const LABELS_OF_CONTROLLERS: [&str; 4] = [
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// A Service may have a TCP and a UDP port of the same number, for HTTP/3. Absent means TCP (core/v1 ServicePort).
fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
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
            { "name": "plain", "port": 80, "appProtocol": "kubernetes.io/h2c" },
        ]);
        let service = json!({ "metadata": { "name": "web" }, "spec": { "ports": ports } });
        let service = ServiceObject::read(&serde_json::from_value(service).unwrap());
        let port = service.port(&ServicePort::Number(443)).unwrap();
        assert_eq!((port.name.as_str(), &port.target), ("https", &ServicePort::Number(9443)));
        assert_eq!(port.protocol, EndpointProtocol::Auto);
        assert_eq!(service.port(&ServicePort::Number(80)).unwrap().protocol, EndpointProtocol::H2c);
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
