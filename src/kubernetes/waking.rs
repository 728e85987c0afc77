//! What is looked at only while a workload wakes: its pods, and after a while the warnings about them. It scales nothing.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::attempt::{Attempt, outcome};
use super::diagnosis;
use super::index::Endpoint;
use super::objects::{Id, ServiceObject};
use super::pods::{self, PodState};
use super::watches::{WATCH_SECONDS, chain, events};
use crate::cause::NotReadyReason;
use crate::config::KubernetesConfig;

/// A wake that has not ended.
pub struct Waking {
    client: Client,
    config: KubernetesConfig,
    since: Instant,
    /// Once its Service has said which they are.
    watched: Option<BoxStream<'static, watcher::Result<Event<DeserializeGuard<Pod>>>>>,
    pods: BTreeMap<String, PodState>,
    diagnose_at: Instant,
    diagnosis: Option<Attempt<Option<NotReadyReason>>>,
    diagnosed: Option<NotReadyReason>,
    started: Option<Instant>,
    /// The pods could not be watched, and it was said.
    is_blind: bool,
}

/// A wake that takes longer is looked into, and again at this interval.
const DIAGNOSE_EVERY: Duration = Duration::from_secs(2);

// === impl Waking ===

impl Waking {
    pub fn begin(client: Client, config: KubernetesConfig) -> Self {
        let since = Instant::now();
        Self {
            client,
            config,
            since,
            watched: None,
            pods: BTreeMap::new(),
            diagnose_at: since + DIAGNOSE_EVERY,
            diagnosis: None,
            diagnosed: None,
            started: None,
            is_blind: false,
        }
    }

    /// Begins to watch the pods, as soon as it is known which they are.
    pub fn follow(&mut self, service: Option<&ServiceObject>) {
        let selector = service.and_then(|service| service.selector.as_deref());
        if let (None, Some(selector)) = (&self.watched, selector) {
            let config = watcher::Config::default().labels(selector).timeout(WATCH_SECONDS);
            let events = events(self.client.clone(), Some(&self.config.namespace), config);
            self.watched = Some(events.default_backoff().boxed());
        }
    }

    /// Waits for news; what came is kept even if this is dropped while it waits.
    pub async fn changed(&mut self, service: Option<&ServiceObject>) {
        let Self { watched, diagnosis, diagnose_at, .. } = self;
        let pods = async {
            match watched {
                Some(watched) => watched.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            event = pods => match event {
                Some(event) => self.take(event, service),
                None => self.watched = None,
            },
            found = outcome(diagnosis) => self.diagnosed = found,
            () = tokio::time::sleep_until(*diagnose_at) => self.diagnose(),
        }
    }

    /// The pods that say that they are ready.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.pods.values().filter_map(|pod| pod.endpoint.as_ref())
    }

    /// What the pods say, or what was said about them.
    pub fn trouble(&self) -> Option<NotReadyReason> {
        let mut told = self.pods.values().filter_map(|pod| pod.trouble.as_ref());
        told.next().or(self.diagnosed.as_ref()).map(Clone::clone)
    }

    /// When the first container of this wake was seen to run.
    pub fn started(&self) -> Option<Instant> {
        self.started
    }

    /// Logs a step of the wake for whoever measures it.
    pub fn log(&self, step: &str) {
        let after_us = self.since.elapsed().as_micros() as u64;
        debug!(workload = self.config.name, after_us, "{step}");
    }

    fn take(
        &mut self,
        event: watcher::Result<Event<DeserializeGuard<Pod>>>,
        service: Option<&ServiceObject>,
    ) {
        match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => {
                let name = Id::of(&pod).name;
                let read = service.zip(pod.0.ok()).and_then(|(service, pod)| {
                    let port = service.port(&self.config.service_port)?;
                    pods::read(&pod, port, service.prefers_ipv6)
                });
                match read {
                    Some(state) => self.note(name, state),
                    None => drop(self.pods.remove(&name)),
                }
            }
            Ok(Event::Delete(pod)) => drop(self.pods.remove(&Id::of(&pod).name)),
            Ok(Event::Init) => self.pods.clear(),
            Ok(Event::InitDone) => {}
            Err(error) if self.is_blind => debug!(%error, "the pods cannot be watched still"),
            Err(error) => {
                self.is_blind = true;
                let workload = &self.config.name;
                let error = chain(&error);
                warn!(workload, error, "the pods cannot be watched; the EndpointSlices alone tell");
            }
        }
    }

    /// Keeps how far a pod has come, and logs each step for whoever measures a wake.
    fn note(&mut self, name: String, now: PodState) {
        let before = self.pods.insert(name, now.clone()).unwrap_or_default();
        let steps = [
            ("pod scheduled", before.is_scheduled, now.is_scheduled),
            ("container started", before.is_started, now.is_started),
            ("pod ready", before.endpoint.is_some(), now.endpoint.is_some()),
        ];
        for (step, _, _) in steps.into_iter().filter(|(_, before, now)| !before && *now) {
            self.log(step);
        }
        if now.is_started {
            self.started.get_or_insert_with(Instant::now);
        }
    }

    fn diagnose(&mut self) {
        self.diagnose_at = Instant::now() + DIAGNOSE_EVERY;
        let not_ready = self.pods.values().find(|pod| pod.endpoint.is_none());
        let pod = not_ready.map(|pod| pod.name.clone());
        let (client, config) = (self.client.clone(), self.config.clone());
        self.diagnosis = Some(Box::pin(diagnosis::last_warning(client, config, pod)));
    }
}
