//! The commands for developers of agimo, one file each. `cargo xtask` lists them.

use std::env;
use std::process::ExitCode;

mod bench;
mod cluster;
mod conformance;
mod deny;
mod docs;
mod fuzz;
mod packages;
mod site;
mod test;
mod workspace;

/// A command: its entry in the usage text, and the function that runs it.
struct Subcommand {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    run: fn(&[String]) -> Result<(), String>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "test",
        arguments: "[--no-cluster] [--cluster] [filter..]",
        summary: "install the programs that the tests need, then run every check and test, including those on a \
                  Kubernetes cluster; with a filter run only the matching tests, on a cluster only with --cluster",
        run: test::test,
    },
    Subcommand {
        name: "cluster",
        arguments: "up|down|status|shell [--name NAME] [--addons] [-- command..]",
        summary: "start, stop and list Kubernetes clusters for manual tests (default name: dev); up --addons also \
                  installs KEDA, Prometheus and kube-state-metrics, shell opens a shell or runs a command inside",
        run: cluster::cluster,
    },
    Subcommand {
        name: "bench",
        arguments: "[argument..]",
        summary: "run the benchmark of agimo, HAProxy and nginx; with --cluster measure cold starts in Kubernetes, with --peers compare with KEDA's HTTP add-on and Knative",
        run: bench::bench,
    },
    Subcommand {
        name: "fuzz",
        arguments: "[target] [seconds]",
        summary: "run the fuzz targets of the parsers (needs nightly and cargo-fuzz); by default all, for 60 s each",
        run: fuzz::fuzz,
    },
    Subcommand {
        name: "docs",
        arguments: "",
        summary: "generate docs/configuration.md, docs/configuration.schema.json and docs/commands.md from the code",
        run: docs::docs,
    },
    Subcommand {
        name: "site",
        arguments: "",
        summary: "build the documentation as a site with mdBook, into target/site/html",
        run: site::site,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(subcommand) = SUBCOMMANDS.iter().find(|s| s.name == name) else {
        eprintln!("xtask: unknown command `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (subcommand.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\nxtask {name}: FAILED: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("cargo xtask <command>: commands for developers of agimo\n");
    for subcommand in SUBCOMMANDS {
        let invocation = format!("{} {}", subcommand.name, subcommand.arguments);
        text.push_str(&format!("\n  {invocation}\n      {}", subcommand.summary));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_text_lists_every_command_once() {
        let text = usage();
        for subcommand in SUBCOMMANDS {
            let lines = text
                .lines()
                .filter(|line| line.trim_start().starts_with(&format!("{} ", subcommand.name)));
            assert_eq!(lines.count(), 1, "{}", subcommand.name);
        }
    }
}
