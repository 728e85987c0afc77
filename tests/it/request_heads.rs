//! Request heads: how host and target are read, which heads and framings are refused, and that no request is smuggled.

use std::time::{Duration, Instant};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Response;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Sends bytes that agimo must refuse: it answers once and closes the connection.
async fn expect_refusal(agimo: &Agimo, bytes: impl AsRef<[u8]>) -> Response {
    let mut client = agimo.connect().await;
    client.send(&bytes).await;
    let response = client.response().await;
    let sent = String::from_utf8_lossy(bytes.as_ref()).chars().take(200).collect::<String>();
    assert_eq!(response.header("connection"), Some("close"), "{sent:?}");
    assert!(client.is_closed().await, "more than one answer to {sent:?}: {:?}", client.received);
    response
}

#[tokio::test]
async fn a_missing_or_repeated_host_is_refused() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n",
        "GET http://a.test/ HTTP/1.1\r\n\r\n",
    ] {
        let response = expect_refusal(&agimo, head).await;
        assert_eq!(
            (response.status, response.reason()),
            (400, Some("request-malformed")),
            "{head:?}"
        );
    }
    assert!(record.lock().unwrap().is_empty());
}

#[tokio::test]
async fn hosts_match_in_any_case_with_port_with_trailing_dot_and_as_an_address() {
    let named = ScriptedServer::responding(|request| echo(request.header("host"))).await;
    let addressed = ScriptedServer::responding(|request| echo(request.header("host"))).await;
    let agimo = Agimo::with(named.service("a.test", "") + &addressed.service("[2001:db8::1]", ""));
    let agimo = agimo.start().await;
    let hosts =
        ["A.Test", "a.test:8080", "a.test.", "A.TEST.:80", "[2001:db8::1]", "[2001:DB8::1]:8080"];
    for host in hosts {
        let response = agimo.get(host, "/").await;
        // The Host field is forwarded unchanged.
        assert_eq!((response.status, response.text().as_str()), (200, host));
    }
}

/// A response with `text` as its body.
fn echo(text: Option<&str>) -> String {
    let text = text.unwrap_or("none");
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

#[tokio::test]
async fn an_absolute_form_target_becomes_a_path_and_a_host_field() {
    let server = ScriptedServer::responding(|request| {
        echo(Some(&format!("{} {}", request.line(), request.header("host").unwrap_or("none"))))
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for (head, expected) in [
        ("GET http://a.test/x?y=1 HTTP/1.1\r\nHost: b.test", "GET /x?y=1 HTTP/1.1 a.test"),
        ("GET HTTP://A.test:80 HTTP/1.1\r\nHost: a.test", "GET / HTTP/1.1 A.test:80"),
        ("GET http://a.test/ HTTP/1.0\r\nConnection: keep-alive", "GET / HTTP/1.1 a.test"),
        ("OPTIONS * HTTP/1.1\r\nHost: a.test", "OPTIONS * HTTP/1.1 a.test"),
        ("OPTIONS http://a.test HTTP/1.1\r\nHost: a.test", "OPTIONS * HTTP/1.1 a.test"),
    ] {
        let mut client = agimo.connect().await;
        client.send(format!("{head}\r\n\r\n")).await;
        assert_eq!(client.response().await.text(), expected);
    }
}

#[tokio::test]
async fn http_1_0_connections_are_closed_unless_the_client_asks_for_keep_alive() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let sized = ScriptedServer::answering(HI).await;
    let streaming = ScriptedServer::answering(chunked).await;
    let agimo = Agimo::with(sized.service("a.test", "") + &streaming.service("b.test", ""));
    let agimo = agimo.start().await;

    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "hi");
    assert!(client.is_closed().await);

    let mut client = agimo.connect().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    // HTTP/1.0 has no chunked coding: the body ends with the connection.
    client.send("GET / HTTP/1.0\r\nHost: b.test\r\nConnection: keep-alive\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.header("transfer-encoding"), None, "{}", response.head);
    assert_eq!(response.header("connection"), Some("close"), "{}", response.head);
    assert_eq!(response.text(), "abcde");
}

#[tokio::test]
async fn heads_and_targets_beyond_their_limits_are_refused() {
    let server = ScriptedServer::answering(HI).await;
    let config = "max_head = 2048\nmax_uri = 512\nmax_headers = 8\n".to_owned();
    let agimo = Agimo::with(config + &server.service("a.test", "")).start().await;
    let long = |length| "a".repeat(length);
    for (head, status, reason) in [
        (format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", long(600)), 414, "uri-too-long"),
        // An unfinished head that is larger than the limit.
        (format!("GET /{}", long(2000)), 414, "uri-too-long"),
        (
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", long(2048)),
            431,
            "head-too-large",
        ),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", long(2048)), 431, "head-too-large"),
        (
            format!("GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n", "X: y\r\n".repeat(8)),
            431,
            "head-too-large",
        ),
    ] {
        let response = expect_refusal(&agimo, &head).await;
        assert_eq!((response.status, response.reason()), (status, Some(reason)));
    }
    let fits = format!("GET /{} HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n", long(500), long(1400));
    let mut client = agimo.connect().await;
    client.send(fits).await;
    assert_eq!(client.response().await.status, 200);
}

/// Follows each ambiguous request; only a parser that frames that request differently would read it as a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn ambiguous_framing_is_refused_and_no_request_is_smuggled() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for (version, lines, status) in [
        ("1.1", "Content-Length: 4\r\nTransfer-Encoding: chunked", 400),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
        ("1.1", "Content-Length: 0\r\nContent-Length: 41", 400),
        ("1.1", "Content-Length: 0\r\nContent-Length: 0", 400),
        ("1.1", "Content-Length: +5", 400),
        ("1.1", "Content-Length: 5,5", 400),
        ("1.1", "Content-Length: 5, 6", 400),
        ("1.1", "Content-Length: -1", 400),
        ("1.1", "Content-Length: 0x5", 400),
        ("1.1", "Content-Length: ", 400),
        ("1.1", "Content-Length: 18446744073709551616", 400),
        ("1.1", "Transfer-Encoding: gzip, chunked", 501),
        ("1.1", "Transfer-Encoding: chunked, chunked", 501),
        ("1.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
        ("1.1", "Transfer-Encoding: identity", 501),
        ("1.1", "Transfer-Encoding: xchunked", 501),
        ("1.1", "Transfer-Encoding: \"chunked\"", 501),
        ("1.1", "Transfer-Encoding:", 501),
        ("1.0", "Transfer-Encoding: chunked", 400),
    ] {
        let request =
            format!("POST / HTTP/{version}\r\nHost: a.test\r\n{lines}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        let response = expect_refusal(&agimo, request).await;
        assert_eq!(response.status, status, "{lines:?}");
    }
    assert_eq!(*record.lock().unwrap(), b"", "the application received bytes");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn malformed_chunks_are_refused_and_bytes_after_them_are_not_a_request() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for body in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5;x\ny\r\nhello\r\n0\r\n\r\n",
        "0\r\nno field\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        // In one write: the chunk is found malformed before the head has been forwarded.
        let response = expect_refusal(&agimo, format!("{head}{body}\r\n{SMUGGLED}")).await;
        assert_eq!(
            (response.status, response.reason()),
            (400, Some("request-malformed")),
            "{body:?}"
        );
        // After a valid chunk that has been forwarded already.
        let before = server.connections();
        let mut client = agimo.connect().await;
        client.send(format!("{head}2\r\nok\r\n")).await;
        crate::support::eventually("the application to receive the head", || async {
            (server.connections() > before).then_some(())
        })
        .await;
        client.send(format!("{body}\r\n{SMUGGLED}")).await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.reason()),
            (400, Some("request-malformed")),
            "{body:?}"
        );
        assert!(client.is_closed().await, "{body:?}");
    }
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    assert!(!record.contains("smuggled") && !record.contains("0\r\n\r\n"), "{record}");
}

