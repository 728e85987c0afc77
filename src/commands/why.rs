//! `agimo why`: what has happened to the workload of a host, each cold start phase by phase.

use std::fmt::Write as _;

use crate::api::Decision;
use crate::api::records::{Cause, LedgerRecord, LedgerRecords, Phase, WakeRecord, What};
use crate::cli::asking::WhyOptions;

use super::client::with_parameters;
use super::{ask_and_print, shown};

/// The bar of a whole cold start.
const BAR_WIDTH: usize = 30;

/// Prints the last records of the host, newest first.
pub fn why(options: &WhyOptions) -> anyhow::Result<()> {
    let limit = options.number.to_string();
    let path = with_parameters("wakes", &[("host", &options.host), ("limit", &limit)]);
    ask_and_print(&options.admin, &path, options.output, |answer: &LedgerRecords| {
        report(&options.host, answer)
    })
}

fn report(host: &str, answer: &LedgerRecords) -> String {
    let mut text = String::new();
    if answer.records.is_empty() {
        text = format!("nothing is recorded for {host} since agimo was started\n");
    }
    for (at, record) in answer.records.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&explain(record));
    }
    // Writing to a String cannot fail.
    if answer.lost_events > 0 {
        let lost = answer.lost_events;
        let _ = write!(text, "\n{lost} lifecycle events were lost: records may be incomplete\n");
    }
    for problem in &answer.unreachable {
        let problem = shown::clean(problem);
        let _ = write!(text, "\nthe records of another replica of agimo are missing: {problem}\n");
    }
    text
}

fn explain(record: &LedgerRecord) -> String {
    let (headline, details) = match &record.what {
        What::Wake(wake) => {
            let WakeRecord { cause, phases, outcome, failure, obstacle } = &**wake;
            let by = match cause {
                Cause::Request { service, .. } => format!("{} for {service}", shown::cause(cause)),
                Cause::Directive { .. } => format!("a {}", shown::cause(cause)),
                Cause::Operator { .. } => format!("{}, who asked for it", shown::cause(cause)),
                Cause::Elsewhere => "another scaler or a person".to_owned(),
            };
            let mut details = waterfall(phases);
            for (name, reason) in [("was not ready", obstacle), ("failed", failure)] {
                if let Some(Decision { reason, detail }) = reason {
                    let detail = shown::clean(detail);
                    let _ = writeln!(details, "  {name} because of {reason}: {detail}");
                }
            }
            (format!("woken by {by}: {outcome}"), details)
        }
        What::Sleep { name: Some(name), .. } => {
            (format!("put to sleep by {}, who asked for it", shown::clean(name)), String::new())
        }
        What::Sleep { by, idle_ms, .. } => {
            let idle = idle_ms.map_or(String::new(), |idle| {
                format!(" after {} without a request", shown::milliseconds(idle))
            });
            let by = match by.as_str() {
                "pin" => " by a pin",
                "elsewhere" => " by another scaler or a person",
                _ => "",
            };
            (format!("put to sleep{by}{idle}"), String::new())
        }
        What::WakeObserved { replicas } => {
            (format!("observed: agimo would have scaled to {replicas}"), String::new())
        }
        What::SleepObserved { idle_ms } => {
            let idle = shown::milliseconds(*idle_ms);
            (
                format!("observed: agimo would have scaled to zero after {idle} without a request"),
                String::new(),
            )
        }
        What::Failure { what, detail } => {
            let detail = shown::clean(detail);
            let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
            (format!("failure: {what}{detail}"), String::new())
        }
        What::Unknown => ("unknown record kind: use a newer agimo".to_owned(), String::new()),
    };
    format!("{}  {}  {headline}\n{details}", shown::time(record.at_unix), record.workload)
}

/// A line for each phase: when it was reached, how long it took, and a bar from the end of the phase before.
fn waterfall(phases: &[Phase]) -> String {
    let whole = phases.last().map_or(0.0, |phase| phase.after_ms);
    let column = |after: f64| {
        if whole > 0.0 { (after / whole * BAR_WIDTH as f64).round() as usize } else { 0 }
    };
    let mut text = String::new();
    let mut before: f64 = 0.0;
    for Phase { phase, after_ms } in phases {
        // Phases at different places may be noticed in another order.
        let began = before.min(*after_ms);
        let (from, to) = (column(began).min(BAR_WIDTH - 1), column(*after_ms));
        let bar = format!("{}{}", " ".repeat(from), "█".repeat(to.saturating_sub(from).max(1)));
        let (name, took) = (phase.replace('_', " "), shown::milliseconds(after_ms - began));
        let _ = writeln!(
            text,
            "  {name:<20} {:>9}  {:>10}  {bar}",
            shown::milliseconds(*after_ms),
            format!("+{took}")
        );
        before = before.max(*after_ms);
    }
    text
}
