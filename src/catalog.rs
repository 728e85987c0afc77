//! All services as they run: turns configurations into them, keeping what did not change. The only writer of routes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::activation::{Activation, Settings, Standing};
use crate::backend::{Kept, Running};
use crate::config::{Config, KubernetesConfig, ServiceConfig, WorkloadConfig};
use crate::demand::{self, RouteCounters};
use crate::process;
use crate::process::ports::Ports;
use crate::shutdown::Shutdown;
use crate::telemetry::{Exposition, Labels};

/// A configured service as it runs.
pub struct Service {
    pub config: ServiceConfig,
    pub labels: Labels,
    pub traffic: Arc<RouteCounters>,
    /// Absent where nothing can wake the workload: it has no backend in this agimo.
    pub activation: Option<Arc<Activation>>,
    held: Arc<AtomicU32>,
    total: Arc<Total>,
}

/// The requests held over all services, and how many may be.
#[derive(Debug, Default)]
struct Total {
    held: AtomicU32,
    most: AtomicU32,
}

/// Everything the edges need of one configuration, replaced as a whole.
pub struct Snapshot {
    pub config: Config,
    pub services: Vec<Arc<Service>>,
}

/// Makes backends for workloads in Kubernetes.
pub type InKubernetes = Box<dyn Fn(&KubernetesConfig) -> Running + Send>;

/// Where workloads can run.
pub struct Places {
    /// Processes get their ports from here.
    pub ports: Ports,
    /// Absent where no cluster is known.
    pub kubernetes: Option<InKubernetes>,
}

/// The single writer of snapshots.
pub struct Catalog {
    cores: usize,
    shutdown: Shutdown,
    places: Places,
    running: HashMap<Key, Tended>,
    total: Arc<Total>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    tasks: JoinSet<()>,
}

/// A place among the held requests, given back when dropped.
pub struct Held {
    service: Arc<AtomicU32>,
    total: Arc<Total>,
}

/// Host and path prefix: what makes a service the same across configurations.
type Key = (String, String);

/// A service that runs, and how it is told of changes.
struct Tended {
    service: Arc<Service>,
    settings: watch::Sender<Settings>,
}

// === impl Service ===

impl Service {
    /// The service's name in logs: its host, and its path prefix unless that is every path.
    pub fn name(config: &ServiceConfig) -> String {
        if config.path_prefix == "/" {
            config.host.clone()
        } else {
            format!("{}{}", config.host, config.path_prefix)
        }
    }

