//! One child process in a group of its own that does not outlive agimo. It knows no readiness.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::task::JoinSet;
use tracing::info;

use crate::config::ProcessConfig;

use super::exec;
use super::ports::Port;

/// A running process; dropping it kills its group.
pub struct Child {
    process: tokio::process::Child,
    group: Option<Pid>,
    port: Port,
    /// Passes its output on; ends with it.
    output: JoinSet<()>,
    stderr: LastLines,
}

/// How a process ended.
pub struct Exit {
    /// Its program could not be run at all.
    pub not_started: bool,
    /// The exit status and the last lines of stderr.
    pub words: String,
}

/// The last lines that a process wrote to stderr.
type LastLines = Arc<Mutex<VecDeque<String>>>;

/// The target of log lines that hold what a process prints.
pub const OUTPUT_TARGET: &str = "output";
/// Enough to see a panic or the end of a stack trace.
const KEPT_LINES: usize = 8;
/// A longer line is passed on in parts.
const LONGEST_LINE: usize = 8 * 1024;
/// How often to look whether a group has ended that is not all our own children.
const GROUP_LOOK: Duration = Duration::from_millis(10);
/// How long to wait for the output of a process that has ended; a grandchild may keep it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

// === impl Child ===

impl Child {
    /// Starts the command and tells it its port. The error says what was tried and why it failed.
    pub fn start(config: &ProcessConfig, port: Port) -> Result<Self, String> {
        let mut command = Command::from(exec::command(&config.command));
        command
            .env("PORT", port.number().to_string())
            .envs(config.env.iter().map(|(name, value)| (name, &value.0)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(workdir) = &config.workdir {
            command.current_dir(workdir);
        }
        let mut process = command.spawn().map_err(|error| match &config.workdir {
            Some(workdir) => format!("cannot start in {}: {error}", workdir.display()),
            None => format!("cannot start: {error}"),
        })?;
        let stderr = LastLines::default();
        let mut output = JoinSet::new();
        if let Some(stream) = process.stdout.take() {
            output.spawn(pass_on(stream, config.name.clone(), "stdout", None));
        }
        if let Some(stream) = process.stderr.take() {
            output.spawn(pass_on(stream, config.name.clone(), "stderr", Some(stderr.clone())));
        }
        let group = process.id().and_then(|id| Pid::from_raw(id as i32));
        Ok(Self { process, group, port, output, stderr })
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits for its end by itself, and ends what it leaves behind in its group.
    pub async fn exited(&mut self) -> Exit {
        let status = self.process.wait().await;
        self.kill_group();
        let all_read = async { while self.output.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(OUTPUT_GRACE, all_read).await;
        let mut words = status.as_ref().map_or_else(ToString::to_string, ExitStatus::to_string);
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter() {
            words.push_str("; ");
            words.push_str(line);
        }
        let not_started =
            status.is_ok_and(|status| status.code() == Some(exec::NOT_STARTED.into()));
        Exit { not_started, words }
    }

    /// SIGTERM to the group, SIGKILL to what is left of it after `grace`; returns when it has ended.
    pub async fn stop(mut self, grace: Duration) {
        let Some(group) = self.group else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let ended = async {
            let _ = self.process.wait().await;
            // The leader may be a shell that ends before the program that it started.
            while test_kill_process_group(group).is_ok() {
                tokio::time::sleep(GROUP_LOOK).await;
            }
        };
        if tokio::time::timeout(grace, ended).await.is_ok() {
            self.group = None;
            return;
        }
        info!(pid = group.as_raw_nonzero().get(), "did not stop within stop_grace, killing it");
        self.kill_group();
        let _ = self.process.wait().await;
    }

    /// What a process leaves behind in its group ends with it.
    fn kill_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Passes lines on to the log, under the service's name.
async fn pass_on(
    mut stream: impl AsyncRead + Unpin,
    process: String,
    name: &'static str,
    keep: Option<LastLines>,
) {
    let mut line = Vec::new();
    let mut buffer = vec![0; LONGEST_LINE];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        for byte in &buffer[..length] {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() == LONGEST_LINE {
                write_line(&mut line, &process, name, keep.as_ref());
            }
        }
        // One that writes without end must not keep the others from running.
        tokio::task::yield_now().await;
    }
    if !line.is_empty() {
        write_line(&mut line, &process, name, keep.as_ref());
    }
}

fn write_line(line: &mut Vec<u8>, process: &str, stream: &str, keep: Option<&LastLines>) {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
    line.clear();
    info!(target: OUTPUT_TARGET, process, stream, "{text}");
    if let Some(lines) = keep {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}
