//! Measures requests of every protocol to a ready endpoint, with h2load as the client, and handshakes of TLS with OpenSSL.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::configuration::{AgimoSetup, path_text};
use crate::environment::Environment;
use crate::http::{HOST, fetch};
use crate::process_stats::CpuTime;
use crate::report::{Report, Table, Target, median};
use crate::rounds::rotated;
use crate::servers::Server;

use self::scenarios::{Application, ClientProtocol, Load, SCENARIOS, Scenario};

mod scenarios;

const HAPROXY: &str = "HAProxy";
const NGINX: &str = "nginx";

/// A run that takes longer has failed.
const LONGEST_RUN: &str = "60";
/// How long handshakes are counted, in seconds.
const HANDSHAKE_SECONDS: &str = "1";
/// The load with so many connections is repeated at half of the rate that the slowest server reaches.
const CONSTANT_RATE_CONNECTIONS: u32 = 64;

/// One run of a client.
struct Run {
    elapsed: Duration,
    cpu: CpuTime,
    requests: u32,
    /// Sorted; empty for handshakes.
    durations: Vec<Duration>,
}

/// What all servers have done with one load.
struct MeasuredLoad {
    rows: Vec<Vec<String>>,
    /// The requests per second of the slowest server.
    slowest: f64,
}

/// The servers of an application.
struct Servers {
    application: Application,
    all: Vec<Server>,
    _origin: Server,
}

/// Files that the client reads and writes.
struct Files {
    log: PathBuf,
    body: PathBuf,
}

/// Runs each load so many times through each server, in rotated order, and adds the tables and their targets.
pub(crate) fn measure(
    environment: &Environment,
    rounds: usize,
    report: &mut Report,
) -> io::Result<()> {
    let directory = environment.new_directory("h2load")?;
    let files = Files { log: directory.join("requests.log"), body: directory.join("body") };
    let mut servers: Option<Servers> = None;
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let known = servers.take().filter(|known| known.application == scenario.application);
        let current = match known {
            Some(known) => known,
            None => Servers::start(environment, scenario.application)?,
        };
        fs::write(&files.body, vec![0; scenario.body])?;
        for load in scenario.loads {
            let measured = measure_load(scenario, *load, &current.all, rounds, &files, report)?;
            rows.extend(measured.rows);
            if load.connections == CONSTANT_RATE_CONNECTIONS && scenario.has_requests() {
                let load = load.at_rate(measured.slowest / 2.0);
                let measured = measure_load(scenario, load, &current.all, rounds, &files, report)?;
                rows.extend(measured.rows);
            }
        }
        servers = Some(current);
    }
    report.add(table(rows, rounds));
    Ok(())
}

/// Runs one load through each server, and adds its target.
fn measure_load(
    scenario: &Scenario,
    load: Load,
    servers: &[Server],
    rounds: usize,
    files: &Files,
    report: &mut Report,
) -> io::Result<MeasuredLoad> {
    let runs = rotated(rounds, servers.len(), |at| scenario.run(&servers[at], load, files))?;
    let ratio = |at: usize, name: &str, value: &dyn Fn(&Run) -> f64| {
        let other = servers.iter().position(|server| server.name == name)?;
        let pairs = runs[at].iter().zip(&runs[other]);
        Some(median(pairs.map(|(one, other)| value(one) / value(other))))
    };
    let name = format!("{}, {load}", scenario.title);
    let (what, value): (_, &dyn Fn(&Run) -> f64) = match load.rate {
        None => ("CPU", &Run::cpu_us),
        Some(_) => ("p99", &|run| run.quantile(0.99).as_secs_f64()),
    };
    let agimo = servers.iter().position(Server::is_agimo);
    let best = |at| Some(ratio(at, HAPROXY, value)?.max(ratio(at, NGINX, value)?));
    report.add_target(Target {
        name: format!("{what}, {name}, agimo / the better of the two"),
        measured: agimo.and_then(best),
        limit: 1.00,
        unit: "",
    });
    let per_second = |runs: &Vec<Run>| median(runs.iter().map(Run::requests_per_second));
    let rows = servers.iter().enumerate().map(|(at, server)| {
        let cpu = |other: &str| ratio(at, other, &Run::cpu_us);
        row(&name, server, &runs[at], [HAPROXY, NGINX].map(cpu))
    });
    Ok(MeasuredLoad {
        rows: rows.collect::<io::Result<_>>()?,
        slowest: runs.iter().map(per_second).fold(f64::INFINITY, f64::min),
    })
}

