//! Completions for shells: of commands, options, and the hosts of a running agimo.

use std::ffi::OsStr;
use std::time::Duration;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use crate::api::Services;
use crate::cli::Cli;
use crate::cli::asking::AdminOptions;

use super::client::AdminClient;
use super::run;

/// The variable by which the script of a shell asks for completions.
const VARIABLE: &str = "COMPLETE";
/// Who presses the tabulator waits no longer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The commands that take a host, and the name of the argument.
const WITH_HOST: [(&str, &str); 8] = [
    ("why", "host"),
    ("explain", "request"),
    ("savings", "host"),
    ("tap", "host"),
    ("wake", "host"),
    ("sleep", "host"),
    ("pin", "host"),
    ("unpin", "host"),
];

/// The definition of the command line, with completions for hosts.
pub fn command() -> clap::Command {
    WITH_HOST.into_iter().fold(Cli::command(), |command, (name, argument)| {
        command.mut_subcommand(name, |command| {
            command.mut_arg(argument, |argument| argument.add(ArgValueCompleter::new(hosts)))
        })
    })
}

/// The script that a shell reads at its start.
///
/// # Errors
/// When the shell has no completions.
pub fn script(shell: Shell) -> anyhow::Result<Vec<u8>> {
    let shells = Shells::builtins();
    let completer = shells.completer(&shell.to_string()).context("unknown shell")?;
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "agimo", "agimo", "agimo", &mut script)?;
    Ok(script)
}

/// The hosts of the agimo of this machine, or of the variable `AGIMO_ADMIN`; none where it does not answer.
fn hosts(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = current.to_str() else { return Vec::new() };
    let admin = std::env::var("AGIMO_ADMIN").ok();
    let options = AdminOptions { admin, namespace: None, kube_context: None };
    let services = run(async {
        let asked = async { AdminClient::new(&options).await?.get("services").await };
        let answer: Services = tokio::time::timeout(TIMEOUT, asked).await??;
        Ok(answer.services)
    });
    let name = |path: &str, host: &str| format!("{host}{}", path.trim_end_matches('/'));
    let services = services.unwrap_or_default().into_iter();
    let names = services.map(|service| name(&service.path_prefix, &service.host));
    names.filter(|name| name.starts_with(begun)).map(CompletionCandidate::new).collect()
}
