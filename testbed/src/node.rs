//! The node's first process: sets up mounts and network in its namespaces, then runs the components of Kubernetes. Its
//! mounts, routes and settings are visible inside the namespaces only.

use std::path::{Path, PathBuf};

use crate::cluster_folder::ClusterFolder;
use crate::files;

mod bring_up;
pub(crate) mod certificates;
pub(crate) mod components;
mod config;
mod mounts;
mod network;
mod supervisor;

pub use bring_up::bring_up;
pub(crate) use bring_up::{import_image, kubectl};

/// The node's name in the cluster.
pub const NAME: &str = "node";
/// The address of the node, the API server and the cluster's DNS. Not a loopback address, because the API server rejects
/// those as endpoints. The same in every cluster, because each has its own network namespace.
pub const ADDRESS: &str = "10.99.0.1";
pub(crate) const POD_NETWORK: &str = "10.244.0.0/24";
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";

/// Turns this process, the first in its PID namespace, into the node. Returns only with an error.
pub fn run(folder: &ClusterFolder) -> Result<(), String> {
    let result = set_up_and_supervise(folder);
    if let Err(reason) = &result {
        files::write(&folder.failed(), reason)?;
    }
    result
}

fn set_up_and_supervise(folder: &ClusterFolder) -> Result<(), String> {
    if std::process::id() != 1 {
        return Err(
            "the node must be the first process of a PID namespace: `testbed up` starts it"
                .to_owned(),
        );
    }
    // /proc still shows the outer PID namespace, so this is the process ID that `nsenter` needs there.
    let outer_id =
        std::fs::read_link("/proc/self").map_err(files::with_path(Path::new("/proc/self")))?;
    mounts::set_up(folder)?;
    network::set_up()?;
    config::write(folder)?;
    certificates::write(folder)?;
    files::write(&folder.node_id(), outer_id.as_os_str().as_encoded_bytes())?;
    supervisor::supervise(folder)
}

/// The value of `PATH` inside the cluster: the cluster's programs, then the system's, including the folders of servers.
pub(crate) fn search_path(folder: &ClusterFolder) -> Result<std::ffi::OsString, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.programs()]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(folders).map_err(|error| format!("PATH: {error}"))
}
