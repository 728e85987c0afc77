//! Removes what a cluster leaves behind, however it ended. It runs in a process of its own that outlives the owner,
//! because a killed owner cannot clean up. It kills no process: the end of the PID namespace has done that.

use std::fs;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use super::cgroup_name;
use super::cgroups::Cgroups;
use crate::cluster_folder::ClusterFolder;
use crate::files;

const TIMEOUT: Duration = Duration::from_secs(15);

/// Waits until standard input is closed, which happens when the owner ends, then removes the remains of the cluster.
pub fn clean_up_after_owner(folder: &ClusterFolder) -> Result<(), String> {
    let mut discarded = Vec::new();
    io::stdin()
        .read_to_end(&mut discarded)
        .map_err(|error| format!("waiting for the cluster's owner: {error}"))?;
    remove_remains(folder)
}

/// Removes the cgroups and the folder. The mounts disappeared with their namespace.
pub(super) fn remove_remains(folder: &ClusterFolder) -> Result<(), String> {
    Cgroups::named(&cgroup_name(folder))?.remove()?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        // The last processes of the node may still write files.
        match fs::remove_dir_all(folder.path()) {
            Ok(()) => return Ok(()),
            Err(_) if !folder.path().exists() => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(files::with_path(folder.path())(error));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
