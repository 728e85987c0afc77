//! HTTP/2 from clients and to applications, in every combination with HTTP/1.1. Clients and applications are Node's, curl
//! and nghttp2.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::node::{http2_application, run_client, spawn_client};
use crate::support::python::PythonApplication;
use crate::support::within;

mod abuse;
mod grpc;
mod tunnels;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// An application that speaks HTTP/2, behind `a.test`.
async fn with_http2_application(more: &str) -> Agimo {
    Agimo::with(http2_application("a.test", more)).start().await
}

/// A service, `a.test`, that never gets ready; `more` are further keys.
async fn never_ready(more: &str) -> Agimo {
    let service =
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]";
    Agimo::with(format!("{service}\n{more}\n")).start().await
}

#[tokio::test]
async fn a_sleeping_http1_application_is_woken_by_an_http2_request() {
    let application = PythonApplication::new("a.test");
    let agimo = Agimo::with(application.service()).start().await;
    let script = "
        const body = 'x'.repeat(1 << 20);
        const echo = await call({ ':path': '/echo' }, body);
        print([echo.status, echo.body == body]);
        print((await call({})).body);";
    assert_eq!(run_client(agimo.address, script).await, [json!([200, true]), json!("hi")]);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
    assert_eq!(agimo.metric("agimo_requests_total{host=\"a.test\"}").await, Some(2.0));
}

#[tokio::test]
async fn the_head_of_an_http2_request_becomes_one_of_http1() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let script = "
        print((await call({ cookie: ['a=1', 'b=2'], te: 'trailers', 'x-own': ' 1 ' })).status);
        print((await call({ ':method': 'POST', 'content-type': 'text/plain' })).status);";
    assert_eq!(run_client(agimo.address, script).await, [json!(200), json!(200)]);
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    let (first, second) = record.split_once("\r\n\r\n").unwrap();
    assert!(first.starts_with("GET / HTTP/1.1\r\nHost: a.test\r\n"), "{first}");
    for line in ["cookie: a=1; b=2", "TE: trailers", "Connection: TE", "x-own: 1"] {
        assert!(first.lines().any(|found| found == line), "{line:?} in {first}");
    }
    assert!(first.contains("\r\nVia: 2.0 agimo-"), "{first}");
    assert!(!record.to_lowercase().contains("transfer-encoding"), "{record}");
    assert!(second.contains("\r\nContent-Length: 0\r\n"), "{second}");
}

