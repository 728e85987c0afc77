//! Readiness without the Kubernetes API: asks Prometheus how many replicas kube-state-metrics has seen ready. It scales
//! nothing and sees no request.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::backend::{Backend, Cause, Kept, Observed, Running, Trouble};
use crate::config::{KubernetesConfig, Scaler, ServicePort};
use crate::net::dns::Resolver;

use self::answer::Sample;
use self::api::{Api, QueryError};

pub mod answer;
pub mod api;

/// Prometheus as a source of readiness; clones share what is known.
#[derive(Clone)]
pub struct Prometheus {
    api: Arc<Api>,
    resolver: Resolver,
    targets: Arc<Mutex<Vec<Arc<Target>>>>,
    /// Somebody waits for a workload.
    wanted: Arc<Notify>,
}

/// A workload whose readiness is asked for.
struct Target {
    config: KubernetesConfig,
    waits: watch::Sender<bool>,
    observed: watch::Sender<Observed>,
}

/// The backend's handle on one workload.
struct Workload {
    target: Arc<Target>,
    /// While it lives the target is asked for.
    observed: watch::Receiver<Observed>,
    wanted: Arc<Notify>,
}

/// While a request is held.
const HELD_INTERVAL: Duration = Duration::from_secs(1);
/// While none is: only to notice what has been scaled by others.
const IDLE_INTERVAL: Duration = Duration::from_secs(15);

// === impl Prometheus ===

impl Prometheus {
    /// Nothing is asked before a workload is to be followed.
    ///
    /// # Errors
    /// When the address is no URL that can be asked.
    pub fn new(address: &str, resolver: Resolver) -> Result<Self, QueryError> {
        Ok(Self {
            api: Arc::new(Api::new(address, resolver.clone())?),
            resolver,
            targets: Arc::default(),
            wanted: Arc::default(),
        })
    }

    /// A workload as a backend, and what the caller must run for it.
    pub fn workload(&self, config: &KubernetesConfig) -> Running {
        if config.scaler == Scaler::Agimo {
            let workload = &config.name;
            warn!(
                workload,
                "scaler = \"agimo\" needs the Kubernetes API; with Prometheus alone agimo only reports"
            );
        }
        let initial = Observed { kept: Some(Kept::External), ..Observed::default() };
        let target = Arc::new(Target {
            config: config.clone(),
            waits: watch::Sender::new(false),
            observed: watch::Sender::new(initial),
        });
        self.targets().push(target.clone());
        self.wanted.notify_one();
        let backend = Arc::new(Workload {
            target: target.clone(),
            observed: target.observed.subscribe(),
            wanted: self.wanted.clone(),
        });
        let targets = self.targets.clone();
        // It needs no work of its own; when nobody observes it any more it is not asked for.
        let until_dropped = async move {
            target.observed.closed().await;
            let mut targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.retain(|other| !Arc::ptr_eq(other, &target));
        };
        (backend, Box::pin(until_dropped))
    }

    /// Asks for ever: every second while a request is held, rarely otherwise.
    pub async fn run(self) {
        let mut last_error = None;
        loop {
            let asked = Instant::now();
            let targets = self.targets().clone();
            if !targets.is_empty() {
                let outcome = self.api.ask(&query(&targets)).await;
                self.log(&outcome, &mut last_error);
                for target in &targets {
                    self.tell(target, &outcome).await;
                }
            }
            self.pause(asked).await;
        }
    }

    /// Until it is time to ask again.
    async fn pause(&self, asked: Instant) {
        let next = asked + IDLE_INTERVAL;
        let soon = asked + HELD_INTERVAL;
        let waits = || self.targets().iter().any(|target| *target.waits.borrow());
        tokio::select! {
            () = tokio::time::sleep_until(if waits() { soon } else { next }) => {}
            // The first who waits is not kept waiting; the others come with the next.
            () = self.wanted.notified() => {}
        }
    }

