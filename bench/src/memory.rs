//! Measures the memory per waiting connection: held requests, in-flight requests, idle connections, open tunnels.

use std::io;

use crate::clients::Clients;
use crate::configuration::{AgimoSetup, HELD_HOST};
use crate::environment::Environment;
use crate::http::{HOST, NO_RESPONSE_PATH, get, websocket_handshake};
use crate::report::{Report, Table, Target};
use crate::servers::Server;

/// Connections before the first measurement, so that one-time allocations do not count.
pub(crate) const INITIAL_CONNECTIONS: usize = 200;

/// Connections added between the two measurements.
pub(crate) const ADDED_CONNECTIONS: usize = 2_000;

/// Connections of the rows with many. Each WebSocket needs two files of a proxy.
const MANY_CONNECTIONS: usize = 9_500;

/// Memory of HAProxy per idle WebSocket at the time when the target was set.
const HAPROXY_WEBSOCKET_KIB: f64 = 4.7;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Proxy {
    Agimo,
    Haproxy,
    Nginx,
}

/// The state of the connections whose memory is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// The request is held: the application never becomes ready.
    Held,
    /// The request is in flight: the application sends no response.
    InFlight,
    /// A keep-alive connection without a request.
    Idle,
    /// An open WebSocket without traffic.
    Tunnel,
}

/// Memory growth per connection, in KiB.
#[derive(Clone, Copy)]
struct Growth {
    rss: f64,
    pss: f64,
}

/// Measures each connection state through each proxy, every time in a new process, and adds the table and its targets.
pub(crate) fn measure(environment: &Environment, report: &mut Report) -> io::Result<()> {
    let origin = Server::origin(environment)?;
    let mut rows = vec![idle_process_row(environment, &origin)?];
    let mut held = None;
    let mut tunnels = Vec::new();
    for state in ConnectionState::ALL {
        let mut row = vec![state.title().to_owned()];
        for proxy in Proxy::ALL {
            let growth = measure_growth(environment, &origin, proxy, state, ADDED_CONNECTIONS)?;
            row.push(growth.map_or("-".to_owned(), Growth::shown));
            match (state, proxy) {
                (ConnectionState::Held, Proxy::Agimo) => held = growth.map(|growth| growth.rss),
                (ConnectionState::Tunnel, _) => tunnels.push(growth.map(|growth| growth.rss)),
                _ => {}
            }
        }
        rows.push(row);
    }
    for state in [ConnectionState::Idle, ConnectionState::Tunnel] {
        let mut row = vec![format!("{}, {MANY_CONNECTIONS} of them", state.title())];
        for proxy in Proxy::ALL {
            let growth = measure_growth(environment, &origin, proxy, state, MANY_CONNECTIONS)?;
            row.push(growth.map_or("-".to_owned(), Growth::shown));
        }
        rows.push(row);
    }
    report.add(Table {
        title: "Memory".to_owned(),
        columns: ["RSS (PSS)", "agimo", "HAProxy", "nginx"].map(str::to_owned).to_vec(),
        rows,
        notes: vec![format!(
            "Memory growth per connection, from /proc/PID/smaps_rollup: {ADDED_CONNECTIONS} connections, where nothing else is said, added to \
             {INITIAL_CONNECTIONS} existing ones, with a new process for each value. The values for nginx are the sum of \
             master and worker; nginx allocates memory for 19,800 connections when it starts."
        )],
    });
    add_targets(held, &tunnels, report);
    Ok(())
}

fn add_targets(held: Option<f64>, tunnels: &[Option<f64>], report: &mut Report) {
    let mut add = |name: &str, measured, limit| {
        report.add_target(Target { name: name.to_owned(), measured, limit, unit: "KiB" });
    };
    add("RSS per held request", held, 14.0);
    add("RSS per held request, stretch target", held, 8.0);
    let tunnel = |proxy: Proxy| tunnels.get(proxy as usize).copied().flatten();
    let agimo = tunnel(Proxy::Agimo);
    let haproxy = tunnel(Proxy::Haproxy).unwrap_or(HAPROXY_WEBSOCKET_KIB);
    add("RSS per idle WebSocket, at most HAProxy's in this run", agimo, haproxy);
    add(
        "RSS per idle WebSocket, at most HAProxy's when the target was set",
        agimo,
        HAPROXY_WEBSOCKET_KIB,
    );
}

