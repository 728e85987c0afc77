//! The hold: one wake for all who wait, each with its place, its deadline and its reason.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::agimo::Agimo;
use crate::support::client::Client;
use crate::support::python::Python;
use crate::support::within;

const HELD: &str = "agimo_held_requests{host=\"a.test\"}";
const ACTIVE: &str = "agimo_active_requests{host=\"a.test\"}";
const WOKEN: &str = "agimo_wakes_total{host=\"a.test\",result=\"ready\"}";
const FAILED: &str = "agimo_wakes_total{host=\"a.test\",result=\"failed\"}";

/// Lines of a file that commands append to; none while there is no file.
fn lines(file: &std::path::Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// A service whose command is a shell script.
fn shell(script: &str, more: &str) -> String {
    format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sh\", \"-c\", '{script}']\n{more}\n"
    )
}

async fn ask(agimo: &Agimo, path: &str) -> Client {
    let mut client = agimo.connect().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    client
}

#[tokio::test]
async fn a_thousand_first_requests_start_one_wake_and_are_all_answered_by_both_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let service = Python::at("a.test")
        .key("replicas = 2")
        .env("STARTS", starts.display())
        .env("START_DELAY", 1)
        .service();
    let agimo = Arc::new(Agimo::with(service).start().await);
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let agimo = agimo.clone();
        requests.spawn(async move { agimo.get("a.test", "/pid").await });
    }
    let answers = within("a thousand answers", requests.join_all()).await;
    let mut by_process = std::collections::HashMap::<String, usize>::new();
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.head);
        *by_process.entry(answer.text()).or_default() += 1;
    }
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
    assert_eq!(lines(&starts), 2, "each replica is started once");
    assert!(!by_process.is_empty() && by_process.len() <= 2, "{by_process:?}");
    agimo.until_metric(HELD, 0.0).await;
}

#[tokio::test]
async fn held_requests_are_spread_over_the_endpoints() {
    // Both replicas listen before either counts as ready, so that those held find two endpoints.
    let service = Python::at("a.test")
        .key("replicas = 2\nreadiness = \"/ready\"")
        .env("READY_AFTER", 1)
        .service();
    let agimo = Arc::new(Agimo::with(service).start().await);
    agimo.get("a.test", "/").await;
    let both = "a second replica".to_owned();
    crate::support::eventually(&both, || async {
        let pids =
            [agimo.get("a.test", "/pid").await.text(), agimo.get("a.test", "/pid").await.text()];
        (pids[0] != pids[1]).then_some(())
    })
    .await;
    let mut requests = JoinSet::new();
    for _ in 0..60 {
        let agimo = agimo.clone();
        requests.spawn(async move {
            let mut client = ask(&agimo, "/slow/0.3").await;
            client.response().await;
            client.send("GET /pid HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            client.response().await.text()
        });
    }
    let mut pids = within("the answers", requests.join_all()).await;
    pids.sort();
    let one = pids.iter().filter(|pid| **pid == pids[0]).count();
    assert!((10..=50).contains(&one), "{one} of 60 went to one of the two");
}

#[tokio::test]
async fn held_requests_are_released_in_the_order_of_their_arrival() {
    const REQUESTS: usize = 40;
    // Bound and not listening: connections are refused until the test says.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let service = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\nport = {port}\n"
    );
    let agimo = Agimo::with(service).arguments(&["--threads", "1"]).start().await;
    let mut clients = Vec::new();
    for number in 0..REQUESTS {
        clients.push(ask(&agimo, &format!("/{number}")).await);
        agimo.until_metric(HELD, (number + 1) as f64).await;
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let keep = order.clone();
    socket.listen(128).unwrap();
    // One after the other, as the kernel has queued them.
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let listener: TcpListener = socket.into();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let Ok(length @ 1..) = stream.read(&mut buffer) else { continue };
            let head = String::from_utf8_lossy(&buffer[..length]).into_owned();
            keep.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    let arrived: Vec<String> = (0..REQUESTS).map(|number| format!("/{number}")).collect();
    assert_eq!(*order.lock().unwrap(), arrived);
}

#[tokio::test]
async fn a_client_that_leaves_is_gone_from_the_gauges_at_once_and_the_wake_goes_on() {
    let service =
        Python::at("a.test").key("readiness = \"/ready\"").env("READY_AFTER", 3).service();
    let agimo = Agimo::with(service).start().await;
    let mut held = Vec::new();
    for number in 0..4 {
        let mut post = agimo.connect().await;
        post.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n").await;
        post.send(vec![b'x'; 100_000]).await;
        held.extend([post, ask(&agimo, "/").await]);
        agimo.until_metric(HELD, f64::from(number) * 2.0 + 2.0).await;
    }
    let mut took = Vec::new();
    while let Some(client) = held.pop() {
        drop(client);
        let began = Instant::now();
        let left = held.len() as f64;
        agimo.until_metric(ACTIVE, left).await;
        took.push(began.elapsed());
        assert_eq!(agimo.metric(HELD).await, Some(left));
    }
    took.sort_unstable();
    // The look at the gauge takes its time too, now and then much of it on a busy machine.
    assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
    agimo.until_metric(WOKEN, 1.0).await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
}

#[tokio::test]
async fn a_request_held_past_its_timeout_is_answered_504() {
    let agimo = Agimo::with(shell("sleep 1000", "timeout = \"200ms\"")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
}

#[tokio::test]
async fn a_full_hold_answers_503_and_when_to_come_again() {
    for (config, hosts) in [
        (shell("sleep 1000", "max_held = 2"), ["a.test", "a.test", "a.test"]),
        (
            format!(
                "max_held_total = 2\n{}{}",
                shell("sleep 1000", ""),
                shell("sleep 1000", "").replace("a.test", "b.test")
            ),
            ["a.test", "b.test", "a.test"],
        ),
    ] {
        let agimo = Agimo::with(config).start().await;
        let mut held = Vec::new();
        for host in &hosts[..2] {
            let mut client = agimo.connect().await;
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            held.push(client);
        }
        for host in ["a.test", "b.test"] {
            let count = hosts[..2].iter().filter(|held| **held == host).count();
            if count > 0 {
                agimo
                    .until_metric(&format!("agimo_held_requests{{host=\"{host}\"}}"), count as f64)
                    .await;
            }
        }
        let response = agimo.get(hosts[2], "/").await;
        assert_eq!((response.status, response.reason()), (503, Some("hold-full")));
        assert_eq!(response.header("retry-after"), Some("1"));
        // A place is free again as soon as someone leaves.
        held.pop();
        let host = hosts[1];
        let left = if hosts[0] == host { 1.0 } else { 0.0 };
        agimo.until_metric(&format!("agimo_held_requests{{host=\"{host}\"}}"), left).await;
        held.push(ask(&agimo, "/").await);
        let count = 1.0 + if hosts[0] == "a.test" { 1.0 } else { 0.0 };
        agimo.until_metric(HELD, count).await;
    }
}

#[tokio::test]
async fn a_failed_wake_answers_503_names_its_reason_and_is_not_tried_for_every_request() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let script = format!("echo x >> {}; echo no database >&2; exit 7", starts.display());
    let agimo = Agimo::with(shell(&script, "")).start().await;
    let began = Instant::now();
    let mut requests = 0;
    // Some 25 at once and then one after the other, for longer than the first pause of a second.
    let mut first = Vec::new();
    for _ in 0..25 {
        first.push(ask(&agimo, "/").await);
    }
    for client in &mut first {
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (503, Some("wake-exited")));
        let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=4).contains(&seconds), "{seconds}");
        requests += 1;
    }
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(agimo.get("a.test", "/").await.status, 503);
        requests += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Pauses of 1 s and 2 s and so on: at second n there have been at most 1 + log2(n + 1) starts.
    let most = (began.elapsed().as_secs_f64() + 1.0).log2() as usize + 1;
    let started = lines(&starts);
    assert!(
        (1..=most).contains(&started),
        "{started} starts for {requests} requests, at most {most}"
    );
    assert!(agimo.metric(FAILED).await.unwrap() >= 1.0);
    let line = agimo.until_logged("wake failed").await;
    assert!(line.contains("exit status: 7") && line.contains("no database"), "{line}");
}

