//! `agimo explain`: which service a request would reach, and what would happen to it.

use std::time::Duration;

use crate::api::explanation::Explanation;
use crate::api::{Decision, Load};
use crate::cli::asking::ExplainOptions;
use crate::telemetry::durations;

use super::client::with_parameters;
use super::{ask_and_print, shown};

/// Prints the explanation.
pub fn explain(options: &ExplainOptions) -> anyhow::Result<()> {
    let path = with_parameters("explain", &[("host", &options.request)]);
    ask_and_print(&options.admin, &path, options.output, report)
}

fn report(explanation: &Explanation) -> String {
    let Explanation { service, matched_by, same_workload, why, request_now } = explanation;
    let decision = |Decision { reason, detail }: &Decision| format!("{reason}: {detail}");
    let Load { open_requests, held_requests, open_tunnels } = service.workload_load;
    let mut lines = vec![
        ("a request now", format!("is {} {}", request_now.reason, request_now.detail)),
        ("route", matched_by.clone()),
        ("workload", service.workload.clone()),
    ];
    if !same_workload.is_empty() {
        lines.push(("also reached by", same_workload.join(", ")));
    }
    lines.push(("state", format!("{}: {why}", service.state)));
    lines.push(("replicas", format!("{} ready for this service", service.ready_endpoints)));
    lines.push((
        "open",
        format!("{open_requests} requests, {held_requests} held, {open_tunnels} tunnels"),
    ));
    lines.extend(service.scaler.as_ref().map(|scaler| ("scaler", decision(scaler))));
    let sleep_after = service.sleep_after_seconds;
    let sleep_after = sleep_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    lines.extend(sleep_after.map(|time| {
        let from = match service.sleep_after_from.as_deref() {
            Some("another-service") => " (of another service of the workload)",
            Some(_) => " (prolonged: another writer scales it up again and again)",
            None => "",
        };
        ("sleeps after", format!("{} without a request{from}", durations::whole(time)))
    }));
    if let Some(reverted) = &service.reverted_by {
        let writers = reverted.writers.join(", ");
        lines.push(("undone by", format!("{writers}: {}", reverted.fix)));
    }
    lines.extend(service.last_wake.as_ref().map(|wake| {
        let took = shown::wake_duration(wake).unwrap_or_default();
        let text =
            format!("{}, took {took} (agimo why {})", shown::ago(wake.at_unix), service.host);
        ("last wake", text)
    }));
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, text): (&str, String)| format!("{name:<width$}   {}\n", shown::clean(&text));
    lines.into_iter().map(line).collect()
}