/// Memory of each process after its start, before any request.
fn idle_process_row(environment: &Environment, origin: &Server) -> io::Result<Vec<String>> {
    let mut row = vec!["idle process after start, MiB".to_owned()];
    for proxy in Proxy::ALL {
        row.push(match proxy.start(environment, origin, false)? {
            Some(server) => {
                let memory = server.stats.stable_memory()?;
                let mebibytes = |bytes| bytes as f64 / f64::from(1 << 20);
                format!("{:.1} ({:.1})", mebibytes(memory.rss), mebibytes(memory.pss))
            }
            None => "-".to_owned(),
        });
    }
    Ok(row)
}

/// `None` if the proxy cannot hold requests or is not measured.
fn measure_growth(
    environment: &Environment,
    origin: &Server,
    proxy: Proxy,
    state: ConnectionState,
    added: usize,
) -> io::Result<Option<Growth>> {
    if state == ConnectionState::Held && proxy != Proxy::Agimo {
        return Ok(None);
    }
    let Some(server) = proxy.start(environment, origin, state == ConnectionState::Held)? else {
        return Ok(None);
    };
    let mut clients = Clients::new(server.address);
    // The first request wakes the application behind agimo.
    Clients::new(server.address).send_and_expect(1, &get(HOST, "/"), 200)?;
    state.enter(&mut clients, &server, INITIAL_CONNECTIONS)?;
    let before = server.stats.stable_memory()?;
    state.enter(&mut clients, &server, added)?;
    let after = server.stats.stable_memory()?;
    if state == ConnectionState::Tunnel {
        clients.check_tunnels()?;
    }
    Ok(Some(Growth {
        rss: kib_per_connection(before.rss, after.rss, added),
        pss: kib_per_connection(before.pss, after.pss, added),
    }))
}

/// The growth between two measurements, in bytes, for each connection that was added, in KiB.
pub(crate) fn kib_per_connection(before: u64, after: u64, added: usize) -> f64 {
    (after as f64 - before as f64) / 1024.0 / added as f64
}

// === impl Growth ===

impl Growth {
    fn shown(self) -> String {
        format!("{:.1} ({:.1})", self.rss, self.pss)
    }
}

// === impl Proxy ===

impl Proxy {
    /// In the order of the columns.
    const ALL: [Self; 3] = [Self::Agimo, Self::Haproxy, Self::Nginx];

    /// `None` for agimo if its binary was not given.
    fn start(
        self,
        environment: &Environment,
        origin: &Server,
        with_held_host: bool,
    ) -> io::Result<Option<Server>> {
        match self {
            Self::Agimo => {
                let setup = AgimoSetup { with_held_host, ..AgimoSetup::default() };
                let binary = environment.agimo.as_ref();
                binary.map(|binary| Server::agimo(environment, binary, "agimo", &setup)).transpose()
            }
            Self::Haproxy => Server::haproxy(environment, origin.backend()).map(Some),
            Self::Nginx => Server::nginx(environment, origin.backend()).map(Some),
        }
    }
}

// === impl ConnectionState ===

impl ConnectionState {
    const ALL: [Self; 4] = [Self::Held, Self::InFlight, Self::Idle, Self::Tunnel];

    fn title(self) -> &'static str {
        match self {
            Self::Held => "held request, KiB",
            Self::InFlight => "in-flight request without response, KiB",
            Self::Idle => "idle keep-alive connection, KiB",
            Self::Tunnel => "idle WebSocket, KiB",
        }
    }

    /// Opens `count` more connections and brings them into this state.
    fn enter(self, clients: &mut Clients, server: &Server, count: usize) -> io::Result<()> {
        match self {
            Self::Held => {
                clients.send(count, &get(HELD_HOST, "/"))?;
                server.wait_until_held(HELD_HOST, clients.len())
            }
            Self::InFlight => clients.send(count, &get(HOST, NO_RESPONSE_PATH)),
            Self::Idle => clients.send_and_expect(count, &get(HOST, "/"), 200),
            Self::Tunnel => clients.send_and_expect(count, &websocket_handshake(HOST), 101),
        }
    }
}
