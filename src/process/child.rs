//! One program that agimo runs, with its keeper. All that it starts ends with it, and does not outlive agimo.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::ProcessConfig;
use crate::telemetry::printable::printable_whole;

use super::keeper::{self, STATUS_BYTES};
use super::ports::ReservedPort;
use super::{exec, process_tree};

/// A running program. Dropping it kills the whole tree.
pub struct Child {
    keeper: tokio::process::Child,
    /// The connection to the keeper; when it closes, the keeper kills the tree.
    connection: UnixStream,
    /// What has arrived of the program's wait status.
    status: Vec<u8>,
    port: ReservedPort,
    name: String,
    /// The tasks that copy its output to the log.
    output: JoinSet<()>,
    stderr: LastLines,
}

/// How a program ended.
pub struct Exit {
    /// Absent where the keeper ended first.
    status: Option<ExitStatus>,
    /// The exit status or the signal, and the last lines of stderr.
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
/// How long to wait for the remaining output of a process that has ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_millis(200);

/// What `{host}` in `command` and `env` stands for: where agimo expects a process to listen.
const LISTEN_HOST: &str = "127.0.0.1";

// === impl Child ===

impl Child {
    /// Starts the command with its port in `PORT`.
    ///
    /// # Errors
    /// What failed, and why, for the log.
    pub fn start(config: &ProcessConfig, port: ReservedPort) -> Result<Self, String> {
        let number = port.number();
        let words: Vec<String> = config.command.iter().map(|word| fill_in(word, number)).collect();
        let (connection, of_keeper) =
            UnixStream::pair().map_err(|error| format!("cannot start: {error}"))?;
        let mut command = Command::from(exec::keeper_command(&words));
        command
            .env("PORT", number.to_string())
            .envs(config.env.iter().map(|(name, value)| (name, fill_in(&value.0, number))))
            .stdin(blocking(of_keeper).map_err(|error| format!("cannot start: {error}"))?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(workdir) = &config.workdir {
            command.current_dir(workdir);
        }
        let mut keeper = command.spawn().map_err(|error| match &config.workdir {
            Some(workdir) => format!("cannot start in {}: {error}", workdir.display()),
            None => format!("cannot start: {error}"),
        })?;
        // It holds agimo's copy of the keeper's end of the connection.
        drop(command);
        let stderr = LastLines::default();
        let mut output = JoinSet::new();
        if let Some(stream) = keeper.stdout.take() {
            output.spawn(log_output(stream, config.name.clone(), "stdout", None));
        }
        if let Some(stream) = keeper.stderr.take() {
            output.spawn(log_output(stream, config.name.clone(), "stderr", Some(stderr.clone())));
        }
        let (status, name) = (Vec::new(), config.name.clone());
        Ok(Self { keeper, connection, status, port, name, output, stderr })
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The program and all that it has started.
    pub fn processes(&self) -> Vec<u32> {
        self.keeper.id().map(process_tree::descendants).unwrap_or_default()
    }

    /// Waits until the program ends by itself. What it has started may still run.
    pub async fn ended(&mut self) {
        while self.status.len() < STATUS_BYTES {
            match self.connection.read_buf(&mut self.status).await {
                Ok(1..) => {}
                _ => return,
            }
        }
    }

    /// Kills what an ended program has left behind, and tells how it ended.
    pub async fn into_exit(mut self) -> Exit {
        let _ = self.connection.write_all(&[keeper::KILL]).await;
        let keeper_status = self.keeper.wait().await;
        let all_read = async { while self.output.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(OUTPUT_TIMEOUT, all_read).await;
        let raw = <[u8; STATUS_BYTES]>::try_from(self.status.as_slice()).ok();
        let status = raw.map(|raw| ExitStatus::from_raw(i32::from_ne_bytes(raw)));
        let mut description = match (status, keeper_status) {
            (Some(status), _) => status.to_string(),
            (None, Ok(status)) => format!("its keeper ended: {status}"),
            (None, Err(error)) => error.to_string(),
        };
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter() {
            description.push_str("; ");
            description.push_str(line);
        }
        Exit { status, description }
    }

    /// Sends SIGTERM to the whole tree, and SIGKILL to what is left of it after `grace`. Returns when all has ended.
    pub async fn stop(mut self, grace: Duration) {
        let _ = self.connection.write_all(&[keeper::TERMINATE]).await;
        // The keeper ends after the last process of the tree.
        if tokio::time::timeout(grace, self.keeper.wait()).await.is_ok() {
            return;
        }
        info!(process = self.name, "process did not stop within stop_grace, killing it");
        let _ = self.connection.write_all(&[keeper::KILL]).await;
        if let Err(error) = self.keeper.wait().await {
            warn!(process = self.name, %error, "cannot wait for the end of the process");
        }
    }
}

// === impl Exit ===

impl Exit {
    /// The program could not be executed.
    pub fn is_not_started(&self) -> bool {
        self.status.and_then(|status| status.code()) == Some(exec::NOT_STARTED.into())
    }

    /// It reports success.
    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// The program reads and writes as usual, whatever agimo does with its own end.
fn blocking(stream: UnixStream) -> std::io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

/// The word of a command, or the value of a variable, with `{port}` and `{host}` replaced.
fn fill_in(word: &str, port: u16) -> String {
    word.replace("{port}", &port.to_string()).replace("{host}", LISTEN_HOST)
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
    let text = printable_whole(line.strip_suffix(b"\r").unwrap_or(line));
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
