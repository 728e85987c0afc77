//! Measures how long requests take at a load that every proxy can serve: the same constant rate for all, half of what the slowest
//! serves at most.

use std::io;
use std::time::Duration;

use crate::configuration::AgimoSetup;
use crate::environment::Environment;
use crate::http::{HOST, get};
use crate::load::{LoadGenerator, RoundResult};
use crate::report::{Report, Table, Target, median};
use crate::rounds::rotated;
use crate::servers::Server;

const CONNECTIONS: u32 = 64;
const WARM_UP: Duration = Duration::from_millis(300);

/// Runs the rounds and adds the table and its target.
pub(crate) fn measure(
    environment: &Environment,
    rounds: usize,
    duration: Duration,
    report: &mut Report,
) -> io::Result<()> {
    let origin = Server::origin(environment)?;
    let servers = Server::proxies(environment, origin.backend(), &AgimoSetup::default())?;
    let mut most = Vec::new();
    for server in &servers {
        let mut load = open(server)?;
        load.run(WARM_UP)?;
        most.push(load.run(duration)?.requests_per_second());
    }
    let rate = most.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
    let results =
        rotated(rounds, servers.len(), |at| open(&servers[at])?.run_at_rate(rate, duration))?;
    let micros = |at: usize, value: fn(&RoundResult) -> Duration| {
        median(results[at].iter().map(|result| value(result).as_secs_f64() * 1e6))
    };
    let p99 = |at| micros(at, |result| result.p99);
    let row = |(at, server): (usize, &Server)| {
        vec![
            server.name.clone(),
            format!("{:.0}", most[at]),
            format!("{:.0}", micros(at, |result| result.p50)),
            format!("{:.0}", p99(at)),
            format!("{:.0}", micros(at, |result| result.p999)),
        ]
    };
    let columns = ["", "most requests/s", "p50 us", "p99 us", "p99.9 us"];
    report.add(Table {
        title: format!("Durations at {rate:.0} requests/s"),
        columns: columns.map(str::to_owned).to_vec(),
        rows: servers.iter().enumerate().map(row).collect(),
        notes: vec![format!(
            "HTTP/1.1, {CONNECTIONS} connections, medians of {rounds} rounds of {:.1} s in rotated order. The rate is half of what the \
             slowest serves at most (first column, in a closed loop). A request counts from the moment when it was due.",
            duration.as_secs_f64()
        )],
    });
    let agimo = servers.iter().position(Server::is_agimo);
    report.add_target(Target {
        name: "p99 at equal load, agimo / the better of the two".to_owned(),
        measured: agimo.map(|agimo| p99(agimo) / p99(0).min(p99(1))),
        limit: 1.00,
        unit: "",
    });
    Ok(())
}

fn open(server: &Server) -> io::Result<LoadGenerator> {
    let load = LoadGenerator::open(server.address, CONNECTIONS, get(HOST, "/"));
    load.map_err(|error| io::Error::other(format!("{}: {error}", server.name)))
}
