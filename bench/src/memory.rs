//! What waiting costs in memory: held requests, requests in flight, idle connections, open tunnels. CPU is not looked
//! at.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::configuration::{AgimoSetup, HELD_HOST};
use crate::contestants::Contestant;
use crate::crowd::Crowd;
use crate::exchange::{HOST, NEVER, get, upgrade};
use crate::meter::Memory;
use crate::scene::Scene;
use crate::table::{Bar, Report, Table};

/// Already waiting when the first reading is taken, so that one-time growth does not count.
const BEFORE: usize = 200;

/// Added between the two readings.
const ADDED: usize = 2_000;

/// HAProxy's cost of an idle WebSocket when the bar was set.
const MARK_KIB: f64 = 4.7;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Proxy {
    Agimo,
    Haproxy,
    Nginx,
}

/// What the connections wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// An application that never becomes ready.
    Held,
    /// An answer that never comes.
    InFlight,
    /// The client's next request.
    NextRequest,
    /// Either side of an open WebSocket.
    Tunnel,
}

/// Growth of memory per connection, in KiB.
#[derive(Clone, Copy)]
struct Growth {
    rss: f64,
    pss: f64,
}

/// Measures each wait through each proxy, every time in a fresh process, and adds the table and its bars.
pub(crate) fn measure(scene: &Scene, report: &mut Report) -> io::Result<()> {
    let origin = Contestant::origin(scene)?;
    let mut rows = vec![idle_row(scene, &origin)?];
    let mut held = None;
    let mut tunnels = Vec::new();
    for wait in Wait::ALL {
        let mut row = vec![wait.title().to_owned()];
        for proxy in Proxy::ALL {
            let growth = growth(scene, &origin, proxy, wait)?;
            row.push(
                growth.map_or("-".to_owned(), |growth| {
                    format!("{:.1} ({:.1})", growth.rss, growth.pss)
                }),
            );
            match (wait, proxy) {
                (Wait::Held, Proxy::Agimo) => held = growth.map(|growth| growth.rss),
                (Wait::Tunnel, _) => tunnels.push(growth.map(|growth| growth.rss)),
                _ => {}
            }
        }
        rows.push(row);
    }
    report.add(Table {
        title: "Memory".to_owned(),
        columns: ["RSS (PSS)", "agimo", "HAProxy", "nginx"].map(str::to_owned).to_vec(),
        rows,
        notes: vec![format!(
            "KiB of growth each, from /proc/PID/smaps_rollup: {ADDED} more beside {BEFORE} that were there already, a \
             fresh process for every figure. nginx is its master and worker together; it sets \
             memory aside for 9,000 connections when it starts."
        )],
    });
    add_bars(held, &tunnels, report);
    Ok(())
}

fn add_bars(held: Option<f64>, tunnels: &[Option<f64>], report: &mut Report) {
    report.bar(Bar {
        what: "RSS per held request".to_owned(),
        figure: held,
        limit: 14.0,
        unit: "KiB",
    });
    report.bar(Bar {
        what: "RSS per held request, the aim".to_owned(),
        figure: held,
        limit: 8.0,
        unit: "KiB",
    });
    let tunnel = |proxy: Proxy| tunnels.get(proxy as usize).copied().flatten();
    report.bar(Bar {
        what: "RSS per idle WebSocket, HAProxy's beside it".to_owned(),
        figure: tunnel(Proxy::Agimo),
        limit: tunnel(Proxy::Haproxy).unwrap_or(MARK_KIB),
        unit: "KiB",
    });
    report.bar(Bar {
        what: "RSS per idle WebSocket, HAProxy's when the bar was set".to_owned(),
        figure: tunnel(Proxy::Agimo),
        limit: MARK_KIB,
        unit: "KiB",
    });
}

