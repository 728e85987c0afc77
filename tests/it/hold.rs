//! Held requests: one wake for all of them, order of release, limits, deadlines, and failed wakes.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::agimo::Agimo;
use crate::support::client::Client;
use crate::support::python::PythonApplication;
use crate::support::within;

const HELD: &str = "agimo_held_requests{host=\"a.test\"}";
const ACTIVE: &str = "agimo_active_requests{host=\"a.test\"}";
const WOKEN: &str = "agimo_wakes_total{host=\"a.test\",result=\"ready\"}";
const FAILED: &str = "agimo_wakes_total{host=\"a.test\",result=\"failed\"}";

/// The number of lines in a file that commands append to; 0 while the file does not exist.
fn line_count(file: &std::path::Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

/// A service whose command is a shell script.
fn shell(script: &str, more: &str) -> String {
    format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sh\", \"-c\", '{script}']\n{more}\n"
    )
}

/// Sends a GET on a new connection.
async fn send_get(agimo: &Agimo, path: &str) -> Client {
    let mut client = agimo.connect().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    client
}

#[tokio::test]
async fn a_thousand_held_requests_cause_one_wake_and_are_answered_by_its_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let (starts, listen) = (folder.path().join("starts"), folder.path().join("listen"));
    let service = PythonApplication::new("a.test")
        .key("replicas = 2")
        .env("STARTS", starts.display())
        .env("WAIT_FOR", listen.display())
        .service();
    let agimo = Arc::new(Agimo::with(service).start().await);
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let agimo = agimo.clone();
        requests.spawn(async move { agimo.get("a.test", "/pid").await });
    }
    agimo.until_metric(HELD, 1000.0).await;
    std::fs::write(&listen, "").unwrap();
    let answers = within("a thousand answers", requests.join_all()).await;
    agimo.until_metric(HELD, 0.0).await;
    // The first ready replica releases the held requests, so it may answer all of them. The other one serves as well.
    let mut serving = BTreeSet::new();
    within("answers of both replicas", async {
        while serving.len() < 2 {
            serving.insert(agimo.get("a.test", "/pid").await.text());
        }
    })
    .await;
    let text = std::fs::read_to_string(&starts).unwrap();
    let started: BTreeSet<&str> = text.lines().collect();
    assert_eq!((started.len(), line_count(&starts)), (2, 2), "each replica is started once");
    assert_eq!(serving.iter().map(String::as_str).collect::<BTreeSet<_>>(), started);
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(started.contains(answer.text().as_str()), "{} of {started:?}", answer.text());
    }
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
}

