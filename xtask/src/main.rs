//! The project's own commands, one file each: `cargo xtask` lists them. Nothing here is part of what users run.

use std::env;
use std::process::ExitCode;

mod bench;
mod cluster;
mod deny;
mod docs;
mod fuzz;
mod packages;
mod test;
mod workspace;

/// A command as the list shows it and as the dispatcher calls it.
struct Subcommand {
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    call: fn(&[String]) -> Result<(), String>,
}

const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "test",
        arguments: "[--no-cluster] [--cluster] [filter..]",
        summary: "install what the tests need, then every check and test, those on a real cluster included; with a \
                  filter only the tests it matches, and on a cluster only with --cluster",
        call: test::test,
    },
    Subcommand {
        name: "cluster",
        arguments: "up|down|status|shell [--name NAME] [--addons] [-- command..]",
        summary: "a Kubernetes cluster to try things on, named dev by default; up --addons brings KEDA, Prometheus \
                  and kube-state-metrics, shell -- runs a command inside",
        call: cluster::cluster,
    },
    Subcommand {
        name: "bench",
        arguments: "[argument..]",
        summary: "build in release and measure beside HAProxy and nginx; with --cluster cold starts in Kubernetes",
        call: bench::bench,
    },
    Subcommand {
        name: "fuzz",
        arguments: "[target] [seconds]",
        summary: "feed the parsers made-up input (needs nightly and cargo-fuzz); every target, 60 s each, by default",
        call: fuzz::fuzz,
    },
    Subcommand {
        name: "docs",
        arguments: "",
        summary: "write docs/configuration.md and docs/configuration.schema.json anew from the code",
        call: docs::docs,
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
        eprintln!("xtask: there is no `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (subcommand.call)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\nxtask {name}: FAILED: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("cargo xtask <command>: what the project does with itself\n");
    for subcommand in SUBCOMMANDS {
        let call = format!("{} {}", subcommand.name, subcommand.arguments);
        text.push_str(&format!("\n  {call}\n      {}", subcommand.summary));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_command_once() {
        let text = usage();
        for subcommand in SUBCOMMANDS {
            let lines = text
                .lines()
                .filter(|line| line.trim_start().starts_with(&format!("{} ", subcommand.name)));
            assert_eq!(lines.count(), 1, "{}", subcommand.name);
        }
    }
}
