//! `cargo xtask cluster`: starts, lists and stops clusters of the test bed for manual use, and opens a shell in them.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{packages, workspace};

const DEFAULT_NAME: &str = "dev";

/// The parsed arguments.
#[derive(Debug, PartialEq)]
struct ClusterArguments {
    action: Action,
    name: String,
    addons: bool,
    /// The command that `shell` runs in place of a shell.
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Up,
    Down,
    Status,
    Shell,
}

pub(crate) fn cluster(arguments: &[String]) -> Result<(), String> {
    let parsed = parse(arguments)?;
    let mut command = testbed_command()?;
    match parsed.action {
        Action::Up => {
            check_requirements()?;
            packages::install_missing(packages::FOR_CLUSTERS)?;
            command.args(["up", &parsed.name]);
            command.arg("--agimo").arg(build_agimo()?);
            if parsed.addons {
                command.arg("--addons");
            }
        }
        Action::Down => {
            command.args(["down", &parsed.name]);
        }
        Action::Status => {
            command.arg("status");
        }
        Action::Shell if !parsed.command.is_empty() => {
            command.args(["enter", &parsed.name, "--"]).args(&parsed.command);
        }
        Action::Shell => {
            let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            println!("shell in cluster `{}`; kubectl and helm are in PATH", parsed.name);
            command.args(["enter", &parsed.name, "--"]).arg(shell);
        }
    }
    subprocess::run(&mut command)
}

/// The command that runs the test bed, after building it.
pub(crate) fn testbed_command() -> Result<Command, String> {
    let mut build = workspace::cargo(&["build", "--quiet", "--locked", "--package", "testbed"]);
    Ok(workspace::program(&workspace::build_executable(&mut build, "testbed")?.to_string_lossy()))
}

/// Checks what a cluster needs before half an hour is spent on building it.
pub(crate) fn check_requirements() -> Result<(), String> {
    const ALTERNATIVE: &str = "or skip the cluster tests with --no-cluster";
    if subprocess::capture(workspace::program("id").arg("-u"))?.trim() != "0" {
        return Err(format!(
            "a cluster needs root for its namespaces and cgroups: run this as root, {ALTERNATIVE}"
        ));
    }
    if !workspace::is_installed("go") {
        return Err(format!(
            "there is no `go` in PATH, and a cluster is built from source: install Go 1.26.6 or later from \
             https://go.dev/dl, {ALTERNATIVE}"
        ));
    }
    Ok(())
}

/// Builds the agimo binary whose image a cluster gets, and returns its path.
pub(crate) fn build_agimo() -> Result<PathBuf, String> {
    workspace::build_executable(
        &mut workspace::cargo(&["build", "--locked", "--package", "agimo"]),
        "agimo",
    )
}

fn parse(arguments: &[String]) -> Result<ClusterArguments, String> {
    let mut parsed = ClusterArguments {
        action: Action::Status,
        name: DEFAULT_NAME.to_owned(),
        addons: false,
        command: Vec::new(),
    };
    let (action, options) =
        arguments.split_first().ok_or("the action is missing: up, down, status or shell")?;
    parsed.action = match action.as_str() {
        "up" => Action::Up,
        "down" => Action::Down,
        "status" => Action::Status,
        "shell" => Action::Shell,
        other => return Err(format!("unknown action `{other}`: use up, down, status or shell")),
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.as_str() {
            "--name" => parsed.name.clone_from(options.next().ok_or("--name requires a name")?),
            "--" if parsed.action == Action::Shell => {
                parsed.command = options.by_ref().cloned().collect()
            }
            "--addons" if parsed.action == Action::Up => parsed.addons = true,
            other => return Err(format!("`{action}` does not accept `{other}`")),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<ClusterArguments, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn name_and_addons_are_optional() {
        let parsed = parse_line("up").unwrap();
        assert_eq!(
            (parsed.action, parsed.name.as_str(), parsed.addons),
            (Action::Up, "dev", false)
        );
        let parsed = parse_line("up --addons --name a").unwrap();
        assert_eq!((parsed.action, parsed.name.as_str(), parsed.addons), (Action::Up, "a", true));
        assert_eq!(
            parse_line("shell -- kubectl get pods").unwrap().command,
            ["kubectl", "get", "pods"]
        );
    }

    #[test]
    fn errors_name_the_wrong_argument() {
        assert!(parse_line("").is_err());
        assert!(parse_line("start").unwrap_err().contains("`start`"));
        assert!(parse_line("down --addons").unwrap_err().contains("`--addons`"));
        assert!(parse_line("up --name").is_err());
    }
}
