//! Reads the newest warning event about a workload whose wake takes long. The event only explains the delay.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tracing::debug;

use super::not_ready;
use crate::cause::{Cause, NotReadyReason};
use crate::workload::WorkloadId;

const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// One object has few events; more are not needed to find the newest.
const MAX_EVENTS: u32 = 100;

/// The clocks of agimo and of the API server may differ by so much.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// What an event must belong to, to explain why a wake takes long.
#[derive(Clone, Debug)]
pub struct WakeScope {
    /// When the wake began.
    pub since: SystemTime,
    pub pod: Option<UnreadyPod>,
}

/// A pod of the wake that is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadyPod {
    pub name: String,
    /// Tells it from earlier pods of the same name.
    pub uid: Option<Arc<str>>,
    pub is_scheduled: bool,
    /// All containers of it run.
    pub is_started: bool,
}

/// The newest warning about the workload or the pod of this wake.
pub async fn newest_warning(
    client: Client,
    workload: WorkloadId,
    wake: WakeScope,
) -> Option<NotReadyReason> {
    let WorkloadId { kind, namespace, name } = &workload;
    let mut events = warnings_about(&client, namespace, kind.kubernetes_name(), name).await;
    if let Some(pod) = &wake.pod {
        events.extend(warnings_about(&client, namespace, "Pod", &pod.name).await);
    }
    newest(&events, &wake)
}

// === impl WakeScope ===

impl WakeScope {
    /// Whether the event is no older than the wake, and is not about another pod or a stage that has passed.
    fn covers(&self, event: &Event) -> bool {
        let is_recent = occurred(event).is_none_or(|at| at + CLOCK_TOLERANCE >= self.since);
        let object = &event.involved_object;
        let Some(pod) = self.pod.as_ref().filter(|_| object.kind.as_deref() == Some("Pod")) else {
            return is_recent;
        };
        let is_same = object.uid.is_none() || object.uid.as_deref() == pod.uid.as_deref();
        let has_passed = pod.is_scheduled && event.reason.as_deref() == Some("FailedScheduling");
        is_recent && is_same && !has_passed
    }
}

/// When an event was last observed.
pub fn occurred(event: &Event) -> Option<SystemTime> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
    micro.or(event.last_timestamp.as_ref().map(|time| time.0)).map(SystemTime::from)
}

async fn warnings_about(client: &Client, namespace: &str, kind: &str, name: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
    let parameters = ListParams::default().fields(&fields).limit(MAX_EVENTS);
    match tokio::time::timeout(LIST_TIMEOUT, api.list(&parameters)).await {
        Ok(Ok(events)) => events.items,
        Ok(Err(error)) => {
            debug!(%error, kind, name, "cannot list events");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// The newest warning of the wake among events, with the cause that its reason stands for.
fn newest(events: &[Event], wake: &WakeScope) -> Option<NotReadyReason> {
    let warnings = events.iter().filter(|event| event.type_.as_deref() == Some("Warning"));
    let newest = warnings.filter(|event| wake.covers(event)).max_by_key(|event| occurred(event))?;
    let reason = newest.reason.as_deref().unwrap_or("Warning");
    let is_restart = newest.message.as_deref().is_some_and(|text| text.contains("restarting"));
    let cause = match reason {
        // The kubelet backs off from pulling an image and from restarting a container under the same reason.
        "BackOff" if is_restart => Cause::CrashLoop,
        "FailedCreate" => Cause::PodsRefused,
        "FailedScheduling" => Cause::Unschedulable,
        "BackOff" | "Failed" | "ErrImageNeverPull" | "InspectFailed" => Cause::ImageUnavailable,
        "FailedMount" | "FailedAttachVolume" | "FailedCreatePodSandBox" => Cause::ContainerRefused,
        _ => Cause::NotReady,
    };
    let message = format!("{reason}: {}", newest.message.as_deref().unwrap_or(""));
    let object = &newest.involved_object;
    let subject = format!(
        "{} {}",
        object.kind.as_deref().unwrap_or("object"),
        object.name.as_deref().unwrap_or("")
    );
    Some(NotReadyReason { cause, detail: not_ready::detail(&subject, &message) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_warning_is_chosen() {
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
        let wake = WakeScope { since: SystemTime::UNIX_EPOCH, pod: None };
        let reason = newest(&events, &wake).unwrap();
        assert_eq!(reason.cause, Cause::PodsRefused);
        assert_eq!(reason.detail, "StatefulSet db: FailedCreate: exceeded quota: q");
        assert_eq!(newest(&[], &wake), None);
    }

    #[test]
    fn events_of_the_past_explain_nothing() {
        let event = |seconds: u64, uid: &str, reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "type": "Warning", "reason": reason, "message": message,
                "involvedObject": { "kind": "Pod", "name": "db-0", "uid": uid },
                "lastTimestamp": format!("2026-01-01T00:00:{seconds:02}Z"),
            }))
            .unwrap()
        };
        let began = event(30, "", "", "");
        let pod = UnreadyPod {
            name: "db-0".to_owned(),
            uid: Some("new".into()),
            is_scheduled: true,
            is_started: false,
        };
        let wake = WakeScope { since: occurred(&began).unwrap(), pod: Some(pod) };
        let past = [
            event(10, "new", "FailedMount", "before the wake"),
            event(40, "old", "FailedMount", "of an earlier pod of this name"),
            event(40, "new", "FailedScheduling", "it was scheduled since"),
        ];
        assert_eq!(newest(&past, &wake), None);
        for (message, cause) in [
            ("Back-off restarting failed container", Cause::CrashLoop),
            ("Back-off pulling image \"x\"", Cause::ImageUnavailable),
        ] {
            let found = newest(&[event(40, "new", "BackOff", message)], &wake).unwrap();
            assert_eq!(found.cause, cause, "{message}");
        }
    }
}
