//! A cluster seen from outside: starts the node in its namespaces, lets others in, and sees to it that nothing stays.
//! What happens inside is the node's business.

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

use crate::build::Built;
use crate::files;
use crate::folder::Folder;
use crate::image::{self, Use};
use cgroups::Cgroups;

mod cgroups;
mod enter;
mod janitor;

pub use enter::enter;
pub(crate) use enter::entering;
pub use janitor::clean_up;

const LOOK: Duration = Duration::from_millis(50);
/// The bring-up has its own, shorter patience for each of its steps.
const PATIENCE_TO_COME_UP: Duration = Duration::from_secs(300);
const PATIENCE_TO_GO_DOWN: Duration = Duration::from_secs(30);

/// What a cluster is to be given.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// An agimo to have as an image; without it the image is missing.
    pub agimo: Option<&'a Path>,
}

/// A running cluster. It ends with this value, and with this process however that ends.
#[derive(Debug)]
pub struct Cluster {
    folder: Folder,
    node: Child,
    /// While this is open the janitor waits.
    alive: Option<ChildStdin>,
    janitor: Child,
}

/// The cgroup that everything of this cluster runs in, in every hierarchy.
pub(crate) fn cgroup_of(folder: &Folder) -> String {
    format!("agimo-testbed-{}", folder.name())
}

// === impl Cluster ===

