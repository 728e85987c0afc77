//! Starts the agimo binary with a configuration of the test, and reads its admin port and its log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::client::{Client, Response};
use super::{eventually, within};

/// Requests that agimo answers while a transfer makes no progress, before the transfer counts as stalled.
const STALLED_ROUNDS: usize = 50;

/// A running agimo process. It is killed when the value is dropped.
pub(crate) struct Agimo {
    pub(crate) address: SocketAddr,
    /// Where clients are served over TLS, if they are.
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) folder: TempDir,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<serde_json::Value>>>,
}

/// Configuration, arguments and environment of an agimo that has not been started yet.
pub(crate) struct AgimoBuilder {
    config: String,
    file: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    without_env: Vec<&'static str>,
    open_files: Option<u32>,
}

// === impl Agimo ===

impl Agimo {
    pub(crate) fn with(config: impl Into<String>) -> AgimoBuilder {
        AgimoBuilder {
            config: config.into(),
            file: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            without_env: Vec::new(),
            open_files: None,
        }
    }

    /// The configuration file that agimo watches.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// Replaces the configuration file by renaming a new one over it, as editors do.
    pub(crate) fn reconfigure(&self, config: &str) {
        let new = self.folder.path().join("config.toml.new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, self.config_file()).unwrap();
    }

    /// Where clients are served over TLS.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.tls_address.expect("agimo serves clients over TLS")
    }

    /// Opens a connection to the proxy.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Sends a GET on a new connection to the proxy.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Response {
        let mut client = self.connect().await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.response().await
    }

    /// Sends a GET to the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Response {
        let mut client = Client::connect(self.admin).await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"))
            .await;
        client.response().await
    }

    /// The value of one sample of the metrics page, such as `agimo_held_requests{host="a"}`.
    pub(crate) async fn metric(&self, sample: &str) -> Option<f64> {
        let page = self.admin("/metrics").await.text();
        page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until the sample has this value.
    pub(crate) async fn until_metric(&self, sample: &str, value: f64) {
        let what = format!("{sample} {value}");
        eventually(&what, || async { (self.metric(sample).await == Some(value)).then_some(()) })
            .await;
    }

    /// The log so far: one JSON object per line.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line that contains `text`; a line that was written before counts.
    pub(crate) async fn until_logged(&self, text: &str) -> String {
        let what = format!("a log line that contains {text:?}");
        eventually(&what, || async { self.log().into_iter().find(|line| line.contains(text)) })
            .await
    }

    /// Waits for a lifecycle event of this name; one that was published before counts.
    pub(crate) async fn until_event(&self, name: &str) -> serde_json::Value {
        let what = format!("a lifecycle event {name:?}");
        let find = || {
            let events = self.events.lock().unwrap();
            events.iter().find(|event| event["event"] == name).cloned()
        };
        eventually(&what, || async { find() }).await
    }

    /// How often the process of this service has been put to sleep.
    pub(crate) fn sleep_count(&self, service: &str) -> usize {
        let workload = format!("process {service}");
        let events = self.events.lock().unwrap();
        let is_sleep = |event: &&serde_json::Value| {
            event["event"] == "asleep" && event["workload"] == workload.as_str()
        };
        events.iter().filter(is_sleep).count()
    }

    /// Waits until the service has been put to sleep this often.
    pub(crate) async fn until_sleep_count(&self, service: &str, count: usize) {
        let what = format!("{service} to be put to sleep {count} times");
        eventually(&what, || async { (self.sleep_count(service) >= count).then_some(()) }).await;
    }

    /// Wakes this host and waits until it is put to sleep, `cycles` times. With the same `sleep_after`, another service
    /// that is not put to sleep meanwhile is kept awake by something.
    pub(crate) async fn run_sleep_cycles(&self, host: &str, cycles: usize) {
        for _ in 0..cycles {
            let before = self.sleep_count(host);
            assert_eq!(self.get(host, "/").await.status, 200);
            self.until_sleep_count(host, before + 1).await;
        }
    }

    /// Waits until `progress` does not change while agimo answers `STALLED_ROUNDS` requests to `host`; returns it. An
    /// agimo with one thread could have continued the transfer in every round.
    pub(crate) async fn until_stalled(&self, progress: &AtomicUsize, host: &str) -> usize {
        eventually("the transfer to stall", || async {
            let before = progress.load(Ordering::SeqCst);
            for _ in 0..STALLED_ROUNDS {
                assert_eq!(self.get(host, "/").await.status, 200);
            }
            (before > 0 && progress.load(Ordering::SeqCst) == before).then_some(before)
        })
        .await
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("agimo is running")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.id() as i32).unwrap(), signal).unwrap();
    }

    /// Waits until agimo has exited.
    pub(crate) async fn wait_for_exit(&mut self) -> ExitStatus {
        within("agimo to exit", self.child.wait()).await.unwrap()
    }

    /// Resident memory of the process in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// A field of /proc/PID/status in KiB (proc_pid_status(5)).
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

