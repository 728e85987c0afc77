//! `cargo xtask test`: every check and test that a change must pass, cheapest first. It stops at the first failure.

use std::process::Command;
use std::time::Instant;

use crate::{cluster, conformance, deny, packages, site, workspace};

/// A check or a group of tests.
struct Step {
    title: &'static str,
    check: fn(filters: &[String]) -> Result<(), String>,
}

/// The parsed arguments.
#[derive(Debug, PartialEq)]
struct TestArguments {
    /// Filters for libtest: substrings of test names.
    filters: Vec<String>,
    cluster_tests: ClusterTests,
}

/// Whether the tests on a Kubernetes cluster run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ClusterTests {
    Run,
    /// A filter without --cluster: most filtered runs should finish within seconds.
    NotRequested,
    Disabled,
}

/// With more parallel tests, the pods of one test delay those of another on the single node.
const TEST_THREADS: &str = "4";

const PREPARATION: &[Step] = &[Step {
    title: "programs for the tests",
    check: |_| packages::install_missing(packages::FOR_TESTS),
}];

const CLUSTER_PREPARATION: &[Step] = &[
    Step { title: "root and Go for the cluster", check: |_| cluster::check_requirements() },
    Step {
        title: "programs for the cluster",
        check: |_| packages::install_missing(packages::FOR_CLUSTERS),
    },
];

const STATIC_CHECKS: &[Step] = &[
    Step { title: "installation of rustfmt and clippy", check: |_| packages::install_components() },
    Step {
        title: "formatting",
        check: |_| subprocess::run(&mut workspace::cargo(&["fmt", "--all", "--check"])),
    },
    Step { title: "lints", check: |_| lints() },
    Step {
        title: "licences, duplicate versions and sources of the dependencies",
        check: |_| deny::check(),
    },
    Step { title: "the site of the documentation", check: |_| site::build().map(|_| ()) },
    Step {
        title: "examples in the documentation",
        check: |_| subprocess::run(&mut tests(&["--workspace", "--doc"], &[])),
    },
];

/// The largest group is last, so that the output ends with its summary.
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
    // Here, because it needs Go, too.
    Step { title: "conformance to HTTP/2, gRPC and WebSocket", check: conformance::check },
    Step {
        title: "build of the test bed (once, about half an hour on two cores)",
        check: |_| subprocess::run(cluster::testbed_command()?.arg("build")),
    },
    Step { title: "tests on a Kubernetes cluster", check: run_cluster_tests },
];

/// Runs everything or, with filters, the matching tests only.
pub(crate) fn test(arguments: &[String]) -> Result<(), String> {
    let parsed = parse(arguments)?;
    let mut steps: Vec<&Step> = PREPARATION.iter().collect();
    if parsed.cluster_tests == ClusterTests::Run {
        steps.extend(CLUSTER_PREPARATION);
    }
    if parsed.filters.is_empty() {
        steps.extend(STATIC_CHECKS);
    }
    steps.extend(TESTS);
    if parsed.cluster_tests == ClusterTests::Run {
        steps.extend(CLUSTER_TESTS);
    }

    let started = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        if index + 1 == steps.len() && parsed.cluster_tests == ClusterTests::Disabled {
            println!(
                "\n!! SKIPPED: all tests on a Kubernetes cluster (--no-cluster). This run does not show that agimo"
            );
            println!("!! works on Kubernetes; `cargo xtask test`, as root, runs them.");
        }
        let number = format!("{}/{}", index + 1, steps.len());
        println!("\n== {number} {} (at {:.0} s)", step.title, started.elapsed().as_secs_f64());
        let step_started = Instant::now();
        (step.check)(&parsed.filters)
            .map_err(|reason| format!("{number} {}: {reason}", step.title))?;
        if index + 1 < steps.len() {
            println!("   ok after {:.1} s", step_started.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<TestArguments, String> {
    let given = |option: &str| arguments.iter().any(|argument| argument == option);
    let filters: Vec<String> = arguments.iter().filter(|a| !a.starts_with("--")).cloned().collect();
    let cluster_tests = match (given("--cluster"), given("--no-cluster")) {
        (true, true) => return Err("--cluster and --no-cluster exclude each other".to_owned()),
        (true, false) => ClusterTests::Run,
        (false, true) => ClusterTests::Disabled,
        (false, false) if filters.is_empty() => ClusterTests::Run,
        (false, false) => ClusterTests::NotRequested,
    };
    let known = ["--cluster", "--no-cluster"];
    let unknown = arguments.iter().find(|a| a.starts_with("--") && !known.contains(&a.as_str()));
    match unknown {
        Some(option) => Err(format!("unknown option `{option}`")),
        None => Ok(TestArguments { filters, cluster_tests }),
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

/// The tests are compiled outside the cluster, where the network is available. Only the test binary runs inside, because
/// cargo's runner is `testbed enter`.
fn run_cluster_tests(filters: &[String]) -> Result<(), String> {
    const TARGET: [&str; 4] = ["--package", "agimo", "--test", "cluster"];
    subprocess::run(workspace::cargo(&["test", "--quiet", "--locked", "--no-run"]).args(TARGET))?;
    let agimo = cluster::build_agimo()?;
    let name = format!("test-{}", std::process::id());
    let logs = workspace::target_folder().join("cluster-logs");

    let testbed = cluster::testbed_command()?;
    let runner = testbed.get_program().to_string_lossy().into_owned();
    let runner = format!("target.'cfg(unix)'.runner=['{runner}', 'enter', '{name}', '--']");
    let mut tests = tests(&TARGET, filters);
    tests.args(["--test-threads", TEST_THREADS]);

    // The kernel kills `testbed with` when this process ends, so that a killed run leaves no cluster behind.
    let mut command = workspace::program("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(testbed.get_program());
    command.args(["with", &name, "--addons", "--agimo"]).arg(agimo);
    command.arg("--keep-logs").arg(logs).arg("--");
    command.arg(tests.get_program()).args(["--config", &runner]).args(tests.get_args());
    subprocess::run(command.env("RUST_BACKTRACE", "1"))
}

#[cfg(test)]
mod argument_tests {
    use super::*;

    fn parse_line(line: &str) -> Result<TestArguments, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_filter_alone_starts_no_cluster() {
        assert_eq!(parse_line("").unwrap().cluster_tests, ClusterTests::Run);
        assert_eq!(parse_line("hold").unwrap().cluster_tests, ClusterTests::NotRequested);
        let parsed = parse_line("--cluster hold wake").unwrap();
        assert_eq!(parsed.cluster_tests, ClusterTests::Run);
        assert_eq!(parsed.filters, ["hold", "wake"]);
        assert_eq!(parse_line("--no-cluster").unwrap().cluster_tests, ClusterTests::Disabled);
    }

    #[test]
    fn contradictory_and_unknown_options_are_rejected() {
        assert!(parse_line("--cluster --no-cluster").is_err());
        assert!(parse_line("--no-clusters").unwrap_err().contains("--no-clusters"));
    }
}
