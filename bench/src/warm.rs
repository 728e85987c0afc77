//! The warm table: every contestant in short rounds, in rotated order, so that a slow moment of the machine meets all.

use std::fs::File;
use std::io;
use std::time::Duration;

use crate::configuration::AgimoSetup;
use crate::contestants::Contestant;
use crate::exchange::{HOST, get};
use crate::load::{Load, Round};
use crate::meter::{Cpu, Memory};
use crate::scene::Scene;
use crate::table::{Bar, Report, Table, median};

const CONNECTIONS: u32 = 64;

/// Load before a round that is not counted: upstream connections are opened and caches filled in it.
const RUN_UP: Duration = Duration::from_millis(200);

const DIRECT: &str = "direct";
const HAPROXY: &str = "HAProxy";
const NGINX: &str = "nginx";
const AGIMO: &str = "agimo";
const TEN: &str = "agimo, 10 services";
const MANY: &str = "agimo, 10,000 services";

/// How long and how often.
pub(crate) struct Plan {
    pub(crate) rounds: u16,
    pub(crate) length: Duration,
}

/// One contestant and its counted rounds.
struct Lane {
    contestant: Contestant,
    samples: Vec<Sample>,
    memory: Memory,
}

struct Sample {
    round: Round,
    cpu: Cpu,
}

/// Runs the rounds and adds the table and its bars.
pub(crate) fn measure(scene: &Scene, plan: &Plan, report: &mut Report) -> io::Result<()> {
    let mut lanes = start_all(scene)?;
    let count = lanes.len();
    // Round 0 warms up.
    for round in 0..=usize::from(plan.rounds) {
        for turn in 0..count {
            let lane = &mut lanes[(round + turn) % count];
            let sample = lane.run(plan.length)?;
            if round > 0 {
                lane.samples.push(sample);
            }
        }
    }
    for lane in &mut lanes {
        lane.memory = lane.contestant.meter.memory()?;
    }
    report.add(table(&lanes, plan));
    add_bars(&lanes, report);
    Ok(())
}

fn start_all(scene: &Scene) -> io::Result<Vec<Lane>> {
    let origin = Contestant::origin(scene)?;
    let haproxy = Contestant::haproxy(scene, &origin)?;
    let nginx = Contestant::nginx(scene, &origin)?;
    let mut contestants = vec![origin, haproxy, nginx];
    if let Some(binary) = &scene.agimo {
        let setups = [
            (AGIMO, AgimoSetup::default()),
            ("agimo --access-log", AgimoSetup { access_log: true, ..AgimoSetup::default() }),
            (TEN, AgimoSetup { services: 10, ..AgimoSetup::default() }),
            (MANY, AgimoSetup { services: 10_000, ..AgimoSetup::default() }),
        ];
        for (name, setup) in setups {
            contestants.push(Contestant::agimo(scene, binary, name, &setup)?);
        }
    }
    let lane = |contestant| Lane { contestant, samples: Vec::new(), memory: Memory::default() };
    Ok(contestants.into_iter().map(lane).collect())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn table(lanes: &[Lane], plan: &Plan) -> Table {
    let row = |lane: &Lane| {
        let ratio = |other| match ratio(lanes, &lane.contestant.name, other, Sample::cpu_us) {
            Some(ratio) if lane.contestant.name != DIRECT => format!("{ratio:.2}"),
            _ => "-".to_owned(),
        };
        vec![
            lane.contestant.name.clone(),
            format!("{:.0}", lane.median(|sample| sample.round.per_second())),
            format!("{:.2}", lane.median(Sample::cpu_us)),
            format!("{:.0}", lane.median(|sample| micros(sample.round.p50))),
            format!("{:.0}", lane.median(|sample| micros(sample.round.p99))),
            format!("{:.0} %", lane.median(Sample::busy) * 100.0),
            format!("{:.0} %", lane.median(Sample::waited) * 100.0),
            format!("{:.1}", lane.memory.rss as f64 / f64::from(1 << 20)),
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
        "busy",
        "waited",
        "RSS MiB",
        "CPU / HAProxy's",
        "CPU / nginx's",
    ];
    Table {
        title: "Warm requests".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: lanes.iter().map(row).collect(),
        notes: notes(plan),
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    vec![
            format!(
                "Medians of {} rounds of {:.1} s in rotated order after one that warms up; {CONNECTIONS} keep-alive \
                 connections, a 14-byte body, one proxy thread.",
                plan.rounds,
                plan.length.as_secs_f64()
            ),
            "CPU and `busy` (share of one core) are the proxy's, user and kernel, from /proc/PID/task/*/schedstat \
             (nanoseconds); on the line `direct` they are the origin's. Ratios are of the same round, then the median."
                .to_owned(),
            "`waited` is the share of the time in which other work on the machine had the proxy's core; beyond a few \
             per cent the figures are disturbed (the origin always shares its core with the load)."
                .to_owned(),
            "HAProxy and nginx pass everything to one application; agimo also routes by host.".to_owned(),
    ]
}

fn add_bars(lanes: &[Lane], report: &mut Report) {
    for other in [HAPROXY, NGINX] {
        report.bar(Bar {
            what: format!("CPU per request, agimo / {other}"),
            figure: ratio(lanes, AGIMO, other, Sample::cpu_us),
            limit: 1.00,
            unit: "",
        });
    }
    // Only getting worse with more services is a fault; a gain within the noise is not.
    report.bar(Bar {
        what: "CPU per request, 10,000 services / 10".to_owned(),
        figure: ratio(lanes, MANY, TEN, Sample::cpu_us),
        limit: 1.03,
        unit: "",
    });
    report.bar(Bar {
        what: "Requests/s, 10 services / 10,000".to_owned(),
        figure: ratio(lanes, TEN, MANY, |sample| sample.round.per_second()),
        limit: 1.03,
        unit: "",
    });
}

/// The median of the ratios of two contestants in the same round; nothing if one is missing.
fn ratio(lanes: &[Lane], of: &str, to: &str, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
    let lane = |name: &str| lanes.iter().find(|lane| lane.contestant.name == name);
    let pairs = lane(of)?.samples.iter().zip(&lane(to)?.samples);
    Some(median(pairs.map(|(of, to)| figure(of) / figure(to))))
}

// === impl Lane ===

impl Lane {
    fn run(&mut self, length: Duration) -> io::Result<Sample> {
        let named = |error| io::Error::other(format!("{}: {error}", self.contestant.name));
        let mut load =
            Load::open(self.contestant.address, CONNECTIONS, get(HOST, "/")).map_err(named)?;
        load.run(RUN_UP).map_err(named)?;
        let before = self.contestant.meter.cpu()?;
        let round = load.run(length).map_err(named)?;
        let cpu = self.contestant.meter.cpu()?.since(before);
        // An access log grows by megabytes a round and has been paid for already.
        File::options().write(true).open(&self.contestant.log)?.set_len(0)?;
        Ok(Sample { round, cpu })
    }

    fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure))
    }
}

// === impl Sample ===

impl Sample {
    /// CPU microseconds per request.
    fn cpu_us(&self) -> f64 {
        self.cpu.used_ns as f64 / 1e3 / self.round.requests as f64
    }

    /// Share of one core that was used.
    fn busy(&self) -> f64 {
        self.cpu.used_ns as f64 / self.round.elapsed.as_nanos() as f64
    }

    /// Share of the time in which something else had the core that it needed.
    fn waited(&self) -> f64 {
        self.cpu.waited_ns as f64 / self.round.elapsed.as_nanos() as f64
    }
}
