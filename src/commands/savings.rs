//! `agimo savings`: what sleeping workloads have not requested of the cluster.

use crate::api::savings::{Amounts, SavingsReport};
use crate::cli::asking::SavingsOptions;

use super::client::with_parameters;
use super::table::{Table, terminal_width};
use super::{ask_and_print, shown};

/// Prints the savings of one host, or of all.
pub fn savings(options: &SavingsOptions) -> anyhow::Result<()> {
    let path = match &options.host {
        Some(host) => with_parameters("savings", &[("host", host)]),
        None => "savings".to_owned(),
    };
    ask_and_print(&options.admin, &path, options.output, report)
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
