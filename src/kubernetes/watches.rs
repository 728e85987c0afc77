//! Reads the API server's watches into the index, each in a task of its own, and repeats them after every failure.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::index::followers::FollowerId;
use super::index::{Index, Object, WorkloadSnapshot};
use super::objects::scaler::{ScaledObject, ScalerObject};
use super::objects::workload::WorkloadObject;
use super::objects::{ObjectName, ServiceObject, Slice};
use super::watch_errors::{NOT_FOUND, fault, is_not_served};
use super::watch_scope::{ObjectKind, WatchScope};
use crate::backend::EndpointSource;
use crate::backoff::Backoff;
use crate::workload::WorkloadId;

/// An index that the watches write and all workloads read; clones share it.
#[derive(Clone)]
pub struct SharedIndex(Arc<Mutex<Index>>);

/// A followed workload; dropping it ends the following.
pub struct Following {
    index: SharedIndex,
    id: FollowerId,
    pub snapshot: watch::Receiver<WorkloadSnapshot>,
}

/// The API server ends a watch after this, and the watch is resumed. It also bounds how long a dead connection goes
/// unnoticed.
pub const WATCH_SECONDS: u32 = 60;
/// Objects in one page of a list.
const PAGE: u32 = 500;
/// Between failed attempts of a watch.
pub const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };
/// A watch that was resumed after a failure and is quiet for so long works again.
const QUIET: Duration = Duration::from_secs(10);

/// The status code of a watch that cannot be resumed (API concepts, 410 Gone).
const EXPIRED: u16 = 410;

/// How often to look whether the definition of a resource was installed.
const NOT_SERVED_RETRY: Duration = Duration::from_secs(5);

const KINDS: [ObjectKind; 6] = [
    ObjectKind::EndpointSlice,
    ObjectKind::Service,
    ObjectKind::Deployment,
    ObjectKind::StatefulSet,
    ObjectKind::HorizontalPodAutoscaler,
    ObjectKind::ScaledObject,
];

/// The watches of these namespaces, or of the whole cluster where none is named. The EndpointSlices in the namespace of
/// agimo's own Service are always included.
pub fn scopes(namespaces: &[String], peers: Option<&ObjectName>) -> Vec<WatchScope> {
    let all = [None];
    let named: Vec<_> = namespaces.iter().cloned().map(Some).collect();
    let namespaces = if named.is_empty() { &all[..] } else { &named };
    let of = |namespace: &Option<String>| {
        let namespace = namespace.clone();
        KINDS.map(|kind| WatchScope { kind, namespace: namespace.clone() })
    };
    let mut scopes: Vec<WatchScope> = namespaces.iter().flat_map(of).collect();
    if let Some(peers) = peers
        && !namespaces.iter().flatten().any(|namespace| *namespace == peers.namespace)
        && namespaces != all
    {
        scopes.push(WatchScope {
            kind: ObjectKind::EndpointSlice,
            namespace: Some(peers.namespace.clone()),
        });
    }
    scopes
}

