//! A headless Chromium with one page, controlled over the DevTools protocol. It connects to loopback addresses only and
//! is killed with the test.

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

/// Path of the Debian package's program; `cargo xtask test` installs the package.
const PROGRAM: &str = "/usr/bin/chromium";

/// Longest wait for the browser to start, for a DevTools command and for a condition in the page.
const DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two evaluations of a condition in the page.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The text before the DevTools address on Chromium's stderr.
const ANNOUNCEMENT: &str = "DevTools listening on ";

/// A browser with one page. Dropping it kills the browser's process group.
pub(crate) struct Chromium {
    socket: WebSocketStream<TcpStream>,
    session: String,
    last_id: u64,
    // Fields are dropped in this order: the browser is killed before its profile is removed.
    _browser: Browser,
    _profile: TempDir,
}

struct Browser(Child);

// === impl Chromium ===

impl Chromium {
    /// Starts a browser with a fresh profile and an empty page.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(arguments: &[&str]) -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let mut browser = Browser::spawn(profile.path(), arguments);
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

    /// Navigates to an address and returns when its response has begun.
    pub(crate) async fn open(&mut self, address: &str) {
        let opened = self.call("Page.navigate", json!({ "url": address })).await;
        let opened = opened.unwrap_or_else(|error| panic!("cannot open {address}: {error}"));
        let error = &opened["errorText"];
        assert!(error.is_null(), "cannot open {address}: {error}");
    }

    /// Clicks the element that the CSS selector finds, as soon as it is visible and enabled.
    pub(crate) async fn click(&mut self, selector: &str) {
        let selector = Value::from(selector);
        let clicked = format!(
            "(element => !!element && !element.disabled && element.checkVisibility() \
             && (element.click(), true))(document.querySelector({selector}))"
        );
        self.wait_for(&clicked).await;
    }

    /// Evaluates the JavaScript expression until its value is truthy; returns the value.
    ///
    /// # Panics
    /// At the deadline, with the text that the page shows.
    pub(crate) async fn wait_for(&mut self, expression: &str) -> Value {
        let end = Instant::now() + DEADLINE;
        loop {
            // An error is not final: the page may be loading another document.
            let last = self.evaluate(expression).await;
            if let Ok(value) = &last
                && is_truthy(value)
            {
                return value.clone();
            }
            if Instant::now() >= end {
                let shown = self.evaluate("document.body.innerText.slice(0, 2000)").await;
                panic!("waited {DEADLINE:?} for {expression}: {last:?}; the page shows: {shown:?}");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Gives the page this width and height in CSS pixels, and a light or a dark system.
    pub(crate) async fn show_as(&mut self, (width, height): (u32, u32), is_dark: bool) {
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        });
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (method, parameters) in
            [("Emulation.setDeviceMetricsOverride", metrics), ("Emulation.setEmulatedMedia", media)]
        {
            self.call(method, parameters).await.unwrap_or_else(|error| panic!("{method}: {error}"));
        }
    }

    /// What the page shows, as PNG in base64.
    pub(crate) async fn screenshot(&mut self) -> String {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let shot = shot.unwrap_or_else(|error| panic!("no screenshot: {error}"));
        shot["data"].as_str().expect("the picture").to_owned()
    }

    async fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut evaluated = self.call("Runtime.evaluate", parameters).await?;
        match evaluated.get("exceptionDetails") {
            Some(thrown) => Err(thrown.to_string()),
            None => Ok(evaluated["result"]["value"].take()),
        }
    }

    /// Opens the page and directs all later commands to it.
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

    /// Sends one command and returns its result; events received in between are ignored.
    async fn call(&mut self, method: &str, parameters: Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut command = json!({ "id": self.last_id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = Value::from(self.session.as_str());
        }
        let answer = async {
            let command = Message::text(command.to_string());
            self.socket.send(command).await.expect("DevTools is open");
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
        let message = self.socket.next().await.expect("Chromium is running");
        let message = message.expect("DevTools is open");
        match message {
            Message::Text(text) => serde_json::from_str(&text).expect("DevTools sends JSON"),
            _ => Value::Null,
        }
    }
}

// === impl Browser ===

impl Browser {
    fn spawn(profile: &Path, arguments: &[&str]) -> Self {
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
            .args(arguments)
            .arg(format!("--user-data-dir={}", profile.display()))
            // Everything else that it writes must be removed together with the profile.
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
        let fail = |error| panic!("cannot start {PROGRAM} (Debian package chromium): {error}");
        Self(child.unwrap_or_else(fail))
    }

    /// The DevTools address, which Chromium prints to stderr. The rest of stderr is read and dropped, so that the pipe does
    /// not fill.
    async fn address(&mut self) -> String {
        let stderr = self.0.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr).lines();
        let mut printed = Vec::new();
        while let Some(line) = lines.next_line().await.expect("text from Chromium") {
            if let Some(address) = line.strip_prefix(ANNOUNCEMENT) {
                let address = address.trim().to_owned();
                tokio::spawn(drain(lines.into_inner()));
                return address;
            }
            printed.push(line);
        }
        panic!("Chromium exited at its start: {}", printed.join("\n"));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // `None` after the process was reaped: its id may belong to another process by then.
        let Some(id) = self.0.id() else { return };
        let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
            return;
        };
        if let Err(error) = kill_process_group(group, Signal::KILL) {
            eprintln!("cannot kill Chromium's process group: {error}");
        }
        // Wait briefly for the group's leader, because its profile is removed next.
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
        .unwrap_or_else(|| panic!("not a DevTools address: {address}"));
    let socket = TcpStream::connect(host).await.expect("Chromium listens");
    let (socket, _) = client_async(address, socket).await.expect("a WebSocket to DevTools");
    socket
}

async fn within<T>(deadline: Duration, what: impl Display, work: impl Future<Output = T>) -> T {
    timeout(deadline, work).await.unwrap_or_else(|_| panic!("waited {deadline:?} for {what}"))
}

/// Truthiness as JavaScript defines it, for the values that JSON can represent.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
