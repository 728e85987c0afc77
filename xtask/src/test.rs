//! `cargo xtask test`: everything that must hold before a change is taken, in the order in which a failure is
//! cheapest to learn of. It never goes on after a failed step.

use std::process::Command;
use std::time::Instant;

use crate::{cluster, deny, packages, workspace};

/// One thing that must hold.
struct Step {
    title: &'static str,
    check: fn(filters: &[String]) -> Result<(), String>,
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Request {
    /// As libtest takes them: parts of names.
    filters: Vec<String>,
    on_cluster: OnCluster,
}

/// Whether the tests that need a cluster run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OnCluster {
    Yes,
    /// A filter was given, and most filters want an answer in seconds.
    NotAskedFor,
    LeftOut,
}

/// Beyond this many at once, tests on one node wait for each other's pods.
const TESTS_AT_ONCE: &str = "4";

const PREPARATION: &[Step] = &[Step {
    title: "programs the tests need",
    check: |_| packages::install_missing(&[packages::OF_TESTS]),
}];

const CLUSTER_PREPARATION: &[Step] = &[
    Step { title: "root and Go for the cluster", check: |_| cluster::can_run_here() },
    Step {
        title: "programs a cluster needs",
        check: |_| packages::install_missing(&[packages::OF_CLUSTERS]),
    },
];

const STATIC_CHECKS: &[Step] = &[
    Step { title: "rustfmt and clippy", check: |_| packages::install_components() },
    Step {
        title: "formatting",
        check: |_| subprocess::run(&mut workspace::cargo(&["fmt", "--all", "--check"])),
    },
    Step { title: "lints", check: |_| lints() },
    Step {
        title: "licences, duplicate versions and sources of the dependencies",
        check: |_| deny::check(),
    },
    Step {
        title: "examples in the documentation",
        check: |_| subprocess::run(&mut tests(&["--workspace", "--doc"], &[])),
    },
];

/// Last the largest, so that the output ends with the runner's own count.
const TESTS: &[Step] = &[
    Step {
        title: "unit and property tests, fuzz seeds",
        check: |filters| subprocess::run(&mut tests(&["--workspace", "--lib", "--bins"], filters)),
    },
    Step {
        title: "integration tests",
        check: |filters| {
            subprocess::run(&mut tests(&["--package", "agimo", "--test", "it"], filters))
        },
    },
];

const CLUSTER_TESTS: &[Step] = &[
    Step {
        title: "the test bed (built once from source, about half an hour on two cores)",
        check: |_| subprocess::run(cluster::testbed()?.arg("build")),
    },
    Step { title: "tests on a Kubernetes cluster", check: on_a_cluster },
];

/// With filters only the tests that match, and those on a cluster only when asked for; else everything.
pub(crate) fn test(arguments: &[String]) -> Result<(), String> {
    let request = parse(arguments)?;
    let mut steps: Vec<&Step> = PREPARATION.iter().collect();
    if request.on_cluster == OnCluster::Yes {
        steps.extend(CLUSTER_PREPARATION);
    }
    if request.filters.is_empty() {
        steps.extend(STATIC_CHECKS);
    }
    steps.extend(TESTS);
    if request.on_cluster == OnCluster::Yes {
        steps.extend(CLUSTER_TESTS);
    }

    let started = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        if index + 1 == steps.len() && request.on_cluster == OnCluster::LeftOut {
            println!(
                "\n!! LEFT OUT: every test on a Kubernetes cluster (--no-cluster). This run does not show that"
            );
            println!("!! agimo works on Kubernetes; as root, `cargo xtask test` runs them.");
        }
        let number = format!("{}/{}", index + 1, steps.len());
        println!("\n== {number} {} (at {:.0} s)", step.title, started.elapsed().as_secs_f64());
        let step_started = Instant::now();
        (step.check)(&request.filters)
            .map_err(|reason| format!("{number} {}: {reason}", step.title))?;
        if index + 1 < steps.len() {
            println!("   ok after {:.1} s", step_started.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Request, String> {
    let given = |option: &str| arguments.iter().any(|argument| argument == option);
    let filters: Vec<String> = arguments.iter().filter(|a| !a.starts_with("--")).cloned().collect();
    let on_cluster = match (given("--cluster"), given("--no-cluster")) {
        (true, true) => return Err("--cluster or --no-cluster, not both".to_owned()),
        (true, false) => OnCluster::Yes,
        (false, true) => OnCluster::LeftOut,
        (false, false) if filters.is_empty() => OnCluster::Yes,
        (false, false) => OnCluster::NotAskedFor,
    };
    let known = ["--cluster", "--no-cluster"];
    let unknown = arguments.iter().find(|a| a.starts_with("--") && !known.contains(&a.as_str()));
    match unknown {
        Some(option) => Err(format!("there is no option `{option}`")),
        None => Ok(Request { filters, on_cluster }),
    }
}

fn lints() -> Result<(), String> {
    let mut command =
        workspace::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked"]);
    subprocess::run(command.args(["--", "-D", "warnings"]))
}

fn tests(selection: &[&str], filters: &[String]) -> Command {
    let mut command = workspace::cargo(&["test", "--quiet", "--locked"]);
    command.args(selection).arg("--").args(filters).env("RUST_BACKTRACE", "1");
    command
}

/// Everything is compiled outside, where the network is; only the test binary goes in, as cargo's runner takes it there.
fn on_a_cluster(filters: &[String]) -> Result<(), String> {
    const TARGET: [&str; 4] = ["--package", "agimo", "--test", "cluster"];
    subprocess::run(workspace::cargo(&["test", "--quiet", "--locked", "--no-run"]).args(TARGET))?;
    let agimo = cluster::agimo()?;
    let name = format!("test-{}", std::process::id());
    let logs = workspace::target_folder().join("cluster-logs");

    let testbed = cluster::testbed()?;
    let runner = testbed.get_program().to_string_lossy().into_owned();
    let runner = format!("target.'cfg(unix)'.runner=['{runner}', 'enter', '{name}', '--']");
    let mut tests = tests(&TARGET, filters);
    tests.args(["--test-threads", TESTS_AT_ONCE]);

    // Tied to our life: a run that is killed leaves no cluster.
    let mut command = workspace::program("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(testbed.get_program());
    command.args(["with", &name, "--addons", "--agimo"]).arg(agimo);
    command.arg("--keep-logs").arg(logs).arg("--");
    command.arg(tests.get_program()).args(["--config", &runner]).args(tests.get_args());
    subprocess::run(command.env("RUST_BACKTRACE", "1"))
}

#[cfg(test)]
mod tests_of_the_arguments {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_filter_alone_starts_no_cluster() {
        assert_eq!(parsed("").unwrap().on_cluster, OnCluster::Yes);
        assert_eq!(parsed("hold").unwrap().on_cluster, OnCluster::NotAskedFor);
        let request = parsed("--cluster hold wake").unwrap();
        assert_eq!(request.on_cluster, OnCluster::Yes);
        assert_eq!(request.filters, ["hold", "wake"]);
        assert_eq!(parsed("--no-cluster").unwrap().on_cluster, OnCluster::LeftOut);
    }

    #[test]
    fn contradictions_and_typing_errors_are_refused() {
        assert!(parsed("--cluster --no-cluster").is_err());
        assert!(parsed("--no-clusters").unwrap_err().contains("--no-clusters"));
    }
}
