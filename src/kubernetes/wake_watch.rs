//! Watches the pods of a workload while it wakes, and the images that are pulled for them, and after a while reads the warning events
//! about them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::{self, Pod};
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::image_pull::{self, ImagePull};
use super::objects::ObjectName;
use super::pods::PodState;
use super::step::wake::PodChange;
use super::warning_events::{UnreadyPod, WakeScope, newest_warning};
use super::watches::{WATCH_SECONDS, events, with_retry_delays};
use crate::cause::NotReadyReason;
use crate::kube_client::error_with_sources;
use crate::pending_operation::{PendingOperation, result_of};
use crate::workload::WorkloadId;

/// The watches of one wake: dropping it ends them.
pub struct WakeWatch {
    client: Client,
    workload: WorkloadId,
    /// By label selector.
    watches: BTreeMap<String, PodEvents>,
    /// When the wake began.
    since: SystemTime,
    read_warnings_at: Instant,
    warnings: Option<PendingOperation<Option<NotReadyReason>>>,
    pulls: Option<PullWatch>,
    /// That the pods cannot be watched was logged.
    has_warned: bool,
}

/// What a wake watch reports.
pub enum WakeReport {
    Pods(PodChange),
    /// The newest warning event, if there is one.
    Warning(Option<NotReadyReason>),
    ImagePulled(ImagePull),
}

/// Watches the images that are pulled for one pod.
struct PullWatch {
    /// Of the pod.
    uid: Arc<str>,
    /// When the wake began.
    since: SystemTime,
    /// The names of the events that were read: a new list has them again.
    seen: BTreeSet<String>,
    /// Absent where the events cannot be watched.
    events: Option<BoxStream<'static, watcher::Result<Event<DeserializeGuard<v1::Event>>>>>,
}

type PodEvents = BoxStream<'static, watcher::Result<Event<DeserializeGuard<Pod>>>>;

/// Warning events are read when a wake has lasted this long, and at this interval from then on.
const WARNINGS_INTERVAL: Duration = Duration::from_secs(2);

/// A pod whose containers do not all run after this time may wait for an image. For a pod that starts sooner, the API server is not
/// asked.
const PULLS_DELAY: Duration = Duration::from_millis(200);

// === impl WakeWatch ===

impl WakeWatch {
    pub fn new(client: Client, workload: WorkloadId) -> Self {
        Self {
            client,
            workload,
            watches: BTreeMap::new(),
            since: SystemTime::now(),
            read_warnings_at: Instant::now() + WARNINGS_INTERVAL,
            warnings: None,
            pulls: None,
            has_warned: false,
        }
    }

    /// Watches the pods of exactly these label selectors.
    pub fn set_selectors(&mut self, selectors: &BTreeSet<String>) {
        self.watches.retain(|selector, _| selectors.contains(selector));
        for selector in selectors {
            if !self.watches.contains_key(selector) {
                let config = watcher::Config::default().labels(selector).timeout(WATCH_SECONDS);
                let events = events(self.client.clone(), Some(&self.workload.namespace), config);
                self.watches.insert(selector.clone(), with_retry_delays(events).boxed());
            }
        }
    }

    /// Waits for the next report. Cancel-safe. `unready_pod` is a pod whose warning events explain the delay.
    pub async fn next(&mut self, unready_pod: Option<UnreadyPod>) -> WakeReport {
        self.follow_pulls(unready_pod.as_ref());
        loop {
            let Self { watches, warnings, read_warnings_at, pulls, .. } = self;
            let pod_event = std::future::poll_fn(|context| poll_watches(watches, context));
            tokio::select! {
                (selector, event) = pod_event => {
                    if let Some(change) = self.read(selector, event) {
                        return WakeReport::Pods(change);
                    }
                }
                warning = result_of(warnings) => return WakeReport::Warning(warning),
                pull = next_pull(pulls) => return WakeReport::ImagePulled(pull),
                () = tokio::time::sleep_until(*read_warnings_at) => {
                    self.read_warnings_at = Instant::now() + WARNINGS_INTERVAL;
                    let wake = WakeScope { since: self.since, pod: unready_pod.clone() };
                    let (client, workload) = (self.client.clone(), self.workload.clone());
                    self.warnings = Some(Box::pin(newest_warning(client, workload, wake)));
                }
            }
        }
    }

