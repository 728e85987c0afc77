//! Compares agimo with two other systems that wake workloads, KEDA's HTTP add-on and Knative Serving, as binaries that the user
//! has. All run against the same API server and hold requests for the same application.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::clients::Clients;
use crate::environment::Environment;
use crate::kubernetes::{require_test_bed, wait_until};
use crate::load::{LoadGenerator, RoundResult};
use crate::memory::{ADDED_CONNECTIONS, INITIAL_CONNECTIONS, kib_per_connection};
use crate::process_stats::ProcessStats;
use crate::report::{Report, Table, Target, median};
use crate::rounds::rotated;
use crate::servers::Server;

use self::programs::{Application, Kind, Program, request, web_socket_handshake};
use self::told::Autoscaler;

mod programs;
mod told;

/// Programs of others. What is not given is not measured.
#[derive(Args, Default)]
pub(crate) struct Binaries {
    /// The interceptor of KEDA's HTTP add-on, for --only peers
    #[arg(long, value_name = "PATH")]
    interceptor: Option<PathBuf>,
    /// The external scaler of KEDA's HTTP add-on, for --only peers
    #[arg(long, value_name = "PATH")]
    scaler: Option<PathBuf>,
    /// The activator of Knative Serving, for --only peers
    #[arg(long, value_name = "PATH")]
    activator: Option<PathBuf>,
}

/// How much to measure.
pub(crate) struct Plan {
    rounds: usize,
    duration: Duration,
    /// Cold starts of one request, and first requests.
    repeats: usize,
}

/// What was measured of each program; a row of the table for each field.
#[derive(Default)]
struct Measured {
    /// With one thread, in microseconds.
    cpu: Option<f64>,
    cpu_to_haproxy: Option<f64>,
    cpu_default: Option<f64>,
    hop: Option<f64>,
    held: Option<f64>,
    released: Option<f64>,
    web_socket: Option<f64>,
    one_held: Option<f64>,
    last_held: Option<f64>,
    told: Option<f64>,
    told_longest: Option<f64>,
}

/// A server in the rounds with warm requests.
struct Warm {
    name: String,
    stats: ProcessStats,
    load: LoadGenerator,
}

const CONNECTIONS: u32 = 64;
/// Linux keeps a connection in TIME_WAIT for one minute.
const TIME_WAIT_LIMIT: Duration = Duration::from_secs(90);

/// Measures everything and adds the table.
pub(crate) fn measure(
    environment: &Environment,
    binaries: &Binaries,
    plan: &Plan,
    report: &mut Report,
) -> io::Result<()> {
    require_test_bed("peers")?;
    let application = Application::start(environment, binaries)?;
    let autoscaler = Autoscaler::start(&application)?;
    let kinds = application.kinds();
    // Two more than programs: no proxy, and HAProxy.
    let names = ["direct", "HAProxy"].into_iter().chain(kinds.iter().map(|kind| kind.name()));
    let mut columns: Vec<(&str, Measured)> =
        names.map(|name| (name, Measured::default())).collect();

    let servers = WarmServers::start(&application, &kinds, Some(1))?;
    for ((_, measured), (cpu, ratio)) in columns[1..].iter_mut().zip(measure_cpu(&servers, plan)?) {
        (measured.cpu, measured.cpu_to_haproxy) = (Some(cpu), Some(ratio));
    }
    for ((_, measured), hop) in columns.iter_mut().zip(measure_hops(&application, &servers, plan)?)
    {
        measured.hop = Some(hop);
    }
    drop(servers);
    let servers = WarmServers::start(&application, &kinds, None)?;
    for ((_, measured), (cpu, _)) in columns[2..].iter_mut().zip(&measure_cpu(&servers, plan)?[1..])
    {
        measured.cpu_default = Some(*cpu);
    }
    drop(servers);
    for (kind, (_, measured)) in kinds.iter().zip(&mut columns[2..]) {
        measure_held(&application, *kind, plan, measured)?;
        let program = application.run(*kind, None)?;
        measured.web_socket = Some(measure_web_sockets(&program)?);
        if let Some(times) = told::measure(&application, &autoscaler, &program, plan.repeats)? {
            measured.told = Some(median(times.iter().copied()));
            measured.told_longest = times.iter().copied().reduce(f64::max);
        }
    }
    add_targets(&columns, report);
    report.add(table(&columns, plan));
    Ok(())
}

/// All that serve warm requests: HAProxy first, then the programs.
struct WarmServers {
    haproxy: Server,
    programs: Vec<Program>,
}

