//! Writes what happens to a workload, and concerns whoever looks after it, as Events on its Deployment or StatefulSet.
//! The recorder of kube-runtime is not used: it writes the note of the first Event again for later ones of its reason.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, warn};

use super::watches::SharedIndex;
use crate::activation::events::{EventKind, LifecycleEvent};
use crate::coordination::Coordination;
use crate::kube_client::error_with_sources;
use crate::ledger::record::{Record, RecordKind, WakeCause, WakeOutcome, WakePhase};
use crate::ownership::directive::Directive;
use crate::ownership::writers;
use crate::workload::WorkloadId;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    is_warning: bool,
    /// What happened, in the form that Kubernetes asks for: `kubectl` shows it beside the text.
    reason: &'static str,
    text: String,
    /// Every replica of agimo notices it, and the leader writes it.
    is_seen_by_all: bool,
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The note of an Event is limited to 1 kB (events.k8s.io/v1 Event).
const MOST_BYTES: usize = 1_000;
const REPORTING_CONTROLLER: &str = "agimo.onichandame.com/agimo";

/// Writes Events as lifecycle events come and wakes and sleeps are complete, forever.
pub async fn run(
    client: Client,
    mut events: Receiver<LifecycleEvent>,
    mut records: Receiver<Arc<Record>>,
    index: SharedIndex,
    coordination: Coordination,
) {
    let mut has_failed = false;
    loop {
        let next = tokio::select! {
            event = events.recv() => event.map(|event| (event.workload.clone(), note(&event))),
            record = records.recv() => record.map(|record| (record.workload.clone(), note_of_record(&record))),
        };
        let (workload, note) = match next {
            Ok((workload, Some(note))) => (workload, note),
            Ok((_, None)) => continue,
            Err(RecvError::Lagged(lost)) => {
                debug!(lost, "lifecycle events were not written as Events");
                continue;
            }
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        if note.is_seen_by_all && !coordination.is_leader() {
            continue;
        }
        let Some(uid) = index.lock().uid_of(&workload) else { continue };
        let object = object(&workload, &uid, &note, coordination.name());
        let api: Api<Event> = Api::namespaced(client.clone(), &workload.namespace);
        let parameters = PostParams::default();
        let error =
            match tokio::time::timeout(WRITE_TIMEOUT, api.create(&parameters, &object)).await {
                Ok(Ok(_)) => {
                    has_failed = false;
                    continue;
                }
                Ok(Err(error)) => error_with_sources(&error),
                Err(_) => "no answer within 5 s".to_owned(),
            };
        // Everything is in the log and in the status as well.
        if has_failed {
            debug!(%workload, error, "an Event cannot be written");
        } else {
            warn!(
                %workload,
                error,
                "an Event cannot be written; let agimo create events of events.k8s.io"
            );
        }
        has_failed = true;
    }
}

/// What to write about a complete record, if anything. A wake by another scaler or a person is no news.
fn note_of_record(record: &Record) -> Option<Note> {
    let (is_warning, reason) = match &record.kind {
        RecordKind::Sleep { .. } => (false, "Asleep"),
        RecordKind::Wake(wake) => match (&wake.cause, &wake.outcome) {
            (_, WakeOutcome::Failed { .. } | WakeOutcome::GivenUp) => (true, "WakeFailed"),
            (WakeCause::Elsewhere, _) => return None,
            (WakeCause::Directive(_) | WakeCause::Operator(_), _)
                if wake.reached(WakePhase::ScaleWritten).is_none() =>
            {
                return None;
            }
            (_, WakeOutcome::Ready | WakeOutcome::Answered) => (false, "Woken"),
            (_, WakeOutcome::Cancelled | WakeOutcome::Interrupted | WakeOutcome::Underway) => {
                (false, "WakeCancelled")
            }
        },
        _ => return None,
    };
    // A pin is seen by all; a request, and the sleep that follows, by one replica of agimo. All wake what a person asks for, and
    // the one that has written the replicas tells of it.
    let is_seen_by_all = record.wake().is_some_and(|wake| match wake.cause {
        WakeCause::Request { .. } => false,
        WakeCause::Operator(_) => wake.reached(WakePhase::ScaleWritten).is_none(),
        WakeCause::Directive(_) | WakeCause::Elsewhere => true,
    });
    Some(Note::new(is_warning, reason, &record.summary(), is_seen_by_all))
}

/// What to write about a lifecycle event, if anything.
fn note(event: &LifecycleEvent) -> Option<Note> {
    let (is_warning, reason, text, is_seen_by_all) = match &event.kind {
        EventKind::OwnerDecided(ownership) => {
            (ownership.is_problem(), "ScalerDecided", ownership.description(), true)
        }
        EventKind::AnnotationRejected { problem } => {
            (true, "AnnotationRejected", problem.to_string(), true)
        }
        EventKind::DirectiveChanged(directive) => {
            let text = match directive {
                Some(Directive::AwakeByPin) => "a pin keeps the workload awake",
                Some(Directive::AsleepByPin) => "a pin keeps the workload asleep",
                Some(Directive::AwakeBySchedule) => "a schedule keeps the workload awake",
                None => "neither a pin nor a schedule applies any more",
            };
            (false, "DirectiveChanged", text.to_owned(), true)
        }
        EventKind::WritesReverted { reverted, rounds, writers } => {
            let fix = writers::fix(writers, event.workload.kind);
            let reverted = reverted.as_str();
            let text = format!("another writer has undone each {reverted}, {rounds} times; {fix}");
            (true, "ScalingReverted", text, false)
        }
        EventKind::ScaleOverridden { replicas, writers } => {
            let names = if writers.is_empty() { "somebody".to_owned() } else { writers.join(", ") };
            let mut text = format!(
                "{names} has set {replicas} replicas: agimo leaves the number alone until the workload sleeps"
            );
            // A person means it; a controller may only repeat what a manifest says.
            let controllers: Vec<String> =
                writers.iter().filter(|name| !name.starts_with("kubectl")).cloned().collect();
            if !controllers.is_empty() {
                let fix = writers::fix(&controllers, event.workload.kind);
                text.push_str(&format!("; if that is not wanted: {fix}"));
            }
            (false, "ScalingOverridden", text, false)
        }
        EventKind::SleepFailed { detail } => (true, "SleepFailed", detail.clone(), false),
        EventKind::WakeObserved { replicas } => {
            (false, "WakeObserved", format!("agimo would scale to {replicas}"), false)
        }
        EventKind::SleepObserved { idle } => {
            let idle = humantime::format_duration(Duration::from_secs(idle.as_secs()));
            (false, "SleepObserved", format!("idle for {idle}: agimo would scale to zero"), false)
        }
        _ => return None,
    };
    Some(Note::new(is_warning, reason, &text, is_seen_by_all))
}

// === impl Note ===

impl Note {
    fn new(is_warning: bool, reason: &'static str, text: &str, is_seen_by_all: bool) -> Self {
        let text = text[..text.floor_char_boundary(MOST_BYTES)].to_owned();
        Self { is_warning, reason, text, is_seen_by_all }
    }
}

fn object(workload: &WorkloadId, uid: &str, note: &Note, instance: String) -> Event {
    let WorkloadId { kind, namespace, name } = workload;
    let now = Timestamp::now();
    Event {
        metadata: ObjectMeta {
            namespace: Some(namespace.clone()),
            name: Some(format!("{name}.{:x}", now.as_nanosecond())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some("Scaling".to_owned()),
        reason: Some(note.reason.to_owned()),
        note: Some(note.text.clone()),
        type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some(kind.kubernetes_name().to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(instance),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::activation::events::Reverted;
    use crate::workload::WorkloadKind;

    fn event(kind: EventKind) -> LifecycleEvent {
        let workload = WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "a".to_owned(),
            name: "web".to_owned(),
        };
        LifecycleEvent { workload: Arc::new(workload), at: SystemTime::now(), kind }
    }

    #[test]
    fn a_writer_that_undoes_scaling_is_named_with_the_fix() {
        let writers = Arc::from(["argocd-controller".to_owned()]);
        let kind = EventKind::WritesReverted { reverted: Reverted::Sleep, rounds: 2, writers };
        let note = note(&event(kind)).unwrap();
        assert!(note.is_warning && !note.is_seen_by_all);
        assert!(note.text.contains("each sleep, 2 times; Argo CD: write"), "{}", note.text);
        assert_eq!(super::note(&event(EventKind::Connected)), None, "no news for its owner");
    }

    #[test]
    fn an_event_belongs_to_its_workload_and_is_short_enough() {
        let problem = Arc::from("x".repeat(2_000));
        let event = event(EventKind::AnnotationRejected { problem });
        let note = note(&event).unwrap();
        let object = object(&event.workload, "uid-1", &note, "agimo-0".to_owned());
        let regarding = object.regarding.unwrap();
        let shown =
            (regarding.kind.as_deref(), regarding.name.as_deref(), regarding.uid.as_deref());
        assert_eq!(shown, (Some("Deployment"), Some("web"), Some("uid-1")));
        assert_eq!(object.note.unwrap().len(), MOST_BYTES);
        assert_eq!(object.type_.as_deref(), Some("Warning"));
    }
}