    async fn tell(&self, target: &Target, outcome: &Result<Vec<Sample>, QueryError>) {
        let (ready, trouble) = match outcome {
            // What was ready last is taken to be so still: warm requests go on.
            Err(error) => {
                (target.observed.borrow().ready.clone(), Some(unknown(error.to_string())))
            }
            Ok(samples) => match answer::ready(samples, &target.config) {
                Some(1..) => match self.addresses(&target.config).await {
                    Ok(addresses) => (addresses, None),
                    Err(trouble) => (Vec::new(), Some(trouble)),
                },
                Some(_) => (Vec::new(), None),
                None => (Vec::new(), Some(missing(&target.config))),
            },
        };
        if !ready.is_empty() {
            target.waits.send_replace(false);
        }
        target.observed.send_if_modified(|observed| {
            let now = Observed { ready, trouble, ..observed.clone() };
            let changes = *observed != now;
            *observed = now;
            changes
        });
    }

    /// Where the Service answers.
    async fn addresses(&self, config: &KubernetesConfig) -> Result<Vec<SocketAddr>, Trouble> {
        let ServicePort::Number(port) = config.service_port else {
            let detail = "with Prometheus alone `service_port` must be a number".to_owned();
            return Err(Trouble { cause: Cause::PortMissing, detail });
        };
        let name = format!("{}.{}.svc", config.service_name, config.namespace);
        let found = match self.resolver.addresses(&name).await {
            Ok(found) => Ok(found),
            // Where the cluster's names are not a search domain, this is how the seed writes them.
            Err(_) => {
                let short = format!("{}.{}", config.service_name, config.namespace);
                self.resolver.addresses(&short).await
            }
        };
        match found {
            Ok(found) => {
                Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
            }
            Err(error) => Err(Trouble { cause: Cause::ServiceMissing, detail: error.to_string() }),
        }
    }

    /// Says what is new.
    fn log(&self, outcome: &Result<Vec<Sample>, QueryError>, last: &mut Option<String>) {
        let error = outcome.as_ref().err().map(ToString::to_string);
        match (&error, &last) {
            (Some(error), before) if Some(error) != before.as_ref() => {
                warn!("readiness is unknown: {error}");
            }
            (None, Some(_)) => info!("Prometheus answers again"),
            _ => debug!(samples = outcome.as_ref().map_or(0, Vec::len), "asked Prometheus"),
        }
        *last = error;
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Workload ===

impl Backend for Workload {
    fn observe(&self) -> watch::Receiver<Observed> {
        self.observed.clone()
    }

    fn scale(&self, replicas: u32) {
        self.target.waits.send_replace(replicas > 0);
        if replicas > 0 {
            // It may be ready already, so that nothing would change: say so all the same.
            self.target.observed.send_modify(|_| ());
            self.wanted.notify_one();
        }
    }

    fn is_ours(&self) -> bool {
        false
    }
}

/// One question for all: the ready replicas of the workloads' namespaces.
fn query(targets: &[Arc<Target>]) -> String {
    let namespaces: BTreeSet<&str> =
        targets.iter().map(|target| target.config.namespace.as_str()).collect();
    // Names of namespaces hold letters, digits and hyphens only, so none needs to be escaped.
    let namespaces = namespaces.into_iter().collect::<Vec<_>>().join("|");
    let select = |label: &str| {
        let of = |kind| format!("kube_{kind}_status_replicas_ready{{{label}=~\"{namespaces}\"}}");
        format!("{} or {}", of("deployment"), of("statefulset"))
    };
    format!("{} or {}", select(answer::NAMESPACE), select(answer::EXPORTED_NAMESPACE))
}

fn unknown(detail: String) -> Trouble {
    Trouble { cause: Cause::Unknown, detail }
}

fn missing(config: &KubernetesConfig) -> Trouble {
    let KubernetesConfig { kind, namespace, name, .. } = config;
    let detail = format!(
        "Prometheus has no ready replicas of {} {namespace}/{name}; does it scrape kube-state-metrics?",
        kind.as_str()
    );
    Trouble { cause: Cause::WorkloadMissing, detail }
}
