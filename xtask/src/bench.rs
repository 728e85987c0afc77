//! `cargo xtask bench`: builds agimo and the benchmark with the profile `dist` of the image and runs the benchmark of `bench/`.

use std::path::PathBuf;

use crate::{cluster, packages, workspace};

/// Options that select a section for which a cluster is started, and its name: the cold starts in Kubernetes, and the comparison
/// with binaries of KEDA's HTTP add-on and of Knative.
const IN_CLUSTERS: [(&str, &str); 2] = [("--cluster", "cluster"), ("--peers", "peers")];

pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    // Two builds: in one build, cargo would unify the features of agimo with those of the benchmark.
    let agimo = build("agimo")?;
    let bench = build("bench")?;
    let option = |argument: &String| IN_CLUSTERS.iter().find(|(option, _)| argument == option);
    let section = arguments.iter().find_map(option);
    let arguments = arguments.iter().filter(|argument| option(argument).is_none());
    let mut command = workspace::program(&bench.to_string_lossy());
    if let Some((_, section)) = section {
        cluster::check_requirements()?;
        packages::install_missing(packages::FOR_CLUSTERS)?;
        let testbed = cluster::testbed_command()?;
        let name = format!("bench-{}", std::process::id());
        // `testbed with` starts the cluster; `testbed enter` runs the benchmark inside it.
        command = cluster::testbed_command()?;
        command.args(["with", &name, "--agimo"]).arg(&agimo);
        command.arg("--").arg(testbed.get_program()).args(["enter", &name, "--"]);
        command.arg(bench).args(["--only", section]);
    }
    command.arg("--agimo").arg(agimo).args(arguments);
    subprocess::run(&mut command)
}

fn build(package: &str) -> Result<PathBuf, String> {
    let mut build =
        workspace::cargo(&["build", "--profile", "dist", "--locked", "--package", package]);
    workspace::build_executable(&mut build, package)
}
