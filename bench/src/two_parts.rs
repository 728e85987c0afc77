//! Measures responses that an application writes in two parts without TCP_NODELAY: Nagle's algorithm (RFC 1122 section
//! 4.2.3.4) keeps the second part back until the first is acknowledged, which the receiver may delay by 40 ms.

use std::io;

use crate::configuration::AgimoSetup;
use crate::environment::Environment;
use crate::http::{HOST, get};
use crate::load::LoadGenerator;
use crate::origin::TWO_PARTS_PATH;
use crate::report::{Report, Table, Target};
use crate::servers::Server;
use crate::warm::Plan;

/// One connection, so that every request but the first is sent on a connection that was used before.
const CONNECTIONS: u32 = 1;

/// Adds the table.
pub(crate) fn measure(
    environment: &Environment,
    plan: &Plan,
    report: &mut Report,
) -> io::Result<()> {
    let origin = Server::origin(environment)?;
    let haproxy = Server::haproxy(environment, origin.backend())?;
    let nginx = Server::nginx(environment, origin.backend())?;
    let mut servers = vec![origin, haproxy, nginx];
    if let Some(binary) = &environment.agimo {
        servers.push(Server::agimo(environment, binary, "agimo", &AgimoSetup::default())?);
    }
    let (mut rows, mut medians) = (Vec::new(), Vec::new());
    for server in &servers {
        let mut load = LoadGenerator::open(server.address, CONNECTIONS, get(HOST, TWO_PARTS_PATH))?;
        let result = load.run(plan.duration)?;
        let millis = |time: std::time::Duration| format!("{:.2}", time.as_secs_f64() * 1e3);
        rows.push(vec![server.name.clone(), millis(result.p50), millis(result.p99)]);
        medians.push((server.name.clone(), result.p50.as_secs_f64()));
    }
    report.add(Table {
        title: "Responses in two parts".to_owned(),
        columns: ["", "p50 ms", "p99 ms"].map(str::to_owned).to_vec(),
        rows,
        notes: vec![format!(
            "One keep-alive connection for {:.1} s for each server. The application writes head and body separately, \
             without TCP_NODELAY.",
            plan.duration.as_secs_f64()
        )],
    });
    let of = |name: &str| medians.iter().find(|(known, _)| known == name).map(|(_, p50)| *p50);
    report.add_target(Target {
        name: "p50 of responses in two parts, agimo / nginx".to_owned(),
        measured: of("agimo").zip(of("nginx")).map(|(agimo, nginx)| agimo / nginx),
        limit: 1.00,
        unit: "",
    });
    Ok(())
}
