//! What the pods of a waking workload report: how far they are, where they answer, and why they are not ready. Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use kube::ResourceExt;

use super::index::Endpoint;
use super::not_ready;
use super::objects::{PodIdentity, PortObject};
use super::readiness_probe::{self, ReadinessProbe};
use crate::cause::{Cause, NotReadyReason};
use crate::config::ServicePort;

/// How far a pod is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    pub name: String,
    pub uid: Option<Arc<str>>,
    pub is_scheduled: bool,
    /// A container of it runs.
    pub is_started: bool,
    /// All of its containers run.
    pub are_all_started: bool,
    /// Its Ready condition is true.
    pub is_ready: bool,
    pub addresses: Vec<IpAddr>,
    /// The ports that its containers name.
    pub named_ports: Vec<(String, u16)>,
    /// Why it is not ready, where it reports a reason.
    pub not_ready: Option<NotReadyReason>,
    /// What agimo may check in place of the kubelet; absent where only the kubelet can.
    pub probes: Option<Arc<[ReadinessProbe]>>,
}

// === impl PodState ===

impl PodState {
    /// Reads a pod; `None` where it terminates or has ended.
    pub fn read(pod: &Pod) -> Option<Self> {
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let no_status = PodStatus::default();
        let status = pod.status.as_ref().unwrap_or(&no_status);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let condition = |name: &str| condition(status, name);
        let holds = |name: &str| holds(status, name);
        let containers = || status.container_statuses.iter().flatten();
        let unschedulable = condition("PodScheduled")
            .filter(|condition| condition.reason.as_deref() == Some("Unschedulable"))
            .map(|condition| NotReadyReason {
                cause: Cause::Unschedulable,
                detail: not_ready::detail(
                    &pod.name_any(),
                    condition.message.as_deref().unwrap_or(""),
                ),
            });
        Some(Self {
            name: pod.name_any(),
            uid: pod.metadata.uid.as_deref().map(Into::into),
            is_scheduled: holds("PodScheduled"),
            is_started: containers()
                .filter_map(|container| container.state.as_ref())
                .any(|state| state.running.is_some()),
            are_all_started: {
                let running = containers().filter_map(|container| container.state.as_ref());
                let running = running.filter(|state| state.running.is_some()).count();
                pod.spec.as_ref().is_some_and(|spec| running >= spec.containers.len())
            },
            is_ready: holds("Ready"),
            addresses: addresses(status),
            named_ports: named_ports(pod),
            probes: readiness_probe::of_pod(pod),
            not_ready: unschedulable
                .or_else(|| {
                    let init = status.init_container_statuses.iter().flatten();
                    init.chain(containers()).find_map(|container| container_reason(pod, container))
                })
                .or_else(|| unmet_readiness_gate(pod, status)),
        })
    }

    /// Where the pod answers for this port of a Service, ready or not. Pods of one Service may have different port
    /// numbers.
    pub fn endpoint(&self, port: &PortObject, prefers_ipv6: bool) -> Option<Endpoint> {
        let preferred = self.addresses.iter().find(|address| address.is_ipv6() == prefers_ipv6);
        let address = *preferred.or(self.addresses.first())?;
        let number = match &port.target {
            ServicePort::Number(number) => *number,
            ServicePort::Name(name) => self.named_ports.iter().find(|(named, _)| named == name)?.1,
        };
        Some(Endpoint { address: SocketAddr::new(address, number), pod: self.identity() })
    }

    fn identity(&self) -> Option<PodIdentity> {
        Some(PodIdentity { name: self.name.as_str().into(), uid: self.uid.clone()? })
    }
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

fn holds(status: &PodStatus, name: &str) -> bool {
    condition(status, name).is_some_and(|condition| condition.status == "True")
}

/// The readiness gate that alone keeps a pod from being ready (Kubernetes, pod lifecycle, pod readiness).
fn unmet_readiness_gate(pod: &Pod, status: &PodStatus) -> Option<NotReadyReason> {
    if !holds(status, "ContainersReady") {
        return None;
    }
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let gate = gates.map(|gate| &gate.condition_type).find(|gate| !holds(status, gate))?;
    let message = condition(status, gate).and_then(|condition| condition.message.clone());
    let message = message.unwrap_or_else(|| "no controller has set it to True".to_owned());
    let subject = format!("{}, readiness gate {gate}", pod.name_any());
    Some(NotReadyReason {
        cause: Cause::ReadinessGate,
        detail: not_ready::detail(&subject, &message),
    })
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let addresses = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    addresses.chain(status.pod_ip.as_deref()).filter_map(|address| address.parse().ok()).collect()
}

fn named_ports(pod: &Pod) -> Vec<(String, u16)> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
        .collect()
}

