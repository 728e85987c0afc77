//! A cluster seen from outside: starts the node in its own namespaces, runs commands inside them, and removes everything
//! afterwards. What the node does inside is in `node.rs`.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::build::{BuiltBinaries, RequiredBy};
use crate::cluster_folder::ClusterFolder;
use crate::{files, image};
use cgroups::Cgroups;

mod cgroups;
mod cleanup;
mod enter;

pub use cleanup::clean_up_after_owner;
pub(crate) use enter::command_inside;
pub use enter::enter;

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Longer than the sum of the usual step durations; each step of the bring-up has a shorter timeout of its own.
const START_TIMEOUT: Duration = Duration::from_secs(300);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running cluster, owned by this process. It stops when this value is dropped and when the process ends in any way.
#[derive(Debug)]
pub struct Cluster {
    folder: ClusterFolder,
    node: Child,
    /// The clean-up process begins when this is closed.
    cleanup_stdin: Option<ChildStdin>,
    cleanup: Child,
}

/// The name of the cgroup, in every hierarchy, in which all processes of this cluster run.
pub(crate) fn cgroup_name(folder: &ClusterFolder) -> String {
    format!("agimo-testbed-{}", folder.name())
}

// === impl Cluster ===

impl Cluster {
    /// Starts the cluster, prints the progress and returns when the cluster is ready for use. If `agimo` is the path of
    /// an agimo binary, the node gets an image of it.
    pub fn start(
        folder: &ClusterFolder,
        binaries: &BuiltBinaries,
        agimo: Option<&Path>,
    ) -> Result<Cluster, String> {
        require_root()?;
        let lock = create_locked_folder(folder)?;
        let mut cluster =
            Cluster::start_processes(folder, lock, |folder| fill_folder(folder, binaries, agimo))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while !folder.up().exists() {
            if let Ok(reason) = fs::read_to_string(folder.failed()) {
                return Err(cluster.keep_logs_of_failure(&reason));
            }
            if let Ok(Some(status)) = cluster.node.try_wait() {
                return Err(cluster.keep_logs_of_failure(&format!("the node ended with {status}")));
            }
            if Instant::now() > deadline {
                let reason = format!("the cluster is not up after {} s", START_TIMEOUT.as_secs());
                return Err(cluster.keep_logs_of_failure(&reason));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(cluster)
    }

    pub fn folder(&self) -> &ClusterFolder {
        &self.folder
    }

    /// Waits until the node ends, which is always an error: a cluster is stopped by ending its owner.
    pub fn wait(mut self) -> Result<(), String> {
        let status = self.node.wait().map_err(|error| format!("waiting for the node: {error}"))?;
        Err(format!("the node ended with {status}"))
    }

    fn start_processes(
        folder: &ClusterFolder,
        lock: File,
        fill_folder: impl FnOnce(&ClusterFolder) -> Result<(), String>,
    ) -> Result<Cluster, String> {
        let testbed =
            std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
        // The clean-up process is the first to start, so that it also removes what a failed start leaves behind.
        let mut cleanup = Command::new(&testbed);
        cleanup.arg("clean-up").arg(folder.name()).process_group(0);
        // It inherits the locked file as its standard output and so holds the lock until everything is removed.
        cleanup.stdin(Stdio::piped()).stdout(lock);
        let mut cleanup = cleanup.spawn().map_err(|e| format!("testbed clean-up: {e}"))?;
        let cleanup_stdin = cleanup.stdin.take();

        files::write(&folder.owner_id(), std::process::id().to_string())?;
        fill_folder(folder)?;
        Cgroups::create(&cgroup_name(folder))?;
        let mut node = Command::new(&testbed);
        node.arg("start-node").arg(folder.name()).arg(std::process::id().to_string());
        node.stdin(Stdio::null());
        let node = node.spawn().map_err(|e| format!("testbed start-node: {e}"))?;
        Ok(Cluster { folder: folder.clone(), node, cleanup_stdin, cleanup })
    }

    /// Copies the logs, which would be removed with the cluster, and returns the reason with the path of the copy.
    fn keep_logs_of_failure(&self, reason: &str) -> String {
        let copy =
            std::env::temp_dir().join(format!("agimo-failed-cluster-{}", self.folder.name()));
        let _ = fs::remove_dir_all(&copy);
        match files::copy_folder(&self.folder.logs(), &copy) {
            Ok(()) => format!("{reason}; its logs are kept in {}", copy.display()),
            Err(error) => format!("{reason}; copying its logs failed: {error}"),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of `unshare` kills the node (--kill-child), and with it every process in its PID namespace.
        let _ = self.node.kill();
        let _ = self.node.wait();
        drop(self.cleanup_stdin.take());
        let _ = self.cleanup.wait();
    }
}

/// Replaces this process by `unshare`, the parent of the node. It runs in a process of its own, because a process can
/// only set its own parent-death signal and only join a cgroup itself.
pub fn start_node(folder: &ClusterFolder, owner: &str) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("prctl: {e}"))?;
    if getppid().map(Pid::as_raw_pid).map(|id| id.to_string()).as_deref() != Some(owner) {
        return Err("the owner process has already ended".to_owned());
    }
    Cgroups::named(&cgroup_name(folder))?.join()?;
    let testbed = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]);
    unshare.args(["--propagation", "private", "--"]).arg(testbed).arg("node").arg(folder.name());
    let error = unshare.exec();
    Err(subprocess::start_error(&unshare, &error))
}

