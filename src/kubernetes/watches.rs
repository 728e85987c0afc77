//! Reads the API server's watches into the index, each in a task of its own, and goes on after whatever goes wrong. It
//! judges nothing.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::index::{Index, Kind, Object, Scope};
use super::objects::{Id, ServiceObject, Slice, WorkloadObject};

/// An index that the watches write and everyone may read.
pub type Shared = Arc<Mutex<Index>>;

/// The server ends a watch after this, and it is begun again where it was. It also bounds how long a
/// connection that has died without a word goes unnoticed.
pub const WATCH_SECONDS: u32 = 60;
/// A list comes in pages of so many objects.
const PAGE: u32 = 500;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A watch that was begun again and has said nothing for so long has not failed.
const QUIET: Duration = Duration::from_secs(10);

/// The status code of a watch that cannot be resumed (API concepts, 410 Gone).
const EXPIRED: u16 = 410;

const KINDS: [Kind; 4] = [Kind::Slices, Kind::Services, Kind::Deployments, Kind::StatefulSets];

/// The watches for these namespaces; for none named, those of the whole cluster. Where the Service of
/// agimo's own replicas lies elsewhere, its slices are watched there.
pub fn scopes(namespaces: &[String], peers: Option<&Id>) -> Vec<Scope> {
    let all = [None];
    let named: Vec<_> = namespaces.iter().cloned().map(Some).collect();
    let namespaces = if named.is_empty() { &all[..] } else { &named };
    let of = |namespace: &Option<String>| {
        let namespace = namespace.clone();
        KINDS.map(|kind| Scope { kind, namespace: namespace.clone() })
    };
    let mut scopes: Vec<Scope> = namespaces.iter().flat_map(of).collect();
    if let Some(peers) = peers
        && !namespaces.iter().flatten().any(|namespace| *namespace == peers.namespace)
        && namespaces != all
    {
        scopes.push(Scope { kind: Kind::Slices, namespace: Some(peers.namespace.clone()) });
    }
    scopes
}

/// Runs the watches of these scopes for ever.
pub async fn run(client: Client, scopes: Vec<Scope>, index: Shared) {
    let mut watches = JoinSet::new();
    for scope in scopes {
        let (client, index) = (client.clone(), index.clone());
        match scope.kind {
            Kind::Slices => {
                let read = |slice: &EndpointSlice| Slice::read(slice).map(Object::Slice);
                watches.spawn(one(client, scope, index, read));
            }
            Kind::Services => {
                let read = |service: &Service| Some(Object::Service(ServiceObject::read(service)));
                watches.spawn(one(client, scope, index, read));
            }
            Kind::Deployments => {
                let read = |deployment: &Deployment| {
                    Some(Object::Workload(WorkloadObject::of_deployment(deployment)))
                };
                watches.spawn(one(client, scope, index, read));
            }
            Kind::StatefulSets => {
                let read = |set: &StatefulSet| {
                    Some(Object::Workload(WorkloadObject::of_stateful_set(set)))
                };
                watches.spawn(one(client, scope, index, read));
            }
        }
    }
    // None of them ends; should one panic, so does this task, and the process says so.
    while let Some(ended) = watches.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// What is watched of a kind in a namespace, or in all. An object that cannot be decoded is an item of its own.
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

/// One watch, for ever.
async fn one<K>(client: Client, scope: Scope, index: Shared, read: impl Fn(&K) -> Option<Object>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    let mut events = pin!(events::<K>(client, scope.namespace.as_deref(), config));
    let mut pause = FIRST_PAUSE;
    let mut failing = false;
    loop {
        let next = tokio::time::timeout(if failing { QUIET } else { Duration::MAX }, events.next());
        let event = match next.await {
            Ok(Some(Ok(event))) => event,
            Ok(None) => return,
            Err(_) => {
                // The watch was resumed, and nothing has changed since.
                failing = false;
                pause = FIRST_PAUSE;
                lock(&index).set_fault(&scope, None);
                continue;
            }
            Ok(Some(Err(watcher::Error::WatchError(status)))) if status.code == EXPIRED => {
                // The server has forgotten where the watch was, as after its restart; a new list follows.
                debug!(kind = ?scope.kind, namespace = scope.namespace, "{}", status.message);
                continue;
            }
            Ok(Some(Err(error))) => {
                let fault = fault(&scope, &error);
                // The first time it is news; while it lasts it is not.
                if pause == FIRST_PAUSE {
                    warn!(kind = ?scope.kind, namespace = scope.namespace, "{fault}");
                } else {
                    debug!(kind = ?scope.kind, namespace = scope.namespace, "{fault}");
                }
                failing = true;
                lock(&index).set_fault(&scope, Some(fault));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        let known = |object: DeserializeGuard<K>| known(&scope, object, &read);
        let event = match event {
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
            Event::InitApply(object) => Event::InitApply(known(object)),
            Event::Apply(object) => Event::Apply(known(object)),
            Event::Delete(object) => Event::Delete(known(object)),
        };
        // A list that begins has not yet shown that the server answers.
        if !matches!(event, Event::Init) {
            failing = false;
            pause = FIRST_PAUSE;
        }
        lock(&index).apply(&scope, event);
    }
}

/// An object's name and what is kept of it: nothing where it cannot be decoded.
fn known<K: Resource<DynamicType = ()> + Clone>(
    scope: &Scope,
    object: DeserializeGuard<K>,
    read: &impl Fn(&K) -> Option<Object>,
) -> (Id, Option<Object>) {
    let id = Id::of(&object);
    match object.0 {
        Ok(object) => (id, read(&object)),
        Err(invalid) => {
            warn!(kind = ?scope.kind, object = %id, error = invalid.error, "an object cannot be decoded and is left out");
            (id, None)
        }
    }
}

/// What went wrong, with its cure where it is a missing right.
fn fault(scope: &Scope, error: &watcher::Error) -> String {
    let inner = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        other => return other.to_string(),
    };
    match inner {
        kube::Error::Api(status) if status.is_forbidden() => {
            let place = match &scope.namespace {
                Some(namespace) => format!("a Role in namespace {namespace}"),
                None => "a ClusterRole, or name the namespaces with --watch-namespaces".to_owned(),
            };
            format!("{}; let agimo list and watch them by {place}", status.message)
        }
        other => format!("the API server cannot be read: {}", chain(other)),
    }
}

/// An error with what caused it, on one line: the outermost words alone rarely say what happened.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = cause.source();
    }
    words
}

