//! What a waking workload's pods say: which are ready, and why the others are not. Pure; it watches nothing.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt;

use super::index::Endpoint;
use super::objects::PortObject;
use crate::cause::{Cause, NotReadyReason};
use crate::config::ServicePort;

/// How far a pod has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    pub name: String,
    pub is_scheduled: bool,
    /// A container of it runs.
    pub is_started: bool,
    /// Its address and port, once its Ready condition is true.
    pub endpoint: Option<Endpoint>,
    /// Why it is not ready, as far as it says.
    pub trouble: Option<NotReadyReason>,
}

/// Longest detail that is passed on; Kubernetes' messages can be pages.
const LONGEST_DETAIL: usize = 400;

/// Reads a pod behind this port of its Service; `None` where it is on its way out.
pub fn read(pod: &Pod, port: &PortObject, prefers_ipv6: bool) -> Option<PodState> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod.status.clone().unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let condition =
        |name: &str| status.conditions.iter().flatten().find(|condition| condition.type_ == name);
    let holds = |name: &str| condition(name).is_some_and(|condition| condition.status == "True");
    let is_ready = holds("Ready");
    let containers = || status.container_statuses.iter().flatten();
    let unschedulable = condition("PodScheduled")
        .filter(|condition| condition.reason.as_deref() == Some("Unschedulable"))
        .map(|condition| NotReadyReason {
            cause: Cause::Unschedulable,
            detail: detail(&pod.name_any(), condition.message.as_deref().unwrap_or("")),
        });
    Some(PodState {
        name: pod.name_any(),
        is_scheduled: holds("PodScheduled"),
        is_started: containers()
            .any(|container| container.state.as_ref().is_some_and(|state| state.running.is_some())),
        endpoint: is_ready.then(|| endpoint(pod, port, prefers_ipv6)).flatten(),
        trouble: unschedulable.or_else(|| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(containers()).find_map(|container| container_trouble(pod, container))
        }),
    })
}

/// The address of a ready pod; its port may have another number than that of its neighbours.
fn endpoint(pod: &Pod, port: &PortObject, prefers_ipv6: bool) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let addresses = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    let addresses: Vec<IpAddr> =
        addresses.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect();
    let preferred = addresses.iter().find(|address| address.is_ipv6() == prefers_ipv6);
    let address = *preferred.or(addresses.first())?;
    let number = match &port.target {
        ServicePort::Number(number) => *number,
        ServicePort::Name(name) => {
            let containers = pod.spec.as_ref()?.containers.iter();
            let named = containers
                .flat_map(|container| container.ports.iter().flatten())
                .find(|port| port.name.as_ref() == Some(name))?;
            u16::try_from(named.container_port).ok()?
        }
    };
    Some(Endpoint {
        address: SocketAddr::new(address, number),
        pod: pod.metadata.uid.as_deref().map(Into::into),
    })
}

fn container_trouble(pod: &Pod, container: &ContainerStatus) -> Option<NotReadyReason> {
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = state.terminated.as_ref().or(last);
    let how_it_ended = || match ended {
        Some(ended) => {
            format!(
                "exit code {}, {}",
                ended.exit_code,
                ended.reason.as_deref().unwrap_or("no reason")
            )
        }
        None => "no exit code".to_owned(),
    };
    let (cause, words) = if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref()?;
        let message = waiting.message.as_deref().unwrap_or("");
        let cause = match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => Cause::ImageUnavailable,
            "CrashLoopBackOff" => Cause::CrashLoop,
            "CreateContainerConfigError"
            | "CreateContainerError"
            | "RunContainerError"
            | "PreCreateHookError"
            | "PostStartHookError" => Cause::ContainerRefused,
            // ContainerCreating and PodInitializing pass by themselves.
            _ => return None,
        };
        match cause {
            Cause::CrashLoop => (cause, format!("{reason}: {}", how_it_ended())),
            _ => (cause, format!("{reason}: {message}")),
        }
    } else if state.terminated.as_ref().is_some_and(|ended| ended.exit_code != 0)
        || (container.restart_count > 0 && !container.ready)
    {
        (Cause::CrashLoop, how_it_ended())
    } else {
        return None;
    };
    let subject = format!("{}, container {}", pod.name_any(), container.name);
    Some(NotReadyReason { cause, detail: detail(&subject, &words) })
}

