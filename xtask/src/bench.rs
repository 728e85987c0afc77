//! `cargo xtask bench`: builds agimo and the benchmark in release mode and runs the benchmark of `bench/`.

use std::path::PathBuf;

use crate::{cluster, packages, workspace};

/// Selects the cold starts in Kubernetes; a cluster is started for them.
const CLUSTER_OPTION: &str = "--cluster";

pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    // Two builds: in one build, cargo would unify the features of agimo with those of the benchmark.
    let agimo = build_release("agimo")?;
    let bench = build_release("bench")?;
    let (cluster_options, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == CLUSTER_OPTION);
    let mut command = workspace::program(&bench.to_string_lossy());
    if !cluster_options.is_empty() {
        cluster::check_requirements()?;
        packages::install_missing(packages::FOR_CLUSTERS)?;
        let testbed = cluster::testbed_command()?;
        let name = format!("bench-{}", std::process::id());
        // `testbed with` starts the cluster; `testbed enter` runs the benchmark inside it.
        command = cluster::testbed_command()?;
        command.args(["with", &name, "--agimo"]).arg(&agimo);
        command.arg("--").arg(testbed.get_program()).args(["enter", &name, "--"]);
        command.arg(bench).args(["--only", "cluster"]);
    }
    command.arg("--agimo").arg(agimo).args(arguments);
    subprocess::run(&mut command)
}

fn build_release(package: &str) -> Result<PathBuf, String> {
    let mut build = workspace::cargo(&["build", "--release", "--locked", "--package", package]);
    workspace::build_executable(&mut build, package)
}
