//! The node's first process: makes its namespaces into a machine, then keeps the parts of Kubernetes running. What it
//! mounts, routes and sets is seen inside the namespaces only.

use std::path::{Path, PathBuf};

use crate::files;
use crate::folder::Folder;

mod bring_up;
mod certificates;
mod config;
mod mounts;
mod network;
pub(crate) mod parts;
mod supervisor;

pub use bring_up::bring_up;
pub(crate) use bring_up::{import, kubectl};

/// The node's name in the cluster.
pub const NAME: &str = "node";
/// The node's address, and that of the API server and of the cluster's DNS. Not a loopback address: the API server
/// refuses those as endpoints. The same in every cluster, for each has a network of its own.
pub const ADDRESS: &str = "10.99.0.1";
pub(crate) const POD_NETWORK: &str = "10.244.0.0/24";
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";

/// Makes this process, the first in its PID namespace, into the node. It comes back only with an error.
pub fn run(folder: &Folder) -> Result<(), String> {
    let result = live(folder);
    if let Err(reason) = &result {
        files::write(&folder.failed(), reason)?;
    }
    result
}

fn live(folder: &Folder) -> Result<(), String> {
    if std::process::id() != 1 {
        return Err(
            "the node has to be the first process of a PID namespace: `testbed up`".to_owned()
        );
    }
    // /proc still shows the namespace outside, so this is the number by which to enter from there.
    let outside =
        std::fs::read_link("/proc/self").map_err(files::naming(Path::new("/proc/self")))?;
    mounts::set_up(folder)?;
    network::set_up()?;
    config::write(folder)?;
    certificates::write(folder)?;
    files::write(&folder.node_id(), outside.as_os_str().as_encoded_bytes())?;
    supervisor::supervise(folder)
}

/// Where programs are looked for inside: the cluster's own first, then the system's, servers included.
pub(crate) fn search_path(folder: &Folder) -> Result<std::ffi::OsString, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.programs()]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    std::env::join_paths(folders).map_err(|error| format!("PATH: {error}"))
}
