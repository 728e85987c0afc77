//! The replicas that workloads had before they were scaled to zero, kept in one ConfigMap, so that a wake restores them
//! after a restart of agimo.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Patch;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::client::error_with_sources;
use super::objects::ObjectName;
use super::scale::patch_parameters;
use super::watches::{WATCH_SECONDS, events, with_retry_delays};
use crate::workload::WorkloadId;

/// The saved numbers; clones share them. Without a ConfigMap they are lost with the process.
#[derive(Clone)]
pub struct SavedReplicas {
    shared: Arc<Shared>,
}

struct Shared {
    config_map: Option<ObjectName>,
    saved: Mutex<Saved>,
    /// A number waits to be written.
    changed: Notify,
}

/// What is saved, as a table that the watch and the workloads update. Only numbers above 1 are in it.
#[derive(Debug, Default)]
struct Saved {
    replicas: HashMap<String, u32>,
    /// Changes that the ConfigMap does not have yet; `None` removes an entry.
    unwritten: BTreeMap<String, Option<u32>>,
    /// The version of the ConfigMap that was read last.
    version: u64,
    /// The ConfigMap was read once, or cannot be read.
    is_loaded: bool,
}

/// The keys of a ConfigMap are limited (Kubernetes, core/v1 ConfigMap); longer ones are kept in memory only.
const MAX_KEY_LENGTH: usize = 253;
/// Limit for the first read. After it, agimo starts without the saved numbers.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

// === impl SavedReplicas ===

