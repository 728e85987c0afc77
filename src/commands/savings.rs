//! `agimo savings`: what sleeping workloads have not requested of the cluster.

use std::io::Write as _;

use crate::api::savings::{Amounts, SavingsReport};
use crate::cli::asking::{OutputFormat, SavingsOptions};

use super::client::{AdminClient, with_parameters};
use super::table::{Table, terminal_width};
use super::{run, shown};

/// Prints the savings of one host, or of all.
pub fn savings(options: &SavingsOptions) -> anyhow::Result<()> {
    let path = match &options.host {
        Some(host) => with_parameters("savings", &[("host", host)]),
        None => "savings".to_owned(),
    };
    let text = run(async {
        let client = AdminClient::new(&options.admin).await?;
        if options.output == OutputFormat::Json {
            return Ok(String::from_utf8_lossy(&client.get_text(&path).await?).into_owned());
        }
        Ok(report(&client.get(&path).await?))
    })?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn report(report: &SavingsReport) -> String {
    let mut table = Table::new(&["WORKLOAD", "ASLEEP", "REPLICA HOURS", "CPU HOURS", "GIB HOURS"]);
    let mut add = |name: &str, share: String, amounts: &Amounts| {
        let Amounts { replica_hours, cpu_core_hours, memory_gib_hours } = amounts;
        let hours = |hours: &f64| format!("{hours:.2}");
        let hours = [replica_hours, cpu_core_hours, memory_gib_hours].map(hours);
        table.add([vec![shown::clean(name), share], hours.to_vec()].concat());
    };
    for saved in &report.workloads {
        let share = format!("{:.0} %", saved.asleep_share * 100.0);
        add(&saved.workload, share, &saved.amounts);
    }
    add("total", String::new(), &report.total);
    format!(
        "{}\nsince {}, as {} has counted: requests of pods that did not run. Whether that saves a node depends on what else runs \
         there.\n",
        table.text(terminal_width()),
        shown::time(report.since_unix),
        shown::clean(&report.replica),
    )
}
