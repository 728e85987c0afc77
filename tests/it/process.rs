//! Applications as local processes: how they are started, watched, put to sleep and brought back.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::agimo::Agimo;
use crate::support::eventually;
use crate::support::python::Python;

const WOKEN: &str = "agimo_wakes_total{host=\"a.test\",result=\"ready\"}";

/// Whether there is such a process, a zombie excepted: nobody may have taken its status yet.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && state != Some('Z')
}

async fn until_gone(pid: i32) {
    eventually(&format!("the end of process {pid}"), || async { (!lives(pid)).then_some(()) })
        .await;
}

fn pids(file: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

async fn pid(agimo: &Agimo) -> i32 {
    let response = agimo.get("a.test", "/pid").await;
    assert_eq!(response.status, 200, "{}", response.head);
    response.text().parse().unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn it_is_told_its_port_environment_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    let workdir = folder.path().canonicalize().unwrap();
    let port = free_port();
    let fixed = Python::at("fixed.test").key(&format!("port = {port}")).service();
    let picked = Python::at("a.test")
        .key(&format!("workdir = '{}'", workdir.display()))
        .env("GREETING", "good morning")
        .service();
    let agimo = Agimo::with(fixed + &picked).start().await;
    assert_eq!(agimo.get("fixed.test", "/env/PORT").await.text(), port.to_string());
    let picked: u16 = agimo.get("a.test", "/env/PORT").await.text().parse().unwrap();
    assert_ne!(picked, 0);
    assert_eq!(agimo.get("a.test", "/env/GREETING").await.text(), "good morning");
    assert_eq!(agimo.get("a.test", "/cwd").await.text(), workdir.display().to_string());
}

#[tokio::test]
async fn asleep_its_grandchildren_are_gone_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let program = Python::at("a.test").key("sleep_after = \"100ms\"").env("STARTS", file.display());
    // A shell that starts a grandchild which does not care for SIGTERM, and then the application.
    let service = program.service().replace(
        "command = [",
        &format!(
            "command = [\"sh\", \"-c\", 'sh -c \"trap : TERM; while :; do sleep 1; done\" & echo $! >> {}; \"$@\"', \"sh\", ",
            file.display()
        ),
    );
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let started = pids(&file);
    assert_eq!(started.len(), 2, "grandchild and application");
    for pid in started {
        until_gone(pid).await;
    }
    agimo.until_logged("stopped").await;
}

#[tokio::test]
async fn it_ends_when_agimo_is_killed() {
    let mut agimo = Agimo::with(Python::at("a.test").service()).start().await;
    let pid = pid(&agimo).await;
    assert!(lives(pid));
    agimo.signal(Signal::KILL);
    agimo.ended().await;
    until_gone(pid).await;
}

#[tokio::test]
async fn its_output_is_in_the_log_under_its_name() {
    let service =
        Python::at("a.test").key("name = \"shop\"").env("SAY", "counting the till").service();
    let agimo = Agimo::with(service).start().await;
    agimo.get("a.test", "/").await;
    let line = agimo.until_logged("counting the till").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["process"].as_str(), line["stream"].as_str()), (Some("shop"), Some("stderr")));
}

#[tokio::test]
async fn it_gets_no_request_before_its_readiness_path_answers() {
    // With the port open, TCP alone would let the request through at once.
    let service =
        Python::at("a.test").key("readiness = \"/ready\"").env("READY_AFTER", "0.5").service();
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/ready").await.status, 200);
}

#[tokio::test]
async fn it_sleeps_after_idle_time_and_a_slow_request_puts_that_off() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let service =
        Python::at("a.test").key("sleep_after = \"300ms\"").env("NOTE", note.display()).service();
    let agimo = Agimo::with(service).start().await;
    let began = Instant::now();
    assert_eq!(agimo.get("a.test", "/slow/1.2").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(1200));
    let answered = Instant::now();
    agimo.until_logged("asleep").await;
    assert!(answered.elapsed() >= Duration::from_millis(250), "not before its time");
    agimo.until_logged("stopped").await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "term\n");
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed_after_its_grace() {
    let service = Python::at("a.test")
        .key("sleep_after = \"100ms\"\nstop_grace = \"300ms\"")
        .env("IGNORE_TERM", 1)
        .service();
    let agimo = Agimo::with(service).start().await;
    let pid = pid(&agimo).await;
    agimo.until_logged("did not stop within stop_grace").await;
    until_gone(pid).await;
}

#[tokio::test]
async fn a_request_that_comes_while_it_stops_is_held_and_wakes_it_anew() {
    for port in [None, Some(free_port())] {
        let mut program = Python::at("a.test").key("sleep_after = \"200ms\"").env("STOP_DELAY", 1);
        if let Some(port) = port {
            program = program.key(&format!("port = {port}"));
        }
        let agimo = Agimo::with(program.service()).start().await;
        let first = pid(&agimo).await;
        agimo.until_logged("asleep").await;
        assert!(lives(first), "it takes a second to stop");
        let second = pid(&agimo).await;
        assert_ne!(first, second);
        assert_eq!(agimo.metric(WOKEN).await, Some(2.0));
        until_gone(first).await;
    }
}

#[tokio::test]
async fn after_a_crash_the_next_request_wakes_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    // An application that starts in milliseconds, so that there can be some crashes.
    let service = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sh\", \"-c\", \
         'echo $$ >> {}; exec {} demo-application --sleep-after 1s']\n",
        starts.display(),
        env!("CARGO_BIN_EXE_agimo")
    );
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    for round in 1..=8 {
        let running = *pids(&starts).last().unwrap();
        kill_process(Pid::from_raw(running).unwrap(), Signal::KILL).unwrap();
        // At once: agimo may not have noticed yet.
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.status, 200, "round {round}: {}", response.head);
        assert_eq!(pids(&starts).len(), 1 + round);
    }
    assert_eq!(agimo.metric(WOKEN).await, Some(9.0));
}

#[tokio::test]
async fn a_replica_that_dies_is_started_again_while_the_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let service =
        Python::at("a.test").key("replicas = 3").env("STARTS", starts.display()).service();
    let agimo = Agimo::with(service).start().await;
    let serving = || async {
        let mut all = std::collections::BTreeSet::new();
        for _ in 0..24 {
            all.insert(pid(&agimo).await);
        }
        (all.len() == 3).then_some(all)
    };
    let before = eventually("three replicas", serving).await;
    let victim = *before.first().unwrap();
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    let after = eventually("three replicas again", serving).await;
    assert!(!after.contains(&victim));
    assert_eq!(after.intersection(&before).count(), 2, "the others were not touched");
    assert_eq!(pids(&starts).len(), 4);
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
    assert_eq!(
        agimo.metric("agimo_responses_total{host=\"a.test\",class=\"5xx\"}").await,
        Some(0.0)
    );
}

#[tokio::test]
async fn requests_at_the_moment_of_falling_asleep_see_no_error() {
    let agimo =
        Agimo::with(Python::at("a.test").key("sleep_after = \"50ms\"").service()).start().await;
    for round in 0..30 {
        // From shortly before to shortly after: sleep comes 50 ms after the last answer, or some more.
        tokio::time::sleep(Duration::from_millis(45 + round)).await;
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.status, 200, "round {round}: {}", response.head);
    }
    assert!(agimo.metric(WOKEN).await.unwrap() > 1.0, "it did fall asleep in between");
}
