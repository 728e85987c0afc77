//! The environment of all measurements: CPU cores, a temporary directory for configurations and logs, free ports. The
//! directory is removed when the benchmark ends.

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

/// Open files that a proxy needs at least: 2,200 clients, as many upstream connections, and the reserve of HAProxy.
const OPEN_FILES_NEEDED: u64 = 10_000;

/// Start of the port range. The range is below the ports that Linux uses for outgoing connections.
const FIRST_PORT: u16 = 20_000;
const PORT_COUNT: u16 = 12_000;

/// The environment; dropping it removes its directory.
pub(crate) struct Environment {
    pub(crate) agimo: Option<PathBuf>,
    pub(crate) cores: Option<Cores>,
    directory: TempDir,
    next_port_offset: Cell<u16>,
    next_directory_number: Cell<u32>,
    _directory_remover: Child,
}

/// The proxy has one core to itself; the load generator and the origin share the other core, for every proxy alike.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) proxy: usize,
    pub(crate) load: usize,
}

/// Removes `directory` when standard input is closed, which also happens when the benchmark is killed.
pub(crate) fn remove_directory_at_exit(directory: &Path) -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    // Programs that are being stopped may still write to their logs.
    std::thread::sleep(std::time::Duration::from_millis(300));
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

// === impl Environment ===

impl Environment {
    /// Raises the limit of open files, pins this process to the load core and creates the directory.
    pub(crate) fn prepare(agimo: Option<&Path>) -> io::Result<Self> {
        raise_open_file_limit()?;
        let cores = Cores::choose()?;
        if let Some(cores) = cores {
            pin(cores.load)?;
        }
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let directory_remover = Command::new(std::env::current_exe()?)
            .arg("sweep")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let first = u16::try_from(std::process::id() % u32::from(PORT_COUNT)).unwrap_or(0);
        Ok(Self {
            agimo: agimo.map(absolute_path).transpose()?,
            cores,
            directory,
            next_port_offset: Cell::new(first),
            next_directory_number: Cell::new(0),
            _directory_remover: directory_remover,
        })
    }

    /// A port on which nothing listens now.
    pub(crate) fn free_port(&self) -> io::Result<u16> {
        for _ in 0..PORT_COUNT {
            let offset = self.next_port_offset.get();
            self.next_port_offset.set((offset + 1) % PORT_COUNT);
            let port = FIRST_PORT + offset;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(io::Error::other("no free port"))
    }

    /// Creates a directory for the files of one program.
    pub(crate) fn new_directory(&self, name: &str) -> io::Result<PathBuf> {
        let number = self.next_directory_number.get();
        self.next_directory_number.set(number + 1);
        let directory = self.directory.path().join(format!("{number:03}-{name}"));
        fs::create_dir(&directory)?;
        Ok(directory)
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
    /// The first two cores that this process may use; `None` if there is only one.
    fn choose() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut allowed_cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        Ok(allowed_cores.next().zip(allowed_cores.next()).map(|(proxy, load)| Self { proxy, load }))
    }
}

/// The absolute path of an existing binary, so that starting it does not search `PATH`.
fn absolute_path(binary: &Path) -> io::Result<PathBuf> {
    let with_path = |error| io::Error::other(format!("{}: {error}", binary.display()));
    fs::canonicalize(binary).map_err(with_path)
}

fn raise_open_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < OPEN_FILES_NEEDED) {
        return Err(io::Error::other(format!(
            "the benchmark needs {OPEN_FILES_NEEDED} open files; raise `ulimit -Hn`"
        )));
    }
    let current =
        limit.maximum.map_or(OPEN_FILES_NEEDED, |maximum| maximum.min(2 * OPEN_FILES_NEEDED));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })?)
}
