//! The cgroups of one cluster, in all hierarchies of version 1 or the one of version 2. It touches nothing beside its
//! own groups but, in version 2, the list of controllers that the root hands down.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::files;

const ROOT: &str = "/sys/fs/cgroup";
/// Where the node's own processes are; the kubelet makes the groups of the pods beside it. In version 2 a group that
/// hands controllers down may hold no process itself.
const SYSTEM: &str = "system";
/// What the kubelet asks for in version 2.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// A killed process needs a moment to leave its group.
const PATIENCE: Duration = Duration::from_secs(15);

/// The groups of this name.
pub(super) struct Cgroups {
    name: String,
    hierarchies: Vec<PathBuf>,
    is_version_2: bool,
}

// === impl Cgroups ===

impl Cgroups {
    /// The groups, whether they are there or not.
    pub(super) fn of(name: &str) -> Result<Cgroups, String> {
        let is_version_2 = Path::new(ROOT).join("cgroup.controllers").exists();
        let hierarchies = if is_version_2 {
            vec![PathBuf::from(ROOT)]
        } else {
            version_1_mounts(&files::read(Path::new("/proc/self/mounts"))?)
        };
        if hierarchies.is_empty() {
            return Err(format!("no cgroups are mounted below {ROOT}"));
        }
        Ok(Cgroups { name: name.to_owned(), hierarchies, is_version_2 })
    }

    pub(super) fn create(name: &str) -> Result<Cgroups, String> {
        let cgroups = Cgroups::of(name)?;
        for hierarchy in &cgroups.hierarchies {
            let own = hierarchy.join(name);
            files::create_folder(&own)?;
            if cgroups.is_version_2 {
                hand_controllers_down(hierarchy, &own)?;
            } else if own.join("cpuset.cpus").exists() {
                inherit_cpuset(hierarchy, &own)?;
            }
            files::create_folder(&own.join(SYSTEM))?;
        }
        Ok(cgroups)
    }

    /// Moves this process into them, and with it all that it will start.
    pub(super) fn join(&self) -> Result<(), String> {
        for hierarchy in &self.hierarchies {
            // 0 is the process that writes.
            set(&hierarchy.join(&self.name).join(SYSTEM).join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Removes them as soon as their last process is gone.
    pub(super) fn remove(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut own: Vec<PathBuf> = self.hierarchies.iter().map(|h| h.join(&self.name)).collect();
        // runc makes groups there too on machines that have both versions.
        own.push(Path::new(ROOT).join("unified").join(&self.name));
        loop {
            own.retain(|group| group.exists());
            own.iter().for_each(|group| remove_with_children(group));
            own.retain(|group| group.exists());
            let Some(left) = own.first() else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(format!("{} still holds processes", left.display()));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn version_1_mounts(mounts: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.get(2) == Some(&"cgroup"))
        .filter_map(|fields| fields.get(1).map(PathBuf::from))
        .collect()
}

fn hand_controllers_down(root: &Path, own: &Path) -> Result<(), String> {
    let known = files::read(&root.join("cgroup.controllers"))?;
    for controller in
        CONTROLLERS.iter().filter(|wanted| known.split_whitespace().any(|k| k == **wanted))
    {
        set(&root.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        set(&own.join("cgroup.subtree_control"), &format!("+{controller}"))?;
    }
    Ok(())
}

/// A new cpuset of version 1 is empty, and nothing can run in it.
fn inherit_cpuset(parent: &Path, own: &Path) -> Result<(), String> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        set(&own.join(name), files::read(&parent.join(name))?.trim())?;
    }
    set(&own.join("cgroup.clone_children"), "1")
}

/// Removing a group fails while something is in it; the next round tries again.
fn remove_with_children(group: &Path) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_with_children(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn set(file: &Path, value: &str) -> Result<(), String> {
    fs::write(file, value)
        .map_err(|error| format!("writing `{value}` to {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hierarchies_of_version_1_are_taken() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu 0 0\n";
        assert_eq!(version_1_mounts(mounts), [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")]);
    }
}
