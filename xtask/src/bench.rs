//! `cargo xtask bench`: builds what is measured and what measures, then measures. The measuring is in `bench/`.

use std::path::PathBuf;

use crate::{cluster, packages, workspace};

/// Asks for the cold starts in a cluster, for which one is started.
const ON_A_CLUSTER: &str = "--cluster";

pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    // Two builds, so that agimo is measured with the features its users get and not with those of bench besides.
    let agimo = built("agimo")?;
    let bench = built("bench")?;
    let (on_a_cluster, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == ON_A_CLUSTER);
    let mut command = workspace::program(&bench.to_string_lossy());
    if !on_a_cluster.is_empty() {
        cluster::can_run_here()?;
        packages::install_missing(&[packages::OF_CLUSTERS])?;
        let testbed = cluster::testbed()?;
        let name = format!("bench-{}", std::process::id());
        // The cluster is started outside and the benchmark run inside of it.
        command = cluster::testbed()?;
        command.args(["with", &name, "--"]).arg(testbed.get_program()).args(["enter", &name, "--"]);
        command.arg(bench).args(["--only", "cluster"]);
    }
    command.arg("--agimo").arg(agimo).args(arguments);
    subprocess::run(&mut command)
}

fn built(package: &str) -> Result<PathBuf, String> {
    let mut build = workspace::cargo(&["build", "--release", "--locked", "--package", package]);
    workspace::build_executable(&mut build, package)
}