/// CPU time of each server per request in microseconds, and that divided by HAProxy's: medians.
fn measure_cpu(servers: &WarmServers, plan: &Plan) -> io::Result<Vec<(f64, f64)>> {
    let mut warm = servers.open(CONNECTIONS)?;
    let cpu = rotated(plan.rounds, warm.len(), |at| warm[at].cpu_us(plan.duration))?;
    let ratios = |at: usize| cpu[at].iter().zip(&cpu[0]).map(|(one, other)| one / other);
    Ok((0..cpu.len()).map(|at| (median(cpu[at].iter().copied()), median(ratios(at)))).collect())
}

/// The duration of a request on one connection: directly, and through each server.
fn measure_hops(
    application: &Application<'_>,
    servers: &WarmServers,
    plan: &Plan,
) -> io::Result<Vec<f64>> {
    let Server { stats, address, .. } = &application.origin;
    let mut single = vec![Warm::open("direct", stats, *address, 1)?];
    single.extend(servers.open(1)?);
    let hops = rotated(plan.rounds, single.len(), |at| single[at].p50_us(plan.duration))?;
    Ok(hops.into_iter().map(median).collect())
}

/// Measures the memory of held requests, and how soon they are answered.
fn measure_held(
    application: &Application<'_>,
    kind: Kind,
    plan: &Plan,
    measured: &mut Measured,
) -> io::Result<()> {
    wait_for_free_ports()?;
    let program = application.run(kind, None)?;
    let mut delays = Vec::new();
    for _ in 0..plan.repeats {
        application.settle(kind, false)?;
        let mut client = Clients::new(program.address);
        client.send(1, &request())?;
        delays.push(release(application, kind, &mut client)?);
    }
    measured.one_held = Some(median(delays));
    application.settle(kind, false)?;
    let mut clients = Clients::new(program.address);
    clients.send(INITIAL_CONNECTIONS, &request())?;
    let before = program.stats.stable_memory()?.rss;
    clients.send(ADDED_CONNECTIONS, &request())?;
    let after = program.stats.stable_memory()?.rss;
    measured.last_held = Some(release(application, kind, &mut clients)?);
    measured.held = Some(kib_per_connection(before, after, ADDED_CONNECTIONS));
    measured.released =
        Some(kib_per_connection(before, program.stats.peak_memory()?, ADDED_CONNECTIONS));
    Ok(())
}

/// Waits until the connections of the program before have left TIME_WAIT (RFC 9293 section 3.6.1). At a release, some programs
/// open several connections for each request; without free ports they would wait.
fn wait_for_free_ports() -> io::Result<()> {
    wait_until("too many connections are in TIME_WAIT", TIME_WAIT_LIMIT, || {
        let statistics = fs::read_to_string("/proc/net/sockstat")?;
        let count = statistics.split(" tw ").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(count.and_then(|count| count.parse().ok()).is_some_and(|count: u32| count < 1_000))
    })
}

/// Adds the endpoint, and waits for every response. Returns the milliseconds from the write to the last first byte.
fn release(application: &Application<'_>, kind: Kind, clients: &mut Clients) -> io::Result<f64> {
    let mut written = 0;
    let arrivals = clients.first_byte_times(|| {
        written = application.set_ready(kind, true)?;
        Ok(())
    })?;
    let last = arrivals.into_iter().max().unwrap_or(written);
    Ok((last as f64 - written as f64) / 1e3)
}

fn measure_web_sockets(program: &Program) -> io::Result<f64> {
    let mut clients = Clients::new(program.address);
    clients.send_and_expect(INITIAL_CONNECTIONS, &web_socket_handshake(), 101)?;
    let before = program.stats.stable_memory()?.rss;
    clients.send_and_expect(ADDED_CONNECTIONS, &web_socket_handshake(), 101)?;
    let after = program.stats.stable_memory()?.rss;
    clients.check_tunnels()?;
    Ok(kib_per_connection(before, after, ADDED_CONNECTIONS))
}

