//! What a run says, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Run;

/// A summary for people, and when the number of replicas changes.
pub fn text(run: &Run) -> String {
    let mut text = String::new();
    let mean = if run.held_requests > 0.0 { run.held_seconds / run.held_requests } else { 0.0 };
    let (used, saved) = (run.replica_hours(), run.saved_hours());
    // Writing to a String does not fail.
    let _ = writeln!(text, "time simulated    {}", clock(run.seconds.len()));
    let _ = writeln!(text, "cold starts       {}", run.cold_starts);
    let _ =
        writeln!(text, "requests held     {:.0}, for {mean:.1} s on average", run.held_requests);
    let _ = writeln!(text, "held seconds      {:.0}", run.held_seconds);
    let _ = writeln!(text, "peak replicas     {}", run.peak());
    let _ =
        writeln!(text, "replica-hours     {used:.2}, {saved:.2} less than the peak all the time");
    let _ = writeln!(text, "\nreplicas over time");
    for (at, replicas) in run.changes() {
        let _ = writeln!(text, "{:>12}  {replicas}", clock(at));
    }
    text
}

/// The same for programs, with every second.
pub fn json(run: &Run) -> Value {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let seconds = run.seconds.iter().map(|second| {
        json!([round(second.arrivals), round(second.concurrency), second.replicas, second.ready])
    });
    json!({
        "seconds_simulated": run.seconds.len(),
        "cold_starts": run.cold_starts,
        "held_requests": round(run.held_requests),
        "held_seconds": round(run.held_seconds),
        "peak_replicas": run.peak(),
        "replica_hours": round(run.replica_hours()),
        "saved_replica_hours": round(run.saved_hours()),
        "columns": ["arrivals", "concurrency", "replicas", "ready"],
        "seconds": seconds.collect::<Vec<_>>(),
    })
}

/// Hours, minutes and seconds.
fn clock(seconds: usize) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
