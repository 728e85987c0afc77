//! Builds agimo from its rooms, owns every task and thread, and ends them in order. It decides nothing else.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{info, warn};

use crate::admin::{Admin, Collector};
use crate::catalog::{self, Catalog, Places, Snapshot};
use crate::config::Config;
use crate::process::exec;
use crate::process::ports::Ports;
use crate::proxy::accept::{self, Proxy};
use crate::reload;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, Exposition, Kind, Labels};

use self::cluster::{Chosen, ClusterSettings};

pub mod cluster;

/// Everything that is decided before agimo starts.
pub struct Settings {
    pub config: Config,
    /// The file to watch; none for a configuration that cannot change.
    pub file: Option<reload::Watched>,
    pub access_log: bool,
    pub drain_timeout: Duration,
    /// Absent where no service is in Kubernetes and none will be.
    pub cluster: Option<ClusterSettings>,
}

/// Bound sockets: one for each core, and the admin port's.
pub struct Listeners {
    pub proxy: Vec<TcpListener>,
    pub admin: TcpListener,
}

/// What processes get between SIGTERM and SIGKILL after a second signal, whatever their `stop_grace`.
const HURRIED_GRACE: Duration = Duration::from_millis(500);

// === impl Listeners ===

impl Listeners {
    /// Binds both ports; 0 lets the kernel choose.
    pub fn bind(address: IpAddr, port: u16, admin_port: u16, cores: usize) -> anyhow::Result<Self> {
        exec::raise_open_files();
        let taken = |what: &str, flag: &str, port: u16| {
            format!("cannot listen on {address}:{port} for {what}; choose another port with {flag}")
        };
        let proxy = accept::listen(SocketAddr::new(address, port), cores)
            .with_context(|| taken("the proxy", "--port", port))?;
        let admin = TcpListener::bind(SocketAddr::new(address, admin_port))
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| taken("metrics", "--prometheus-exporter-port", admin_port))?;
        Ok(Self { proxy, admin })
    }
}

/// The cores this process may use; the standard library respects affinity and cgroup quota.
pub fn usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends it at once.
pub fn run(settings: Settings, listeners: Listeners) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(settings, listeners))
}

async fn serve(settings: Settings, listeners: Listeners) -> anyhow::Result<()> {
    let shutdown = Shutdown::default();
    let address = listeners.proxy.first().context("there is no listener")?.local_addr()?;
    let admin_address = listeners.admin.local_addr()?;
    let cores = listeners.proxy.len();
    let cluster = match settings.cluster {
        Some(cluster) => cluster::choose(cluster, &settings.config).await?,
        None => Chosen::Neither,
    };
    let places = Places {
        ports: Ports::new([address.port(), admin_address.port()]),
        kubernetes: cluster.workloads(),
    };
    let (catalog, snapshots) = Catalog::new(settings.config, cores, places, shutdown.clone());
    let (configs, new_configs) = mpsc::channel(1);
    let status = Arc::<reload::Status>::default();

    let mut tasks = JoinSet::new();
    let service_tasks = tokio::spawn(catalog.run(new_configs));
    let admin = Admin {
        snapshots: snapshots.clone(),
        collectors: collectors(snapshots.clone(), status.clone()),
        is_ready: cluster.is_ready(),
        shutdown: shutdown.clone(),
    };
    tasks.spawn(async move {
        cluster.work().await;
        "what watches the cluster"
    });
    let admin_listener = tokio::net::TcpListener::from_std(listeners.admin)?;
    tasks.spawn(async move {
        admin.run(admin_listener).await;
        "the admin port"
    });
    // Without a file, SIGHUP ends agimo, as a closed terminal should.
    if let Some(file) = settings.file {
        let hangup = signal(SignalKind::hangup())?;
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            reload::run(file, hangup, configs, status, shutdown).await;
            "the reload"
        });
    }

    let proxy = Proxy { snapshots, shutdown: shutdown.clone(), access_log: settings.access_log };
    let threads = start_cores(&proxy, listeners.proxy)?;
    info!(%address, metrics = %admin_address, cores, version = env!("CARGO_PKG_VERSION"), "serving");
    until_ended(shutdown, settings.drain_timeout, tasks, threads, service_tasks).await
}

/// Starts a thread for each core, and waits for each in a task of its own.
fn start_cores(
    proxy: &Proxy,
    listeners: Vec<TcpListener>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut threads = JoinSet::new();
    for (index, listener) in listeners.into_iter().enumerate() {
        let thread = proxy.clone().start(index, listener)?;
        threads.spawn_blocking(move || match thread.join() {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(anyhow!("a core's thread panicked")),
        });
    }
    Ok(threads)
}

/// Waits for the signal, or for a task that should not have ended, and ends everything in order:
/// requests, then tunnels, then the services' processes.
async fn until_ended(
    shutdown: Shutdown,
    drain_timeout: Duration,
    mut tasks: JoinSet<&'static str>,
    mut threads: JoinSet<anyhow::Result<()>>,
    mut service_tasks: tokio::task::JoinHandle<Result<(), JoinError>>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(ended) = tasks.join_next() => Err(anyhow!("{} ended by itself", ended?)),
        Some(ended) = threads.join_next() => Err(ended?.err().unwrap_or_else(|| anyhow!("a core ended by itself"))),
        ended = &mut service_tasks => {
            ended??;
            Err(anyhow!("the services' tasks ended by themselves"))
        }
    };
    info!("draining");
    shutdown.drain();
    let in_order = async {
        let drained = async { while threads.join_next().await.is_some() {} };
        if tokio::time::timeout(drain_timeout, drained).await.is_err() {
            warn!("not all had ended within --drain-timeout");
        }
        shutdown.abort();
        if service_tasks.is_finished() { Ok(()) } else { (&mut service_tasks).await? }
    };
    tokio::select! {
        ended = in_order => ended?,
        _ = terminate.recv() => hurry(&shutdown, service_tasks).await,
        _ = interrupt.recv() => hurry(&shutdown, service_tasks).await,
    }
    info!("ended");
    outcome
}

/// Ends everything now. Processes that do not stop at once are killed when the runtime is dropped.
async fn hurry(shutdown: &Shutdown, service_tasks: tokio::task::JoinHandle<Result<(), JoinError>>) {
    warn!("second signal, ending now");
    shutdown.abort();
    if !service_tasks.is_finished() {
        let _ = tokio::time::timeout(HURRIED_GRACE, service_tasks).await;
    }
}

/// Every room's metrics, in the order of the page.
fn collectors(
    snapshots: watch::Receiver<Arc<Snapshot>>,
    status: Arc<reload::Status>,
) -> Vec<Collector> {
    vec![
        Box::new(move |page| catalog::collect(page, &snapshots.borrow().clone())),
        Box::new(move |page| status.collect(page)),
        Box::new(build_info),
        Box::new(telemetry::process::collect),
    ]
}

fn build_info(page: &mut Exposition) {
    page.family("agimo_build_info", Kind::Gauge, "The version of this agimo; always 1.");
    page.sample(&Labels::default().with("version", env!("CARGO_PKG_VERSION")), 1);
}
