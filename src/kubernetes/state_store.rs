//! What agimo must not forget with a restart, in one ConfigMap: the replicas that workloads had before they were scaled to zero,
//! and the pins that people set through agimo.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Patch;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::objects::ObjectName;
use super::scale::patch_parameters;
use super::watches::{WATCH_SECONDS, events, with_retry_delays};
use crate::backoff::Backoff;
use crate::kube_client::error_with_sources;
use crate::ownership::directive::{Pin, PinnedState};
use crate::ownership::pins::{OperatorPin, Pins};
use crate::workload::{WorkloadId, WorkloadKind};

/// The saved state; clones share it. Without a ConfigMap it is lost with the process.
#[derive(Clone)]
pub struct StateStore {
    shared: Arc<Shared>,
}

struct Shared {
    config_map: Option<ObjectName>,
    saved: Mutex<Saved>,
    /// A change waits to be written.
    changed: Notify,
}

/// What is saved, as a table that the watch and the workloads update.
#[derive(Debug, Default)]
struct Saved {
    values: HashMap<String, String>,
    /// Changes that the ConfigMap does not have yet; `None` removes an entry.
    unwritten: BTreeMap<String, Option<String>>,
    /// The version of the ConfigMap that was read last.
    version: u64,
    /// The ConfigMap was read once, or cannot be read.
    is_loaded: bool,
}

/// A pin as it is saved, in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct SavedPin {
    state: String,
    /// When it ends by itself (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    by: String,
}

/// A pin that has ended is removed after this time.
const KEPT_AFTER_END: Duration = Duration::from_secs(3600);
/// Between attempts to write.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// The keys of pins begin so. No kind of workload is called like that.
const PIN: &str = "pin.";
/// The keys of a ConfigMap are limited (Kubernetes, core/v1 ConfigMap); longer ones are kept in memory only.
const MAX_KEY_LENGTH: usize = 253;
/// Limit for the first read. After it, agimo starts without the saved numbers.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

// === impl StateStore ===

impl StateStore {
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
    pub fn replicas(&self, workload: &WorkloadId) -> u32 {
        self.lock().values.get(&key(workload)).and_then(|value| number(value)).unwrap_or(1)
    }

    /// Saves the replicas of a workload that is being scaled to zero. Returns at once.
    pub fn save_replicas(&self, workload: &WorkloadId, replicas: u32) {
        // One is what is taken where nothing is saved.
        self.save(key(workload), (replicas > 1).then(|| replicas.to_string()));
    }

    /// Saves or removes the pin of a workload. Returns at once. Pins of local processes end with agimo, as they do.
    pub fn save_pin(&self, workload: &WorkloadId, pin: Option<&OperatorPin>) {
        if workload.kind == WorkloadKind::Process {
            return;
        }
        let own = format!("{PIN}{}", key(workload));
        let expired = self.lock().expired_pins(SystemTime::now());
        expired.into_iter().filter(|key| *key != own).for_each(|key| self.save(key, None));
        self.save(own, pin.and_then(pin_text));
    }

    fn save(&self, key: String, value: Option<String>) {
        let is_changed = self.lock().save(key, value);
        if is_changed && self.shared.config_map.is_some() {
            self.shared.changed.notify_one();
        }
    }

    /// Keeps the table and the ConfigMap the same, forever.
    pub async fn run(self, client: Client, pins: Pins) {
        if let Some(config_map) = &self.shared.config_map {
            let read = self.read(client.clone(), config_map, &pins);
            tokio::join!(read, self.write(client, config_map));
        }
    }