/// Why a container keeps its pod from becoming ready.
fn container_reason(pod: &Pod, container: &ContainerStatus) -> Option<NotReadyReason> {
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = state.terminated.as_ref().or(last);
    let exit = || match ended {
        Some(ended) => {
            let reason = ended.reason.as_deref().unwrap_or("no reason");
            format!("exit code {}, {reason}", ended.exit_code)
        }
        None => "no exit code".to_owned(),
    };
    let (cause, message) = if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.as_deref().unwrap_or("");
        match waiting_cause(reason)? {
            Cause::CrashLoop => (Cause::CrashLoop, format!("{reason}: {}", exit())),
            cause => (cause, format!("{reason}: {message}")),
        }
    } else if state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0)
        || (container.restart_count > 0 && !container.ready)
    {
        (Cause::CrashLoop, exit())
    } else {
        return None;
    };
    let subject = format!("{}, container {}", pod.name_any(), container.name);
    Some(NotReadyReason { cause, detail: not_ready::detail(&subject, &message) })
}

/// The cause that the reason of a waiting container stands for; `None` for normal stages of a start.
fn waiting_cause(reason: &str) -> Option<Cause> {
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Some(Cause::ImageUnavailable),
        "CrashLoopBackOff" => Some(Cause::CrashLoop),
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PostStartHookError" => Some(Cause::ContainerRefused),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> Pod {
        let mut status = status;
        status["podIP"] = json!("10.0.0.7");
        serde_json::from_value(json!({
            "metadata": { "name": "web-1", "uid": "u" },
            "spec": { "containers": [
                { "name": "sidecar", "ports": [{ "containerPort": 15000 }] },
                { "name": "app", "ports": [{ "name": "http", "containerPort": 8080 }] },
            ] },
            "status": status,
        }))
        .unwrap()
    }

    fn read(status: serde_json::Value) -> PodState {
        PodState::read(&pod(status)).unwrap()
    }

    fn endpoint_at(status: serde_json::Value, target: ServicePort) -> Option<Endpoint> {
        let port =
            PortObject { name: String::new(), number: 80, target, protocol: Default::default() };
        read(status).endpoint(&port, false)
    }

    fn waiting(reason: &str) -> serde_json::Value {
        json!({ "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "line\nbreak" } },
        }] })
    }

    #[test]
    fn a_pod_answers_at_the_port_that_its_container_names() {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        let http = || ServicePort::Name("http".to_owned());
        let found = endpoint_at(ready.clone(), http()).unwrap();
        assert_eq!(found.address.to_string(), "10.0.0.7:8080");
        assert_eq!(found.pod.map(|pod| pod.uid).as_deref(), Some("u"));
        let by_number = endpoint_at(ready.clone(), ServicePort::Number(81)).unwrap();
        assert_eq!(by_number.address.port(), 81);
        assert_eq!(endpoint_at(ready, ServicePort::Name("grpc".to_owned())), None);
    }

    #[test]
    fn terminating_and_ended_pods_are_left_out() {
        let mut terminating = pod(json!({}));
        terminating.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(PodState::read(&terminating), None);
        assert_eq!(PodState::read(&pod(json!({ "phase": "Failed" }))), None);
    }

    #[test]
    fn waiting_containers_give_the_reason() {
        for (reason, cause) in [
            ("ErrImageNeverPull", Some(Cause::ImageUnavailable)),
            ("ImagePullBackOff", Some(Cause::ImageUnavailable)),
            ("CrashLoopBackOff", Some(Cause::CrashLoop)),
            ("CreateContainerConfigError", Some(Cause::ContainerRefused)),
            ("ContainerCreating", None),
        ] {
            let not_ready = read(waiting(reason)).not_ready;
            assert_eq!(not_ready.as_ref().map(|reason| reason.cause), cause, "{reason}");
            assert!(not_ready.is_none_or(|reason| !reason.detail.contains('\n')));
        }
        let unschedulable = json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes",
        }] });
        let not_ready = read(unschedulable).not_ready.unwrap();
        assert_eq!(not_ready.cause, Cause::Unschedulable);
        assert_eq!(not_ready.detail, "web-1: 0/1 nodes");
    }

    #[test]
    fn an_unmet_readiness_gate_is_named_once_the_containers_are_ready() {
        let mut gated =
            pod(json!({ "conditions": [{ "type": "ContainersReady", "status": "True" }] }));
        let gates = json!([{ "conditionType": "example.com/registered" }]);
        gated.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(gates).unwrap();
        let not_ready = PodState::read(&gated).unwrap().not_ready.unwrap();
        assert_eq!(not_ready.cause, Cause::ReadinessGate);
        let detail =
            "web-1, readiness gate example.com/registered: no controller has set it to True";
        assert_eq!(not_ready.detail, detail);
        gated.status.as_mut().unwrap().conditions = None;
        assert_eq!(PodState::read(&gated).unwrap().not_ready, None);
    }

    #[test]
    fn a_first_crash_is_reported_before_the_back_off() {
        let status = json!({ "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 3, "reason": "Error" } },
        }] });
        let not_ready = read(status).not_ready.unwrap();
        assert_eq!(not_ready.cause, Cause::CrashLoop);
        assert_eq!(not_ready.detail, "web-1, container app: exit code 3, Error");
    }
}
