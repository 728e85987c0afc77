//! The mounts of the node's mount namespace. They are not visible outside; they hide files of the machine and never change
//! them.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind};

use crate::cluster_folder::ClusterFolder;
use crate::files;

/// Kernel parameters that are not namespaced and that the kubelet would set. A file with the required value is mounted
/// over each, so that the kubelet leaves the machine unchanged.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Mounts everything. Called once, by the node's first process.
pub(super) fn set_up(folder: &ClusterFolder) -> Result<(), String> {
    // Resolved before /run is hidden, because it is often a symbolic link into /run.
    let resolv_conf = fs::canonicalize(RESOLV_CONF).unwrap_or_else(|_| RESOLV_CONF.into());
    mount_file_system("proc", Path::new("/proc"))?;
    mount_file_system("tmpfs", Path::new("/run"))?;
    files::create_folder(Path::new("/run/lock"))?;
    for (state, path) in [("var-lib", "/var/lib"), ("var-log", "/var/log")] {
        files::create_folder(&folder.state(state))?;
        bind_over(&folder.state(state), Path::new(path))?;
    }
    for path in ["/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"] {
        files::create_folder(Path::new(path))?;
    }
    let settings = folder.state("settings");
    files::create_folder(&settings)?;
    for (name, value) in SYSCTLS {
        let file = settings.join(name.replace('/', "-"));
        files::write(&file, format!("{value}\n"))?;
        bind_over(&file, &Path::new("/proc/sys").join(name))?;
    }
    mount_resolv_conf(folder, &resolv_conf)
}

/// Makes processes of the node use the cluster's DNS: the machine's DNS servers are unreachable from here, so that every
/// lookup would time out.
fn mount_resolv_conf(folder: &ClusterFolder, path: &Path) -> Result<(), String> {
    let source = folder.config().join("resolv.conf");
    files::create_folder(&folder.config())?;
    files::write(&source, super::config::resolv_conf())?;
    if !path.exists() {
        if let Some(parent) = path.parent() {
            files::create_folder(parent)?;
        }
        files::write(path, "")?;
    }
    bind_over(&source, path)
}

fn mount_file_system(kind: &str, on: &Path) -> Result<(), String> {
    mount(kind, on, kind, MountFlags::empty(), None)
        .map_err(|error| format!("mounting {kind} on {}: {error}", on.display()))
}

fn bind_over(source: &Path, path: &Path) -> Result<(), String> {
    mount_bind(source, path)
        .map_err(|error| format!("mounting {} over {}: {error}", source.display(), path.display()))
}
