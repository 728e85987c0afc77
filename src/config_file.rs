//! Loads the configuration file, and reloads it when it changes. An invalid file never replaces a valid configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::certificates;
use crate::config::report::Problem;
use crate::config::{Config, parse, report};
use crate::file_version::FileVersion;
use crate::shutdown::Shutdown;
use crate::telemetry::{Exposition, Labels, MetricKind};

/// The result of the last reload, for the metrics.
#[derive(Debug)]
pub struct ReloadStatus {
    successful: AtomicBool,
    /// Seconds since the Unix epoch.
    succeeded_at: AtomicU64,
}

/// The configuration file, and the version of it that has been loaded.
pub struct WatchedFile {
    path: PathBuf,
    loaded: Option<FileVersion>,
    /// agimo listens for clients over TLS.
    serves_tls: bool,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {}: {error}; set the configuration file with --conf", .file.display())]
    Unreadable { file: PathBuf, error: std::io::Error },
    #[error("{count} problems: {}", .lines.join("\n"))]
    Invalid {
        /// Number of problems in the file; the report shows at most 100 of them.
        count: usize,
        /// One line for each reported problem: file, line, column, what is wrong, what to write.
        lines: Vec<String>,
        /// The same problems with the lines of the file, for a terminal.
        report: String,
    },
}

/// Limits the report on a file with very many problems.
const MAX_REPORTED: usize = 100;
/// How often to look whether the file has changed.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Reads and parses a configuration file; `color` is for `LoadError::Invalid::report`. `check` finds what else is wrong with
/// a configuration that can be parsed.
pub fn load(
    file: &Path,
    color: bool,
    check: impl FnOnce(&Config) -> Vec<Problem>,
) -> Result<Config, LoadError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| LoadError::Unreadable { file: file.to_owned(), error })?;
    let parsed = parse::parse(&text).and_then(|config| {
        let problems = check(&config);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    });
    parsed.map_err(|mut problems| {
        let name = file.display().to_string();
        let count = problems.len();
        problems.truncate(MAX_REPORTED);
        LoadError::Invalid {
            count,
            lines: problems.iter().map(|problem| report::one_line(&name, &text, problem)).collect(),
            report: report::render(&name, &text, &problems, color),
        }
    })
}

/// Reloads on SIGHUP and when the file has changed, until agimo drains.
pub async fn reload_on_change(
    watched: WatchedFile,
    mut hangup: Signal,
    configs: mpsc::Sender<Config>,
    status: Arc<ReloadStatus>,
    shutdown: Shutdown,
) {
    let WatchedFile { path, mut loaded, serves_tls } = watched;
    let mut last_seen = loaded;
    let mut interval = tokio::time::interval(CHECK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let requested = tokio::select! {
            () = shutdown.draining() => return,
            _ = hangup.recv() => true,
            _ = interval.tick() => false,
        };
        let current = FileVersion::of(&path);
        // The file may still be being written: wait until two checks in a row see the same version.
        let is_stable = current == std::mem::replace(&mut last_seen, current);
        if !requested && (current == loaded || !is_stable) {
            continue;
        }
        if current.is_none() && path.exists() {
            warn!(file = %path.display(), "the configuration file is not a regular file, not reloading it");
            continue;
        }
        loaded = current;
        // A large file takes time to parse, and wakes on this thread must not wait for it.
        let file = path.clone();
        let check = move |config: &Config| certificates::check_with_port(config, serves_tls);
        let Ok(result) = tokio::task::spawn_blocking(move || load(&file, false, check)).await
        else {
            continue;
        };
        match result {
            Ok(config) => {
                let services = config.services.len();
                if configs.send(config).await.is_err() {
                    return;
                }
                status.record_success();
                info!(services, "configuration reloaded");
            }
            Err(error) => {
                status.successful.store(false, Ordering::Relaxed);
                error!("the configuration was not reloaded, agimo keeps the previous one: {error}");
            }
        }
    }
}

// === impl WatchedFile ===

impl WatchedFile {
    /// Call this before reading the file, so that a change during or after the read is noticed.
    pub fn new(path: PathBuf, serves_tls: bool) -> Self {
        let loaded = FileVersion::of(&path);
        Self { path, loaded, serves_tls }
    }
}

// === impl ReloadStatus ===

impl Default for ReloadStatus {
    fn default() -> Self {
        let status = Self { successful: AtomicBool::new(true), succeeded_at: AtomicU64::new(0) };
        status.record_success();
        status
    }
}

impl ReloadStatus {
    /// Writes the metrics of the last reload.
    pub fn collect(&self, page: &mut Exposition) {
        let none = Labels::default();
        page.family(
            "agimo_config_last_reload_successful",
            MetricKind::Gauge,
            "Whether the last reload of the configuration succeeded (1) or failed (0).",
        );
        page.sample(&none, u8::from(self.successful.load(Ordering::Relaxed)));
        page.family(
            "agimo_config_last_reload_success_timestamp_seconds",
            MetricKind::Gauge,
            "Time of the last successful reload of the configuration, since the Unix epoch.",
        );
        page.sample(&none, self.succeeded_at.load(Ordering::Relaxed));
    }

    fn record_success(&self) {
        self.successful.store(true, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.succeeded_at.store(now.as_secs(), Ordering::Relaxed);
    }
}
