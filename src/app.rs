//! Builds agimo from its rooms, owns every task and thread, and ends them in order.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::activation::event_log;
use crate::activation::events::EventBus;
use crate::admin::v1::{self, Own};
use crate::admin::{Admin, MOST_ASKING, MOST_EVENT_STREAMS};
use crate::backend::{BackendAndTask, Placement};
use crate::catalog::Catalog;
use crate::catalog::backends::{BackendContext, Backends};
use crate::catalog::sources::Sources;
use crate::certificates::Certificates;
use crate::config::Config;
use crate::config_file;
use crate::control_port::pages::PageQueue;
use crate::coordination::Coordination;
use crate::external_metrics::Registered;
use crate::ledger::Ledger;
use crate::process::ports::Ports;
use crate::process::{self, exec};
use crate::proxy::accept::{self, CoreListeners, Observers, Proxy};
use crate::request_spans::SpanCounters;
use crate::savings::Savings;
use crate::shutdown::Shutdown;
use crate::tap::Tap;
use crate::version;

use self::changes::ChangeSettings;
use self::cluster::{ClusterSettings, ReadinessBackend};
use self::configuration::Configuration;
use self::metrics::{Collected, collectors};
use self::ports::{ControlPorts, PortContext};
use self::records::OtlpSettings;
use self::running::Running;

pub mod changes;
pub mod cluster;
pub mod cluster_check;
pub mod configuration;
pub mod metrics;
pub mod ports;
pub mod records;
mod running;

/// Everything that is decided before agimo starts.
pub struct AppSettings {
    pub config: Config,
    /// The file to watch; absent for a configuration that cannot change.
    pub file: Option<config_file::WatchedFile>,
    pub access_log: bool,
    pub drain_timeout: Duration,
    /// Absent where no service runs in Kubernetes.
    pub cluster: Option<ClusterSettings>,
    pub control_ports: ControlPorts,
    pub otlp: Option<OtlpSettings>,
    /// Who may change something through the admin port.
    pub changes: ChangeSettings,
    /// Lifecycle events go here; a subscriber of the caller receives them all.
    pub events: EventBus,
}

/// Bound sockets: one or two for each core, and one for the admin port.
pub struct Listeners {
    pub proxy: Vec<TcpListener>,
    /// Empty where clients are not served over TLS.
    pub tls: Vec<TcpListener>,
    pub admin: TcpListener,
}

// === impl Listeners ===

impl Listeners {
    /// Binds the ports; 0 lets the kernel choose.
    pub fn bind(
        proxy: SocketAddr,
        tls: Option<SocketAddr>,
        admin: SocketAddr,
        cores: usize,
    ) -> anyhow::Result<Self> {
        exec::raise_open_files();
        let taken = |what: &str, flag: &str, address: SocketAddr| {
            format!("cannot listen on {address} for {what}; choose another port with {flag}")
        };
        let proxy =
            accept::listen(proxy, cores).with_context(|| taken("the proxy", "--port", proxy))?;
        let tls = match tls {
            Some(address) => accept::listen(address, cores)
                .with_context(|| taken("clients over TLS", "--tls-port", address))?,
            None => Vec::new(),
        };
        let admin = TcpListener::bind(admin)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| taken("the admin port", "--admin-port", admin))?;
        Ok(Self { proxy, tls, admin })
    }
}

/// The cores that this process may use: CPU affinity and the quota of its cgroup are respected.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends it at once.
pub fn run(settings: AppSettings, listeners: Listeners) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { serve(settings, listeners, end_requests()?).await })
}

