//! The cold path: from the moment agimo knows that the endpoint is ready to the answer at the client. The application's
//! own start never counts.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::configuration::AgimoSetup;
use crate::contestants::Contestant;
use crate::crowd::Crowd;
use crate::exchange::{HOST, get};
use crate::scene::Scene;
use crate::table::{Bar, Report, Table, median};

/// The line that agimo writes when it learns of a ready endpoint, and the field with the time.
const READY_TARGET: &str = "agimo::activation";
const READY_WORDS: &str = "endpoint ready";
const READY_FIELD: &str = "at_unix_us=";

const MANY: usize = 2_000;

/// How often.
pub(crate) struct Plan {
    /// Wakes with one request held.
    single: u32,
    /// Wakes with 2,000 requests held.
    many: u32,
}

/// Milliseconds from ready to first byte.
struct Wake {
    first: f64,
    last: f64,
}

/// Wakes agimo again and again, each time started anew and so asleep, and adds the table and its bars.
pub(crate) fn measure(scene: &Scene, plan: &Plan, report: &mut Report) -> io::Result<()> {
    let Some(binary) = &scene.agimo else {
        add_bars(None, None, report);
        return Ok(());
    };
    let wakes = |rounds, held| {
        (0..rounds).map(|_| wake(scene, binary, held)).collect::<io::Result<Vec<Wake>>>()
    };
    let single = wakes(plan.single, 1)?;
    let many = wakes(plan.many, MANY)?;

    let row = |held: &str, wakes: &[Wake]| {
        let worst = wakes.iter().map(|wake| wake.last).fold(f64::MIN, f64::max);
        vec![
            held.to_owned(),
            wakes.len().to_string(),
            format!("{:.2}", median(wakes.iter().map(|wake| wake.first))),
            format!("{:.2}", median(wakes.iter().map(|wake| wake.last))),
            format!("{worst:.2}"),
        ]
    };
    report.add(Table {
        title: "Cold path: from endpoint ready to first byte at the client".to_owned(),
        columns: ["held", "wakes", "first, median ms", "last, median ms", "last, worst ms"].map(str::to_owned).to_vec(),
        rows: vec![row("1", &single), row("2,000", &many)],
        notes: vec![
            "agimo is started anew for every wake. `Ready` is the moment agimo logged; with fewer than 100 wakes the \
             99th percentile is the worst."
                .to_owned(),
        ],
    });
    add_bars(Some(&single), Some(&many), report);
    Ok(())
}

fn add_bars(single: Option<&[Wake]>, many: Option<&[Wake]>, report: &mut Report) {
    let p99 = |wakes: &[Wake]| {
        let mut last: Vec<f64> = wakes.iter().map(|wake| wake.last).collect();
        last.sort_by(f64::total_cmp);
        last.get((last.len() * 99 / 100).min(last.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    let p50 = |wakes: &[Wake]| median(wakes.iter().map(|wake| wake.last));
    let bar = |what: &str, figure, limit| Bar { what: what.to_owned(), figure, limit, unit: "ms" };
    report.bar(bar("Ready to first byte, one held, p50", single.map(p50), 0.5));
    report.bar(bar("Ready to first byte, one held, p99", single.map(p99), 2.0));
    report.bar(bar("Ready to first byte, last of 2,000 held, worst", many.map(p99), 150.0));
}

/// One wake with `held` requests waiting for it.
fn wake(scene: &Scene, binary: &Path, held: usize) -> io::Result<Wake> {
    let signal = scene.new_folder("signal")?.join("ready");
    let setup = AgimoSetup { ready_at: Some(signal.clone()), ..AgimoSetup::default() };
    let agimo = Contestant::agimo(scene, binary, "agimo", &setup)?;
    let mut crowd = Crowd::new(agimo.address);
    crowd.ask(held, &get(HOST, "/"))?;
    agimo.wait_until_held(HOST, held)?;
    // What the reading of the gauge has stirred up settles first.
    thread::sleep(Duration::from_millis(50));
    let mut arrivals = crowd.first_bytes(|| fs::write(&signal, ""))?;
    arrivals.sort_unstable();
    let ready = wait_for_ready_time(&agimo.log)?;
    // Both clocks are the system's; a step backwards between them would show as a negative time, never as a fast one.
    let since_ready =
        |at: Option<&u64>| at.map_or(f64::NAN, |&at| (at as f64 - ready as f64) / 1e3);
    Ok(Wake { first: since_ready(arrivals.first()), last: since_ready(arrivals.last()) })
}

/// The time at which agimo says it knew; the line may come a moment after the answers.
fn wait_for_ready_time(log: &Path) -> io::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        if let Some(time) = ready_time(&fs::read_to_string(log)?) {
            return Ok(time);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "agimo logged no `{READY_WORDS}` with `{READY_FIELD}`"
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Microseconds since 1970 from the first line about a ready endpoint.
fn ready_time(log: &str) -> Option<u64> {
    let line =
        log.lines().find(|line| line.contains(READY_TARGET) && line.contains(READY_WORDS))?;
    let (_, value) = line.split_once(READY_FIELD)?;
    let digits = value.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(value.len());
    value[..digits].parse().ok()
}

// === impl Plan ===

impl Plan {
    pub(crate) const FULL: Self = Self { single: 200, many: 5 };
    pub(crate) const QUICK: Self = Self { single: 20, many: 2 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_time_is_read_from_its_own_line() {
        let log = "INFO agimo::process: started at_unix_us=1\n\
            INFO agimo::activation: endpoint ready host=bench.local at_unix_us=1700000000123456 after=3ms\n";
        assert_eq!(ready_time(log), Some(1_700_000_000_123_456));
        assert_eq!(ready_time("INFO agimo::activation: held\n"), None);
    }
}
