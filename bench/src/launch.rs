//! Starts other programs pinned to a core, and ends them with the benchmark. It knows no contestant.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// How long a program may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// `bench launch`: what to become, and where.
#[derive(Args)]
pub(crate) struct LaunchOptions {
    /// The only core the program may use
    #[arg(long)]
    core: Option<usize>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A started program; dropping it ends the program and its process group.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Becomes the given program in the same process: pinned, and told SIGTERM when its parent dies.
pub(crate) fn become_program(options: &LaunchOptions) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if let Some(core) = options.core {
        pin(core)?;
    }
    let (program, arguments) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Err(Command::new(program).args(arguments).exec())
}

/// Keeps the calling process on one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

// === impl Running ===

impl Running {
    /// Starts `command` on `core` with its output in `log`.
    pub(crate) fn start(
        name: &str,
        core: Option<usize>,
        command: &[String],
        log: &Path,
    ) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut launcher = Command::new(std::env::current_exe()?);
        launcher.arg("launch");
        if let Some(core) = core {
            launcher.arg("--core").arg(core.to_string());
        }
        let child = launcher
            .arg("--")
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `condition` holds; fails with the program's last words if it ends first or time runs out.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        while !condition() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let state = ended
                    .map_or("did not get there in time".to_owned(), |status| status.to_string());
                let words = last_lines(&self.log);
                return Err(io::Error::other(format!(
                    "{} not {what}: {state}\n{words}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ids of running processes are positive and fit.
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let signal = |signal| group.map(|group| kill_process_group(group, signal));
        signal(Signal::TERM);
        let deadline = Instant::now() + STOP_GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        // The group may hold more than its leader, and the leader may not have listened.
        signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
