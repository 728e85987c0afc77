//! The demo as a person sees it: `agimo demo` in a terminal and its page in a browser. Nothing here looks inside agimo.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::support::chromium::Chromium;

/// For each line of the timeline and for the end of a process.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks at whether a process has gone.
const LOOK: Duration = Duration::from_millis(20);

/// A running `agimo demo`. Dropping it kills its process group; the application dies with its parent.
struct Demo {
    agimo: Child,
    timeline: watch::Receiver<Vec<String>>,
    address: String,
}

#[tokio::test]
async fn page_wakes_ticks_sleeps_and_wakes_anew() {
    let mut demo = Demo::start(&["--port", "0", "--sleep-after", "2s"]).await;
    let mut chromium = Chromium::start().await;

    // It starts asleep: the request for the page is held until the application is ready.
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

    // The WebSocket and the event stream pass, and keep the application awake.
    chromium.wait_for("Number(document.querySelector('#clock').dataset.ticks) >= 2").await;
    chromium.wait_for("Number(document.querySelector('#events').dataset.events) >= 2").await;
    chromium
        .wait_for("document.querySelector('#clock-note').textContent.includes('echo after')")
        .await;
    let first = process_shown(&mut chromium).await;

    // A slow answer arrives whole.
    chromium.press("#slow").await;
    chromium
        .wait_for("document.querySelector('#slow-result').textContent.includes('after 2000 ms')")
        .await;

    // Once both connections are closed, it is put to sleep.
    let mark = demo.mark();
    chromium.press("#sleep").await;
    let mark = demo.wait_for_line(mark, "asleep").await;
    wait_until_gone(first).await;

    // The next visit wakes another process.
    chromium.press("#wake").await;
    demo.wait_for_line(mark, "answered").await;
    let changed = format!("document.querySelector('#process').textContent !== '{first}'");
    chromium.wait_for(&changed).await;
    chromium.wait_for("Number(document.querySelector('#clock').dataset.ticks) >= 1").await;
    let second = process_shown(&mut chromium).await;
    assert_ne!(first, second);

    // Ctrl-C ends agimo and the application, although the page still holds both connections.
    let status = demo.interrupt().await;
    assert!(status.success(), "agimo demo ended with {status}");
    wait_until_gone(second).await;
}

/// The id of the process that answers, as the page tells it.
async fn process_shown(chromium: &mut Chromium) -> u32 {
    let shown = chromium.wait_for("Number(document.querySelector('#process').textContent)").await;
    let id = shown.as_u64().and_then(|id| u32::try_from(id).ok());
    id.unwrap_or_else(|| panic!("no process id: {shown}"))
}

async fn wait_until_gone(process: u32) {
    let gone = async {
        while runs(process) {
            sleep(LOOK).await;
        }
    };
    let waited = timeout(DEADLINE, gone).await;
    assert!(waited.is_ok(), "process {process} still runs");
}

/// A zombie has ended: who reaps it, and when, is not agimo's to say once agimo has gone.
fn runs(process: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else {
        return false;
    };
    // The name in parentheses may hold anything; the state follows it (proc_pid_stat(5)).
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.starts_with(['Z', 'X'])
}

// === impl Demo ===

impl Demo {
    /// Returns once the address has been printed.
    async fn start(arguments: &[&str]) -> Self {
        let mut agimo = Command::new(env!("CARGO_BIN_EXE_agimo"))
            .arg("demo")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect("agimo starts");
        let stdout = agimo.stdout.take().expect("a pipe");
        let (lines, timeline) = watch::channel(Vec::new());
        tokio::spawn(collect(stdout, lines));
        let mut demo = Self { agimo, timeline, address: String::new() };
        let line = demo.wait_for_line(0, "http://127.0.0.1:").await - 1;
        demo.address = address_in(&demo.timeline.borrow()[line]);
        demo
    }

    /// Lines printed until now; what is awaited from here on is new.
    fn mark(&self) -> usize {
        self.timeline.borrow().len()
    }

    /// Waits until a line at or after `mark` contains the words; returns the mark behind it.
    async fn wait_for_line(&mut self, mark: usize, words: &str) -> usize {
        let mut found = None;
        let look = self.timeline.wait_for(|lines| {
            let position = lines.iter().skip(mark).position(|line| line.contains(words));
            found = position.map(|position| mark + position + 1);
            found.is_some()
        });
        let ended = match timeout(DEADLINE, look).await {
            Ok(seen) => seen.is_err(),
            Err(_) => false,
        };
        found.unwrap_or_else(|| {
            let lines = self.timeline.borrow().join("\n");
            panic!("no line with '{words}' from line {mark} on (ended: {ended}):\n{lines}")
        })
    }

    /// Ctrl-C; returns how agimo ended.
    async fn interrupt(&mut self) -> ExitStatus {
        let agimo = self.process().expect("agimo still runs");
        kill_process(agimo, Signal::INT).expect("agimo can be signalled");
        let ended = timeout(DEADLINE, self.agimo.wait()).await;
        ended.expect("agimo ends").expect("agimo can be waited for")
    }

    /// `None` once it has been waited for: then its number may belong to someone else.
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

/// Each line of stdout, as soon as it is written.
async fn collect(stdout: ChildStdout, timeline: watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        timeline.send_modify(|timeline| timeline.push(line));
    }
}

/// From `http://` to the slash after the port.
fn address_in(line: &str) -> String {
    let from = line.find("http://").expect("an address");
    let address = line[from..].split_whitespace().next().unwrap_or_default();
    let end = address
        .rfind('/')
        .filter(|&slash| slash > "http://".len())
        .map_or(address.len(), |slash| slash + 1);
    address[..end].to_owned()
}
