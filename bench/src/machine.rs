//! Describes the hardware and software of a measurement, without the name of the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::environment::Environment;
use crate::process_stats::kibibytes;

/// Processor, memory, kernel, program versions and the assignment of cores, one line each.
pub(crate) fn describe(environment: &Environment) -> Vec<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu_lines = |name: &'static str| cpus.lines().filter(move |line| line.starts_with(name));
    let model = cpu_lines("model name")
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let count = cpu_lines("processor").count();
    let hypervisor = if cpu_lines("flags").any(|flags| flags.contains(" hypervisor")) {
        ", in a virtual machine"
    } else {
        ""
    };
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gibibytes = kibibytes(&memory, "MemTotal:").unwrap_or(0) as f64 / f64::from(1 << 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().split('-').next().unwrap_or("unknown");

    let mut lines = vec![
        format!(
            "CPU: {model}, {count} cores{hypervisor}; {gibibytes:.0} GiB of memory; Linux {kernel}"
        ),
        format!("HAProxy: {}", version(Path::new("haproxy"), &["-v"])),
        format!("nginx: {}", version(Path::new("nginx"), &["-v"])),
        match &environment.agimo {
            Some(binary) => format!("agimo: {}", version(binary, &["version"])),
            None => "agimo: not measured (no --agimo)".to_owned(),
        },
    ];
    lines.push(match environment.cores {
        Some(cores) => format!(
            "The proxy runs alone on core {}; load generator and origin share core {}; loopback only",
            cores.proxy, cores.load
        ),
        None => "One core, shared by proxy, load generator and origin; loopback only".to_owned(),
    });
    lines
}

/// The first line of the version output of a program, from standard output or standard error.
fn version(program: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").split(" - ").next().unwrap_or_default().to_owned()
}
