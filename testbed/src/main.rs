//! The command line of the test bed: for people by way of `cargo xtask cluster`, and for the processes that a cluster
//! consists of, which are this same program. It decides nothing.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use testbed::build::Extent;
use testbed::cluster::{self, Cluster, Wanted};
use testbed::folder::Folder;
use testbed::{addons, build, image, node};

mod session;

/// What a command ends with; most have no status of their own.
type Ended = Result<ExitCode, String>;

const USAGE: &str = "testbed: a Kubernetes cluster of one node in namespaces of its own

  build                                      build what is not built yet (needs the network)
  up NAME [--addons] [--agimo PATH]          start a cluster that stays
  with NAME [--addons] [--agimo PATH] [--keep-logs FOLDER] -- COMMAND..
                                             start a cluster, run the command outside, end the cluster
  enter NAME -- COMMAND..                    run a command inside; also as cargo's runner
  addons NAME                                install KEDA, Prometheus and kube-state-metrics
  status                                     list the clusters
  down NAME                                  end a cluster";

/// The words after the command's name.
#[derive(Debug, Default, PartialEq)]
struct Arguments {
    name: Option<String>,
    rest: Vec<String>,
    addons: bool,
    agimo: Option<PathBuf>,
    keep_logs: Option<PathBuf>,
    /// What stands after `--`.
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

fn dispatch(verb: &str, arguments: &Arguments) -> Ended {
    match verb {
        "build" => build::build(Extent::WithAddOns).map(drop),
        "up" => session::up(&arguments.folder()?, arguments.addons, arguments.agimo()),
        "with" => return session::with(&arguments.folder()?, arguments),
        "enter" => cluster::enter(&arguments.folder()?, &arguments.command),
        "addons" => addons::install_into(&arguments.folder()?),
        "status" => session::status(),
        "down" => cluster::down(&arguments.folder()?),
        // From here on, what the program starts itself.
        "keep" => {
            let wanted = Wanted { agimo: arguments.agimo() };
            Cluster::start(&arguments.folder()?, &build::build(Extent::Cluster)?, &wanted)?.keep()
        }
        "clean-up" => cluster::clean_up(&arguments.folder()?),
        "launch" => {
            let keeper = arguments.rest.first().ok_or("launch needs the keeper's number")?;
            cluster::launch(&arguments.folder()?, keeper)
        }
        "build-image" => {
            let reference = arguments.name.as_deref().ok_or("build-image needs a name")?;
            image::build_alone(reference, &arguments.command)
        }
        "node" => node::run(&arguments.folder()?),
        "bring-up" => node::bring_up(&Folder::around_us()?),
        "install-addons" => addons::install(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("there is no such command\n\n{USAGE}")),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let word = word.into_string().map_err(|word| format!("{word:?} is not UTF-8"))?;
        let mut path = || {
            let path = words.next().ok_or_else(|| format!("{word} needs a path"))?;
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
            _ if word.starts_with('-') => return Err(format!("there is no option {word}")),
            _ if arguments.name.is_none() => arguments.name = Some(word),
            _ => arguments.rest.push(word),
        }
    }
    Ok(arguments)
}

// === impl Arguments ===

impl Arguments {
    fn folder(&self) -> Result<Folder, String> {
        Folder::of(self.name.as_deref().ok_or("which cluster? write its name")?)
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
    fn what_stands_after_the_dashes_belongs_to_the_command() {
        let arguments = parsed("test --addons --agimo /a -- ls --addons").unwrap();
        assert_eq!(arguments.name.as_deref(), Some("test"));
        assert!(arguments.addons);
        assert_eq!(arguments.agimo(), Some(Path::new("/a")));
        assert_eq!(arguments.command, ["ls", "--addons"]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(parsed("--agimo"), Err("--agimo needs a path".to_owned()));
        assert_eq!(parsed("x --adons"), Err("there is no option --adons".to_owned()));
    }
}
