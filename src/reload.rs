//! Watches the configuration file and hands on what is valid. A wrong file changes nothing but a metric.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::config::{Config, parse, report};
use crate::shutdown::Shutdown;
use crate::telemetry::{Exposition, Kind, Labels};

/// How the last reload went, for the metrics.
#[derive(Debug)]
pub struct Status {
    successful: AtomicBool,
    /// Seconds since the epoch.
    succeeded_at: AtomicU64,
}

/// The configuration file, and which version of it has been loaded.
pub struct Watched {
    file: PathBuf,
    loaded: Identity,
}

/// What changes when the file is written, replaced, or reached through another symlink.
type Identity = Option<(u64, u64, u64, i64, i64)>;

/// A file that cannot be used, said in full.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {}: {error}; give the configuration file with --conf", .file.display())]
    Unreadable { file: PathBuf, error: std::io::Error },
    #[error("{found} problems: {}", .lines.join("\n"))]
    Invalid {
        found: usize,
        /// One line each of the first: file, line, column, what is wrong, what to write.
        lines: Vec<String>,
        /// The same with the lines of the file, for a terminal.
        report: String,
    },
}

/// A file that is wrong throughout is not quoted throughout.
const MOST_SHOWN: usize = 100;
/// Looking is one stat(2), which follows the symlinks that a ConfigMap mount swaps; it works on every
/// file system, where change notifications do not.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Reads and checks a configuration.
pub fn load(file: &Path, color: bool) -> Result<Config, LoadError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| LoadError::Unreadable { file: file.to_owned(), error })?;
    parse::parse(&text).map_err(|mut problems| {
        let name = file.display().to_string();
        let found = problems.len();
        problems.truncate(MOST_SHOWN);
        LoadError::Invalid {
            found,
            lines: problems.iter().map(|problem| report::one_line(&name, &text, problem)).collect(),
            report: report::render(&name, &text, &problems, color),
        }
    })
}

/// Reloads on SIGHUP and when the file has changed, until agimo drains.
pub async fn run(
    watched: Watched,
    mut hangup: Signal,
    configs: mpsc::Sender<Config>,
    status: Arc<Status>,
    shutdown: Shutdown,
) {
    let Watched { file, mut loaded } = watched;
    let mut last = loaded;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            () = shutdown.draining() => return,
            _ = hangup.recv() => true,
            _ = look.tick() => false,
        };
        let now = identity(&file);
        // A file that is still being written is left until it stays the same between two looks.
        let settled = now == std::mem::replace(&mut last, now);
        if !asked && (now == loaded || !settled) {
            continue;
        }
        if now.is_none() && file.exists() {
            warn!(file = %file.display(), "not a regular file, so it is not read again");
            continue;
        }
        loaded = now;
        // Reading and checking a large file takes its time, and wakes must not wait for it.
        let path = file.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || load(&path, false)).await else {
            continue;
        };
        match found {
            Ok(config) => {
                let services = config.services.len();
                if configs.send(config).await.is_err() {
                    return;
                }
                status.succeed();
                info!(services, "configuration reloaded");
            }
            Err(problem) => {
                status.successful.store(false, Ordering::Relaxed);
                error!(
                    "the configuration was not reloaded, the old one goes on serving: {problem}"
                );
            }
        }
    }
}

// === impl Watched ===

impl Watched {
    /// To be called before the file is read: what changes after that is then noticed.
    pub fn new(file: PathBuf) -> Self {
        let loaded = identity(&file);
        Self { file, loaded }
    }
}

// === impl Status ===

impl Default for Status {
    fn default() -> Self {
        let status = Self { successful: AtomicBool::new(true), succeeded_at: AtomicU64::new(0) };
        status.succeed();
        status
    }
}

impl Status {
    pub fn collect(&self, page: &mut Exposition) {
        let none = Labels::default();
        page.family(
            "agimo_config_last_reload_successful",
            Kind::Gauge,
            "Whether the last look at a changed configuration could use it.",
        );
        page.sample(&none, u8::from(self.successful.load(Ordering::Relaxed)));
        page.family(
            "agimo_config_last_reload_success_timestamp_seconds",
            Kind::Gauge,
            "When a configuration was last taken over.",
        );
        page.sample(&none, self.succeeded_at.load(Ordering::Relaxed));
    }

    fn succeed(&self) {
        self.successful.store(true, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.succeeded_at.store(now.as_secs(), Ordering::Relaxed);
    }
}

fn identity(file: &Path) -> Identity {
    let of =
        |data: Metadata| (data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec());
    std::fs::metadata(file).ok().filter(Metadata::is_file).map(of)
}