/// Runs the watches of these scopes forever.
pub async fn run(client: Client, scopes: Vec<WatchScope>, index: SharedIndex) {
    let mut watches = JoinSet::new();
    for scope in scopes {
        let (client, index) = (client.clone(), index.clone());
        match scope.kind {
            ObjectKind::EndpointSlice => {
                let read = |slice: &EndpointSlice| Slice::read(slice).map(Object::Slice);
                watches.spawn(watch_scope(client, scope, index, read));
            }
            ObjectKind::Service => {
                let read = |service: &Service| Some(Object::Service(ServiceObject::read(service)));
                watches.spawn(watch_scope(client, scope, index, read));
            }
            ObjectKind::Deployment => {
                let read = |deployment: &Deployment| {
                    Some(Object::Workload(WorkloadObject::of_deployment(deployment)))
                };
                watches.spawn(watch_scope(client, scope, index, read));
            }
            ObjectKind::StatefulSet => {
                let read = |set: &StatefulSet| {
                    Some(Object::Workload(WorkloadObject::of_stateful_set(set)))
                };
                watches.spawn(watch_scope(client, scope, index, read));
            }
            ObjectKind::HorizontalPodAutoscaler => {
                let read =
                    |hpa: &HorizontalPodAutoscaler| ScalerObject::of_hpa(hpa).map(Object::Scaler);
                watches.spawn(watch_scope(client, scope, index, read));
            }
            ObjectKind::ScaledObject => {
                let read = |object: &ScaledObject| {
                    ScalerObject::of_scaled_object(object).map(Object::Scaler)
                };
                watches.spawn(watch_scope(client, scope, index, read));
            }
        }
    }
    // No watch ends by itself. A panic is passed on, so that it ends the process.
    while let Some(ended) = watches.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// The events of a watch in one namespace or in all. An object that cannot be decoded does not end the watch.
pub fn events<K>(
    client: Client,
    namespace: Option<&str>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let api: Api<DeserializeGuard<K>> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    watcher(api, config)
}

/// The same events; after an error the next attempt is delayed, for longer after each error in a row.
pub fn with_retry_delays<K: Send + 'static>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static {
    // The delay before the next attempt, and the errors in a row.
    let start = (Box::pin(events), Duration::ZERO, 0);
    futures_util::stream::unfold(start, |(mut events, delay, failures)| async move {
        tokio::time::sleep(delay).await;
        let event = events.next().await?;
        let (delay, failures) = match &event {
            Err(_) => (RETRY.delay(failures + 1), failures + 1),
            // The beginning of a list does not show yet that the API server answers.
            Ok(Event::Init) => (Duration::ZERO, failures),
            Ok(_) => (Duration::ZERO, 0),
        };
        Some((event, (events, delay, failures)))
    })
}

/// One watch, forever.
async fn watch_scope<K>(
    client: Client,
    scope: WatchScope,
    index: SharedIndex,
    read: impl Fn(&K) -> Option<Object>,
) where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    let begin = || events::<K>(client.clone(), scope.namespace.as_deref(), config.clone());
    let mut events = pin!(begin());
    // Failures in a row, and whether the last attempt failed.
    let (mut failures, mut is_failing) = (0, false);
    loop {
        let limit = if is_failing { QUIET } else { Duration::MAX };
        let event = match tokio::time::timeout(limit, events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(None) => return,
            Err(_) => {
                // The watch was resumed, and nothing has changed since.
                (failures, is_failing) = (0, false);
                index.lock().set_fault(&scope, None);
                continue;
            }
            Ok(Some(Err(watcher::Error::WatchError(status)))) if status.code == EXPIRED => {
                // The API server does not know the version any more, as after its restart; a new list follows.
                debug!(kind = ?scope.kind, namespace = scope.namespace, "{}", status.message);
                continue;
            }
            Ok(Some(Err(watcher::Error::WatchStartFailed(kube::Error::Api(status)))))
                if scope.kind.is_scaler() && status.code == NOT_FOUND =>
            {
                // Only a new list tells whether the kind is still served.
                events.set(begin());
                tokio::time::sleep(NOT_SERVED_RETRY).await;
                continue;
            }
            Ok(Some(Err(error))) if scope.kind.is_scaler() && is_not_served(&error) => {
                // Without its definition, there is no object of the kind.
                (failures, is_failing) = (0, false);
                index.lock().apply(&scope, Event::Init);
                index.lock().apply(&scope, Event::InitDone);
                tokio::time::sleep(NOT_SERVED_RETRY).await;
                continue;
            }
            Ok(Some(Err(error))) => {
                let fault = fault(&scope, &error);
                // Only the first failure in a row is worth a warning. What other scalers there are matters only to workloads
                // that say so themselves.
                if failures == 0 && !scope.kind.is_scaler() {
                    warn!(kind = ?scope.kind, namespace = scope.namespace, "{fault}");
                } else {
                    debug!(kind = ?scope.kind, namespace = scope.namespace, "{fault}");
                }
                (failures, is_failing) = (failures + 1, true);
                index.lock().set_fault(&scope, Some(fault));
                tokio::time::sleep(RETRY.delay(failures)).await;
                continue;
            }
        };
        let read = |object: DeserializeGuard<K>| read_object(&scope, object, &read);
        let event = match event {
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
            Event::InitApply(object) => Event::InitApply(read(object)),
            Event::Apply(object) => Event::Apply(read(object)),
            Event::Delete(object) => Event::Delete(read(object)),
        };
        // The beginning of a list does not show yet that the API server answers.
        if !matches!(event, Event::Init) {
            (failures, is_failing) = (0, false);
        }
        index.lock().apply(&scope, event);
    }
}