#[tokio::test]
async fn held_requests_are_released_in_arrival_order() {
    const REQUESTS: usize = 40;
    // Bound and not listening: connections are refused until the test calls `listen`.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let service = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\nport = {port}\n"
    );
    let agimo = Agimo::with(service).arguments(&["--threads", "1"]).start().await;
    let mut clients = Vec::new();
    for number in 0..REQUESTS {
        clients.push(send_get(&agimo, &format!("/{number}")).await);
        agimo.until_metric(HELD, (number + 1) as f64).await;
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let recorder = order.clone();
    socket.listen(128).unwrap();
    // One connection after the other, in the order of the kernel's accept queue.
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let listener: TcpListener = socket.into();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let Ok(length @ 1..) = stream.read(&mut buffer) else { continue };
            let head = String::from_utf8_lossy(&buffer[..length]).into_owned();
            recorder.lock().unwrap().push(head.split(' ').nth(1).unwrap().to_owned());
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
async fn a_disconnected_client_leaves_the_gauges_at_once_and_the_wake_continues() {
    let service = PythonApplication::new("a.test")
        .key("readiness = \"/ready\"")
        .env("READY_AFTER", 3)
        .service();
    let agimo = Agimo::with(service).start().await;
    let mut held = Vec::new();
    for number in 0..4 {
        let mut post = agimo.connect().await;
        post.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n").await;
        post.send(vec![b'x'; 100_000]).await;
        held.extend([post, send_get(&agimo, "/").await]);
        agimo.until_metric(HELD, f64::from(number) * 2.0 + 2.0).await;
    }
    let mut delays = Vec::new();
    while let Some(client) = held.pop() {
        drop(client);
        let began = Instant::now();
        let left = held.len() as f64;
        agimo.until_metric(ACTIVE, left).await;
        delays.push(began.elapsed());
        assert_eq!(agimo.metric(HELD).await, Some(left));
    }
    delays.sort_unstable();
    // The median, because a single scrape may be slow on a busy machine.
    assert!(delays[delays.len() / 2] < Duration::from_millis(100), "{delays:?}");
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
async fn requests_beyond_the_hold_limit_get_503_with_retry_after() {
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
        // After a client has disconnected, another request can be held.
        held.pop();
        let host = hosts[1];
        let left = if hosts[0] == host { 1.0 } else { 0.0 };
        agimo.until_metric(&format!("agimo_held_requests{{host=\"{host}\"}}"), left).await;
        held.push(send_get(&agimo, "/").await);
        let count = 1.0 + if hosts[0] == "a.test" { 1.0 } else { 0.0 };
        agimo.until_metric(HELD, count).await;
    }
}

#[tokio::test]
async fn a_failed_wake_is_answered_503_with_its_reason_and_is_not_repeated_for_every_request() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let script = format!("echo x >> {}; echo no database >&2; exit 7", starts.display());
    let agimo = Agimo::with(shell(&script, "")).start().await;
    let began = Instant::now();
    // Concurrent requests first, then sequential ones until the first backoff has passed and the command is started again.
    let mut first = Vec::new();
    for _ in 0..25 {
        first.push(send_get(&agimo, "/").await);
    }
    for client in &mut first {
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (503, Some("wake-exited")));
        let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=4).contains(&seconds), "{seconds}");
    }
    crate::support::eventually("a second start", || async {
        assert_eq!(agimo.get("a.test", "/").await.status, 503);
        (line_count(&starts) >= 2).then_some(())
    })
    .await;
    // Backoffs of 1 s, 2 s and so on: there are at most 1 + log2(n + 1) starts in n seconds.
    let limit = (began.elapsed().as_secs_f64() + 1.0).log2() as usize + 1;
    let started = line_count(&starts);
    assert!(started <= limit, "{started} starts, expected at most {limit}");
    agimo.until_metric(FAILED, started as f64).await;
    let line = agimo.until_logged("wake failed").await;
    assert!(line.contains("exit status: 7") && line.contains("no database"), "{line}");
}

#[tokio::test]
async fn a_missing_command_is_answered_503_and_named_in_the_log() {
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
async fn an_application_that_is_not_ready_within_start_timeout_is_answered_503() {
    let agimo = Agimo::with(shell("sleep 1000", "start_timeout = \"300ms\"")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (503, Some("wake-not-ready")));
    assert!(response.header("retry-after").is_some());
    let line = agimo.until_logged("wake failed").await;
    assert!(line.contains("start_timeout"), "{line}");
}

#[tokio::test]
async fn a_wake_succeeds_after_the_backoff_when_the_cause_of_its_failure_is_fixed() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let program = PythonApplication::new("a.test").service();
    // A start fails until the file exists.
    let program = program.replace("sys.exit(int(env(\"EXIT\")))", "open(env(\"EXIT\")).close()");
    let program =
        program.replace("env = {  }", &format!("env = {{ EXIT = '{}' }}", starts.display()));
    let agimo = Agimo::with(program).start().await;
    let refused = agimo.get("a.test", "/").await;
    assert_eq!((refused.status, refused.reason()), (503, Some("wake-exited")));
    std::fs::write(&starts, "").unwrap();
    crate::support::eventually("an answer after the backoff", || async {
        (agimo.get("a.test", "/").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(agimo.metric(WOKEN).await, Some(1.0));
    assert_eq!(
        agimo.metric(FAILED).await,
        Some(1.0),
        "a request was not refused during the backoff"
    );
}

#[tokio::test]
async fn a_held_post_reaches_the_application_with_its_complete_body() {
    let agimo = Agimo::with(PythonApplication::new("a.test").env("START_DELAY", "0.3").service())
        .start()
        .await;
    let body: String = (0..60_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    let mut client = agimo.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 60000\r\n\r\n").await;
    client.send(&body[..30_000]).await;
    agimo.until_metric(HELD, 1.0).await;
    client.send(&body[30_000..]).await;
    let response = client.response().await;
    assert_eq!(response.status, 200);
    assert!(response.text() == body, "the echoed body differs");
}