/// Memory of each process after its start, before any request.
fn idle_row(scene: &Scene, origin: &Contestant) -> io::Result<Vec<String>> {
    let mut row = vec!["idle process after start, MiB".to_owned()];
    for proxy in Proxy::ALL {
        row.push(match proxy.start(scene, origin, false)? {
            Some(contestant) => {
                let memory = settled(&contestant)?;
                let mebibytes = |bytes| bytes as f64 / f64::from(1 << 20);
                format!("{:.1} ({:.1})", mebibytes(memory.rss), mebibytes(memory.pss))
            }
            None => "-".to_owned(),
        });
    }
    Ok(row)
}

fn growth(
    scene: &Scene,
    origin: &Contestant,
    proxy: Proxy,
    wait: Wait,
) -> io::Result<Option<Growth>> {
    if wait == Wait::Held && proxy != Proxy::Agimo {
        return Ok(None);
    }
    let Some(contestant) = proxy.start(scene, origin, wait == Wait::Held)? else {
        return Ok(None);
    };
    let mut crowd = Crowd::new(contestant.address);
    // The first request wakes agimo's application.
    Crowd::new(contestant.address).converse(1, &get(HOST, "/"), 200)?;
    wait.enter(&mut crowd, &contestant, BEFORE)?;
    let before = settled(&contestant)?;
    wait.enter(&mut crowd, &contestant, ADDED)?;
    let after = settled(&contestant)?;
    if wait == Wait::Tunnel {
        crowd.check_tunnels()?;
    }
    let each = |after: u64, before: u64| (after as f64 - before as f64) / 1024.0 / ADDED as f64;
    Ok(Some(Growth { rss: each(after.rss, before.rss), pss: each(after.pss, before.pss) }))
}

/// Memory once it has stopped changing, or after three seconds.
fn settled(contestant: &Contestant) -> io::Result<Memory> {
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut last = contestant.meter.memory()?;
    loop {
        thread::sleep(Duration::from_millis(250));
        let now = contestant.meter.memory()?;
        if now.rss == last.rss || Instant::now() > deadline {
            return Ok(now);
        }
        last = now;
    }
}

// === impl Proxy ===

impl Proxy {
    /// In the order of the columns.
    const ALL: [Self; 3] = [Self::Agimo, Self::Haproxy, Self::Nginx];

    /// Nothing for agimo when its binary was not given.
    fn start(
        self,
        scene: &Scene,
        origin: &Contestant,
        with_held_host: bool,
    ) -> io::Result<Option<Contestant>> {
        match self {
            Self::Agimo => {
                let setup = AgimoSetup { with_held_host, ..AgimoSetup::default() };
                let binary = scene.agimo.as_ref();
                binary.map(|binary| Contestant::agimo(scene, binary, "agimo", &setup)).transpose()
            }
            Self::Haproxy => Contestant::haproxy(scene, origin).map(Some),
            Self::Nginx => Contestant::nginx(scene, origin).map(Some),
        }
    }
}

// === impl Wait ===

impl Wait {
    const ALL: [Self; 4] = [Self::Held, Self::InFlight, Self::NextRequest, Self::Tunnel];

    fn title(self) -> &'static str {
        match self {
            Self::Held => "held request, application not ready, KiB",
            Self::InFlight => "request in flight, application silent, KiB",
            Self::NextRequest => "idle keep-alive connection, KiB",
            Self::Tunnel => "idle WebSocket, KiB",
        }
    }

    /// Brings `count` more connections into this state.
    fn enter(self, crowd: &mut Crowd, contestant: &Contestant, count: usize) -> io::Result<()> {
        match self {
            Self::Held => {
                crowd.ask(count, &get(HELD_HOST, "/"))?;
                contestant.wait_until_held(HELD_HOST, crowd.len())
            }
            Self::InFlight => crowd.ask(count, &get(HOST, NEVER)),
            Self::NextRequest => crowd.converse(count, &get(HOST, "/"), 200),
            Self::Tunnel => crowd.converse(count, &upgrade(HOST), 101),
        }
    }
}
