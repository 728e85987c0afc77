//! Runs a command inside a cluster: in its PID, network, mount, IPC and UTS namespaces, with the working directory that
//! it has outside.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cluster_folder::{ClusterFolder, FOLDER_VARIABLE};
use crate::files;
use crate::node::search_path;

/// Replaces this process by the command inside the cluster. Returns only if that fails.
pub fn enter(folder: &ClusterFolder, command: &[OsString]) -> Result<(), String> {
    let mut nsenter = command_inside(folder, command)?;
    let error = nsenter.exec();
    Err(subprocess::start_error(&nsenter, &error))
}

/// The command that runs `command` inside the cluster. Its process is killed when the cluster stops.
pub(crate) fn command_inside(
    folder: &ClusterFolder,
    command: &[OsString],
) -> Result<Command, String> {
    if !super::is_up(folder) {
        return Err(format!(
            "there is no cluster `{0}`: `cargo xtask cluster up --name {0}` starts it",
            folder.name()
        ));
    }
    let node = files::read(&folder.node_id())?;
    let working_directory =
        std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?;
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", node.trim(), "--net", "--mount", "--pid", "--ipc", "--uts"]);
    // Entering a mount namespace sets the working directory to its root.
    let mut option = OsString::from("--wd=");
    option.push(working_directory);
    nsenter.arg(option).arg("--").args(command);
    nsenter.env("PATH", search_path(folder)?);
    nsenter.env("KUBECONFIG", folder.kubeconfig()).env(FOLDER_VARIABLE, folder.path());
    // The caches of kubectl and Helm in the user's home would outlive the cluster.
    let home = folder.state("home");
    nsenter.env("KUBECACHEDIR", home.join("kubectl"));
    for kind in ["CACHE", "CONFIG", "DATA"] {
        nsenter.env(format!("HELM_{kind}_HOME"), home.join("helm").join(kind.to_lowercase()));
    }
    Ok(nsenter)
}
