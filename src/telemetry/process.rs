//! The standard `process_*` metrics of Prometheus client libraries, read from /proc at each scrape.

use std::fs;

use super::{Exposition, Labels, MetricKind};

/// Writes the `process_*` families. Values that cannot be read are left out.
pub fn collect(page: &mut Exposition) {
    let none = Labels::default();
    let mut write = |name: &str, kind: MetricKind, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            page.family(name, kind, help);
            page.sample(&none, value);
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = stat_field(&stat, 14)
        .zip(stat_field(&stat, 15))
        .map(|(user, system)| (user + system) / ticks);
    write("process_cpu_seconds_total", MetricKind::Counter, "User and system CPU time.", cpu);
    let page_bytes = rustix::param::page_size() as f64;
    let resident = stat_field(&stat, 24).map(|pages| pages * page_bytes);
    write("process_resident_memory_bytes", MetricKind::Gauge, "Resident memory.", resident);
    write(
        "process_virtual_memory_bytes",
        MetricKind::Gauge,
        "Virtual memory.",
        stat_field(&stat, 23),
    );
    let started = boot_time().zip(stat_field(&stat, 22)).map(|(boot, after)| boot + after / ticks);
    write(
        "process_start_time_seconds",
        MetricKind::Gauge,
        "Start time of the process since the Unix epoch.",
        started,
    );
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    write("process_open_fds", MetricKind::Gauge, "Open file descriptors.", open);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    write(
        "process_max_fds",
        MetricKind::Gauge,
        "Maximum number of open file descriptors.",
        limit.map(|limit| limit as f64),
    );
}

/// Field `number` of proc_pid_stat(5), counted from 1. The command in field 2 may contain spaces.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    after_command.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// Seconds since the Unix epoch.
fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