    /// Watches the images of a pod until all its containers run.
    fn follow_pulls(&mut self, pod: Option<&UnreadyPod>) {
        let Some(pod) = pod.filter(|pod| pod.is_scheduled) else { return };
        let Some(uid) = pod.uid.clone() else { return };
        if pod.is_started {
            // What was read of this pod is kept: it may restart.
            if let Some(watch) = self.pulls.as_mut().filter(|watch| watch.uid == uid) {
                watch.events = None;
            }
        } else if self.pulls.as_ref().is_none_or(|watch| watch.uid != uid) {
            let fields = format!("involvedObject.uid={uid},reason={}", image_pull::REASON);
            let config = watcher::Config::default().fields(&fields).timeout(WATCH_SECONDS);
            let events = events(self.client.clone(), Some(&self.workload.namespace), config);
            let later = futures_util::stream::once(tokio::time::sleep(PULLS_DELAY));
            let later = later.flat_map(|()| futures_util::stream::empty());
            let events = later.chain(with_retry_delays(events));
            let events = Some(events.boxed());
            self.pulls = Some(PullWatch { uid, since: self.since, seen: BTreeSet::new(), events });
        }
    }

    fn read(
        &mut self,
        selector: String,
        event: watcher::Result<Event<DeserializeGuard<Pod>>>,
    ) -> Option<PodChange> {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let name = ObjectName::of(&pod).name;
                let is_terminating = pod.meta().deletion_timestamp.is_some();
                let state = pod.0.ok().and_then(|pod| PodState::read(&pod));
                Some(match state {
                    Some(pod) => PodChange::Updated { selector, pod },
                    None if is_terminating => PodChange::Terminating { selector, name },
                    None => PodChange::Removed { selector, name },
                })
            }
            Ok(Event::Delete(pod)) => {
                Some(PodChange::Removed { selector, name: ObjectName::of(&pod).name })
            }
            Ok(Event::Init) => Some(PodChange::Cleared { selector }),
            Ok(Event::InitDone) => None,
            Err(error) => {
                self.log_error(&error);
                None
            }
        }
    }

    fn log_error(&mut self, error: &watcher::Error) {
        let (workload, error) = (&self.workload, error_with_sources(error));
        if self.has_warned {
            debug!(%workload, error, "the pods cannot be watched");
        } else {
            self.has_warned = true;
            warn!(
                %workload,
                error,
                "the pods cannot be watched; readiness comes from the EndpointSlices alone"
            );
        }
    }
}

/// The next image that was pulled. Cancel-safe.
async fn next_pull(pulls: &mut Option<PullWatch>) -> ImagePull {
    let Some(watch) = pulls else { return pending().await };
    while let Some(events) = &mut watch.events {
        match events.next().await {
            Some(Ok(Event::Apply(event) | Event::InitApply(event))) => {
                let Ok(event) = event.0 else { continue };
                let pull = ImagePull::read(&event);
                let is_new = watch.seen.insert(event.metadata.name.unwrap_or_default());
                if let Some(pull) = pull.filter(|pull| is_new && pull.is_since(watch.since)) {
                    return pull;
                }
            }
            Some(Ok(Event::Init | Event::InitDone | Event::Delete(_))) => {}
            Some(Err(error)) => {
                if is_forbidden(&error) {
                    watch.events = None;
                }
                let error = error_with_sources(&error);
                debug!(error, "the events about images cannot be watched");
            }
            None => watch.events = None,
        }
    }
    pending().await
}

/// Whether agimo has no right to watch.
fn is_forbidden(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchError(status) => status,
        _ => return false,
    };
    matches!(status.code, 401 | 403)
}

fn poll_watches(
    watches: &mut BTreeMap<String, PodEvents>,
    context: &mut Context<'_>,
) -> Poll<(String, watcher::Result<Event<DeserializeGuard<Pod>>>)> {
    for (selector, events) in watches {
        // A watch never ends; its stream only reports errors.
        if let Poll::Ready(Some(event)) = events.poll_next_unpin(context) {
            return Poll::Ready((selector.clone(), event));
        }
    }
    Poll::Pending
}