/// An object's name and the fields that are kept of it; `None` where it cannot be decoded.
fn read_object<K: Resource<DynamicType = ()> + Clone>(
    scope: &WatchScope,
    object: DeserializeGuard<K>,
    read: &impl Fn(&K) -> Option<Object>,
) -> (ObjectName, Option<Object>) {
    let id = ObjectName::of(&object);
    match object.0 {
        Ok(object) => (id, read(&object)),
        Err(invalid) => {
            warn!(kind = ?scope.kind, object = %id, error = invalid.error, "cannot decode an object; it is ignored");
            (id, None)
        }
    }
}

// === impl SharedIndex ===

impl SharedIndex {
    pub fn new(index: Index) -> Self {
        Self(Arc::new(Mutex::new(index)))
    }

    /// The index stays usable if another holder panicked.
    pub fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn follow(&self, workload: &WorkloadId, sources: &[EndpointSource]) -> Following {
        let (id, snapshot) = self.lock().follow(workload, sources);
        Following { index: self.clone(), id, snapshot }
    }
}

// === impl Following ===

impl Following {
    pub fn set_sources(&self, sources: &[EndpointSource]) {
        self.index.lock().set_sources(self.id, sources);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.index.lock().unfollow(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn services(namespace: Option<&str>) -> WatchScope {
        WatchScope { kind: ObjectKind::Service, namespace: namespace.map(ToOwned::to_owned) }
    }

    /// This API server accepts none of these; an older or newer one may.
    #[test]
    fn an_object_that_cannot_be_decoded_is_reported_by_its_name() {
        let read = |service: &Service| Some(Object::Service(ServiceObject::read(service)));
        let read_spec = |spec: serde_json::Value| {
            let object = json!({ "metadata": { "name": "web", "namespace": "a" }, "spec": spec });
            read_object(&services(None), serde_json::from_value(object).unwrap(), &read)
        };
        let (id, object) = read_spec(json!({ "ports": "none" }));
        assert_eq!((id, object), (ObjectName::new("a", "web"), None));
        let (id, object) = read_spec(json!({ "ports": [{ "port": 80 }], "new": true }));
        assert_eq!(id, ObjectName::new("a", "web"));
        assert!(object.is_some());
    }

    #[test]
    fn without_namespaces_the_whole_cluster_is_watched_once() {
        let all = scopes(&[], Some(&ObjectName::new("c", "agimo")));
        assert_eq!(all.len(), KINDS.len());
        assert!(all.iter().all(|scope| scope.namespace.is_none()));
        let two = scopes(&["a".to_owned(), "b".to_owned()], Some(&ObjectName::new("a", "agimo")));
        assert_eq!(two.len(), 2 * KINDS.len());
        let with_peers = scopes(&["a".to_owned()], Some(&ObjectName::new("c", "agimo")));
        let c = Some("c".to_owned());
        assert_eq!(
            with_peers[KINDS.len()..],
            [WatchScope { kind: ObjectKind::EndpointSlice, namespace: c }]
        );
        assert!(two.iter().all(|scope| scope.namespace.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_each_time_is_retried_after_growing_delays() {
        let failing = futures_util::stream::iter((0..12).map(|at| match at % 2 {
            0 => Ok::<Event<()>, _>(Event::Init),
            _ => Err(watcher::Error::NoResourceVersion),
        }));
        let mut events = pin!(with_retry_delays(failing));
        let mut delays = Vec::new();
        let mut last = tokio::time::Instant::now();
        while let Some(event) = events.next().await {
            if event.is_err() {
                delays.push(last.elapsed());
                last = tokio::time::Instant::now();
            }
        }
        assert_eq!(delays.len(), 6);
        assert!(delays.windows(2).skip(1).all(|pair| pair[1] >= pair[0] * 2), "{delays:?}");
    }
}
