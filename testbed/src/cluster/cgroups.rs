//! The cgroups of one cluster: in every hierarchy of cgroup v1, or in the single hierarchy of cgroup v2. Outside its own
//! groups it changes only, in v2, which controllers the root group delegates.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::files;

const ROOT: &str = "/sys/fs/cgroup";
/// The child group of the node's own processes; the kubelet creates the groups of pods beside it. In cgroup v2, a group
/// that delegates controllers may contain no process itself.
const NODE_GROUP: &str = "system";
/// The controllers that the kubelet requires in cgroup v2.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// A killed process does not leave its group at once.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The groups of one name in every hierarchy.
pub(super) struct Cgroups {
    name: String,
    hierarchies: Vec<PathBuf>,
    is_v2: bool,
}

// === impl Cgroups ===

impl Cgroups {
    /// The groups of this name, whether they exist or not.
    pub(super) fn named(name: &str) -> Result<Cgroups, String> {
        let is_v2 = Path::new(ROOT).join("cgroup.controllers").exists();
        let hierarchies = if is_v2 {
            vec![PathBuf::from(ROOT)]
        } else {
            v1_mounts(&files::read(Path::new("/proc/self/mounts"))?)
        };
        if hierarchies.is_empty() {
            return Err(format!("no cgroups are mounted below {ROOT}"));
        }
        Ok(Cgroups { name: name.to_owned(), hierarchies, is_v2 })
    }

    pub(super) fn create(name: &str) -> Result<Cgroups, String> {
        let cgroups = Cgroups::named(name)?;
        for hierarchy in &cgroups.hierarchies {
            let own = hierarchy.join(name);
            files::create_folder(&own)?;
            if cgroups.is_v2 {
                delegate_controllers(hierarchy, &own)?;
            } else if own.join("cpuset.cpus").exists() {
                inherit_cpuset(hierarchy, &own)?;
            }
            files::create_folder(&own.join(NODE_GROUP))?;
        }
        Ok(cgroups)
    }

    /// Moves this process into the groups. Processes that it starts afterwards are in them too.
    pub(super) fn join(&self) -> Result<(), String> {
        for hierarchy in &self.hierarchies {
            // 0 means the writing process.
            write_value(&hierarchy.join(&self.name).join(NODE_GROUP).join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Removes the groups as soon as their last process has ended.
    pub(super) fn remove(&self) -> Result<(), String> {
        let deadline = Instant::now() + TIMEOUT;
        let mut own: Vec<PathBuf> = self.hierarchies.iter().map(|h| h.join(&self.name)).collect();
        // runc also creates groups there on machines that mount both versions.
        own.push(Path::new(ROOT).join("unified").join(&self.name));
        loop {
            own.retain(|group| group.exists());
            own.iter().for_each(|group| remove_with_children(group));
            own.retain(|group| group.exists());
            let Some(remaining) = own.first() else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(format!("{} still contains processes", remaining.display()));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn v1_mounts(mounts: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.get(2) == Some(&"cgroup"))
        .filter_map(|fields| fields.get(1).map(PathBuf::from))
        .collect()
}

fn delegate_controllers(root: &Path, own: &Path) -> Result<(), String> {
    let available = files::read(&root.join("cgroup.controllers"))?;
    for controller in
        CONTROLLERS.iter().filter(|name| available.split_whitespace().any(|a| a == **name))
    {
        write_value(&root.join("cgroup.subtree_control"), &format!("+{controller}"))?;
        write_value(&own.join("cgroup.subtree_control"), &format!("+{controller}"))?;
    }
    Ok(())
}

/// A new cpuset of cgroup v1 has no CPU and no memory node, so no process can run in it.
fn inherit_cpuset(parent: &Path, own: &Path) -> Result<(), String> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        write_value(&own.join(name), files::read(&parent.join(name))?.trim())?;
    }
    write_value(&own.join("cgroup.clone_children"), "1")
}

/// Removing a group fails while it contains a process; the caller tries again.
fn remove_with_children(group: &Path) {
    if let Ok(entries) = fs::read_dir(group) {
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_with_children(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn write_value(file: &Path, value: &str) -> Result<(), String> {
    fs::write(file, value)
        .map_err(|error| format!("writing `{value}` to {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_v1_hierarchies_are_found() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu 0 0\n";
        assert_eq!(v1_mounts(mounts), [PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")]);
    }
}
