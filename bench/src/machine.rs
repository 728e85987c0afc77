//! Describes what the figures were measured on, without naming the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::meter::kibibytes;
use crate::scene::Scene;

/// Processor, memory, kernel, the programs' versions and who ran on which core, a line each.
pub(crate) fn describe(scene: &Scene) -> Vec<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of_cpus = |name: &'static str| cpus.lines().filter(move |line| line.starts_with(name));
    let model = of_cpus("model name")
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let count = of_cpus("processor").count();
    let hypervisor = if of_cpus("flags").any(|flags| flags.contains(" hypervisor")) {
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
        match &scene.agimo {
            Some(binary) => format!("agimo: {}", version(binary, &["version"])),
            None => "agimo: not measured (no --agimo)".to_owned(),
        },
    ];
    lines.push(match scene.cores {
        Some(cores) => format!(
            "The proxy alone on core {}, load and origin together on core {}; loopback only",
            cores.proxy, cores.load
        ),
        None => "Only one core: proxy, load and origin share it; loopback only".to_owned(),
    });
    lines
}

/// The first line that the program prints about its version, on whichever stream.
fn version(program: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("unknown").split(" - ").next().unwrap_or_default().to_owned()
}