fn table(columns: &[(&str, Measured)], plan: &Plan) -> Table {
    let row = |name: &str, digits: usize, value: fn(&Measured) -> Option<f64>| {
        let mut row = vec![name.to_owned()];
        row.extend(columns.iter().map(|(_, measured)| {
            value(measured).map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        }));
        row
    };
    let mut names = vec![String::new()];
    names.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    Table {
        title: "Peers".to_owned(),
        columns: names,
        rows: vec![
            row("CPU us/request, one thread", 1, |one| one.cpu),
            row("the same, divided by HAProxy's", 2, |one| one.cpu_to_haproxy),
            row("CPU us/request, threads as by default", 1, |one| one.cpu_default),
            row("duration on one connection, p50 us", 0, |one| one.hop),
            row("memory per held request, KiB", 1, |one| one.held),
            row("the most during their release, KiB", 1, |one| one.released),
            row("memory per idle WebSocket, KiB", 1, |one| one.web_socket),
            row("endpoint written to response, one held, ms", 1, |one| one.one_held),
            row("the same, the last of 2,200 held, ms", 1, |one| one.last_held),
            row("first request to scaler told, median ms", 2, |one| one.told),
            row("the same, longest, ms", 2, |one| one.told_longest),
        ],
        notes: vec![
            format!(
                "Medians of {} rounds of {:.1} s in rotated order with {CONNECTIONS} keep-alive connections, {} repeats of the last four \
                 rows but one. One thread: `--threads 1`, `GOMAXPROCS=1`, pinned to a core.",
                plan.rounds,
                plan.duration.as_secs_f64(),
                plan.repeats
            ),
            "All programs watch the same API server of the test bed, which shares the machine, and forward to the same application. \
             An endpoint is an EndpointSlice, for the activator an Endpoints object; the time counts from the request that writes it."
                .to_owned(),
            format!(
                "Memory: resident, growth over {INITIAL_CONNECTIONS} connections by {ADDED_CONNECTIONS} more; threads as by default."
            ),
            "The interceptor runs with direct routing to pods, the activator with `GOGC=500`, as its own Deployment has, and without \
             probes of ready addresses. Their logs have errors only."
                .to_owned(),
            "The scaler is told by a push of agimo's port for KEDA, by KEDA's HTTP scaler with its own intervals, and by the activator's \
             first message to a stand-in for Knative's autoscaler. What these do with it comes on top."
                .to_owned(),
            "`-`: does not apply, or the program was not given (--interceptor, --scaler, --activator).".to_owned(),
        ],
    }
}

fn add_targets(columns: &[(&str, Measured)], report: &mut Report) {
    let agimo = columns.iter().find(|(name, _)| *name == Kind::Agimo.name());
    let peers = || columns.iter().filter(|(name, _)| ["interceptor", "activator"].contains(name));
    let mut add = |name: &str, value: fn(&Measured) -> Option<f64>| {
        let best = peers().filter_map(|(_, measured)| value(measured)).reduce(f64::min);
        let own = agimo.and_then(|(_, measured)| value(measured));
        report.add_target(Target {
            name: format!("Peers: {name}, agimo / the better of the two"),
            measured: own.zip(best).map(|(own, best)| own / best),
            limit: 1.0,
            unit: "",
        });
    };
    add("CPU per request", |one| one.cpu);
    add("duration on one connection", |one| one.hop);
    add("memory per held request", |one| one.held);
    add("memory per idle WebSocket", |one| one.web_socket);
    add("endpoint written to response, one held", |one| one.one_held);
    add("endpoint written to response, the last", |one| one.last_held);
    add("first request to scaler told", |one| one.told);
}

// === impl Plan ===

impl Plan {
    pub(crate) const FULL: Self = Self { rounds: 7, duration: Duration::from_secs(1), repeats: 10 };
    pub(crate) const QUICK: Self =
        Self { rounds: 2, duration: Duration::from_millis(300), repeats: 3 };
}

// === impl WarmServers ===

impl WarmServers {
    fn start(
        application: &Application<'_>,
        kinds: &[Kind],
        threads: Option<u32>,
    ) -> io::Result<Self> {
        let haproxy = Server::haproxy(application.environment, application.origin.backend())?;
        let programs = kinds.iter().map(|kind| application.run(*kind, threads));
        Ok(Self { haproxy, programs: programs.collect::<io::Result<_>>()? })
    }

    fn open(&self, connections: u32) -> io::Result<Vec<Warm>> {
        let haproxy = (&*self.haproxy.name, &self.haproxy.stats, self.haproxy.address);
        let programs = self.programs.iter();
        let programs = programs.map(|one| (one.kind.name(), &one.stats, one.address));
        let all = std::iter::once(haproxy).chain(programs);
        all.map(|(name, stats, address)| Warm::open(name, stats, address, connections)).collect()
    }
}

// === impl Warm ===

impl Warm {
    fn open(
        name: &str,
        stats: &ProcessStats,
        address: SocketAddr,
        connections: u32,
    ) -> io::Result<Self> {
        let load = LoadGenerator::open(address, connections, request());
        let load = load.map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        Ok(Self { name: name.to_owned(), stats: stats.clone(), load })
    }

    fn run(&mut self, duration: Duration) -> io::Result<RoundResult> {
        let result = self.load.run(duration);
        result.map_err(|error| io::Error::other(format!("{}: {error}", self.name)))
    }

    fn cpu_us(&mut self, duration: Duration) -> io::Result<f64> {
        let before = self.stats.cpu()?;
        let round = self.run(duration)?;
        let used = self.stats.cpu()?.since(before).used_ns;
        Ok(used as f64 / 1e3 / round.requests as f64)
    }

    fn p50_us(&mut self, duration: Duration) -> io::Result<f64> {
        Ok(self.run(duration)?.p50.as_secs_f64() * 1e6)
    }
}