fn row(
    name: &str,
    server: &Server,
    runs: &[Run],
    ratios: [Option<f64>; 2],
) -> io::Result<Vec<String>> {
    let of = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value));
    let micros = |share: f64| {
        let has_durations = runs.iter().all(|run| !run.durations.is_empty());
        let value = || of(&|run: &Run| run.quantile(share).as_secs_f64() * 1e6);
        if has_durations { format!("{:.0}", value()) } else { "-".to_owned() }
    };
    let rss = server.stats.memory()?.rss as f64 / f64::from(1 << 20);
    let mut row = vec![
        name.to_owned(),
        server.name.clone(),
        format!("{:.0}", of(&Run::requests_per_second)),
        format!("{:.2}", of(&Run::cpu_us)),
        micros(0.5),
        micros(0.99),
        micros(0.999),
        format!("{rss:.1}"),
    ];
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
    row.extend(ratios.map(ratio));
    Ok(row)
}

fn table(rows: Vec<Vec<String>>, rounds: usize) -> Table {
    let columns = [
        "connections x streams",
        "",
        "requests/s",
        "CPU us/request",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "RSS MiB",
        "CPU / HAProxy's",
        "CPU / nginx's",
    ];
    Table {
        title: "Protocols".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
        notes: vec![
            format!(
                "Medians of {rounds} runs of h2load in rotated order, after one warm-up run; one proxy thread. Responses of 14 \
                 bytes from an application with HTTP/1.1, where nothing else is said; HTTP/2 without TLS with prior \
                 knowledge. 500 to 30,000 requests each."
            ),
            format!(
                "A handshake is one of `openssl s_time` without a request, with a certificate for ECDSA with P-256, counted for \
                 {HANDSHAKE_SECONDS} s; the number of connections is that of its processes."
            ),
            "Rows `at N/s` have this constant rate, half of what the slowest of the three reaches in the row above. A request counts \
             from the moment when h2load sends it."
                .to_owned(),
            "CPU time includes the connections that each run opens. RSS is that after the runs of the row, with what \
             earlier rows left behind. The client and the application share the other core."
                .to_owned(),
        ],
    }
}

// === impl Servers ===

impl Servers {
    /// Starts the application and every proxy in front of it.
    fn start(environment: &Environment, application: Application) -> io::Result<Self> {
        let origin = match application {
            Application::Small => Server::origin(environment)?,
            Application::Nginx | Application::NginxWithHttp2 => Server::nginx_origin(environment)?,
        };
        let backend = match application {
            Application::NginxWithHttp2 => origin.http2_backend(),
            Application::Small | Application::Nginx => origin.backend(),
        };
        let own = (application != Application::Small).then_some(backend);
        let setup = AgimoSetup { backend: own, ..AgimoSetup::default() };
        let all = Server::proxies(environment, backend, &setup)?;
        for server in &all {
            // Wakes the application of agimo.
            let (status, _) = fetch(server.address, HOST, "/", Duration::from_secs(60))?;
            if status != 200 {
                return Err(io::Error::other(format!("{} answers {status}", server.name)));
            }
        }
        Ok(Self { application, all, _origin: origin })
    }
}

// === impl Scenario ===

impl Scenario {
    fn run(&self, server: &Server, load: Load, files: &Files) -> io::Result<Run> {
        match self.client {
            ClientProtocol::Handshake | ClientProtocol::ResumedHandshake => {
                self.handshakes(server, load.connections)
            }
            _ => self.requests(server, load, files),
        }
    }

    /// Runs h2load to its end.
    fn requests(&self, server: &Server, load: Load, files: &Files) -> io::Result<Run> {
        let _ = fs::remove_file(&files.log);
        let mut command = Command::new("timeout");
        command
            .args([LONGEST_RUN, "h2load", "-t", "1"])
            .args(["-n", &load.requests.to_string(), "-c", &load.connections.to_string()])
            .args(["-m", &load.streams.to_string(), "--log-file", &path_text(&files.log)?]);
        let (scheme, address) = match self.client {
            ClientProtocol::Http1 => ("http", server.address),
            ClientProtocol::Http2 | ClientProtocol::Grpc => ("http", server.http2),
            _ => ("https", server.https),
        };
        let is_http1 =
            matches!(self.client, ClientProtocol::Http1 | ClientProtocol::HttpsWithHttp1);
        command.args(["-H", &format!(":authority: {HOST}")]);
        if is_http1 {
            command.arg("--h1");
        }
        if self.client == ClientProtocol::Grpc {
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        }
        if let Some(rate) = load.rate {
            command.args(["--rps", &rate.to_string()]);
        }
        if self.body > 0 {
            command.args(["-d", &path_text(&files.body)?]);
        }
        let before = server.stats.cpu()?;
        let output = command
            .arg(format!("{scheme}://{address}{}", self.path))
            .stderr(Stdio::inherit())
            .output()?;
        let cpu = server.stats.cpu()?.since(before);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = |what: &str| {
            io::Error::other(format!("{}, {}, {load}: {what}: {text}", server.name, self.title))
        };
        let elapsed = elapsed(&text).ok_or_else(|| failed("h2load did not finish"))?;
        let (durations, failures) = durations(&fs::read_to_string(&files.log)?);
        // nginx answers about one gRPC call in 1,000 with 502 itself.
        let tolerated = if server.name == NGINX { durations.len() / 100 } else { 0 };
        if failures > tolerated || durations.len() + failures != load.requests as usize {
            return Err(failed("requests failed"));
        }
        Ok(Run { elapsed, cpu, requests: load.requests, durations })
    }