/// The newest warning among events about a workload or its pods, as a cause of its own where nothing
/// better is known: the pods could not even be made.
pub fn warning(events: &[Event]) -> Option<NotReadyReason> {
    let warnings = events.iter().filter(|event| event.type_.as_deref() == Some("Warning"));
    let newest = warnings.max_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
        micro.or(event.last_timestamp.as_ref().map(|time| time.0))
    })?;
    let reason = newest.reason.as_deref().unwrap_or("Warning");
    let cause = match reason {
        "FailedCreate" => Cause::PodsRefused,
        "FailedScheduling" => Cause::Unschedulable,
        "BackOff" | "Failed" | "ErrImageNeverPull" | "InspectFailed" => Cause::ImageUnavailable,
        "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox" => Cause::ContainerRefused,
        _ => Cause::NotReady,
    };
    let words = format!("{reason}: {}", newest.message.as_deref().unwrap_or(""));
    let object = &newest.involved_object;
    let subject = format!(
        "{} {}",
        object.kind.as_deref().unwrap_or("object"),
        object.name.as_deref().unwrap_or("")
    );
    Some(NotReadyReason { cause, detail: detail(&subject, &words) })
}

/// One line, and not too long.
pub fn detail(subject: &str, words: &str) -> String {
    let line = format!("{subject}: {}", words.trim());
    let line: String = line
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(LONGEST_DETAIL)
        .collect();
    line.trim_end().trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PORT: u16 = 80;

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

    fn port(target: ServicePort) -> PortObject {
        PortObject { name: String::new(), number: PORT, target }
    }

    fn read_one(status: serde_json::Value) -> PodState {
        read(&pod(status), &port(ServicePort::Name("http".to_owned())), false).unwrap()
    }

    fn waiting(reason: &str) -> serde_json::Value {
        json!({ "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": "line\nbreak" } },
        }] })
    }

    #[test]
    fn a_ready_pod_is_found_at_the_port_that_its_container_names() {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
        let found = read_one(ready.clone()).endpoint.unwrap();
        assert_eq!(found.address.to_string(), "10.0.0.7:8080");
        assert_eq!(found.pod.as_deref(), Some("u"));
        let by_number = read(&pod(ready), &port(ServicePort::Number(81)), false).unwrap();
        assert_eq!(by_number.endpoint.unwrap().address.port(), 81);
        assert_eq!(read_one(json!({})).endpoint, None);
    }

    #[test]
    fn a_pod_on_its_way_out_is_none() {
        let mut leaving = pod(json!({}));
        leaving.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(read(&leaving, &port(ServicePort::Number(80)), false), None);
        let failed = pod(json!({ "phase": "Failed" }));
        assert_eq!(read(&failed, &port(ServicePort::Number(80)), false), None);
    }

    #[test]
    fn waiting_containers_say_why() {
        for (reason, cause) in [
            ("ErrImageNeverPull", Some(Cause::ImageUnavailable)),
            ("ImagePullBackOff", Some(Cause::ImageUnavailable)),
            ("CrashLoopBackOff", Some(Cause::CrashLoop)),
            ("CreateContainerConfigError", Some(Cause::ContainerRefused)),
            ("ContainerCreating", None),
        ] {
            let trouble = read_one(waiting(reason)).trouble;
            assert_eq!(trouble.as_ref().map(|trouble| trouble.cause), cause, "{reason}");
            assert!(trouble.is_none_or(|trouble| !trouble.detail.contains('\n')));
        }
        let unschedulable = json!({ "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes",
        }] });
        let trouble = read_one(unschedulable).trouble.unwrap();
        assert_eq!(trouble.cause, Cause::Unschedulable);
        assert_eq!(trouble.detail, "web-1: 0/1 nodes");
    }

    #[test]
    fn a_first_crash_is_told_before_the_back_off() {
        let status = json!({ "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": { "exitCode": 3, "reason": "Error" } },
        }] });
        let trouble = read_one(status).trouble.unwrap();
        assert_eq!(trouble.cause, Cause::CrashLoop);
        assert_eq!(trouble.detail, "web-1, container app: exit code 3, Error");
    }

    #[test]
    fn the_newest_warning_counts() {
        let event = |at: &str, kind: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "involvedObject": { "kind": "StatefulSet", "name": "db" },
                "type": kind, "reason": "FailedCreate", "message": message, "lastTimestamp": at,
            }))
            .unwrap()
        };
        let events = [
            event("2026-01-01T00:00:01Z", "Warning", "old"),
            event("2026-01-01T00:00:03Z", "Warning", "exceeded quota: q"),
            event("2026-01-01T00:00:05Z", "Normal", "created"),
        ];
        let trouble = warning(&events).unwrap();
        assert_eq!(trouble.cause, Cause::PodsRefused);
        assert_eq!(trouble.detail, "StatefulSet db: FailedCreate: exceeded quota: q");
        assert_eq!(warning(&[]), None);
    }
}