#[tokio::test]
async fn a_command_that_is_not_there_answers_503_and_the_log_names_it() {
    let config = "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"no-such-program-here\"]\n";
    let agimo = Agimo::with(config).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!(response.status, 503);
    assert!(response.reason().unwrap().starts_with("wake-"), "{}", response.head);
    assert!(response.header("retry-after").is_some());
    let line = agimo.until_logged("wake failed").await;
    assert!(line.contains("no-such-program-here"), "{line}");
}

#[tokio::test]
async fn an_application_that_is_not_ready_in_time_answers_503() {
    let agimo = Agimo::with(shell("sleep 1000", "start_timeout = \"300ms\"")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (503, Some("wake-not-ready")));
    assert!(response.header("retry-after").is_some());
    let line = agimo.until_logged("wake failed").await;
    assert!(line.contains("start_timeout"), "{line}");
}

#[tokio::test]
async fn once_the_cause_has_gone_the_first_request_after_the_pause_wakes_it() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let program = Python::at("a.test").service();
    // The first start fails, the second succeeds.
    let program = program.replace("sys.exit(int(env(\"EXIT\")))", "open(env(\"EXIT\")).close()");
    let program =
        program.replace("env = {  }", &format!("env = {{ EXIT = '{}' }}", starts.display()));
    let agimo = Agimo::with(program).start().await;
    let refused = agimo.get("a.test", "/").await;
    assert_eq!((refused.status, refused.reason()), (503, Some("wake-exited")));
    std::fs::write(&starts, "").unwrap();
    crate::support::eventually("an answer after the pause", || async {
        (agimo.get("a.test", "/").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
}

#[tokio::test]
async fn a_held_post_arrives_with_its_whole_body() {
    let agimo = Agimo::with(Python::at("a.test").env("START_DELAY", "0.3").service()).start().await;
    let body: String = (0..60_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    let mut client = agimo.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 60000\r\n\r\n").await;
    client.send(&body[..30_000]).await;
    agimo.until_metric(HELD, 1.0).await;
    client.send(&body[30_000..]).await;
    let response = client.response().await;
    assert_eq!(response.status, 200);
    assert!(response.text() == body, "the body came back whole");
}
