//! One child process in its own process group, which does not outlive agimo.

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
use super::ports::ReservedPort;

/// A running process. Dropping it kills its process group.
pub struct Child {
    process: tokio::process::Child,
    group: Option<Pid>,
    port: ReservedPort,
    /// The tasks that copy its output to the log.
    output: JoinSet<()>,
    stderr: LastLines,
}

/// How a process ended.
pub struct Exit {
    /// The program could not be executed.
    pub not_started: bool,
    /// The exit status and the last lines of stderr.
    pub description: String,
}

/// The last lines that a process wrote to stderr.
type LastLines = Arc<Mutex<VecDeque<String>>>;

/// The target of log lines that hold what a process prints.
pub const OUTPUT_TARGET: &str = "output";
/// Enough for a panic message or the end of a stack trace.
const LAST_LINES_LIMIT: usize = 8;
/// In bytes. A longer line is logged in parts.
const MAX_LINE_LENGTH: usize = 8 * 1024;
/// Interval of the check whether a process group has ended. Its members are not all children of agimo, so there is no
/// status to wait for.
const GROUP_CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// How long to wait for the remaining output of a process that has ended. A grandchild may keep the pipe open.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

// === impl Child ===

impl Child {
    /// Starts the command with its port in `PORT`.
    ///
    /// # Errors
    /// What failed, and why, for the log.
    pub fn start(config: &ProcessConfig, port: ReservedPort) -> Result<Self, String> {
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
            output.spawn(log_output(stream, config.name.clone(), "stdout", None));
        }
        if let Some(stream) = process.stderr.take() {
            output.spawn(log_output(stream, config.name.clone(), "stderr", Some(stderr.clone())));
        }
        let group = process.id().and_then(|id| Pid::from_raw(id as i32));
        Ok(Self { process, group, port, output, stderr })
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits until the process ends by itself, and kills what it leaves behind in its process group.
    pub async fn exited(&mut self) -> Exit {
        let status = self.process.wait().await;
        self.kill_group();
        let all_read = async { while self.output.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(OUTPUT_TIMEOUT, all_read).await;
        let mut description =
            status.as_ref().map_or_else(ToString::to_string, ExitStatus::to_string);
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter() {
            description.push_str("; ");
            description.push_str(line);
        }
        let not_started =
            status.is_ok_and(|status| status.code() == Some(exec::NOT_STARTED.into()));
        Exit { not_started, description }
    }

    /// Sends SIGTERM to the process group, and SIGKILL to what is left of it after `grace`. Returns when it has ended.
    pub async fn stop(mut self, grace: Duration) {
        let Some(group) = self.group else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let ended = async {
            let _ = self.process.wait().await;
            // The child may be a shell that ends before the program it started.
            while test_kill_process_group(group).is_ok() {
                tokio::time::sleep(GROUP_CHECK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(grace, ended).await.is_ok() {
            self.group = None;
            return;
        }
        info!(
            pid = group.as_raw_nonzero().get(),
            "process did not stop within stop_grace, killing it"
        );
        self.kill_group();
        let _ = self.process.wait().await;
    }

    /// Kills every process left in the group.
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

/// Copies the output of a process to the log, under its configured name.
async fn log_output(
    mut stream: impl AsyncRead + Unpin,
    process: String,
    name: &'static str,
    last_lines: Option<LastLines>,
) {
    let mut line = Vec::new();
    let mut buffer = vec![0; MAX_LINE_LENGTH];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        for byte in &buffer[..length] {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() == MAX_LINE_LENGTH {
                write_line(&mut line, &process, name, last_lines.as_ref());
            }
        }
        // A process that writes without pause must not starve the other tasks.
        tokio::task::yield_now().await;
    }
    if !line.is_empty() {
        write_line(&mut line, &process, name, last_lines.as_ref());
    }
}

fn write_line(line: &mut Vec<u8>, process: &str, stream: &str, last_lines: Option<&LastLines>) {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
    line.clear();
    info!(target: OUTPUT_TARGET, process, stream, "{text}");
    if let Some(lines) = last_lines {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES_LIMIT {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}
