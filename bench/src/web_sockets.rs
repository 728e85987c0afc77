//! Measures messages through open WebSockets: each client sends one, and the next when it has come back.

use std::io;
use std::time::{Duration, Instant};

use crate::clients::Clients;
use crate::configuration::AgimoSetup;
use crate::environment::Environment;
use crate::http::{HOST, get, websocket_handshake};
use crate::report::{Report, Table, Target, median};
use crate::rounds::rotated;
use crate::servers::Server;

/// WebSockets that are open at once.
const COUNTS: [usize; 3] = [1, 64, 512];
/// A masked frame with a text of 125 bytes (RFC 6455 section 5.2); the application sends back what it gets.
const MESSAGE: [u8; 131] = message();

const fn message() -> [u8; 131] {
    let mut frame = [b'a'; 131];
    (frame[0], frame[1]) = (0x81, 0x80 | 125);
    frame
}

/// One round.
struct Round {
    messages: u64,
    elapsed: Duration,
    cpu_us: f64,
}

/// Runs the rounds of each number of WebSockets and adds the table and its targets.
pub(crate) fn measure(
    environment: &Environment,
    rounds: usize,
    duration: Duration,
    report: &mut Report,
) -> io::Result<()> {
    let origin = Server::origin(environment)?;
    let servers = Server::proxies(environment, origin.backend(), &AgimoSetup::default())?;
    let mut rows = Vec::new();
    for count in COUNTS {
        let mut clients = Vec::new();
        for server in &servers {
            Clients::new(server.address).send_and_expect(1, &get(HOST, "/"), 200)?;
            let mut opened = Clients::new(server.address);
            opened.send_and_expect(count, &websocket_handshake(HOST), 101)?;
            clients.push(opened);
        }
        let results =
            rotated(rounds, servers.len(), |at| run(&servers[at], &mut clients[at], duration))?;
        let cpu = |at: usize| median(results[at].iter().map(|round| round.cpu_us));
        for (at, server) in servers.iter().enumerate() {
            let per_second =
                results[at].iter().map(|one| one.messages as f64 / one.elapsed.as_secs_f64());
            rows.push(vec![
                count.to_string(),
                server.name.clone(),
                format!("{:.0}", median(per_second)),
                format!("{:.2}", cpu(at)),
            ]);
        }
        let agimo = servers.iter().position(Server::is_agimo);
        report.add_target(Target {
            name: format!("CPU per WebSocket message, {count} open, agimo / the better of the two"),
            measured: agimo.map(|agimo| cpu(agimo) / cpu(0).min(cpu(1))),
            limit: 1.00,
            unit: "",
        });
    }
    let columns = ["WebSockets", "", "messages/s", "CPU us/message"];
    report.add(Table {
        title: "WebSocket messages".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
        notes: vec![format!(
            "Frames of {} bytes that come back, over HTTP/1.1; a message is one in each direction. Medians of {rounds} rounds of \
             {:.1} s in rotated order.",
            MESSAGE.len(),
            duration.as_secs_f64()
        )],
    });
    Ok(())
}

fn run(server: &Server, clients: &mut Clients, duration: Duration) -> io::Result<Round> {
    let (before, start) = (server.stats.cpu()?, Instant::now());
    let mut messages = 0;
    while start.elapsed() < duration {
        clients.echo(&MESSAGE)?;
        messages += clients.len() as u64;
    }
    let elapsed = start.elapsed();
    let used = server.stats.cpu()?.since(before).used_ns;
    Ok(Round { messages, elapsed, cpu_us: used as f64 / 1e3 / messages as f64 })
}
