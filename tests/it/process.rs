//! Applications as local processes: start, readiness, output, sleep, crash and restart.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::agimo::Agimo;
use crate::support::eventually;
use crate::support::python::PythonApplication;

mod readiness;
mod tree;

const WOKEN: &str = "agimo_wakes_total{host=\"a.test\",result=\"ready\"}";

/// Whether the process is running. A zombie is not: it has ended and waits to be reaped.
pub(super) fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok() && state != Some('Z')
}

pub(super) async fn wait_until_ended(pid: i32) {
    eventually(&format!("process {pid} to end"), || async { (!is_running(pid)).then_some(()) })
        .await;
}

/// The process ids in a file with one per line.
pub(super) fn pids(file: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The process that answers a request.
pub(super) async fn serving_pid(agimo: &Agimo) -> i32 {
    let response = agimo.get("a.test", "/pid").await;
    assert_eq!(response.status, 200, "{}", response.head);
    response.text().parse().unwrap()
}

pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_process_gets_its_port_environment_and_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let workdir = folder.path().canonicalize().unwrap();
    let port = free_port();
    let fixed = PythonApplication::new("fixed.test").key(&format!("port = {port}")).service();
    let chosen = PythonApplication::new("a.test")
        .key(&format!("workdir = '{}'", workdir.display()))
        .env("GREETING", "good morning")
        .service();
    let agimo = Agimo::with(fixed + &chosen).start().await;
    assert_eq!(agimo.get("fixed.test", "/env/PORT").await.text(), port.to_string());
    let chosen: u16 = agimo.get("a.test", "/env/PORT").await.text().parse().unwrap();
    assert_ne!(chosen, 0);
    assert_eq!(agimo.get("a.test", "/env/GREETING").await.text(), "good morning");
    assert_eq!(agimo.get("a.test", "/cwd").await.text(), workdir.display().to_string());
}

#[tokio::test]
async fn the_port_and_the_host_may_be_used_in_the_command_and_the_environment() {
    let program = "import http.server, os, sys\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       body = os.environ[\"URL\"].encode()\n\
        \x20       self.send_response(200); self.send_header(\"Content-Length\", str(len(body))); self.end_headers()\n\
        \x20       self.wfile.write(body)\n\
        http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()\n";
    let service = format!(
        "[[services]]\nhost = 'a.test'\ntype = 'process'\nenv = {{ URL = 'http://{{host}}:{{port}}/' }}\n\
         command = ['python3', '-S', '-c', '''{program}''', '{{host}}', '{{port}}']\nport = {}\n",
        free_port()
    );
    let port = service.rsplit(" = ").next().unwrap().trim().to_owned();
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.text(), format!("http://127.0.0.1:{port}/"));
}

#[tokio::test]
async fn the_output_of_a_process_is_logged_under_its_name() {
    let service = PythonApplication::new("a.test")
        .key("name = \"shop\"")
        .env("SAY", "taking orders")
        .service();
    let agimo = Agimo::with(service).start().await;
    agimo.get("a.test", "/").await;
    let line = agimo.until_logged("taking orders").await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["process"].as_str(), line["stream"].as_str()), (Some("shop"), Some("stderr")));
}

#[tokio::test]
async fn a_process_sleeps_after_sleep_after_and_not_during_a_slow_request() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("note");
    let service = PythonApplication::new("a.test")
        .key("sleep_after = \"300ms\"")
        .env("NOTE", note.display())
        .service();
    let agimo = Agimo::with(service).start().await;
    let began = Instant::now();
    assert_eq!(agimo.get("a.test", "/slow/1.2").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(1200));
    let answered = Instant::now();
    agimo.until_sleep_count("a.test", 1).await;
    assert!(
        answered.elapsed() >= Duration::from_millis(250),
        "put to sleep before sleep_after had passed"
    );
    agimo.until_event("process_stopped").await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "term\n");
    assert_eq!(agimo.sleep_count("a.test"), 1, "put to sleep during the slow request too");
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_after_stop_grace() {
    let service = PythonApplication::new("a.test")
        .key("sleep_after = \"100ms\"\nstop_grace = \"300ms\"")
        .env("IGNORE_TERM", 1)
        .service();
    let agimo = Agimo::with(service).start().await;
    let pid = serving_pid(&agimo).await;
    agimo.until_logged("did not stop within stop_grace").await;
    wait_until_ended(pid).await;
}

#[tokio::test]
async fn a_request_during_the_stop_of_a_process_is_held_and_starts_a_new_one() {
    for port in [None, Some(free_port())] {
        let mut program =
            PythonApplication::new("a.test").key("sleep_after = \"200ms\"").env("STOP_DELAY", 1);
        if let Some(port) = port {
            program = program.key(&format!("port = {port}"));
        }
        let agimo = Agimo::with(program.service()).start().await;
        let first = serving_pid(&agimo).await;
        agimo.until_sleep_count("a.test", 1).await;
        assert!(is_running(first), "the process takes a second to stop");
        let second = serving_pid(&agimo).await;
        assert_ne!(first, second);
        assert!(!is_running(first), "two processes of one service ran at once");
        assert_eq!(agimo.metric(WOKEN).await, Some(2.0));
    }
}