#[tokio::test]
async fn an_http1_client_is_served_by_an_http2_application() {
    let agimo = with_http2_application("").await;
    let mut client = agimo.connect().await;
    client.send("GET /head HTTP/1.1\r\nHost: a.test\r\nCookie: a=1; b=2\r\nX-Own: 1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n").await;
    let head: Value = serde_json::from_str(&client.response().await.text()).unwrap();
    for (name, value) in [
        (":method", "GET"),
        (":authority", "a.test"),
        (":scheme", "http"),
        ("cookie", "a=1; b=2"),
        ("x-own", "1"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(head[name], json!(value), "{name} in {head}");
    }
    assert_eq!(
        (&head["host"], &head["x-hop"], &head["connection"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let chunked = "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send([chunked, "5\r\nhello\r\n0\r\n\r\n"].concat()).await;
    let response = client.response().await;
    assert_eq!(
        (response.text().as_str(), response.trailers.as_str()),
        ("hello", "x-length: 5\r\n")
    );
}

#[tokio::test]
async fn bodies_trailers_and_early_hints_pass_from_http2_to_http2() {
    let agimo = with_http2_application("").await;
    let script = "
        const body = 'x'.repeat(1 << 20);
        const echo = await call({ ':path': '/echo' }, body);
        print([echo.status, echo.body == body, echo.trailers['x-length']]);
        const hints = await call({ ':path': '/hints' });
        print([hints.informational, hints.status, hints.body]);";
    let printed = run_client(agimo.address, script).await;
    assert_eq!(printed, [json!([200, true, "1048576"]), json!([[103], 200, "hi"])]);
}

#[tokio::test]
async fn an_http1_client_is_told_that_a_response_of_http2_has_no_body() {
    let agimo = with_http2_application("").await;
    let mut client = agimo.connect().await;
    for _ in 0..2 {
        client.send("GET /empty HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status, response.header("content-length")), (302, Some("0")));
    }
}

#[tokio::test]
async fn informational_responses_to_one_request_are_bounded() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100);
    let server = ScriptedServer::responding(move |_| [&early, HI].concat()).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let script = "
        const response = await call({});
        print([response.informational.length, response.body]);";
    assert_eq!(run_client(agimo.address, script).await, [json!([16, "hi"])]);
}

#[tokio::test]
async fn many_requests_of_one_client_share_few_connections_to_the_application() {
    let agimo = with_http2_application("").await;
    let script = "
        const calls = Array.from({ length: 300 }, () => call({}));
        const responses = await Promise.all(calls);
        print(responses.filter((response) => response.body == 'hi').length);
        print(Number((await call({ ':path': '/sessions' })).body));";
    let printed = run_client(agimo.address, script).await;
    assert_eq!(printed[0], json!(300));
    // The client opens at most 100 streams at once, all on one core of agimo.
    assert_eq!(printed[1], json!(1));
}

#[tokio::test]
async fn more_connections_are_opened_where_the_application_limits_their_streams() {
    let agimo = with_http2_application("env = { STREAMS = \"10\" }").await;
    let script = "
        print((await call({})).body);
        const held = Array.from({ length: 25 }, () => open({ ':path': '/never' }));
        print(Number((await call({ ':path': '/sessions' })).body));
        held.forEach((stream) => stream.close());";
    assert_eq!(run_client(agimo.address, script).await, [json!("hi"), json!(3)]);
}

#[tokio::test]
async fn a_refused_stream_and_a_connection_that_goes_away_are_not_seen_by_the_client() {
    let agimo = with_http2_application("").await;
    let script = "
        print((await call({ ':path': '/refuse', ':method': 'POST' })).body);
        for (let i = 0; i < 20; i++) {
            const [bye, hi] = await Promise.all([call({ ':path': '/goaway' }), call({})]);
            if (bye.body != 'bye' || hi.body != 'hi') print([bye, hi]);
        }
        print('end');";
    assert_eq!(run_client(agimo.address, script).await, [json!("hi"), json!("end")]);
}

#[tokio::test]
async fn a_stream_that_the_application_resets_is_a_502() {
    let agimo = with_http2_application("").await;
    let script = "
        const response = await call({ ':path': '/reset' });
        print([response.status, response.head['x-agimo-reason']]);";
    let printed = run_client(agimo.address, script).await;
    assert_eq!(printed, [json!([502, "connection-broken"])]);
}

#[tokio::test]
async fn a_response_that_breaks_off_resets_the_stream() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let script = "
        const response = await call({});
        print([response.error, response.code]);";
    // INTERNAL_ERROR (RFC 9113 section 7).
    assert_eq!(run_client(agimo.address, script).await, [json!(["ERR_HTTP2_STREAM_ERROR", 2])]);
}

#[tokio::test]
async fn a_client_that_resets_its_stream_is_no_longer_held() {
    let agimo = never_ready("").await;
    let held = "agimo_held_requests{host=\"a.test\"}";
    let mut client = spawn_client(
        agimo.address,
        "const one = open({ ':method': 'POST' }); const other = open({});
         setInterval(() => {}, 1000);
         process.on('SIGUSR2', () => one.close());
         await new Promise(() => {});",
    );
    agimo.until_metric(held, 2.0).await;
    let pid = rustix::process::Pid::from_raw(client.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::USR2).unwrap();
    agimo.until_metric(held, 1.0).await;
    client.kill().await.unwrap();
    agimo.until_metric(held, 0.0).await;
}

#[tokio::test]
async fn a_drain_lets_open_streams_finish_and_ends_the_connection() {
    let application = PythonApplication::new("a.test");
    let agimo = Agimo::with(application.service()).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
    let script = "
        session.on('goaway', (code) => print(['goaway', code]));
        const closed = until(session, 'close');
        print((await call({ ':path': '/slow/1' })).body);
        await closed;
        print('closed');";
    let client = spawn_client(agimo.address, script);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 1.0).await;
    agimo.signal(Signal::TERM);
    let output = within("the client to end", client.wait_with_output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"[\"goaway\",0]"), "{text}");
    assert_eq!(lines[lines.len() - 2..], ["\"hi\"", "\"closed\""], "{text}");
}

#[tokio::test]
async fn curl_and_nghttp_are_served() {
    let agimo = with_http2_application("").await;
    let url = format!("http://{}/", agimo.address);
    let curl = Command::new("curl")
        .args([
            "-s",
            "--http2-prior-knowledge",
            "-H",
            "Host: a.test",
            "-w",
            " %{http_version}",
            &url,
        ])
        .output();
    let output = within("curl to end", curl).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hi 2");
    let nghttp = Command::new("nghttp").args(["-H", ":authority: a.test", &url]).output();
    let output = within("nghttp to end", nghttp).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hi");
}