    /// Runs so many of OpenSSL's clients, each of which connects again and again.
    fn handshakes(&self, server: &Server, clients: u32) -> io::Result<Run> {
        let (arguments, mark) = match self.client {
            ClientProtocol::ResumedHandshake => (["-tls1_2", "-reuse"], 'r'),
            _ => (["-tls1_3", "-new"], '*'),
        };
        let (before, start) = (server.stats.cpu()?, Instant::now());
        let clients = (0..clients).map(|_| {
            Command::new("timeout")
                .args([LONGEST_RUN, "openssl", "s_time", "-time", HANDSHAKE_SECONDS])
                .args(arguments)
                .args(["-connect", &server.https.to_string()])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
        });
        let mut requests = 0;
        for client in clients.collect::<io::Result<Vec<_>>>()? {
            let output = client.wait_with_output()?.stdout;
            let text = String::from_utf8_lossy(&output);
            // A mark for each connection tells whether its session is new.
            let count = text.lines().map(|line| {
                let is_marks = line.chars().all(|character| matches!(character, '*' | 'r' | 't'));
                if is_marks { line.chars().filter(|one| *one == mark).count() } else { 0 }
            });
            requests += count.sum::<usize>() as u32;
        }
        let elapsed = start.elapsed();
        let cpu = server.stats.cpu()?.since(before);
        if requests < 10 {
            return Err(io::Error::other(format!(
                "{}, {}: no handshakes",
                server.name, self.title
            )));
        }
        Ok(Run { elapsed, cpu, requests, durations: Vec::new() })
    }
}

/// From the line `finished in 1.23s, ...` of h2load.
fn elapsed(report: &str) -> Option<Duration> {
    let line = report.lines().find_map(|line| line.strip_prefix("finished in "))?;
    let (time, _) = line.split_once(',')?;
    let unit = time.find(|character: char| character.is_ascii_alphabetic())?;
    let (number, unit) = time.split_at(unit);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * scale))
}

/// The durations in the log of h2load, sorted, and the number of requests that failed. A line has the start, the status and the
/// duration of a request, times in microseconds.
fn durations(log: &str) -> (Vec<Duration>, usize) {
    let mut durations = Vec::new();
    let mut failures = 0;
    for line in log.lines() {
        let mut columns = line.split('\t').skip(1);
        match (columns.next(), columns.next().and_then(|micros| micros.parse().ok())) {
            (Some("200"), Some(micros)) => durations.push(Duration::from_micros(micros)),
            _ => failures += 1,
        }
    }
    durations.sort_unstable();
    (durations, failures)
}

// === impl Run ===

impl Run {
    fn requests_per_second(&self) -> f64 {
        f64::from(self.requests) / self.elapsed.as_secs_f64()
    }

    /// CPU time of the proxy per request in microseconds.
    fn cpu_us(&self) -> f64 {
        self.cpu.used_ns as f64 / 1e3 / f64::from(self.requests)
    }

    fn quantile(&self, share: f64) -> Duration {
        let last = self.durations.len() - 1;
        self.durations[(last as f64 * share).round() as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_and_the_log_of_h2load_are_read() {
        let report = "starting benchmark...\nfinished in 795.83ms, 25131.12 req/s, 5.83MB/s\n";
        assert_eq!(elapsed(report), Some(Duration::from_micros(795_830)));
        assert_eq!(elapsed("finished in 1.50s, 1 req/s"), Some(Duration::from_millis(1500)));
        assert_eq!(elapsed("nothing"), None);
        let log =
            "1700000000000000\t200\t900\n1700000000000001\t200\t300\n1700000000000002\t503\t5\n";
        let expected = [300, 900].map(Duration::from_micros).to_vec();
        assert_eq!(durations(log), (expected, 1));
    }
}
