//! The command line of the test bed. People use it through `cargo xtask cluster`; the processes of a cluster are
//! started by it too.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testbed::build::BuildScope;
use testbed::cluster::{self, Cluster};
use testbed::cluster_folder::ClusterFolder;
use testbed::{addons, build, image, node};

mod session;

/// Exit code of a command, or the reason why it failed.
type CommandResult = Result<ExitCode, String>;

const USAGE: &str = "testbed: a single-node Kubernetes cluster in namespaces of its own

  build                                      build every program that is not in the cache (needs the network)
  up NAME [--addons] [--agimo PATH]          start a cluster that runs until `down`
  with NAME [--addons] [--agimo PATH] [--keep-logs FOLDER] -- COMMAND..
                                             start a cluster, run the command outside it, stop the cluster
  enter NAME -- COMMAND..                    run a command inside the cluster; usable as cargo's runner
  addons NAME                                install KEDA, Prometheus and kube-state-metrics
  status                                     list the clusters
  down NAME                                  stop a cluster and remove everything that belongs to it";

/// The arguments after the command's name.
#[derive(Debug, Default, PartialEq)]
struct Arguments {
    name: Option<String>,
    /// Positional arguments after the name.
    further: Vec<String>,
    addons: bool,
    agimo: Option<PathBuf>,
    keep_logs: Option<PathBuf>,
    /// The arguments after `--`.
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let Some(verb) = words.next().and_then(|verb| verb.into_string().ok()) else {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    };
    match parse(words).and_then(|arguments| dispatch(&verb, &arguments)) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("testbed {verb}: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: &str, arguments: &Arguments) -> CommandResult {
    match verb {
        "build" => build::build(BuildScope::ClusterAndAddOns).map(drop),
        "up" => session::up(&arguments.folder()?, arguments.addons, arguments.agimo()),
        "with" => return session::with(&arguments.folder()?, arguments),
        "enter" => cluster::enter(&arguments.folder()?, &arguments.command),
        "addons" => addons::install_into(&arguments.folder()?),
        "status" => session::status(),
        "down" => cluster::down(&arguments.folder()?),
        // The commands below are started by this program only.
        "run-cluster" => {
            let binaries = build::build(BuildScope::Cluster)?;
            Cluster::start(&arguments.folder()?, &binaries, arguments.agimo())?.wait()
        }
        "clean-up" => cluster::clean_up_after_owner(&arguments.folder()?),
        "start-node" => {
            let owner =
                arguments.further.first().ok_or("start-node needs the owner's process ID")?;
            cluster::start_node(&arguments.folder()?, owner)
        }
        "build-image" => {
            let reference = arguments.name.as_deref().ok_or("build-image needs a name")?;
            image::build_in_own_namespace(reference, &arguments.command)
        }
        "node" => node::run(&arguments.folder()?),
        "bring-up" => node::bring_up(&ClusterFolder::from_environment()?),
        "install-addons" => addons::install(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("unknown command\n\n{USAGE}")),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let word = word.into_string().map_err(|word| format!("{word:?} is not UTF-8"))?;
        let mut path = || {
            let path = words.next().ok_or_else(|| format!("{word} requires a path"))?;
            std::path::absolute(path).map_err(|error| format!("{word}: {error}"))
        };
        match word.as_str() {
            "--" => {
                arguments.command = words.collect();
                break;
            }
            "--addons" => arguments.addons = true,
            "--agimo" => arguments.agimo = Some(path()?),
            "--keep-logs" => arguments.keep_logs = Some(path()?),
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ if arguments.name.is_none() => arguments.name = Some(word),
            _ => arguments.further.push(word),
        }
    }
    Ok(arguments)
}

// === impl Arguments ===

impl Arguments {
    fn folder(&self) -> Result<ClusterFolder, String> {
        ClusterFolder::named(self.name.as_deref().ok_or("the name of the cluster is missing")?)
    }

    fn agimo(&self) -> Option<&Path> {
        self.agimo.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn arguments_after_the_double_dash_belong_to_the_command() {
        let arguments = parsed("test --addons --agimo /a -- ls --addons").unwrap();
        assert_eq!(arguments.name.as_deref(), Some("test"));
        assert!(arguments.addons);
        assert_eq!(arguments.agimo(), Some(Path::new("/a")));
        assert_eq!(arguments.command, ["ls", "--addons"]);
    }

    #[test]
    fn errors_name_the_wrong_argument() {
        assert_eq!(parsed("--agimo"), Err("--agimo requires a path".to_owned()));
        assert_eq!(parsed("x --adons"), Err("unknown option --adons".to_owned()));
    }
}
