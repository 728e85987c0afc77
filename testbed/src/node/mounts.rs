//! The node's own view of the file system. Nothing mounted here is seen outside; what the machine has is hidden, never
//! changed.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind};

use crate::files;
use crate::folder::Folder;

/// Machine-wide settings that the kubelet insists on and would write: each is a file that already says so.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Mounts everything; only the node's first process calls this, once.
pub(super) fn set_up(folder: &Folder) -> Result<(), String> {
    // Where it leads before /run is hidden: on many machines it is a link into it.
    let resolv_conf = fs::canonicalize(RESOLV_CONF).unwrap_or_else(|_| RESOLV_CONF.into());
    file_system("proc", Path::new("/proc"))?;
    file_system("tmpfs", Path::new("/run"))?;
    files::create_folder(Path::new("/run/lock"))?;
    for (own, path) in [("var-lib", "/var/lib"), ("var-log", "/var/log")] {
        files::create_folder(&folder.state(own))?;
        over(&folder.state(own), Path::new(path))?;
    }
    for below in ["/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"] {
        files::create_folder(Path::new(below))?;
    }
    let settings = folder.state("settings");
    files::create_folder(&settings)?;
    for (name, value) in SETTINGS {
        let file = settings.join(name.replace('/', "-"));
        files::write(&file, format!("{value}\n"))?;
        over(&file, &Path::new("/proc/sys").join(name))?;
    }
    resolver(folder, &resolv_conf)
}

/// What runs in the node beside the pods asks the cluster's DNS: without it every look-up would wait for a server that
/// cannot be reached from here.
fn resolver(folder: &Folder, path: &Path) -> Result<(), String> {
    let own = folder.config().join("resolv.conf");
    files::create_folder(&folder.config())?;
    // Filled by `config::write`; the mount stays on this very file.
    files::write(&own, super::config::resolv_conf())?;
    if !path.exists() {
        if let Some(parent) = path.parent() {
            files::create_folder(parent)?;
        }
        files::write(path, "")?;
    }
    over(&own, path)
}

fn file_system(kind: &str, on: &Path) -> Result<(), String> {
    mount(kind, on, kind, MountFlags::empty(), None)
        .map_err(|error| format!("mounting {kind} on {}: {error}", on.display()))
}

fn over(own: &Path, path: &Path) -> Result<(), String> {
    mount_bind(own, path)
        .map_err(|error| format!("mounting {} over {}: {error}", own.display(), path.display()))
}
