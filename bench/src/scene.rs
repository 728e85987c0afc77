//! What every section measures in: the cores, the folder of configurations and logs, free ports. Nothing of it outlives
//! the benchmark.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use tempfile::TempDir;

use crate::launch::pin;

/// Most files a proxy needs: 2,200 clients, as many upstream connections, and HAProxy's reserve.
const FILES_NEEDED: u64 = 10_000;

/// Below the ports that the kernel hands to outgoing connections, which could be anywhere above.
const FIRST_PORT: u16 = 20_000;
const PORT_CHOICES: u16 = 12_000;

/// The stage; dropping it removes its folder.
pub(crate) struct Scene {
    pub(crate) agimo: Option<PathBuf>,
    pub(crate) cores: Option<Cores>,
    folder: TempDir,
    next_port: Cell<u16>,
    next_name: Cell<u32>,
    _sweeper: Child,
}

/// The proxy has one core for itself; load and origin share the other, the same for every contestant.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) proxy: usize,
    pub(crate) load: usize,
}

/// Removes `folder` once standard input ends, which is when the benchmark has ended, however it did.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    // Programs that were told to stop may still write a log for a moment.
    std::thread::sleep(std::time::Duration::from_millis(300));
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

// === impl Scene ===

impl Scene {
    /// Raises the limit of open files, pins this process to the load's core and makes the folder.
    pub(crate) fn open(agimo: Option<&Path>) -> io::Result<Self> {
        raise_file_limit()?;
        let cores = Cores::choose()?;
        if let Some(cores) = cores {
            pin(cores.load)?;
        }
        let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let sweeper = Command::new(std::env::current_exe()?)
            .arg("sweep")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let first = u16::try_from(std::process::id() % u32::from(PORT_CHOICES)).unwrap_or(0);
        Ok(Self {
            agimo: agimo.map(existing).transpose()?,
            cores,
            folder,
            next_port: Cell::new(first),
            next_name: Cell::new(0),
            _sweeper: sweeper,
        })
    }

    /// A port on which nobody listens now.
    pub(crate) fn free_port(&self) -> io::Result<u16> {
        for _ in 0..PORT_CHOICES {
            let choice = self.next_port.get();
            self.next_port.set((choice + 1) % PORT_CHOICES);
            let port = FIRST_PORT + choice;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(io::Error::other("no free port"))
    }

    /// A new folder for one program's files.
    pub(crate) fn new_folder(&self, name: &str) -> io::Result<PathBuf> {
        let number = self.next_name.get();
        self.next_name.set(number + 1);
        let folder = self.folder.path().join(format!("{number:03}-{name}"));
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    pub(crate) fn proxy_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.proxy)
    }

    pub(crate) fn load_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.load)
    }
}

// === impl Cores ===

impl Cores {
    /// The first two cores that this process may use; nothing when there is only one.
    fn choose() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut free = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        Ok(free.next().zip(free.next()).map(|(proxy, load)| Self { proxy, load }))
    }
}

/// The full path, so that no search path is asked.
fn existing(binary: &Path) -> io::Result<PathBuf> {
    let named = |error| io::Error::other(format!("{}: {error}", binary.display()));
    fs::canonicalize(binary).map_err(named)
}

fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < FILES_NEEDED) {
        return Err(io::Error::other(format!(
            "needs {FILES_NEEDED} open files; raise `ulimit -Hn`"
        )));
    }
    let current = limit.maximum.map_or(FILES_NEEDED, |maximum| maximum.min(2 * FILES_NEEDED));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })?)
}
