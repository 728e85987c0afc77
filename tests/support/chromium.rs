//! A headless Chromium with one page, driven over the DevTools protocol. It never reaches beyond loopback and never outlives the test.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Debian's; `cargo xtask test` installs it.
const PROGRAM: &str = "/usr/bin/chromium";

/// For the browser to start, for each DevTools command and for each awaited condition.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at a condition in the page.
const LOOK: Duration = Duration::from_millis(50);

/// Stands before the DevTools address on Chromium's stderr.
const ANNOUNCEMENT: &str = "DevTools listening on ";

/// A browser with one page. Dropping it kills the browser's whole process group.
pub(crate) struct Chromium {
    socket: WebSocketStream<TcpStream>,
    session: String,
    last_id: u64,
    // Dropped in this order: the browser is dead before its profile is removed.
    _browser: Browser,
    _profile: TempDir,
}

struct Browser(Child);

// === impl Chromium ===

impl Chromium {
    /// Starts a browser with a fresh profile and an empty page.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let mut browser = Browser::spawn(profile.path());
        let address = within(DEADLINE, "Chromium to start", browser.address()).await;
        let socket = within(DEADLINE, "DevTools to answer", connect(&address)).await;
        let mut chromium = Self {
            socket,
            session: String::new(),
            last_id: 0,
            _browser: browser,
            _profile: profile,
        };
        chromium.attach().await;
        chromium
    }

    /// Goes to an address and returns once its response has begun.
    pub(crate) async fn open(&mut self, address: &str) {
        let opened = self.call("Page.navigate", json!({ "url": address })).await;
        let opened = opened.unwrap_or_else(|error| panic!("cannot open {address}: {error}"));
        let problem = &opened["errorText"];
        assert!(problem.is_null(), "cannot open {address}: {problem}");
    }

    /// Presses the element that the CSS selector finds, as soon as it is there and can be pressed.
    pub(crate) async fn press(&mut self, selector: &str) {
        let selector = Value::from(selector);
        let pressed = format!(
            "(element => !!element && !element.disabled && element.checkVisibility() \
             && (element.click(), true))(document.querySelector({selector}))"
        );
        self.wait_for(&pressed).await;
    }

    /// Asks again and again until the JavaScript expression is truthy; returns its value.
    ///
    /// # Panics
    /// After the deadline, with what the page showed at that time.
    pub(crate) async fn wait_for(&mut self, expression: &str) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            // An error is no verdict: the page may be between two documents.
            let last = self.evaluate(expression).await;
            if let Ok(value) = &last
                && is_truthy(value)
            {
                return value.clone();
            }
            if Instant::now() >= end {
                let shown = self.evaluate("document.body.innerText").await;
                panic!("waited {DEADLINE:?} for {expression}: {last:?}; the page: {shown:?}");
            }
            sleep(LOOK).await;
        }
    }

    async fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut evaluated = self.call("Runtime.evaluate", parameters).await?;
        match evaluated.get("exceptionDetails") {
            Some(thrown) => Err(thrown.to_string()),
            None => Ok(evaluated["result"]["value"].take()),
        }
    }

    /// Opens the page and makes every later command go to it.
    async fn attach(&mut self) {
        let target = self
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await
            .expect("a new page");
        let parameters = json!({ "targetId": target["targetId"], "flatten": true });
        let attached =
            self.call("Target.attachToTarget", parameters).await.expect("a session with the page");
        let session = attached["sessionId"].as_str().expect("a session id");
        self.session = session.to_owned();
    }

    /// One command and its answer; events in between are dropped.
    async fn call(&mut self, method: &str, parameters: Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = Value::from(self.session.as_str());
        }
        let answer = async {
            let command = Message::text(command.to_string());
            self.socket.send(command).await.expect("an open DevTools");
            loop {
                let mut answer = self.next_message().await;
                if answer["id"] == self.last_id {
                    break match answer.get("error") {
                        Some(error) => Err(error.to_string()),
                        None => Ok(answer["result"].take()),
                    };
                }
            }
        };
        within(DEADLINE, method, answer).await
    }

    async fn next_message(&mut self) -> Value {
        let message = self.socket.next().await.expect("Chromium has gone");
        let message = message.expect("an open DevTools");
        match message {
            Message::Text(words) => serde_json::from_str(&words).expect("DevTools speaks JSON"),
            _ => Value::Null,
        }
    }
}

// === impl Browser ===

impl Browser {
    fn spawn(profile: &Path) -> Self {
        let child = Command::new(PROGRAM)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--disable-breakpad",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-default-apps",
                "--disable-sync",
                "--no-proxy-server",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            // Whatever else it wants to keep must vanish with the profile.
            .env("HOME", profile)
            .env("XDG_CONFIG_HOME", profile)
            .env("XDG_CACHE_HOME", profile)
            .env("TMPDIR", profile)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let start = |error| panic!("cannot start {PROGRAM} (Debian: chromium): {error}");
        Self(child.unwrap_or_else(start))
    }

    /// The DevTools address, announced on stderr; the rest is read and dropped, so that the pipe never fills.
    async fn address(&mut self) -> String {
        let stderr = self.0.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr).lines();
        let mut heard = Vec::new();
        while let Some(line) = lines.next_line().await.expect("text from Chromium") {
            if let Some(address) = line.strip_prefix(ANNOUNCEMENT) {
                let address = address.trim().to_owned();
                tokio::spawn(drain(lines.into_inner()));
                return address;
            }
            heard.push(line);
        }
        panic!("Chromium ended at once: {}", heard.join("\n"));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // None once it has been reaped: then its number may belong to someone else.
        let Some(id) = self.0.id() else { return };
        let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = kill_process_group(group, Signal::KILL) {
            eprintln!("cannot kill Chromium's process group: {error}");
        }
        // The rest of the group dies by the same signal; the leader is waited for here, briefly,
        // because its profile is removed next.
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn drain(mut stderr: impl AsyncReadExt + Unpin) -> io::Result<u64> {
    tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await
}

async fn connect(address: &str) -> WebSocketStream<TcpStream> {
    let host = address
        .strip_prefix("ws://")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_else(|| panic!("no DevTools address: {address}"));
    let socket = TcpStream::connect(host).await.expect("Chromium listens");
    let (socket, _) = client_async(address, socket).await.expect("a WebSocket to DevTools");
    socket
}

async fn within<T>(deadline: Duration, what: impl Display, work: impl Future<Output = T>) -> T {
    timeout(deadline, work).await.unwrap_or_else(|_| panic!("waited {deadline:?} for {what}"))
}

/// As JavaScript has it, for the values that JSON can carry.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(words) => !words.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