/// The index, whatever became of another holder.
pub fn lock(index: &Shared) -> std::sync::MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn services(namespace: Option<&str>) -> Scope {
        Scope { kind: Kind::Services, namespace: namespace.map(ToOwned::to_owned) }
    }

    /// The API server lets none of these through; an older or newer one may.
    #[test]
    fn an_object_that_cannot_be_decoded_is_left_out_and_keeps_its_name() {
        let read = |service: &Service| Some(Object::Service(ServiceObject::read(service)));
        let told = |spec: serde_json::Value| {
            let object = json!({ "metadata": { "name": "web", "namespace": "a" }, "spec": spec });
            known(&services(None), serde_json::from_value(object).unwrap(), &read)
        };
        let (id, object) = told(json!({ "ports": "none" }));
        assert_eq!((id, object), (Id::new("a", "web"), None));
        let (id, object) = told(json!({ "ports": [{ "port": 80 }], "new": true }));
        assert_eq!(id, Id::new("a", "web"));
        assert!(object.is_some());
    }

    #[test]
    fn a_missing_right_is_told_with_its_cure() {
        let forbidden = || {
            let status = json!({
                "status": "Failure", "reason": "Forbidden", "code": 403, "message": "cannot list",
            });
            let status = serde_json::from_value(status).unwrap();
            watcher::Error::InitialListFailed(kube::Error::Api(status))
        };
        let everywhere = fault(&services(None), &forbidden());
        assert!(everywhere.starts_with("cannot list; "), "{everywhere}");
        assert!(everywhere.contains("--watch-namespaces"), "{everywhere}");
        let here = fault(&services(Some("a")), &forbidden());
        assert!(here.ends_with("by a Role in namespace a"), "{here}");
    }

    #[test]
    fn without_namespaces_everything_is_watched_once() {
        let all = scopes(&[], Some(&Id::new("c", "agimo")));
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|scope| scope.namespace.is_none()));
        let two = scopes(&["a".to_owned(), "b".to_owned()], Some(&Id::new("a", "agimo")));
        assert_eq!(two.len(), 8);
        let with_peers = scopes(&["a".to_owned()], Some(&Id::new("c", "agimo")));
        let c = Some("c".to_owned());
        assert_eq!(with_peers[4..], [Scope { kind: Kind::Slices, namespace: c }]);
        assert!(two.iter().all(|scope| scope.namespace.is_some()));
    }
}