    /// Whether both stand for the same running workload.
    pub fn has_workload_of(&self, other: &Self) -> bool {
        match (&self.activation, &other.activation) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Takes a place among the held requests, if neither the service nor agimo as a whole is full.
    pub fn hold(&self) -> Option<Held> {
        let held = Held { service: self.held.clone(), total: self.total.clone() };
        // Both are counted before either is judged: dropping `held` takes both back.
        let service = held.service.fetch_add(1, Ordering::Relaxed);
        let total = held.total.held.fetch_add(1, Ordering::Relaxed);
        let most = held.total.most.load(Ordering::Relaxed);
        (service < self.config.max_held && total < most).then_some(held)
    }
}

// === impl Held ===

impl Drop for Held {
    fn drop(&mut self) {
        self.service.fetch_sub(1, Ordering::Relaxed);
        self.total.held.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Catalog ===

impl Catalog {
    /// A catalog of this configuration, for this many cores; the receiver always holds the newest.
    pub fn new(
        config: Config,
        cores: usize,
        places: Places,
        shutdown: Shutdown,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let empty = Snapshot { config: config.clone(), services: Vec::new() };
        let (snapshots, receiver) = watch::channel(Arc::new(empty));
        let mut catalog = Self {
            cores,
            shutdown,
            places,
            running: HashMap::new(),
            total: Arc::default(),
            snapshots,
            tasks: JoinSet::new(),
        };
        catalog.apply(config);
        (catalog, receiver)
    }

    /// Applies configurations as they come, and owns the tasks of all services, until the end.
    ///
    /// Returns an error when a task ended that should not have.
    pub async fn run(
        mut self,
        mut configs: tokio::sync::mpsc::Receiver<Config>,
    ) -> Result<(), tokio::task::JoinError> {
        loop {
            tokio::select! {
                () = self.shutdown.aborted() => break,
                Some(config) = configs.recv() => self.apply(config),
                Some(ended) = self.tasks.join_next() => ended?,
            }
        }
        // Every service's processes stop in their own time.
        self.running.clear();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Makes the running services those of `config`; what is the same in both is not touched.
    fn apply(&mut self, config: Config) {
        let mut before = std::mem::take(&mut self.running);
        let mut services = Vec::with_capacity(config.services.len());
        for service in &config.services {
            let key = (service.host.clone(), service.path_prefix.clone());
            let running = match before.remove(&key) {
                Some(running) if running.service.config == *service => running,
                Some(running) => self.change(running, service.clone()),
                None => self.start(
                    service.clone(),
                    Arc::new(RouteCounters::new(self.cores)),
                    Arc::default(),
                ),
            };
            services.push(running.service.clone());
            self.running.insert(key, running);
        }
        self.total.most.store(config.max_held_total, Ordering::Relaxed);
        self.snapshots.send_replace(Arc::new(Snapshot { config, services }));
        // Only now: a request that is refused because its service has gone finds the new routes.
        for activation in
            before.into_values().filter_map(|running| running.service.activation.clone())
        {
            activation.remove();
        }
    }

    /// The same host and path with other values; the workload goes on unless it is another.
    fn change(&mut self, running: Tended, config: ServiceConfig) -> Tended {
        let old = &running.service;
        if old.config.workload == config.workload {
            running.settings.send_replace(settings(&config));
            let service = Service {
                config,
                labels: old.labels.clone(),
                traffic: old.traffic.clone(),
                activation: old.activation.clone(),
                held: old.held.clone(),
                total: old.total.clone(),
            };
            return Tended { service: Arc::new(service), settings: running.settings };
        }
        let new = self.start(config, old.traffic.clone(), old.held.clone());
        if let Some(activation) = &old.activation {
            activation.remove();
        }
        new
    }

    fn start(
        &mut self,
        config: ServiceConfig,
        traffic: Arc<RouteCounters>,
        held: Arc<AtomicU32>,
    ) -> Tended {
        let name = Service::name(&config);
        let (sender, settings) = watch::channel(settings(&config));
        let backend = self.backend(&name, &config.workload);
        let activation = backend.map(|(backend, work)| {
            self.tasks.spawn(work);
            let activation = Arc::new(Activation::new(name, backend));
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(activation.clone().run(traffic.clone(), settings, shutdown));
            activation
        });
        let labels = labels(&config);
        Tended {
            service: Arc::new(Service {
                config,
                labels,
                traffic,
                activation,
                held,
                total: self.total.clone(),
            }),
            settings: sender,
        }
    }

    /// What runs the workload, where anything does.
    fn backend(&self, service: &str, workload: &WorkloadConfig) -> Option<Running> {
        match (workload, &self.places.kubernetes) {
            (WorkloadConfig::Process(process), _) => {
                let (ports, shutdown) = (self.places.ports.clone(), self.shutdown.clone());
                let (processes, supervisor) = process::new(process.clone(), ports, shutdown);
                Some((Arc::new(processes), Box::pin(supervisor.run())))
            }
            (WorkloadConfig::Kubernetes(config), Some(kubernetes)) => {
                let (backend, work) = kubernetes(config);
                let shutdown = self.shutdown.clone();
                let until_aborted = async move {
                    tokio::select! {
                        () = work => {}
                        () = shutdown.aborted() => {}
                    }
                };
                Some((backend, Box::pin(until_aborted)))
            }
            (WorkloadConfig::Kubernetes(config), None) => {
                let r#type = config.kind.as_str();
                tracing::warn!(
                    service,
                    r#type,
                    "no cluster and no Prometheus is known, so requests for this service are answered 503; \
                     run agimo in the cluster, or set KUBECONFIG or --prometheus-address"
                );
                None
            }
        }
    }
}

/// Writes the metrics of every service.
pub fn collect(page: &mut Exposition, snapshot: &Snapshot) {
    let services = &snapshot.services;
    let traffic: Vec<_> = services.iter().map(|s| (s.labels.clone(), s.traffic.clone())).collect();
    demand::collect(page, &traffic);
    let activations: Vec<_> = services
        .iter()
        .filter_map(|service| Some((service.labels.clone(), service.activation.clone()?)))
        .collect();
    crate::activation::coldstart::collect(page, &activations);
}

/// Where every service stands, for people: what it is, whether it is awake, and if not, why.
pub fn shown(snapshot: &Snapshot) -> Value {
    let service = |service: &Arc<Service>| {
        let config = &service.config;
        let mut shown = json!({
            "host": config.host,
            "path_prefix": config.path_prefix,
            "workload": name_of(&config.workload),
            "open_requests": service.traffic.open(),
            "held_requests": service.held.load(Ordering::Relaxed),
        });
        match &service.activation {
            None => shown["state"] = json!("no-backend"),
            Some(activation) => {
                let Standing { state, trouble, kept } = activation.standing();
                shown["state"] = json!(state);
                shown["ready_endpoints"] = json!(activation.published().ready.len());
                shown["kept_awake_by"] = json!(kept.map(Kept::as_str));
                shown["reason"] = json!(trouble.as_ref().map(|trouble| trouble.cause.token()));
                shown["detail"] = json!(trouble.map(|trouble| trouble.detail));
            }
        }
        shown
    };
    snapshot.services.iter().map(service).collect()
}

fn name_of(workload: &WorkloadConfig) -> String {
    match workload {
        WorkloadConfig::Process(process) => format!("process {}", process.name),
        WorkloadConfig::Kubernetes(KubernetesConfig { kind, namespace, name, .. }) => {
            format!("{} {namespace}/{name}", kind.as_str())
        }
    }
}

fn settings(config: &ServiceConfig) -> Settings {
    let replicas = match &config.workload {
        WorkloadConfig::Process(process) => process.replicas,
        WorkloadConfig::Kubernetes(_) => 1,
    };
    Settings { sleep_after: config.sleep_after, replicas }
}

/// `host`, and `path_prefix` only where one is configured, so that two services of a host differ.
fn labels(config: &ServiceConfig) -> Labels {
    let labels = Labels::default().with("host", &config.host);
    if config.path_prefix == "/" { labels } else { labels.with("path_prefix", &config.path_prefix) }
}