#[tokio::test]
async fn the_next_request_after_a_crash_starts_a_new_process() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    // An application that starts in milliseconds, so that the test can crash it several times.
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
        wait_until_ended(running).await;
        // agimo may not have noticed the crash yet.
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.status, 200, "round {round}: {}", response.head);
        assert_eq!(pids(&starts).len(), 1 + round);
    }
    assert_eq!(agimo.metric(WOKEN).await, Some(9.0));
}

#[tokio::test]
async fn a_request_that_crashes_its_application_is_not_sent_to_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let service = PythonApplication::new("a.test").env("STARTS", starts.display()).service();
    let agimo = Agimo::with(service).start().await;
    // On a connection of its own, on one that was used before, and as the first request of a wake.
    for (number, first) in [None, Some("/"), None].into_iter().enumerate() {
        if let Some(first) = first {
            assert_eq!(agimo.get("a.test", first).await.status, 200);
        }
        let response = agimo.get("a.test", "/exit/3").await;
        assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
        assert_eq!(pids(&starts).len(), number + 1, "sent to the next process");
    }
    // Other requests are served, however often one of them crashes the application.
    for _ in 0..4 {
        let crash = agimo.get("a.test", "/exit/3").await;
        let other = agimo.get("a.test", "/").await;
        assert_eq!((crash.status, other.status), (502, 200));
    }
    assert_eq!(
        agimo.metric("agimo_wakes_total{host=\"a.test\",result=\"failed\"}").await,
        Some(0.0)
    );
    let exits: Vec<_> =
        agimo.log().into_iter().filter(|line| line.contains("ended by itself")).collect();
    assert_eq!(exits.len(), 7, "each end is logged once");
    assert!(exits.iter().all(|line| line.contains("exit status: 3")), "{exits:?}");
}

#[tokio::test]
async fn the_signal_that_ended_a_process_is_logged() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let pid = serving_pid(&agimo).await;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let line = agimo.until_logged("ended by itself").await;
    assert!(line.contains("signal: 9 (SIGKILL)"), "{line}");
}

#[tokio::test]
async fn a_crashed_replica_is_restarted_while_the_others_serve() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let service = PythonApplication::new("a.test")
        .key("replicas = 3")
        .env("STARTS", starts.display())
        .service();
    let agimo = Agimo::with(service).start().await;
    let serving = || async {
        let mut all = std::collections::BTreeSet::new();
        for _ in 0..24 {
            all.insert(serving_pid(&agimo).await);
        }
        (all.len() == 3).then_some(all)
    };
    let before = eventually("three replicas", serving).await;
    let victim = *before.first().unwrap();
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    let after = eventually("three replicas again", serving).await;
    assert!(!after.contains(&victim));
    assert_eq!(after.intersection(&before).count(), 2, "the other replicas were not restarted");
    assert_eq!(pids(&starts).len(), 4);
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
    assert_eq!(
        agimo.metric("agimo_responses_total{host=\"a.test\",class=\"5xx\"}").await,
        Some(0.0)
    );
}

#[tokio::test]
async fn requests_around_the_moment_of_sleep_are_answered_without_error() {
    let agimo =
        Agimo::with(PythonApplication::new("a.test").key("sleep_after = \"50ms\"").service())
            .start()
            .await;
    for round in 0..30 {
        // Sweeps from shortly before to shortly after the moment of sleep, which is at least 50 ms after the last answer.
        tokio::time::sleep(Duration::from_millis(45 + round)).await;
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.status, 200, "round {round}: {}", response.head);
    }
    assert!(agimo.metric(WOKEN).await.unwrap() > 1.0, "the workload was never put to sleep");
}

#[tokio::test]
async fn services_with_the_same_name_wake_one_process_and_keep_it_awake_together() {
    let shared = PythonApplication::new("a.test").key("name = \"shop\"\nsleep_after = \"400ms\"");
    let longer = shared.service().replace("a.test", "b.test").replace("400ms", "600ms");
    let agimo = Agimo::with(shared.service() + &longer).start().await;
    let by_a = agimo.get("a.test", "/pid").await.text();
    let by_b = agimo.get("b.test", "/pid").await.text();
    assert_eq!(by_a, by_b);
    let woken_by_b = "agimo_wakes_total{host=\"b.test\",result=\"ready\"}";
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0), "counted for the host that woke it");
    assert_eq!(agimo.metric(woken_by_b).await, Some(0.0));
    let services: serde_json::Value =
        serde_json::from_str(&agimo.admin("/services").await.text()).unwrap();
    assert_eq!(services[0]["sleep_after"], "600ms", "the longer value applies to both");
    assert_eq!(services[0]["sleep_after_of_another_service"], true);
    assert_eq!(services[1]["sleep_after_of_another_service"], false);

    // A slow request to one host outlasts the idle time of the other.
    let slow = agimo.get("b.test", "/slow/1.5").await;
    assert_eq!(slow.status, 200);
    assert_eq!(agimo.get("a.test", "/pid").await.text(), by_a, "still the same process");
    let asleep = agimo.until_event("asleep").await;
    assert_eq!(asleep["workload"], "process shop");
    assert_eq!(agimo.get("b.test", "/pid").await.status, 200);
    assert_eq!(agimo.metric(woken_by_b).await, Some(1.0));
}