// === impl AgimoBuilder ===

impl AgimoBuilder {
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Serves clients over TLS, too.
    pub(crate) fn with_tls(self) -> Self {
        self.arguments(&["--tls-port", "0"])
    }

    /// Removes a variable of the test's own environment.
    #[allow(dead_code, reason = "used by the cluster tests only")]
    pub(crate) fn without_env(mut self, name: &'static str) -> Self {
        self.without_env.push(name);
        self
    }

    /// The hard limit of files that agimo may open.
    #[allow(dead_code, reason = "the cluster tests have no use for it")]
    pub(crate) fn open_files(mut self, limit: u32) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Uses this configuration file instead of a new one.
    pub(crate) fn with_config_file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// Sets an environment variable to the path of a file.
    #[allow(dead_code, reason = "only what runs in a cluster has such files")]
    pub(crate) fn environment(mut self, name: &'static str, file: &Path) -> Self {
        self.environment.push((name, file.to_owned()));
        self
    }

    /// Starts agimo and waits until it serves.
    pub(crate) async fn start(mut self) -> Agimo {
        if !self.arguments.iter().any(|argument| argument == "--threads") {
            self.arguments.extend(["--threads".to_owned(), "2".to_owned()]);
        }
        let folder = tempfile::tempdir().unwrap();
        let config_file = self.file.unwrap_or_else(|| {
            let new = folder.path().join("config.toml");
            std::fs::write(&new, self.config).unwrap();
            new
        });
        let program = env!("CARGO_BIN_EXE_agimo");
        let mut command = match self.open_files {
            None => Command::new(program),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        // Tests never reach a cluster of the user; inside the test bed, KUBECONFIG names its own cluster.
        command.env("HOME", folder.path());
        if std::env::var_os("AGIMO_TESTBED").is_none() {
            command.env_remove("KUBECONFIG");
        }
        for name in self.without_env {
            command.env_remove(name);
        }
        let mut child = command
            .args(["--port", "0", "--admin-port", "0", "--bind", "127.0.0.1"])
            .args(["--log", "json,debug", "--conf"])
            .arg(&config_file)
            .args(self.arguments)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sink.lock().unwrap().push(line);
            }
        });
        let serving = eventually("agimo to serve", || async {
            assert!(child.id().is_some(), "agimo exited: {:?}", log.lock().unwrap());
            log.lock().unwrap().iter().find(|line| line.contains("\"serving\"")).cloned()
        })
        .await;
        let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
        let address = |field: &str| serving[field].as_str().unwrap().parse().unwrap();
        let admin = address("metrics");
        let events = follow_events(admin).await;
        let tls_address = serving.get("tls").map(|_| address("tls"));
        Agimo { address: address("address"), tls_address, admin, folder, child, log, events }
    }
}

/// Collects the lifecycle events of an agimo until it ends.
async fn follow_events(admin: SocketAddr) -> Arc<Mutex<Vec<serde_json::Value>>> {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: admin\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    // The first comment line shows that agimo sends events from now on.
    let subscribed = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with(": ") {
                return;
            }
        }
        panic!("agimo ended the stream of events");
    };
    within("the stream of events", subscribed).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = events.clone();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(event) = line.strip_prefix("data: ") {
                sink.lock().unwrap().push(serde_json::from_str(event).unwrap());
            }
        }
    });
    events
}
