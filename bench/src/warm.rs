//! Measures requests to a ready endpoint through each server, in short rounds with rotated order, so that other load on the
//! machine affects all servers equally.

use std::fs::File;
use std::io;
use std::time::Duration;

use crate::collector;
use crate::configuration::AgimoSetup;
use crate::environment::Environment;
use crate::http::{HOST, get};
use crate::load::{LoadGenerator, RoundResult};
use crate::process_stats::{CpuTime, Memory};
use crate::report::{Report, Table, Target, median};
use crate::servers::Server;

const CONNECTIONS: u32 = 64;

/// Load before each round that is not counted: the server opens upstream connections and fills caches.
const WARM_UP: Duration = Duration::from_millis(200);

const DIRECT: &str = "direct";
const HAPROXY: &str = "HAProxy";
const NGINX: &str = "nginx";
const AGIMO: &str = "agimo";
const AGIMO_10_SERVICES: &str = "agimo, 10 services";
const AGIMO_10_000_SERVICES: &str = "agimo, 10,000 services";

/// Number and duration of the rounds.
pub(crate) struct Plan {
    pub(crate) rounds: u16,
    pub(crate) duration: Duration,
}

/// A server and the results of its counted rounds.
struct ServerResults {
    server: Server,
    rounds: Vec<MeasuredRound>,
    memory: Memory,
}

/// The load results and the CPU time of one round.
struct MeasuredRound {
    load: RoundResult,
    cpu: CpuTime,
}

/// Runs the rounds and adds the table and its targets.
pub(crate) fn measure(
    environment: &Environment,
    plan: &Plan,
    report: &mut Report,
) -> io::Result<()> {
    let mut servers = start_all(environment)?;
    let count = servers.len();
    // Round 0 is a warm-up and is not counted.
    for round in 0..=usize::from(plan.rounds) {
        for offset in 0..count {
            let results = &mut servers[(round + offset) % count];
            let measured = results.run_round(plan.duration)?;
            if round > 0 {
                results.rounds.push(measured);
            }
        }
    }
    for results in &mut servers {
        results.memory = results.server.stats.memory()?;
    }
    report.add(table(&servers, plan));
    add_targets(&servers, report);
    Ok(())
}