impl Cluster {
    /// Starts it and waits until it can be used, saying how far it is.
    pub fn start(folder: &Folder, built: &Built, wanted: &Wanted<'_>) -> Result<Cluster, String> {
        must_be_root()?;
        let lock = claim(folder)?;
        let mut cluster = Cluster::launch(folder, lock, |folder| furnish(folder, built, wanted))?;
        let deadline = Instant::now() + PATIENCE_TO_COME_UP;
        while !folder.up().exists() {
            if let Ok(reason) = fs::read_to_string(folder.failed()) {
                return Err(cluster.gone_wrong(&reason));
            }
            if let Ok(Some(status)) = cluster.node.try_wait() {
                return Err(cluster.gone_wrong(&format!("the node ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(cluster.gone_wrong("it did not come up in time"));
            }
            thread::sleep(LOOK);
        }
        Ok(cluster)
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Waits for the node's end, which only an accident brings.
    pub fn keep(mut self) -> Result<(), String> {
        let status = self.node.wait().map_err(|error| format!("waiting for the node: {error}"))?;
        Err(format!("the node ended with {status}"))
    }

    fn launch(
        folder: &Folder,
        lock: File,
        furnish: impl FnOnce(&Folder) -> Result<(), String>,
    ) -> Result<Cluster, String> {
        let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
        // The janitor first: from here on, whatever fails is cleared away.
        let mut janitor = Command::new(&this);
        janitor.arg("clean-up").arg(folder.name()).process_group(0);
        // Its standard output is the lock: it holds that until everything is gone.
        janitor.stdin(Stdio::piped()).stdout(lock);
        let mut janitor = janitor.spawn().map_err(|e| format!("testbed clean-up: {e}"))?;
        let alive = janitor.stdin.take();

        files::write(&folder.keeper_id(), std::process::id().to_string())?;
        furnish(folder)?;
        let cgroup = cgroup_of(folder);
        Cgroups::create(&cgroup)?;
        let mut node = Command::new(&this);
        node.arg("launch").arg(folder.name()).arg(std::process::id().to_string());
        node.stdin(Stdio::null());
        let node = node.spawn().map_err(|e| format!("testbed launch: {e}"))?;
        Ok(Cluster { folder: folder.clone(), node, alive, janitor })
    }

    /// Keeps the logs, which would go with the cluster.
    fn gone_wrong(&self, reason: &str) -> String {
        let kept =
            std::env::temp_dir().join(format!("agimo-failed-cluster-{}", self.folder.name()));
        let _ = fs::remove_dir_all(&kept);
        match files::copy_folder(&self.folder.logs(), &kept) {
            Ok(()) => format!("{reason}; its logs are kept in {}", kept.display()),
            Err(error) => format!("{reason}; its logs are lost: {error}"),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // unshare takes the node with it (--kill-child), the node everything inside.
        let _ = self.node.kill();
        let _ = self.node.wait();
        drop(self.alive.take());
        let _ = self.janitor.wait();
    }
}

/// Becomes `unshare` and by that the parent of the node, tied to the life of the keeper. Called by `Cluster::launch` in
/// a process of its own, because only the process itself can tie and move itself.
pub fn launch(folder: &Folder, keeper: &str) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("prctl: {e}"))?;
    if getppid().map(Pid::as_raw_pid).map(|id| id.to_string()).as_deref() != Some(keeper) {
        return Err("the keeper is gone already".to_owned());
    }
    Cgroups::of(&cgroup_of(folder))?.join()?;
    let this = std::env::current_exe().map_err(|error| format!("finding testbed: {error}"))?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]);
    unshare.args(["--propagation", "private", "--"]).arg(this).arg("node").arg(folder.name());
    let error = unshare.exec();
    Err(subprocess::start_error(&unshare, &error))
}

/// Ends the cluster of this name and waits until nothing of it is left.
pub fn down(folder: &Folder) -> Result<(), String> {
    must_be_root()?;
    if is_free(folder)? {
        if folder.path().exists() {
            return janitor::sweep(folder);
        }
        return Err(format!("there is no cluster `{}`", folder.name()));
    }
    let id = files::read(&folder.keeper_id())?;
    let id = id.trim().parse().ok().and_then(Pid::from_raw);
    let id = id.ok_or_else(|| format!("{} holds no number", folder.keeper_id().display()))?;
    // It may have gone this moment.
    let _ = rustix::process::kill_process(id, Signal::TERM);
    let deadline = Instant::now() + PATIENCE_TO_GO_DOWN;
    while folder.path().exists() {
        if Instant::now() > deadline {
            return Err(format!("{} is still there", folder.path().display()));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether a cluster can be used.
pub fn is_up(folder: &Folder) -> bool {
    folder.up().exists() && is_free(folder).is_ok_and(|free| !free)
}

fn must_be_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err("a cluster needs root for its namespaces, mounts and cgroups: run this as root, or leave the cluster tests \
         out with `cargo xtask test --no-cluster`"
        .to_owned())
}

/// Makes the folder ours, clearing away what a cluster whose janitor was killed left behind.
fn claim(folder: &Folder) -> Result<File, String> {
    if folder.path().exists() {
        if !is_free(folder)? {
            return Err(format!(
                "there is a cluster `{0}` already: `testbed down {0}` ends it",
                folder.name()
            ));
        }
        janitor::sweep(folder)?;
    }
    let made = fs::DirBuilder::new().mode(0o700).create(folder.path());
    made.map_err(files::naming(folder.path()))?;
    let lock = open_lock(folder)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| format!("{}: {error}", folder.lock().display()))?;
    Ok(lock)
}

/// Whether nobody holds the lock.
fn is_free(folder: &Folder) -> Result<bool, String> {
    match OpenOptions::new().write(true).open(folder.lock()) {
        Ok(lock) => Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(files::naming(&folder.lock())(error)),
    }
}

fn open_lock(folder: &Folder) -> Result<File, String> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    options.open(folder.lock()).map_err(files::naming(&folder.lock()))
}

/// Everything that the node finds in its folder.
fn furnish(folder: &Folder, built: &Built, wanted: &Wanted<'_>) -> Result<(), String> {
    files::create_folder(&folder.logs())?;
    files::create_folder(&folder.images())?;
    built.link_programs(&folder.programs())?;
    image::provide(built, Use::Always, &folder.images())?;
    if let Some(agimo) = wanted.agimo {
        image::provide_agimo(agimo, &folder.images())?;
    }
    Ok(())
}
