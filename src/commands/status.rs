//! `agimo status`: every service, its state, and what woke it last.

use std::io::Write;
use std::time::Duration;

use crate::api::{Service, Services};
use crate::cli::asking::{OutputFormat, StatusOptions};
use crate::telemetry::durations;

use super::client::AdminClient;
use super::table::{Table, terminal_width};
use super::{run, shown};

/// Between two looks with `--watch`.
const INTERVAL: Duration = Duration::from_secs(2);
/// Clears the screen and goes to its beginning (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints the services, again and again with `--watch`.
pub fn status(options: &StatusOptions) -> anyhow::Result<()> {
    run(async {
        let client = AdminClient::new(&options.admin).await?;
        loop {
            let text = match options.output {
                OutputFormat::Json => {
                    String::from_utf8_lossy(&client.get_text("services").await?).into_owned()
                }
                OutputFormat::Table | OutputFormat::Wide => {
                    let answer: Services = client.get("services").await?;
                    let is_wide = options.output == OutputFormat::Wide;
                    // A wide table is wider than a terminal, and wraps.
                    let width = terminal_width().filter(|_| !is_wide);
                    table(&answer.services, is_wide).text(width)
                }
            };
            let clear = if options.watch && terminal_width().is_some() { CLEAR } else { "" };
            let mut output = std::io::stdout().lock();
            output.write_all(format!("{clear}{text}").as_bytes())?;
            output.flush()?;
            drop(output);
            if !options.watch {
                return Ok(());
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
}

fn table(services: &[Service], is_wide: bool) -> Table {
    let mut heading =
        vec!["HOST", "STATE", "READY", "OPEN", "HELD", "SLEEP AFTER", "SCALER", "LAST WAKE"];
    if is_wide {
        heading.extend(["WORKLOAD", "KEPT AWAKE BY", "PROBLEM"]);
    }
    let mut table = Table::new(&heading);
    for service in services {
        let host = service.name();
        let sleep_after = service.sleep_after_seconds;
        let sleep_after = sleep_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let wake = service.last_wake.as_ref().map(|wake| {
            let took = shown::wake_duration(wake).map_or(String::new(), |took| format!(", {took}"));
            format!("{}{took}", shown::ago(wake.at_unix))
        });
        let mut row = vec![
            host,
            service.state.clone(),
            service.ready_endpoints.to_string(),
            service.workload_load.open_requests.to_string(),
            service.workload_load.held_requests.to_string(),
            sleep_after.map_or("-".to_owned(), durations::whole),
            service.scaler.as_ref().map_or("-", |scaler| &scaler.reason).to_owned(),
            wake.unwrap_or_else(|| "-".to_owned()),
        ];
        if is_wide {
            let problem = service.last_failure.as_ref().or(service.not_ready.as_ref());
            row.extend([
                service.workload.clone(),
                service.kept_awake_by.clone().unwrap_or_else(|| "-".to_owned()),
                problem.map_or("-", |problem| &problem.reason).to_owned(),
            ]);
        }
        table.add(row);
    }
    table
}
