//! `cargo xtask test`: everything that must hold before a change is taken, in the order in which a failure is
//! cheapest to learn of. It never goes on after a failed step.

use std::process::Command;
use std::time::Instant;

use crate::run::{self, Outcome};
use crate::{deny, packages};

/// One thing that must hold.
struct Step {
    title: &'static str,
    check: fn(filters: &[String]) -> Outcome,
}

const PREPARATION: &[Step] =
    &[Step { title: "programs the tests need", check: |_| packages::install_missing() }];

const STATIC_CHECKS: &[Step] = &[
    Step { title: "rustfmt and clippy", check: |_| packages::install_components() },
    Step {
        title: "formatting",
        check: |_| run::run(&mut run::cargo(&["fmt", "--all", "--check"])),
    },
    Step { title: "lints", check: |_| lints() },
    Step {
        title: "licences, duplicate versions and sources of the dependencies",
        check: |_| deny::check(),
    },
    Step {
        title: "examples in the documentation",
        check: |_| run::run(&mut tests(&["--workspace", "--doc"], &[])),
    },
];

/// Last the largest, so that the output ends with the runner's own count.
const TESTS: &[Step] = &[
    Step {
        title: "unit and property tests, fuzz seeds",
        check: |filters| run::run(&mut tests(&["--workspace", "--lib", "--bins"], filters)),
    },
    Step {
        title: "integration tests",
        check: |filters| run::run(&mut tests(&["--package", "agimo", "--test", "it"], filters)),
    },
];

/// With filters (as libtest takes them: parts of names) only the tests that match; else everything.
pub(crate) fn test(filters: &[String]) -> Outcome {
    let mut steps: Vec<&Step> = PREPARATION.iter().collect();
    if filters.is_empty() {
        steps.extend(STATIC_CHECKS);
    }
    steps.extend(TESTS);

    let started = Instant::now();
    for (index, step) in steps.iter().enumerate() {
        let number = format!("{}/{}", index + 1, steps.len());
        println!("\n== {number} {} (at {:.0} s)", step.title, started.elapsed().as_secs_f64());
        let step_started = Instant::now();
        (step.check)(filters).map_err(|reason| format!("{number} {}: {reason}", step.title))?;
        if index + 1 < steps.len() {
            println!("   ok after {:.1} s", step_started.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

fn lints() -> Outcome {
    let mut command =
        run::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked"]);
    run::run(command.args(["--", "-D", "warnings"]))
}

fn tests(selection: &[&str], filters: &[String]) -> Command {
    let mut command = run::cargo(&["test", "--quiet", "--locked"]);
    command.args(selection).arg("--").args(filters).env("RUST_BACKTRACE", "1");
    command
}
