//! Writes lifecycle events to the log, one line each.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cause::NotReadyReason;
use crate::ownership::{SleepBlocker, writers};
use crate::telemetry::printable::printable_whole;

use super::events::{EventKind, LifecycleEvent};

/// The target of these log lines.
pub const TARGET: &str = module_path!();

/// Logs events until `stop` is cancelled and all that were published before have been logged.
pub async fn run(mut events: Receiver<LifecycleEvent>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Ok(event) => log(&event),
                Err(RecvError::Lagged(lost)) => warn!(lost, "lifecycle events were not logged"),
                Err(RecvError::Closed) => return,
            },
            () = stop.cancelled() => return,
        }
    }
}

fn log(event: &LifecycleEvent) {
    let workload = &*event.workload;
    // Details quote what applications and Kubernetes wrote.
    let shown = |detail: &str| printable_whole(detail.as_bytes());
    match &event.kind {
        EventKind::WakeRequested { service, request } => {
            let details = request.details.as_ref();
            info!(
                %workload,
                %service,
                method = details.map(|details| details.method.as_str()),
                path = details.map(|details| details.path.as_str()),
                client = details.map(|details| details.client.as_str()),
                "request held, waking the workload"
            );
        }
        EventKind::WakeBegun { asked_by: Some(name) } => {
            info!(%workload, name = shown(name), "asked for by a person, waking the workload");
        }
        EventKind::WakeBegun { asked_by: None } => {
            debug!(%workload, "waking the workload without a request");
        }
        EventKind::ScaleWritten { replicas } => info!(%workload, replicas, "scaled"),
        EventKind::PodScheduled { pod } => debug!(%workload, pod, "pod scheduled"),
        EventKind::ImagePulled { pod, image, took } => {
            debug!(%workload, pod, image = shown(image), took_ms = took.as_millis() as u64, "image pulled");
        }
        EventKind::ContainerStarted { pod } => debug!(%workload, pod, "container started"),
        EventKind::PodReady { pod } => debug!(%workload, pod, "pod ready"),
        EventKind::PodReadyEarly { pod } => debug!(%workload, pod, "readiness probes passed"),
        EventKind::EndpointSliceReady => debug!(%workload, "EndpointSlice lists a ready endpoint"),
        EventKind::Started { after } => {
            info!(%workload, after_ms = after.as_millis() as u64, "started");
        }
        EventKind::Ready { after: Some(after), .. } => {
            info!(%workload, after_ms = after.as_millis() as u64, "endpoint ready");
        }
        EventKind::Ready { after: None, .. } => {
            info!(%workload, "endpoint ready without a wake by agimo");
        }
        EventKind::Connected => debug!(%workload, "held request connected"),
        EventKind::Forwarded => debug!(%workload, "held request forwarded"),
        EventKind::FirstAnswer { after } => {
            info!(%workload, after_ms = after.as_millis() as u64, "first held request answered");
        }
        EventKind::NotReady(NotReadyReason { cause, detail }) => {
            warn!(%workload, reason = cause.token(), detail = shown(detail), "not ready yet");
        }
        EventKind::WakeFailed { cause, detail, retry_after } => warn!(
            %workload,
            reason = cause.token(),
            detail = shown(detail),
            retry_after_ms = retry_after.as_millis() as u64,
            "wake failed"
        ),
        EventKind::WakeCancelled => {
            info!(%workload, "no request waits any more, wake cancelled");
        }
        EventKind::WakeGivenUp => {
            warn!(%workload, "never became ready and no request waits, scaling to zero");
        }
        EventKind::EndpointsLost { scaled_down: Some(true) | None } => {
            info!(%workload, "no endpoint is ready any more");
        }
        EventKind::EndpointsLost { scaled_down: Some(false) } => {
            warn!(%workload, "no endpoint is ready any more; the next request wakes the workload");
        }
        // What applies is logged by itself, above.
        EventKind::SleepBlocked(Some(SleepBlocker::Pin | SleepBlocker::Schedule)) => {}
        // The exchange logs it once for all workloads.
        EventKind::SleepBlocked(Some(SleepBlocker::Peers)) => debug!(
            %workload,
            "another replica of agimo is silent and may have requests in flight: the workload stays awake"
        ),
        EventKind::SleepBlocked(Some(SleepBlocker::Rollout)) => {
            info!(%workload, "a rollout is not finished: the workload stays awake");
        }
        // An external scaler is configured, which is no news.
        EventKind::SleepBlocked(_) => {}
        EventKind::SleepProlonged { foreign_wakes, sleep_after } => warn!(
            %workload,
            foreign_wakes,
            sleep_after_ms = sleep_after.as_millis() as u64,
            "another writer, for example another installation of agimo, scales the workload up again and again: \
             prolonging sleep_after"
        ),
        EventKind::OwnerDecided(ownership) => {
            let description = ownership.description();
            if ownership.is_problem() {
                warn!(%workload, scaler = ownership.authority.as_str(), "{description}");
            } else {
                info!(%workload, scaler = ownership.authority.as_str(), "{description}");
            }
        }
        EventKind::DirectiveChanged(Some(directive)) => {
            info!(%workload, directive = directive.as_str(), "a pin or a schedule applies");
        }
        EventKind::DirectiveChanged(None) => {
            info!(%workload, "neither a pin nor a schedule applies any more");
        }
        EventKind::AnnotationRejected { problem } => {
            warn!(%workload, "wrong annotation: {problem}")
        }
        EventKind::WritesReverted { reverted, rounds, writers } => warn!(
            %workload,
            rounds,
            writers = writers.join(","),
            "another writer undoes each {}; {}",
            reverted.as_str(),
            writers::fix(writers, workload.kind)
        ),
        EventKind::WakeObserved { replicas } => {
            info!(%workload, replicas, "observing: agimo would scale up");
        }
        EventKind::SleepObserved { idle } => {
            info!(%workload, idle_ms = idle.as_millis() as u64, "observing: agimo would scale to zero");
        }
        EventKind::ScaleDecided { from, to, reason, is_observed } => info!(
            %workload,
            from,
            to,
            reason = reason.as_str(),
            "{}",
            if *is_observed { "observing: agimo would scale by demand" } else { "scaling by demand" }
        ),
        EventKind::ScaleOverridden { replicas, writers } => warn!(
            %workload,
            replicas,
            writers = writers.join(","),
            "somebody else has changed `replicas`: agimo leaves the number alone until the workload sleeps"
        ),
        EventKind::Asleep { asked_by: Some(name), .. } => {
            info!(%workload, name = shown(name), "asked for by a person, scaling to zero");
        }
        EventKind::Asleep { idle, asked_by: None } => {
            info!(%workload, idle_ms = idle.as_millis() as u64, "idle, scaling to zero");
        }
        EventKind::SleepFailed { detail } => {
            warn!(%workload, detail = shown(detail), "could not be scaled to zero, stays awake");
        }
        EventKind::ProcessExited { detail } => {
            warn!(%workload, detail = shown(detail), "a process ended by itself");
        }
        EventKind::ProcessUnresponsive { detail } => {
            warn!(%workload, detail = shown(detail), "a process does not accept connections any more, restarting it");
        }
        EventKind::ProcessStopped => info!(%workload, "process stopped"),
        EventKind::Replaced => {
            info!(%workload, "workload changed in the configuration, ending the old one")
        }
        EventKind::Removed => info!(%workload, "workload removed from the configuration"),
    }
}