    async fn read(&self, client: Client, config_map: &ObjectName, pins: &Pins) {
        // Rights by `resourceNames` cover a list and a watch only with this selector (RBAC, referring to resources).
        let config = Config::default()
            .fields(&format!("metadata.name={}", config_map.name))
            .timeout(WATCH_SECONDS);
        let events = events::<ConfigMap>(client, Some(&config_map.namespace), config);
        let mut events = pin!(with_retry_delays(events));
        loop {
            let limit = if self.is_loaded() { Duration::MAX } else { LOAD_TIMEOUT };
            match tokio::time::timeout(limit, events.next()).await {
                Ok(Some(Ok(event))) => {
                    self.apply(config_map, event);
                    let kept = self.lock().pins();
                    pins.replace(kept, |workload| workload.kind != WorkloadKind::Process);
                }
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
                        "the ConfigMap of --replica-store does not exist: the replicas of sleeping workloads and \
                         pins are kept in memory only"
                    );
                }
                saved.is_loaded = true;
            }
            Event::Init | Event::Delete(_) => {}
        }
    }

    /// Warns once; everything is kept in memory.
    fn log_unreadable(&self, config_map: &ObjectName, error: &str) {
        let was_loaded = std::mem::replace(&mut self.lock().is_loaded, true);
        if was_loaded {
            debug!(%config_map, error, "the ConfigMap of --replica-store cannot be read");
        } else {
            warn!(
                %config_map,
                error,
                "the ConfigMap of --replica-store cannot be read: what it keeps is in memory only; grant agimo get, list, watch and \
                 patch on this ConfigMap"
            );
        }
    }

    async fn write(&self, client: Client, config_map: &ObjectName) {
        let api: Api<ConfigMap> = Api::namespaced(client, &config_map.namespace);
        let parameters = patch_parameters();
        let mut failures = 0;
        loop {
            let changed = self.shared.changed.notified();
            match failures {
                0 => changed.await,
                // It is tried again although nothing more may change.
                failures => {
                    let _ = tokio::time::timeout(RETRY.delay(failures), changed).await;
                }
            }
            let changes = self.lock().unwritten.clone();
            if changes.is_empty() {
                continue;
            }
            let patch = Patch::Merge(json!({ "data": changes }));
            let attempt = api.patch(&config_map.name, &parameters, &patch);
            let error = match tokio::time::timeout(WRITE_TIMEOUT, attempt).await {
                Ok(Ok(object)) => {
                    self.lock().written(&changes, &object);
                    failures = 0;
                    continue;
                }
                Ok(Err(error)) => error_with_sources(&error),
                Err(_) => "no answer within 5 s".to_owned(),
            };
            if failures > 0 {
                debug!(%config_map, error, "the ConfigMap of --replica-store cannot be written");
            } else {
                warn!(
                    %config_map,
                    error,
                    "the ConfigMap of --replica-store cannot be written: what it keeps is in memory until it can"
                );
            }
            failures += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Saved> {
        self.shared.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Saved ===

impl Saved {
    /// Saves or removes a value; true where the ConfigMap is to change.
    fn save(&mut self, key: String, value: Option<String>) -> bool {
        let before = match &value {
            Some(value) => self.values.insert(key.clone(), value.clone()),
            None => self.values.remove(&key),
        };
        let is_changed = before != value && is_storable(&key);
        if is_changed {
            self.unwritten.insert(key, value);
        }
        is_changed
    }

    /// Takes what the ConfigMap has. Changes that were not written yet stay.
    fn read(&mut self, object: &ConfigMap) {
        let version = object.resource_version().and_then(|version| version.parse().ok());
        let version = version.unwrap_or(0);
        if version < self.version {
            return;
        }
        self.version = version;
        let Self { values, unwritten, .. } = self;
        values.retain(|key, _| unwritten.contains_key(key) || !is_storable(key));
        let read = object.data.iter().flatten().filter(|(key, _)| !unwritten.contains_key(*key));
        values.extend(read.map(|(key, value)| (key.clone(), value.clone())));
    }

    /// The ConfigMap has these changes now.
    fn written(&mut self, changes: &BTreeMap<String, Option<String>>, object: &ConfigMap) {
        self.unwritten.retain(|key, value| changes.get(key) != Some(value));
        self.read(object);
    }

    /// The pins of all workloads. One that cannot be read is left out.
    fn pins(&self) -> HashMap<WorkloadId, OperatorPin> {
        let pin = |(key, value): (&String, &String)| {
            Some((workload(key.strip_prefix(PIN)?)?, read_pin(value)?))
        };
        self.values.iter().filter_map(pin).collect()
    }

    /// The keys of pins that ended some time ago. Clocks differ, and another replica may have set a new one just now.
    fn expired_pins(&self, now: SystemTime) -> Vec<String> {
        let now = now.checked_sub(KEPT_AFTER_END).unwrap_or(now);
        let is_expired = |value: &str| read_pin(value).is_some_and(|pin| !pin.pin.applies_at(now));
        let pins = self.values.iter().filter(|(key, _)| key.starts_with(PIN));
        pins.filter(|(_, value)| is_expired(value)).map(|(key, _)| key.clone()).collect()
    }
}

/// `<kind>.<namespace>.<name>`. Neither a kind nor a namespace contains a dot.
fn key(workload: &WorkloadId) -> String {
    format!("{}.{}.{}", workload.kind.as_str(), workload.namespace, workload.name)
}

/// The workload with this key.
fn workload(key: &str) -> Option<WorkloadId> {
    let mut parts = key.splitn(3, '.');
    let kind = WorkloadKind::in_cluster(parts.next()?)?;
    let (namespace, name) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some(WorkloadId { kind, namespace, name })
}

fn is_storable(key: &str) -> bool {
    key.len() <= MAX_KEY_LENGTH
}

/// Saved replicas. `replicas` of Kubernetes is a signed 32-bit integer.
fn number(value: &str) -> Option<u32> {
    let number = value.trim().parse::<i32>().ok().filter(|number| *number > 1)?;
    u32::try_from(number).ok()
}

fn pin_text(pin: &OperatorPin) -> Option<String> {
    let OperatorPin { pin: Pin { state, until }, by } = pin;
    let until = until.and_then(|until| Some(Timestamp::try_from(until).ok()?.to_string()));
    let saved = SavedPin { state: state.as_str().to_owned(), until, by: by.to_string() };
    serde_json::to_string(&saved).ok()
}

fn read_pin(value: &str) -> Option<OperatorPin> {
    let SavedPin { state, until, by } = serde_json::from_str(value).ok()?;
    let states = [PinnedState::Awake, PinnedState::Asleep];
    let state = states.into_iter().find(|known| known.as_str() == state)?;
    // A pin whose end cannot be read does not apply.
    let until = until.map(|until| until.parse::<Timestamp>().map(SystemTime::from)).transpose();
    let pin = Pin { state, until: until.ok()? };
    Some(OperatorPin { pin, by: by.into() })
}

#[cfg(test)]
mod tests;