impl SavedReplicas {
    pub fn new(config_map: Option<ObjectName>) -> Self {
        let saved = Saved { is_loaded: config_map.is_none(), ..Saved::default() };
        let shared = Shared { config_map, saved: Mutex::new(saved), changed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Whether the ConfigMap was read once, or is not going to be.
    pub fn is_loaded(&self) -> bool {
        self.lock().is_loaded
    }

    /// The replicas that the workload had before it was scaled to zero; 1 where none are saved.
    pub fn get(&self, workload: &WorkloadId) -> u32 {
        self.lock().replicas.get(&key(workload)).copied().unwrap_or(1)
    }

    /// Saves the replicas of a workload that is being scaled to zero. Returns at once.
    pub fn save(&self, workload: &WorkloadId, replicas: u32) {
        let is_changed = self.lock().save(key(workload), replicas);
        if is_changed && self.shared.config_map.is_some() {
            self.shared.changed.notify_one();
        }
    }

    /// Keeps the table and the ConfigMap the same, forever.
    pub async fn run(self, client: Client) {
        if let Some(config_map) = &self.shared.config_map {
            tokio::join!(self.read(client.clone(), config_map), self.write(client, config_map));
        }
    }

    async fn read(&self, client: Client, config_map: &ObjectName) {
        // Rights by `resourceNames` cover a list and a watch only with this selector (RBAC, referring to resources).
        let config = Config::default()
            .fields(&format!("metadata.name={}", config_map.name))
            .timeout(WATCH_SECONDS);
        let events = events::<ConfigMap>(client, Some(&config_map.namespace), config);
        let mut events = pin!(with_retry_delays(events));
        loop {
            let limit = if self.is_loaded() { Duration::MAX } else { LOAD_TIMEOUT };
            match tokio::time::timeout(limit, events.next()).await {
                Ok(Some(Ok(event))) => self.apply(config_map, event),
                Ok(Some(Err(error))) => {
                    self.log_unreadable(config_map, &error_with_sources(&error));
                }
                Err(_) => self.log_unreadable(config_map, "no answer within 10 s"),
                Ok(None) => return,
            }
        }
    }

    fn apply(&self, config_map: &ObjectName, event: Event<DeserializeGuard<ConfigMap>>) {
        let mut saved = self.lock();
        match event {
            Event::InitApply(object) | Event::Apply(object) => match &object.0 {
                Ok(object) => saved.read(object),
                Err(invalid) => debug!(%config_map, error = invalid.error, "cannot decode"),
            },
            Event::InitDone => {
                if !saved.is_loaded && saved.version == 0 {
                    warn!(
                        %config_map,
                        "the ConfigMap of --replica-store does not exist: the replicas of sleeping workloads are \
                         kept in memory only"
                    );
                }
                saved.is_loaded = true;
            }
            Event::Init | Event::Delete(_) => {}
        }
    }

    /// Warns once; the numbers are kept in memory.
    fn log_unreadable(&self, config_map: &ObjectName, error: &str) {
        let was_loaded = std::mem::replace(&mut self.lock().is_loaded, true);
        if was_loaded {
            debug!(%config_map, error, "the saved replicas cannot be read");
        } else {
            warn!(
                %config_map,
                error,
                "the saved replicas cannot be read: they are kept in memory only; grant agimo get, list, watch and \
                 patch on this ConfigMap"
            );
        }
    }

    async fn write(&self, client: Client, config_map: &ObjectName) {
        let api: Api<ConfigMap> = Api::namespaced(client, &config_map.namespace);
        let parameters = patch_parameters();
        let mut is_failing = false;
        loop {
            self.shared.changed.notified().await;
            let changes = self.lock().changes();
            if changes.is_empty() {
                continue;
            }
            let patch = Patch::Merge(json!({ "data": changes }));
            let attempt = api.patch(&config_map.name, &parameters, &patch);
            let error = match tokio::time::timeout(WRITE_TIMEOUT, attempt).await {
                Ok(Ok(object)) => {
                    self.lock().written(&changes, &object);
                    is_failing = false;
                    continue;
                }
                Ok(Err(error)) => error_with_sources(&error),
                Err(_) => "no answer within 5 s".to_owned(),
            };
            // The next change is written together with these.
            if is_failing {
                debug!(%config_map, error, "the saved replicas cannot be written");
            } else {
                warn!(
                    %config_map,
                    error,
                    "the saved replicas cannot be written: they are kept in memory until they can"
                );
            }
            is_failing = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Saved> {
        self.shared.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Saved ===

impl Saved {
    /// Saves a number; true where the ConfigMap is to change.
    fn save(&mut self, key: String, replicas: u32) -> bool {
        let before = if replicas > 1 {
            self.replicas.insert(key.clone(), replicas)
        } else {
            self.replicas.remove(&key)
        };
        let now = (replicas > 1).then_some(replicas);
        let is_changed = before != now && is_storable(&key);
        if is_changed {
            self.unwritten.insert(key, now);
        }
        is_changed
    }

    /// Takes what the ConfigMap has. Numbers that were not written yet stay.
    fn read(&mut self, object: &ConfigMap) {
        let version = object.resource_version().and_then(|version| version.parse().ok());
        let version = version.unwrap_or(0);
        if version < self.version {
            return;
        }
        self.version = version;
        let Self { replicas, unwritten, .. } = self;
        replicas.retain(|key, _| unwritten.contains_key(key) || !is_storable(key));
        for (key, value) in object.data.iter().flatten() {
            if let Some(number) = number(value)
                && !unwritten.contains_key(key)
            {
                replicas.insert(key.clone(), number);
            }
        }
    }

    /// The ConfigMap has these changes now.
    fn written(&mut self, changes: &BTreeMap<String, Option<String>>, object: &ConfigMap) {
        self.unwritten.retain(|key, replicas| changes.get(key) != Some(&text(*replicas)));
        self.read(object);
    }

    /// The changes as values of the ConfigMap.
    fn changes(&self) -> BTreeMap<String, Option<String>> {
        self.unwritten.iter().map(|(key, replicas)| (key.clone(), text(*replicas))).collect()
    }
}

/// `<kind>.<namespace>.<name>`. Neither a kind nor a namespace contains a dot.
fn key(workload: &WorkloadId) -> String {
    format!("{}.{}.{}", workload.kind.as_str(), workload.namespace, workload.name)
}

fn is_storable(key: &str) -> bool {
    key.len() <= MAX_KEY_LENGTH
}

fn text(replicas: Option<u32>) -> Option<String> {
    replicas.map(|replicas| replicas.to_string())
}

/// A saved number. `replicas` of Kubernetes is a signed 32-bit integer.
fn number(value: &str) -> Option<u32> {
    let number = value.trim().parse::<i32>().ok().filter(|number| *number > 1)?;
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fake_api;
    use super::*;
    use crate::workload::WorkloadKind;

    fn workload(name: &str) -> WorkloadId {
        WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        }
    }

    fn config_map(version: u32, data: &[(&str, &str)]) -> ConfigMap {
        let data: BTreeMap<_, _> = data.iter().copied().collect();
        let metadata =
            json!({ "name": "r", "namespace": "a", "resourceVersion": version.to_string() });
        serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap()
    }

    fn saved() -> Saved {
        Saved::default()
    }

    #[test]
    fn only_numbers_above_one_are_stored() {
        let mut saved = saved();
        let web = key(&workload("web"));
        assert_eq!(web, "deployment.shop.web");
        assert!(!saved.save(web.clone(), 1), "nothing to remove");
        assert!(saved.save(web.clone(), 3));
        assert!(!saved.save(web.clone(), 3), "it is the same");
        assert_eq!(saved.changes(), [(web.clone(), Some("3".to_owned()))].into());
        assert!(saved.save(web.clone(), 1));
        assert_eq!(saved.changes(), [(web.clone(), None)].into());
        let patch = serde_json::to_string(&json!({ "data": saved.changes() })).unwrap();
        assert_eq!(patch, r#"{"data":{"deployment.shop.web":null}}"#);
        assert_eq!(saved.replicas.get(&web), None);
    }

    #[test]
    fn the_config_map_replaces_what_is_not_waiting_to_be_written() {
        let mut saved = saved();
        saved.read(&config_map(5, &[("a", "2"), ("b", "4"), ("c", "x"), ("d", "0")]));
        assert_eq!(saved.replicas, [("a".to_owned(), 2), ("b".to_owned(), 4)].into());
        saved.save("a".to_owned(), 7);
        saved.read(&config_map(6, &[("a", "2")]));
        assert_eq!(saved.replicas, [("a".to_owned(), 7)].into());
        let changes = saved.changes();
        saved.save("a".to_owned(), 8);
        saved.written(&changes, &config_map(7, &[("a", "7")]));
        assert_eq!(saved.replicas, [("a".to_owned(), 8)].into(), "changed during the write");
        let changes = saved.changes();
        saved.written(&changes, &config_map(8, &[("a", "8")]));
        assert!(saved.unwritten.is_empty());
        saved.read(&config_map(7, &[("a", "7")]));
        assert_eq!(saved.replicas, [("a".to_owned(), 8)].into(), "the watch is behind the write");
        saved.read(&config_map(9, &[]));
        assert!(saved.replicas.is_empty());
    }

    #[test]
    fn a_key_that_is_too_long_is_kept_in_memory_only() {
        let mut saved = saved();
        let long = key(&workload(&"n".repeat(253)));
        assert!(!saved.save(long.clone(), 3));
        assert!(saved.changes().is_empty());
        saved.read(&config_map(1, &[]));
        assert_eq!(saved.replicas.get(&long), Some(&3));
    }

    #[test]
    fn without_a_config_map_numbers_are_kept_in_memory() {
        let saved = SavedReplicas::new(None);
        assert!(saved.is_loaded());
        assert_eq!(saved.get(&workload("web")), 1);
        saved.save(&workload("web"), 4);
        assert_eq!(saved.get(&workload("web")), 4);
        assert!(!SavedReplicas::new(Some(ObjectName::new("a", "r"))).is_loaded());
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_are_read_from_the_config_map_and_written_to_it() {
        let (client, log) = fake_api::client(|request| match request.method.as_str() {
            "PATCH" => (200, serde_json::to_value(config_map(8, &[])).unwrap()),
            _ => {
                let object = config_map(7, &[("deployment.shop.web", "3")]);
                let list = json!({
                    "kind": "ConfigMapList", "apiVersion": "v1",
                    "metadata": { "resourceVersion": "7" }, "items": [object],
                });
                (200, list)
            }
        });
        let saved = SavedReplicas::new(Some(ObjectName::new("a", "r")));
        let running = tokio::spawn(saved.clone().run(client));
        until(|| saved.is_loaded()).await;
        assert_eq!(saved.get(&workload("web")), 3);
        saved.save(&workload("web"), 5);
        until(|| log.lock().unwrap().iter().any(|request| request.method == "PATCH")).await;
        running.abort();
        let log = log.lock().unwrap();
        assert_eq!(log[0].path, "/api/v1/namespaces/a/configmaps");
        assert!(log[0].query.contains("fieldSelector=metadata.name%3Dr"), "{log:?}");
        let patch = log.iter().find(|request| request.method == "PATCH").unwrap();
        assert_eq!(patch.path, "/api/v1/namespaces/a/configmaps/r");
        assert_eq!(patch.body, json!({ "data": { "deployment.shop.web": "5" } }));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_config_map_does_not_keep_agimo_from_being_ready() {
        let (client, log) = fake_api::client(|_| fake_api::forbidden());
        let saved = SavedReplicas::new(Some(ObjectName::new("a", "r")));
        let running = tokio::spawn(saved.clone().run(client));
        until(|| saved.is_loaded()).await;
        saved.save(&workload("web"), 5);
        until(|| log.lock().unwrap().iter().any(|request| request.method == "PATCH")).await;
        running.abort();
        assert_eq!(saved.get(&workload("web")), 5, "it is kept in memory");
    }

    async fn until(condition: impl Fn() -> bool) {
        let reached = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the condition holds");
    }
}
