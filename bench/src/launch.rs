//! Starts other programs, pins them to a core, and stops them when the benchmark ends.

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

/// Time between SIGTERM and SIGKILL when a program is stopped.
const STOP_GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Options of `bench launch`.
#[derive(Args)]
pub(crate) struct LaunchOptions {
    /// Pin the program to this core
    #[arg(long)]
    core: Option<usize>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A running program; dropping it stops the program and its process group.
pub(crate) struct RunningProgram {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Replaces this process with the given program, which is pinned and gets SIGTERM when its parent exits.
pub(crate) fn exec_program(options: &LaunchOptions) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    if let Some(core) = options.core {
        pin(core)?;
    }
    let (program, arguments) = options.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    Err(Command::new(program).args(arguments).exec())
}

/// Pins the calling process to one core.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

// === impl RunningProgram ===

impl RunningProgram {
    /// Starts `command` on `core` and writes its output to `log`.
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

    /// Waits until `condition` holds. If the program exits first or `limit` expires, the error contains the last lines of
    /// its log.
    pub(crate) fn wait_until(
        &mut self,
        expected_state: &str,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        while !condition() {
            let exit_status = self.child.try_wait()?;
            if exit_status.is_some() || Instant::now() > deadline {
                let state = exit_status.map_or("timed out".to_owned(), |status| status.to_string());
                let log = last_lines(&self.log);
                return Err(io::Error::other(format!(
                    "{} is not {expected_state}: {state}\n{log}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        // Process IDs are positive and fit into i32.
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let signal = |signal| group.map(|group| kill_process_group(group, signal));
        signal(Signal::TERM);
        let deadline = Instant::now() + STOP_GRACE_PERIOD;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        // Other processes of the group may still run, and the leader may have ignored SIGTERM.
        signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