/// Each SIGTERM and SIGINT as a request to end.
fn end_requests() -> anyhow::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(2);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // The second request ends agimo at once: nothing is left to tell after it.
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Serves until the first of `end_requests`, then drains; the second ends it at once.
///
/// # Errors
/// When something that must run ended by itself.
pub async fn serve(
    settings: AppSettings,
    listeners: Listeners,
    end_requests: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let shutdown = Shutdown::default();
    let address = listeners.proxy.first().context("there is no listener")?.local_addr()?;
    let admin_address = listeners.admin.local_addr()?;
    let tls_address = listeners.tls.first().map(TcpListener::local_addr).transpose()?;
    let cores = listeners.proxy.len();
    let certificates = Certificates::default();
    certificates.apply(&settings.config).map_err(|problems| {
        let lines = problems.into_iter().map(|problem| problem.message);
        anyhow!("{}", lines.collect::<Vec<_>>().join("\n"))
    })?;
    let (coordination, registered) = (Coordination::default(), Registered::default());
    let ledger = Ledger::default();
    let cluster = match settings.cluster {
        Some(cluster) => {
            let (config, events) = (&settings.config, &settings.events);
            let served = settings.control_ports.external_metrics.is_some();
            let served = served.then(|| registered.subscribe());
            cluster::choose(cluster, config, &coordination, &shutdown, events, &ledger, served)
                .await?
        }
        None => ReadinessBackend::Neither,
    };
    let own = [address, admin_address]
        .into_iter()
        .chain(tls_address)
        .chain(settings.control_ports.addresses());
    let ports = Ports::new(own.map(|address| address.port()));
    let backends = Backends {
        processes: Box::new(move |context| process_backend(context, &ports)),
        kubernetes: cluster.backends(),
    };
    let events = settings.events;
    let log_stop = CancellationToken::new();
    let event_log = tokio::spawn(event_log::run(events.subscribe(), log_stop.clone()));
    // Before anything can publish an event.
    let ledger_events = events.subscribe();
    let is_joined = Arc::new(AtomicBool::new(settings.config.annotations.is_none()));
    let sources = Sources::new(&settings.config);
    let (catalog, snapshots) = Catalog::new(
        settings.config,
        cores,
        backends,
        coordination.clone(),
        events.clone(),
        shutdown.clone(),
    );
    let (files, new_files) = mpsc::channel(1);
    let (configs, new_configs) = mpsc::channel(1);
    let status = Arc::<config_file::ReloadStatus>::default();

    let mut tasks = JoinSet::new();
    let workloads = tokio::spawn(catalog.run(new_configs));
    let (savings, tap) = (Savings::default(), Tap::default());
    let own = {
        let (ledger, coordination) = (ledger.clone(), coordination.clone());
        Own::source(snapshots.clone(), ledger, coordination, savings.clone())
    };
    let pages = PageQueue::start()?;
    let otlp = settings.otlp.map(|otlp| (otlp, SpanCounters::default()));
    let client = cluster.kubernetes().map(|cluster| cluster.client());
    let with_external_metrics = settings.control_ports.external_metrics.is_some();
    let collectors = collectors(Collected {
        snapshots: snapshots.clone(),
        reloads: status.clone(),
        coordination: coordination.clone(),
        certificates: certificates.clone(),
        savings: savings.clone(),
        spans: otlp.as_ref().map(|(_, counters)| counters.clone()),
        registered: with_external_metrics.then(|| registered.clone()),
    });
    let admin = Admin {
        snapshots: snapshots.clone(),
        collectors,
        events: events.clone(),
        own: Arc::new(own.clone()),
        ask_others: settings.control_ports.to_others(http::Method::GET, &coordination),
        tell_others: settings.control_ports.to_others(http::Method::POST, &coordination),
        asking: Semaphore::new(MOST_ASKING),
        authorization: settings.changes.authorization(client.clone())?,
        is_ready: {
            let (is_listed, is_joined) = (cluster.is_ready(), is_joined.clone());
            Box::new(move || is_listed() && is_joined.load(Ordering::Relaxed))
        },
        pages: pages.clone(),
        tap: tap.clone(),
        streams: Arc::new(Semaphore::new(MOST_EVENT_STREAMS)),
        shutdown: shutdown.clone(),
    };
    let (find_target, elector) = (cluster.find_target(), cluster.kubernetes());
    let configuration = Configuration {
        sources,
        files: new_files,
        cluster: elector.clone(),
        catalog: configs,
        certificates: certificates.clone(),
        events,
        is_joined,
    };
    tasks.spawn(async move {
        configuration.run().await;
        "the configuration"
    });
    let tls = certificates.subscribe();
    let aborted = shutdown.clone();
    tasks.spawn(async move {
        certificates.run(aborted).await;
        "the check of the certificates"
    });
    tasks.spawn(async move {
        cluster.task().await;
        "the watches of the cluster"
    });
    let catalog = snapshots.clone();
    tasks.spawn(async move {
        savings.run(catalog).await;
        "the savings"
    });
    let spans = records::follow(&ledger, otlp, &coordination, &snapshots, &mut tasks)?;
    tasks.spawn(async move {
        ledger.run(ledger_events).await;
        "the ledger"
    });
    let admin_listener = tokio::net::TcpListener::from_std(listeners.admin)?;
    tasks.spawn(async move {
        admin.run(admin_listener).await;
        "the admin port"
    });
    let context = PortContext {
        snapshots: snapshots.clone(),
        coordination,
        answers: {
            let own = own.clone();
            Arc::new(move |path, query| v1::answer(path, query, &own()).part())
        },
        calls: Arc::new(move |path, query| v1::perform_passed_on(path, query, &own())),
        pages,
        find_target,
        client,
        registered,
        shutdown: shutdown.clone(),
    };
    settings.control_ports.start(context, &mut tasks)?;
    // Without a file, SIGHUP ends agimo, as a closed terminal should.
    if let Some(file) = settings.file {
        let hangup = signal(SignalKind::hangup())?;
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            config_file::reload_on_change(file, hangup, files, status, shutdown).await;
            "the reload"
        });
    }

    let observers = Observers { access_log: settings.access_log, tap, spans: spans.clone() };
    let proxy = Proxy::new(snapshots, cores, observers, tls, shutdown.clone());
    let threads = start_cores(&proxy, listeners.proxy, listeners.tls)?;
    let tls = tls_address.map(tracing::field::display);
    info!(%address, tls, metrics = %admin_address, cores, version = version::TEXT, "serving");
    let running = Running { shutdown, end_requests, tasks, threads, workloads, elector, spans };
    let outcome = running.until_ended(settings.drain_timeout).await;
    log_stop.cancel();
    event_log.await?;
    info!("ended");
    outcome
}

/// Starts a thread for each core, and waits for each in a task of its own.
fn start_cores(
    proxy: &Proxy,
    cleartext: Vec<TcpListener>,
    tls: Vec<TcpListener>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut threads = JoinSet::new();
    let mut tls = tls.into_iter();
    for (index, cleartext) in cleartext.into_iter().enumerate() {
        let listeners = CoreListeners { cleartext, tls: tls.next() };
        let thread = proxy.clone().start(index, listeners)?;
        threads.spawn_blocking(move || match thread.join() {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(anyhow!("a core's thread panicked")),
        });
    }
    Ok(threads)
}

/// The backend of a workload that runs as local processes.
fn process_backend(context: BackendContext, ports: &Ports) -> Option<BackendAndTask> {
    let BackendContext { spec, events, shutdown } = context;
    let (host, placement) = {
        let spec = spec.borrow();
        (spec.host.clone(), spec.placement.clone())
    };
    let Placement::Process(config) = placement else { return None };
    let (processes, supervisor) = process::new(config, &host, ports.clone(), events, shutdown);
    Some(BackendAndTask { backend: Arc::new(processes), task: Box::pin(supervisor.run()) })
}
