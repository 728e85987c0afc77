//! `cargo xtask cluster`: a cluster of the test bed in the hands of a person. What a cluster is and how it is built is
//! known in `testbed/`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{packages, workspace};

const DEFAULT_NAME: &str = "dev";

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Request {
    what: What,
    name: String,
    addons: bool,
    /// What to run inside in place of a shell.
    command: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Up,
    Down,
    Status,
    Shell,
}

pub(crate) fn cluster(arguments: &[String]) -> Result<(), String> {
    let request = parse(arguments)?;
    let mut command = testbed()?;
    match request.what {
        What::Up => {
            can_run_here()?;
            packages::install_missing(&[packages::OF_CLUSTERS])?;
            command.args(["up", &request.name]);
            command.arg("--agimo").arg(agimo()?);
            if request.addons {
                command.arg("--addons");
            }
        }
        What::Down => {
            command.args(["down", &request.name]);
        }
        What::Status => {
            command.arg("status");
        }
        What::Shell if !request.command.is_empty() => {
            command.args(["enter", &request.name, "--"]).args(&request.command);
        }
        What::Shell => {
            let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            println!("inside cluster `{}`: kubectl and helm are in PATH", request.name);
            command.args(["enter", &request.name, "--"]).arg(shell);
        }
    }
    subprocess::run(&mut command)
}

/// The test bed's program, built if need be.
pub(crate) fn testbed() -> Result<Command, String> {
    let mut build = workspace::cargo(&["build", "--quiet", "--locked", "--package", "testbed"]);
    Ok(workspace::program(&workspace::build_executable(&mut build, "testbed")?.to_string_lossy()))
}

/// Says at once what would otherwise fail after half an hour.
pub(crate) fn can_run_here() -> Result<(), String> {
    const INSTEAD: &str = "or leave the tests on a cluster out with --no-cluster";
    if subprocess::capture(workspace::program("id").arg("-u"))?.trim() != "0" {
        return Err(format!(
            "a cluster needs root for its namespaces and cgroups: become root, {INSTEAD}"
        ));
    }
    if !workspace::is_installed("go") {
        return Err(format!(
            "there is no `go` in PATH, and a cluster is built from source: install Go 1.26.6 or later from \
             https://go.dev/dl, {INSTEAD}"
        ));
    }
    Ok(())
}

/// The agimo that a cluster gets as an image.
pub(crate) fn agimo() -> Result<PathBuf, String> {
    workspace::build_executable(
        &mut workspace::cargo(&["build", "--locked", "--package", "agimo"]),
        "agimo",
    )
}

fn parse(arguments: &[String]) -> Result<Request, String> {
    let mut request = Request {
        what: What::Status,
        name: DEFAULT_NAME.to_owned(),
        addons: false,
        command: Vec::new(),
    };
    let (what, options) = arguments.split_first().ok_or("write up, down, status or shell")?;
    request.what = match what.as_str() {
        "up" => What::Up,
        "down" => What::Down,
        "status" => What::Status,
        "shell" => What::Shell,
        other => return Err(format!("`{other}` is none of up, down, status and shell")),
    };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.as_str() {
            "--name" => request.name.clone_from(options.next().ok_or("--name needs a name")?),
            "--" if request.what == What::Shell => {
                request.command = options.by_ref().cloned().collect()
            }
            "--addons" if request.what == What::Up => request.addons = true,
            other => return Err(format!("`{what}` takes no `{other}`")),
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn name_and_addons_are_optional() {
        let request = parsed("up").unwrap();
        assert_eq!((request.what, request.name.as_str(), request.addons), (What::Up, "dev", false));
        let request = parsed("up --addons --name a").unwrap();
        assert_eq!((request.what, request.name.as_str(), request.addons), (What::Up, "a", true));
        assert_eq!(
            parsed("shell -- kubectl get pods").unwrap().command,
            ["kubectl", "get", "pods"]
        );
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parsed("").is_err());
        assert!(parsed("start").unwrap_err().contains("`start`"));
        assert!(parsed("down --addons").unwrap_err().contains("`--addons`"));
        assert!(parsed("up --name").is_err());
    }
}
