//! `agimo demo` as a user sees it: its output in a terminal and its page in a browser.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::support::chromium::Chromium;

/// Longest wait for a line of the timeline and for the end of a process.
const DEADLINE: Duration = Duration::from_secs(30);

/// Pause between two checks whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running `agimo demo`. Dropping it kills its process group; the application ends with its parent.
struct Demo {
    agimo: Child,
    timeline: watch::Receiver<Vec<String>>,
    address: String,
}

#[tokio::test]
async fn the_demo_page_wakes_the_application_receives_events_sleeps_and_wakes_it_again() {
    let mut demo = Demo::start(&["--port", "0", "--sleep-after", "2s"]).await;
    let mut chromium = Chromium::start().await;

    // The application starts asleep: the request for the page is held until it is ready.
    let mark = demo.mark();
    let address = demo.address.clone();
    chromium.open(&address).await;
    chromium.wait_for("document.title === 'agimo demo'").await;
    let mark = demo.wait_for_line(mark, "held").await;
    let mark = demo.wait_for_line(mark, "ready").await;
    demo.wait_for_line(mark, "answered").await;
    chromium
        .wait_for("document.querySelector('#headline').textContent === 'This page was asleep.'")
        .await;

    // The WebSocket and the event stream are forwarded and keep the application awake.
    chromium.wait_for("Number(document.querySelector('#clock').dataset.ticks) >= 2").await;
    chromium.wait_for("Number(document.querySelector('#events').dataset.events) >= 2").await;
    chromium
        .wait_for("document.querySelector('#clock-note').textContent.includes('echo after')")
        .await;
    let first = process_shown(&mut chromium).await;

    // A slow response arrives completely.
    chromium.click("#slow").await;
    chromium
        .wait_for("document.querySelector('#slow-result').textContent.includes('after 2000 ms')")
        .await;

    // After both connections are closed, the application is put to sleep.
    let mark = demo.mark();
    chromium.click("#sleep").await;
    let mark = demo.wait_for_line(mark, "asleep").await;
    wait_until_ended(first).await;

    // The next visit starts another process.
    chromium.click("#wake").await;
    demo.wait_for_line(mark, "answered").await;
    let changed = format!("document.querySelector('#process').textContent !== '{first}'");
    chromium.wait_for(&changed).await;
    chromium.wait_for("Number(document.querySelector('#clock').dataset.ticks) >= 1").await;
    let second = process_shown(&mut chromium).await;
    assert_ne!(first, second);

    // Ctrl-C ends agimo and the application, although the page keeps both connections open.
    let status = demo.interrupt().await;
    assert!(status.success(), "agimo demo ended with {status}");
    wait_until_ended(second).await;
}

/// The id of the application's process, as the page shows it.
async fn process_shown(chromium: &mut Chromium) -> u32 {
    let shown = chromium.wait_for("Number(document.querySelector('#process').textContent)").await;
    let id = shown.as_u64().and_then(|id| u32::try_from(id).ok());
    id.unwrap_or_else(|| panic!("not a process id: {shown}"))
}

async fn wait_until_ended(process: u32) {
    let ended = async {
        while is_running(process) {
            sleep(POLL_INTERVAL).await;
        }
    };
    let waited = timeout(DEADLINE, ended).await;
    assert!(waited.is_ok(), "process {process} is still running");
}

/// A zombie counts as ended: after agimo has exited, another process reaps it.
fn is_running(process: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else {
        return false;
    };
    // The program's name in parentheses may contain any character; the state follows it (proc_pid_stat(5)).
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.starts_with(['Z', 'X'])
}

// === impl Demo ===

impl Demo {
    /// Returns when the address has been printed.
    async fn start(arguments: &[&str]) -> Self {
        let mut agimo = Command::new(env!("CARGO_BIN_EXE_agimo"))
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("agimo can be started");
        let stdout = agimo.stdout.take().expect("a pipe");
        let (lines, timeline) = watch::channel(Vec::new());
        tokio::spawn(collect(stdout, lines));
        let mut demo = Self { agimo, timeline, address: String::new() };
        let line = demo.wait_for_line(0, "http://127.0.0.1:").await - 1;
        demo.address = address_in(&demo.timeline.borrow()[line]);
        demo
    }

    /// The number of lines printed so far, for `wait_for_line`.
    fn mark(&self) -> usize {
        self.timeline.borrow().len()
    }

    /// Waits for a line from `mark` on that contains the text; returns the mark after it.
    async fn wait_for_line(&mut self, mark: usize, text: &str) -> usize {
        let mut found = None;
        let search = self.timeline.wait_for(|lines| {
            let position = lines.iter().skip(mark).position(|line| line.contains(text));
            found = position.map(|position| mark + position + 1);
            found.is_some()
        });
        let ended = match timeout(DEADLINE, search).await {
            Ok(result) => result.is_err(),
            Err(_) => false,
        };
        found.unwrap_or_else(|| {
            let lines = self.timeline.borrow().join("\n");
            panic!("no line with '{text}' from line {mark} on (output ended: {ended}):\n{lines}")
        })
    }

    /// Sends SIGINT, as Ctrl-C does, and waits until agimo has exited.
    async fn interrupt(&mut self) -> ExitStatus {
        let agimo = self.process().expect("agimo is running");
        kill_process(agimo, Signal::INT).expect("agimo can be signalled");
        let ended = timeout(DEADLINE, self.agimo.wait()).await;
        ended.expect("agimo exits").expect("agimo can be waited for")
    }

    /// `None` after agimo was waited for: its process id may belong to another process by then.
    fn process(&self) -> Option<Pid> {
        let id = i32::try_from(self.agimo.id()?).ok()?;
        Pid::from_raw(id)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(group) = self.process()
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            eprintln!("cannot kill the demo's process group: {error}");
        }
    }
}

/// Reads stdout line by line.
async fn collect(stdout: ChildStdout, timeline: watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        timeline.send_modify(|timeline| timeline.push(line));
    }
}

/// The URL in this line, from `http://` to the slash after the port.
fn address_in(line: &str) -> String {
    let from = line.find("http://").expect("an address");
    let address = line[from..].split_whitespace().next().unwrap_or_default();
    let end = address
        .rfind('/')
        .filter(|&slash| slash > "http://".len())
        .map_or(address.len(), |slash| slash + 1);
    address[..end].to_owned()
}