/// Stops the cluster and returns when everything that belongs to it is removed.
pub fn down(folder: &ClusterFolder) -> Result<(), String> {
    require_root()?;
    if is_unlocked(folder)? {
        if folder.path().exists() {
            return cleanup::remove_remains(folder);
        }
        return Err(format!("there is no cluster `{}`", folder.name()));
    }
    let id = files::read(&folder.owner_id())?;
    let id = id.trim().parse().ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| format!("{} contains no process ID", folder.owner_id().display()))?;
    // An error means that the owner has just ended.
    let _ = rustix::process::kill_process(id, Signal::TERM);
    let deadline = Instant::now() + STOP_TIMEOUT;
    while folder.path().exists() {
        if Instant::now() > deadline {
            return Err(format!("{} still exists", folder.path().display()));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Whether the cluster is ready for use.
pub fn is_up(folder: &ClusterFolder) -> bool {
    folder.up().exists() && is_unlocked(folder).is_ok_and(|unlocked| !unlocked)
}

fn require_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err("a cluster needs root for its namespaces, mounts and cgroups: run this as root, or skip the cluster tests with \
         `cargo xtask test --no-cluster`"
        .to_owned())
}

/// Creates the folder and locks it, after removing the remains of a cluster whose clean-up process was killed.
fn create_locked_folder(folder: &ClusterFolder) -> Result<File, String> {
    if folder.path().exists() {
        if !is_unlocked(folder)? {
            return Err(format!(
                "cluster `{0}` already exists: `testbed down {0}` stops it",
                folder.name()
            ));
        }
        cleanup::remove_remains(folder)?;
    }
    let created = fs::DirBuilder::new().mode(0o700).create(folder.path());
    created.map_err(files::with_path(folder.path()))?;
    let lock = open_lock(folder)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| format!("{}: {error}", folder.lock().display()))?;
    Ok(lock)
}

/// Whether no process holds the lock of the cluster.
fn is_unlocked(folder: &ClusterFolder) -> Result<bool, String> {
    match OpenOptions::new().write(true).open(folder.lock()) {
        Ok(lock) => Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(files::with_path(&folder.lock())(error)),
    }
}

fn open_lock(folder: &ClusterFolder) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    options.open(folder.lock()).map_err(files::with_path(&folder.lock()))
}

/// Writes the programs and images that the node reads from its folder.
fn fill_folder(
    folder: &ClusterFolder,
    binaries: &BuiltBinaries,
    agimo: Option<&Path>,
) -> Result<(), String> {
    files::create_folder(&folder.logs())?;
    files::create_folder(&folder.images())?;
    binaries.link_programs(&folder.programs())?;
    image::link_images(binaries, RequiredBy::EveryCluster, &folder.images())?;
    if let Some(agimo) = agimo {
        image::build_agimo_image(agimo, &folder.images())?;
    }
    Ok(())
}
