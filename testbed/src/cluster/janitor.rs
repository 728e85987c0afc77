//! Clears away what a cluster leaves behind, however it ended: a process of its own that outlives the keeper, since
//! nobody can clean up after being killed. It ends no process: the namespaces have done that.

use std::fs;
use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use super::cgroup_of;
use super::cgroups::Cgroups;
use crate::files;
use crate::folder::Folder;

const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until standard input ends, which is when the keeper does, then sweeps.
pub fn clean_up(folder: &Folder) -> Result<(), String> {
    let mut nothing = Vec::new();
    io::stdin()
        .read_to_end(&mut nothing)
        .map_err(|error| format!("waiting for the keeper: {error}"))?;
    sweep(folder)
}

/// Removes cgroups and folder. The mounts were the namespace's and are gone with it.
pub(super) fn sweep(folder: &Folder) -> Result<(), String> {
    Cgroups::of(&cgroup_of(folder))?.remove()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The last of the node may still write.
        match fs::remove_dir_all(folder.path()) {
            Ok(()) => return Ok(()),
            Err(_) if !folder.path().exists() => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(files::naming(folder.path())(error));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
