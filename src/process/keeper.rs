//! The keeper: a small process between agimo and each program that it runs. It adopts whatever the program leaves behind,
//! so that the whole tree can be stopped, and it kills the tree when agimo ends, however agimo ends.
//!
//! A process group is not enough for that: a program may start others in groups and sessions of their own. Orphans among
//! the keeper's descendants become its children (PR_SET_CHILD_SUBREAPER, prctl(2)), so they stay its descendants.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::signal::unix::{SignalKind, signal};

use super::{exec, process_tree};

/// The hidden subcommand for `run`.
pub const SUBCOMMAND: &str = "keep-child";

/// Asks the keeper to send SIGTERM to the whole tree.
pub const TERMINATE: u8 = b't';
/// Asks the keeper to send SIGKILL to the whole tree and to end. The end of the connection means the same.
pub const KILL: u8 = b'k';

/// Bytes of the program's wait status (wait(2)), which the keeper sends when the program has ended.
pub const STATUS_BYTES: usize = 4;

/// Interval at which a tree that is being killed is looked at again.
const KILL_INTERVAL: Duration = Duration::from_millis(5);
/// How often at most: a process in an uninterruptible sleep does not end.
const KILL_ROUNDS: u32 = 400;

/// The program, as the keeper knows it.
struct Kept {
    program: Pid,
    agimo: OwnedWriteHalf,
}

/// Runs a program until it and all of its descendants have ended. Standard input is the connection to agimo.
///
/// # Errors
/// What failed, and why.
pub fn run(arguments: &[OsString]) -> io::Result<()> {
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(keep(arguments))
}

async fn keep(arguments: &[OsString]) -> io::Result<()> {
    // A caught signal, unlike an ignored one, has its default effect in the program again (execve(2)).
    for caught in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut received = signal(caught)?;
        tokio::spawn(async move { while received.recv().await.is_some() {} });
    }
    let mut child_ended = signal(SignalKind::child())?;
    let connection =
        std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    connection.set_nonblocking(true)?;
    let (mut requests, agimo) = UnixStream::from_std(connection)?.into_split();
    // A group of its own: a program that signals its group does not mean its keeper.
    let program = exec::command(arguments).stdin(Stdio::null()).process_group(0).spawn()?;
    let program = Pid::from_raw(program.id() as i32).ok_or(io::ErrorKind::InvalidData)?;
    let mut kept = Kept { program, agimo };
    loop {
        if !kept.reap().await {
            return Ok(());
        }
        tokio::select! {
            _ = child_ended.recv() => {}
            request = requests.read_u8() => match request {
                Ok(TERMINATE) => signal_tree(Signal::TERM),
                _ => {
                    kept.kill_tree().await;
                    return Ok(());
                }
            },
        }
    }
}

// === impl Kept ===

impl Kept {
    /// Takes the status of every child that has ended, and passes that of the program on. Returns whether any child is
    /// left, and with it any descendant: orphans become children.
    async fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => {
                    // Without agimo the tree is killed next.
                    let _ = self.agimo.write_all(&status.as_raw().to_ne_bytes()).await;
                }
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    async fn kill_tree(&mut self) {
        for _ in 0..KILL_ROUNDS {
            // Again in each round: a process may have started another one just before it was killed.
            signal_tree(Signal::KILL);
            tokio::time::sleep(KILL_INTERVAL).await;
            if !self.reap().await {
                return;
            }
        }
    }
}

fn signal_tree(signal: Signal) {
    for pid in process_tree::descendants(std::process::id()) {
        if let Some(pid) = Pid::from_raw(pid as i32) {
            // It may have ended just now.
            let _ = kill_process(pid, signal);
        }
    }
}