fn start_all(environment: &Environment) -> io::Result<Vec<ServerResults>> {
    let origin = Server::origin(environment)?;
    let haproxy = Server::haproxy(environment, origin.backend())?;
    let nginx = Server::nginx(environment, origin.backend())?;
    let mut servers = vec![origin, haproxy, nginx];
    if let Some(binary) = &environment.agimo {
        let collector = collector::start()?;
        let traced =
            |ratio| AgimoSetup { traces: Some((collector, ratio)), ..AgimoSetup::default() };
        let setups = [
            (AGIMO, AgimoSetup::default()),
            ("agimo --access-log", AgimoSetup { access_log: true, ..AgimoSetup::default() }),
            ("agimo, 1 % of the requests traced", traced(0.01)),
            ("agimo, every request traced", traced(1.0)),
            (AGIMO_10_SERVICES, AgimoSetup { services: 10, ..AgimoSetup::default() }),
            (AGIMO_10_000_SERVICES, AgimoSetup { services: 10_000, ..AgimoSetup::default() }),
        ];
        for (name, setup) in setups {
            servers.push(Server::agimo(environment, binary, name, &setup)?);
        }
    }
    let without_results =
        |server| ServerResults { server, rounds: Vec::new(), memory: Memory::default() };
    Ok(servers.into_iter().map(without_results).collect())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn table(servers: &[ServerResults], plan: &Plan) -> Table {
    let row = |results: &ServerResults| {
        let ratio = |other| match ratio(servers, &results.server.name, other, MeasuredRound::cpu_us)
        {
            Some(ratio) if results.server.name != DIRECT => format!("{ratio:.2}"),
            _ => "-".to_owned(),
        };
        vec![
            results.server.name.clone(),
            format!("{:.0}", results.median(|round| round.load.requests_per_second())),
            format!("{:.2}", results.median(MeasuredRound::cpu_us)),
            format!("{:.0}", results.median(|round| micros(round.load.p50))),
            format!("{:.0}", results.median(|round| micros(round.load.p99))),
            format!("{:.0} %", results.median(MeasuredRound::cpu_use) * 100.0),
            format!("{:.0} %", results.median(MeasuredRound::cpu_wait) * 100.0),
            format!("{:.1}", results.memory.rss as f64 / f64::from(1 << 20)),
            ratio(HAPROXY),
            ratio(NGINX),
        ]
    };
    let columns = [
        "",
        "requests/s",
        "CPU us/request",
        "p50 us",
        "p99 us",
        "CPU use",
        "CPU wait",
        "RSS MiB",
        "CPU / HAProxy's",
        "CPU / nginx's",
    ];
    Table {
        title: "Warm requests".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: servers.iter().map(row).collect(),
        notes: notes(plan),
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    vec![
            format!(
                "Medians of {} rounds of {:.1} s in rotated order, after one warm-up round; {CONNECTIONS} keep-alive \
                 connections, 14-byte response bodies, one proxy thread.",
                plan.rounds,
                plan.duration.as_secs_f64()
            ),
            "CPU time per request and CPU use (share of one core) are those of the proxy, user and kernel, from \
             /proc/PID/task/*/schedstat; in the row `direct`, those of the origin. Each ratio is the median of the \
             ratios per round."
                .to_owned(),
            "CPU wait is the share of the time in which the proxy was runnable but another process used its core; above \
             a few per cent the results are not reliable. The origin always shares its core with the load generator."
                .to_owned(),
            "HAProxy and nginx forward all requests to one application; agimo also routes by host.".to_owned(),
            "Spans go to a fake collector that discards them. At full load agimo drops what it cannot send, and counts it.".to_owned(),
    ]
}

fn add_targets(servers: &[ServerResults], report: &mut Report) {
    for other in [HAPROXY, NGINX] {
        report.add_target(Target {
            name: format!("CPU per request, agimo / {other}"),
            measured: ratio(servers, AGIMO, other, MeasuredRound::cpu_us),
            limit: 1.00,
            unit: "",
        });
    }
    // These two only check that 10,000 services are not slower than 10.
    report.add_target(Target {
        name: "CPU per request, 10,000 services / 10".to_owned(),
        measured: ratio(servers, AGIMO_10_000_SERVICES, AGIMO_10_SERVICES, MeasuredRound::cpu_us),
        limit: 1.03,
        unit: "",
    });
    report.add_target(Target {
        name: "Requests/s, 10 services / 10,000".to_owned(),
        measured: ratio(servers, AGIMO_10_SERVICES, AGIMO_10_000_SERVICES, |round| {
            round.load.requests_per_second()
        }),
        limit: 1.03,
        unit: "",
    });
}

/// The median of the per-round ratios of a value of two servers; `None` if one of them was not measured.
fn ratio(
    servers: &[ServerResults],
    numerator: &str,
    denominator: &str,
    value: impl Fn(&MeasuredRound) -> f64,
) -> Option<f64> {
    let rounds =
        |name: &str| Some(&servers.iter().find(|results| results.server.name == name)?.rounds);
    let pairs = rounds(numerator)?.iter().zip(rounds(denominator)?);
    Some(median(pairs.map(|(numerator, denominator)| value(numerator) / value(denominator))))
}

// === impl ServerResults ===

impl ServerResults {
    fn run_round(&mut self, duration: Duration) -> io::Result<MeasuredRound> {
        let with_name = |error| io::Error::other(format!("{}: {error}", self.server.name));
        let mut load = LoadGenerator::open(self.server.address, CONNECTIONS, get(HOST, "/"))
            .map_err(with_name)?;
        load.run(WARM_UP).map_err(with_name)?;
        let before = self.server.stats.cpu()?;
        let result = load.run(duration).map_err(with_name)?;
        let cpu = self.server.stats.cpu()?.since(before);
        // The access log grows by megabytes per round; its cost is already measured.
        File::options().write(true).open(&self.server.log)?.set_len(0)?;
        Ok(MeasuredRound { load: result, cpu })
    }

    fn median(&self, value: impl Fn(&MeasuredRound) -> f64) -> f64 {
        median(self.rounds.iter().map(value))
    }
}

// === impl MeasuredRound ===

impl MeasuredRound {
    /// CPU time per request in microseconds.
    fn cpu_us(&self) -> f64 {
        self.cpu.used_ns as f64 / 1e3 / self.load.requests as f64
    }

    /// Share of one core that the server used.
    fn cpu_use(&self) -> f64 {
        self.cpu.used_ns as f64 / self.load.elapsed.as_nanos() as f64
    }

    /// Share of the time in which the server was runnable but waited for its core.
    fn cpu_wait(&self) -> f64 {
        self.cpu.waited_ns as f64 / self.load.elapsed.as_nanos() as f64
    }
}
