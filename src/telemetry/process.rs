//! The process metrics that Prometheus clients share, read from /proc at each scrape. It keeps nothing.

use std::fs;

use super::{Exposition, Kind, Labels};

/// Writes the `process_*` families; what cannot be read is left out.
pub fn collect(page: &mut Exposition) {
    let none = Labels::default();
    let mut gauge = |name: &str, kind: Kind, help: &str, value: Option<f64>| {
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
    gauge("process_cpu_seconds_total", Kind::Counter, "CPU time spent, user and system.", cpu);
    let page_bytes = rustix::param::page_size() as f64;
    let resident = stat_field(&stat, 24).map(|pages| pages * page_bytes);
    gauge("process_resident_memory_bytes", Kind::Gauge, "Resident memory.", resident);
    gauge("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory.", stat_field(&stat, 23));
    let started = boot_time().zip(stat_field(&stat, 22)).map(|(boot, after)| boot + after / ticks);
    gauge(
        "process_start_time_seconds",
        Kind::Gauge,
        "Start of the process since the epoch.",
        started,
    );
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    gauge("process_open_fds", Kind::Gauge, "Open file descriptors.", open);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    gauge(
        "process_max_fds",
        Kind::Gauge,
        "Most file descriptors allowed.",
        limit.map(|limit| limit as f64),
    );
}

/// Field `number` of proc_pid_stat(5), counted from 1; the command in field 2 may hold spaces.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let after_command = &stat[stat.rfind(')')? + 1..];
    after_command.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