#[tokio::test]
async fn heads_that_two_parsers_could_read_differently_are_refused() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for head in [
        "GET / HTTP/1.1\nHost: a.test\n\n",
        "GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\rZ: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\0z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX\0: y\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nno colon\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let response = expect_refusal(&agimo, format!("{head}{SMUGGLED}")).await;
        assert_eq!(
            (response.status, response.reason()),
            (400, Some("request-malformed")),
            "{head:?}"
        );
    }
    for (head, status) in [
        ("GET / x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("connect a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("get / HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", 505),
        ("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n", 501),
    ] {
        assert_eq!(
            expect_refusal(&agimo, format!("{head}{SMUGGLED}")).await.status,
            status,
            "{head:?}"
        );
    }
    assert_eq!(*record.lock().unwrap(), b"", "the application received bytes");
}

#[tokio::test]
async fn a_slow_head_gets_408_and_an_idle_connection_is_closed() {
    let server = ScriptedServer::answering(HI).await;
    let config = "head_timeout = \"300ms\"\nkeep_alive_timeout = \"600ms\"\n".to_owned();
    let agimo = Agimo::with(config + &server.service("a.test", "")).start().await;

    let mut slow = agimo.connect().await;
    let began = Instant::now();
    slow.send("GET / HTTP/1.1\r\nHost: a").await;
    let response = slow.response().await;
    assert_eq!((response.status, response.reason()), (408, Some("head-timeout")));
    assert!(began.elapsed() >= Duration::from_millis(290));
    assert!(slow.is_closed().await);

    // Sending a few bytes now and then does not extend the deadline.
    let mut dripping = agimo.connect().await;
    let drip = async {
        dripping.send("GET / HTTP/1.1\r\n").await;
        while !dripping.received.starts_with(b"HTTP/1.1 408 ") {
            let read = tokio::time::timeout(Duration::from_millis(50), dripping.read());
            match read.await {
                Ok(open) => assert!(open, "closed without an answer"),
                Err(_) => dripping.send("X: y\r\n").await,
            }
        }
    };
    within("408 for a head sent slowly", drip).await;

    let mut idle = agimo.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    let began = Instant::now();
    assert!(idle.is_closed().await, "agimo sent bytes before it closed the connection");
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = ScriptedServer::responding(|request| {
        echo(Some(&format!("{} {}", request.line(), request.body.len())))
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut all = String::new();
    for number in 0..20 {
        all +=
            &format!("POST /{number} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {number}\r\n\r\n");
        all += &"x".repeat(number);
        all += &format!("GET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    let mut client = agimo.connect().await;
    client.send(all).await;
    for number in 0..20 {
        assert_eq!(client.response().await.text(), format!("POST /{number} HTTP/1.1 {number}"));
        assert_eq!(client.response().await.text(), format!("GET /{number} HTTP/1.1 0"));
    }
}

#[tokio::test]
async fn an_unknown_host_gets_404_and_the_connection_stays_open() {
    let server = ScriptedServer::answering(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (404, Some("unknown-host")));
    }
    client.send("HEAD / HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(client.response_to("HEAD").await.status, 404);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "hi");
}

#[tokio::test]
async fn a_response_of_agimo_to_head_has_no_body_even_if_the_head_is_malformed() {
    let server = ScriptedServer::answering(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for (host, status) in [("unknown.test", 404), ("a.test\r\nbad line", 400)] {
        let mut client = agimo.connect().await;
        client.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(client.response_to("HEAD").await.status, status);
        client.shutdown_write().await;
        assert_eq!(client.read_to_end().await, b"");
    }
}
