//! Measures requests over HTTP/2 to a ready endpoint, with h2load as the client. The application behind each proxy speaks
//! HTTP/1.1, which is all that nginx can speak to it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::configuration::{AgimoSetup, path_text};
use crate::environment::Environment;
use crate::http::{HOST, fetch};
use crate::process_stats::CpuTime;
use crate::report::{Report, Table, Target, median};
use crate::servers::Server;

const HAPROXY: &str = "HAProxy";
const NGINX: &str = "nginx";
const AGIMO: &str = "agimo";

/// The client of one row.
#[derive(Clone, Copy, Debug)]
struct Load {
    connections: u32,
    /// Requests that are open at once on each connection.
    streams: u32,
    requests: u32,
}

/// Few connections with many streams, as of a proxy in front, and many with one, as of browsers.
const LOADS: [Load; 4] = [
    Load { connections: 1, streams: 1, requests: 5_000 },
    Load { connections: 8, streams: 32, requests: 30_000 },
    Load { connections: 64, streams: 1, requests: 30_000 },
    Load { connections: 512, streams: 1, requests: 30_000 },
];

/// A run that takes longer has failed.
const LONGEST_RUN: &str = "60";

/// One run of h2load.
struct Run {
    elapsed: Duration,
    cpu: CpuTime,
    requests: u32,
    /// Sorted.
    durations: Vec<Duration>,
}

/// Runs each load so many times through each server, in rotated order, and adds the table and its targets.
pub(crate) fn measure(
    environment: &Environment,
    rounds: usize,
    report: &mut Report,
) -> io::Result<()> {
    let origin = Server::origin(environment)?;
    let mut servers =
        vec![Server::haproxy(environment, &origin)?, Server::nginx(environment, &origin)?];
    if let Some(binary) = &environment.agimo {
        servers.push(Server::agimo(environment, binary, AGIMO, &AgimoSetup::default())?);
    }
    for server in &servers {
        // Wakes the application of agimo.
        let (status, _) = fetch(server.address, HOST, "/", Duration::from_secs(60))?;
        if status != 200 {
            return Err(io::Error::other(format!("{} answers {status}", server.name)));
        }
    }
    let log = environment.new_directory("h2load")?.join("requests.log");
    let mut rows = Vec::new();
    for load in LOADS {
        let mut runs: Vec<Vec<Run>> = servers.iter().map(|_| Vec::new()).collect();
        // Round 0 is a warm-up and is not counted.
        for round in 0..=rounds {
            for offset in 0..servers.len() {
                let at = (round + offset) % servers.len();
                let run = run(&servers[at], load, &log)?;
                if round > 0 {
                    runs[at].push(run);
                }
            }
        }
        let ratio = |at: usize, name: &str| {
            let other = servers.iter().position(|server| server.name == name)?;
            let pairs = runs[at].iter().zip(&runs[other]);
            Some(median(pairs.map(|(one, other)| one.cpu_us() / other.cpu_us())))
        };
        for (at, server) in servers.iter().enumerate() {
            let row = row(server, load, &runs[at], [HAPROXY, NGINX].map(|name| ratio(at, name)));
            rows.push(row?);
        }
        let agimo = servers.iter().position(|server| server.name == AGIMO);
        let best = |at| Some(ratio(at, HAPROXY)?.max(ratio(at, NGINX)?));
        report.add_target(Target {
            name: format!("CPU per request over HTTP/2, {load}, agimo / the better of the two"),
            measured: agimo.and_then(best),
            limit: 1.00,
            unit: "",
        });
    }
    report.add(table(rows, rounds));
    Ok(())
}

fn row(
    server: &Server,
    load: Load,
    runs: &[Run],
    ratios: [Option<f64>; 2],
) -> io::Result<Vec<String>> {
    let of = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value));
    let micros = |share: f64| of(&|run: &Run| run.quantile(share).as_secs_f64() * 1e6);
    let rss = server.stats.memory()?.rss as f64 / f64::from(1 << 20);
    let mut row = vec![
        load.to_string(),
        server.name.clone(),
        format!("{:.0}", of(&|run| f64::from(run.requests) / run.elapsed.as_secs_f64())),
        format!("{:.2}", of(&Run::cpu_us)),
        format!("{:.0}", micros(0.5)),
        format!("{:.0}", micros(0.99)),
        format!("{:.0}", micros(0.999)),
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
        title: "Warm requests over HTTP/2, application with HTTP/1.1".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
        notes: vec![
            format!(
                "Medians of {rounds} runs of h2load in rotated order, after one warm-up run, with prior knowledge; 14-byte \
                 response bodies, one proxy thread. {} requests each, {} with one connection.",
                LOADS[1].requests, LOADS[0].requests
            ),
            "CPU time includes the connections that each run opens. RSS is that after the runs of the row, with what \
             earlier rows left behind. h2load and the application share the other core."
                .to_owned(),
        ],
    }
}

/// Runs h2load to its end.
fn run(server: &Server, load: Load, log: &Path) -> io::Result<Run> {
    let _ = fs::remove_file(log);
    let before = server.stats.cpu()?;
    let output = Command::new("timeout")
        .args([LONGEST_RUN, "h2load", "-t", "1"])
        .args(["-n", &load.requests.to_string(), "-c", &load.connections.to_string()])
        .args(["-m", &load.streams.to_string(), "-H", &format!(":authority: {HOST}")])
        .args(["--log-file", &path_text(log)?, &format!("http://{}/", server.http2)])
        .stderr(Stdio::inherit())
        .output()?;
    let cpu = server.stats.cpu()?.since(before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = |what: &str| io::Error::other(format!("{}, {load}: {what}: {text}", server.name));
    let elapsed = elapsed(&text).ok_or_else(|| failed("h2load did not finish"))?;
    let (durations, failures) = durations(&fs::read_to_string(log)?);
    if failures > 0 || durations.len() != load.requests as usize {
        return Err(failed("requests failed"));
    }
    Ok(Run { elapsed, cpu, requests: load.requests, durations })
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

// === impl Load ===

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.connections, self.streams)
    }
}

// === impl Run ===

impl Run {
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
