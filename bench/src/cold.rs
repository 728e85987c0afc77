//! Measures the release of held requests: the time from the moment that agimo sees the ready endpoint to the first byte of
//! the response at the client. The start time of the application is not included.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::clients::Clients;
use crate::configuration::AgimoSetup;
use crate::environment::Environment;
use crate::http::{HOST, get};
use crate::report::{Report, Table, Target, median};
use crate::servers::Server;

/// The lifecycle event that agimo publishes when it sees a ready endpoint.
const READY_EVENT: &str = "ready";
/// How long the event may take to arrive after the responses.
const EVENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of held requests in the wakes with many requests.
const MANY_REQUESTS: usize = 2_000;

/// How often to measure.
pub(crate) struct Plan {
    /// Number of wakes with one held request.
    single: u32,
    /// Number of wakes with 2,000 held requests.
    many: u32,
}

/// The latency of one wake: milliseconds from the ready endpoint to the first byte of a response.
struct WakeLatency {
    /// Of the first held request that gets a response.
    first: f64,
    /// Of the last one.
    last: f64,
}

/// Measures all wakes, each with a new agimo process, and adds the table and its targets.
pub(crate) fn measure(
    environment: &Environment,
    plan: &Plan,
    report: &mut Report,
) -> io::Result<()> {
    let Some(binary) = &environment.agimo else {
        add_targets(None, None, report);
        return Ok(());
    };
    let wakes = |rounds, held| {
        (0..rounds)
            .map(|_| measure_wake(environment, binary, held))
            .collect::<io::Result<Vec<WakeLatency>>>()
    };
    let single = wakes(plan.single, 1)?;
    let many = wakes(plan.many, MANY_REQUESTS)?;

    let row = |held: &str, wakes: &[WakeLatency]| {
        let max = wakes.iter().map(|wake| wake.last).fold(f64::MIN, f64::max);
        vec![
            held.to_owned(),
            wakes.len().to_string(),
            format!("{:.2}", median(wakes.iter().map(|wake| wake.first))),
            format!("{:.2}", median(wakes.iter().map(|wake| wake.last))),
            format!("{max:.2}"),
        ]
    };
    report.add(Table {
        title: "Release of held requests: from endpoint ready to the first byte at the client"
            .to_owned(),
        columns: ["held requests", "wakes", "first, median ms", "last, median ms", "last, max ms"]
            .map(str::to_owned)
            .to_vec(),
        rows: vec![row("1", &single), row("2,000", &many)],
        notes: vec![
            "Each wake uses a new agimo process. The time of the ready endpoint is that of agimo's event `ready`. With fewer than 100 \
             wakes, the 99th percentile is the maximum."
                .to_owned(),
        ],
    });
    add_targets(Some(&single), Some(&many), report);
    Ok(())
}

fn add_targets(single: Option<&[WakeLatency]>, many: Option<&[WakeLatency]>, report: &mut Report) {
    let p99 = |wakes: &[WakeLatency]| {
        let mut last: Vec<f64> = wakes.iter().map(|wake| wake.last).collect();
        last.sort_by(f64::total_cmp);
        last.get((last.len() * 99 / 100).min(last.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    let p50 = |wakes: &[WakeLatency]| median(wakes.iter().map(|wake| wake.last));
    let target =
        |name: &str, measured, limit| Target { name: name.to_owned(), measured, limit, unit: "ms" };
    report.add_target(target("Ready to first byte, one held request, p50", single.map(p50), 0.5));
    report.add_target(target("Ready to first byte, one held request, p99", single.map(p99), 2.0));
    report.add_target(target(
        "Ready to first byte, last of 2,000 held requests, max",
        many.map(p99),
        150.0,
    ));
}

/// One wake with `held` held requests.
fn measure_wake(environment: &Environment, binary: &Path, held: usize) -> io::Result<WakeLatency> {
    let ready_file = environment.new_directory("signal")?.join("ready");
    let setup = AgimoSetup { ready_file: Some(ready_file.clone()), ..AgimoSetup::default() };
    let agimo = Server::agimo(environment, binary, "agimo", &setup)?;
    let events = agimo.events()?;
    let mut clients = Clients::new(agimo.address);
    clients.send(held, &get(HOST, "/"))?;
    agimo.wait_until_held(HOST, held)?;
    // Let the work caused by reading the metrics finish first.
    thread::sleep(Duration::from_millis(50));
    let mut arrivals = clients.first_byte_times(|| fs::write(&ready_file, ""))?;
    arrivals.sort_unstable();
    let ready = events.wait_for(READY_EVENT, EVENT_TIMEOUT)?;
    // Both times are from the system clock. A backward clock step results in a negative latency.
    let since_ready =
        |at: Option<&u64>| at.map_or(f64::NAN, |&at| (at as f64 - ready as f64) / 1e3);
    Ok(WakeLatency { first: since_ready(arrivals.first()), last: since_ready(arrivals.last()) })
}

// === impl Plan ===

impl Plan {
    pub(crate) const FULL: Self = Self { single: 200, many: 5 };
    pub(crate) const QUICK: Self = Self { single: 20, many: 2 };
}
