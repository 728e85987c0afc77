//! Lets a command into a cluster: its processes, network and mounts, with the working directory it had outside.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::files;
use crate::folder::{Folder, VARIABLE};
use crate::node::search_path;

/// Becomes the command, inside. It comes back only with an error.
pub fn enter(folder: &Folder, command: &[OsString]) -> Result<(), String> {
    let mut entered = entering(folder, command)?;
    let error = entered.exec();
    Err(subprocess::start_error(&entered, &error))
}

/// A command that will run inside and end with the cluster.
pub(crate) fn entering(folder: &Folder, command: &[OsString]) -> Result<Command, String> {
    if !super::is_up(folder) {
        return Err(format!(
            "there is no cluster `{0}`: `cargo xtask cluster up --name {0}` starts one",
            folder.name()
        ));
    }
    let node = files::read(&folder.node_id())?;
    let here =
        std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?;
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", node.trim(), "--net", "--mount", "--pid", "--ipc", "--uts"]);
    // Entering a mount namespace would lead to its root.
    let mut at = OsString::from("--wd=");
    at.push(here);
    nsenter.arg(at).arg("--").args(command);
    nsenter.env("PATH", search_path(folder)?);
    nsenter.env("KUBECONFIG", folder.kubeconfig()).env(VARIABLE, folder.path());
    // What kubectl and Helm keep would outlive the cluster in the user's home.
    let kept = folder.state("home");
    nsenter.env("KUBECACHEDIR", kept.join("kubectl"));
    for kind in ["CACHE", "CONFIG", "DATA"] {
        nsenter.env(format!("HELM_{kind}_HOME"), kept.join("helm").join(kind.to_lowercase()));
    }
    Ok(nsenter)
}
