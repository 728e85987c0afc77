//! Reads the newest warning event about a workload whose wake takes long. The event only explains the delay.

use std::time::Duration;

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

/// The newest warning about the workload or this pod of it.
pub async fn newest_warning(
    client: Client,
    workload: WorkloadId,
    pod: Option<String>,
) -> Option<NotReadyReason> {
    let WorkloadId { kind, namespace, name } = &workload;
    let mut events = warnings_about(&client, namespace, not_ready::object_kind(*kind), name).await;
    if let Some(pod) = pod {
        events.extend(warnings_about(&client, namespace, "Pod", &pod).await);
    }
    newest(&events)
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

/// The newest warning among events, with the cause that its reason stands for.
fn newest(events: &[Event]) -> Option<NotReadyReason> {
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
        let reason = newest(&events).unwrap();
        assert_eq!(reason.cause, Cause::PodsRefused);
        assert_eq!(reason.detail, "StatefulSet db: FailedCreate: exceeded quota: q");
        assert_eq!(newest(&[]), None);
    }
}
