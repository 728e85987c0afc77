//! What happens to header lines on the way: which end here, which are added, and that all others pass untouched. It tests no framing.

use tokio::sync::mpsc;

use crate::support::agimo::Agimo;
use crate::support::application::Script;
use crate::support::client::Response;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The head that an application receives for a request with these lines.
async fn head_at_the_application(config: &str, lines: &str) -> String {
    let (seen, mut heads) = mpsc::channel(1);
    let script = Script::serve(move |mut client, _| {
        let seen = seen.clone();
        async move {
            let request = client.request().await.unwrap();
            seen.send(request.head).await.unwrap();
            client.send(HI).await;
        }
    })
    .await;
    let agimo = Agimo::with(config.to_owned() + &script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(format!("GET /x?y=%20&z HTTP/1.1\r\n{lines}\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);
    within("a request", heads.recv()).await.unwrap()
}

/// A client's response head and body when the application writes `response` and closes.
async fn response_at_the_client(method: &str, response: &'static str) -> Response {
    let script = Script::serve(move |mut client, _| async move {
        client.request().await.unwrap();
        client.send(response).await;
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    client.response_to(method).await
}

const ADDED: &str = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
    X-Forwarded-Host: A.test:80\r\nForwarded: for=127.0.0.1;host=\"A.test:80\";proto=http";

#[tokio::test]
async fn a_request_keeps_its_lines_their_order_and_their_case() {
    let lines = "zeta: 1\r\nHOST: A.test:80\r\nCookie: a=b\r\nX-Empty:\r\nx-list: a,  b ,c\r\n\
        Cookie: c=d\r\nX-Bytes: \u{fc}\u{2603}\r\nAccept-Encoding: gzip\r\nAuthorization: Basic x";
    let head = head_at_the_application("", lines).await;
    let kept = lines.replace("X-Empty:", "X-Empty: ");
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\n{kept}\r\n{ADDED}"));
}

#[tokio::test]
async fn lines_about_one_connection_end_here_with_those_that_connection_names() {
    let lines = "Host: A.test:80\r\nConnection: keep-alive, X-Own\r\nX-Before: 1\r\nx-own: 2\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\
        Connection: x-Other\r\nX-OTHER: 3\r\nX-After: 4";
    let head = head_at_the_application("", lines).await;
    let kept = "Host: A.test:80\r\nX-Before: 1\r\nX-After: 4";
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\n{kept}\r\n{ADDED}"));
}

#[tokio::test]
async fn host_and_framing_cannot_be_named_away() {
    let lines = "Host: A.test:80\r\nContent-Length: 0\r\nConnection: host, content-length, \
        x-forwarded-for, forwarded";
    let head = head_at_the_application("", lines).await;
    let kept = "Host: A.test:80\r\nContent-Length: 0";
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\n{kept}\r\n{ADDED}"));
}

#[tokio::test]
async fn spoofed_words_about_earlier_hops_are_dropped() {
    let lines = "Host: A.test:80\r\nX-Forwarded-For: 1.2.3.4\r\nx-forwarded-proto: https\r\n\
        X-FORWARDED-HOST: b.test\r\nForwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-For: 5.6.7.8";
    for config in ["", "trusted_proxies = [\"10.0.0.0/8\"]\n"] {
        let head = head_at_the_application(config, lines).await;
        assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\nHost: A.test:80\r\n{ADDED}"));
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_and_its_words_are_continued() {
    let lines = "Host: a.test\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: b.test\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 9.9.9.9";
    let trusting = "trusted_proxies = [\"127.0.0.0/8\"]\n";
    let head = head_at_the_application(trusting, lines).await;
    let expected = "GET /x?y=%20&z HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: b.test\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 127.0.0.1\r\n\
        Forwarded: for=1.2.3.4, for=127.0.0.1;host=a.test;proto=http";
    assert_eq!(head, expected);
    // Where the proxy says nothing, the same is set as for everybody.
    let head = head_at_the_application(trusting, "Host: A.test:80").await;
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\nHost: A.test:80\r\n{ADDED}"));
}

#[tokio::test]
async fn trailers_are_welcome_where_the_client_says_so() {
    let lines = "Host: A.test:80\r\nTE: gzip, trailers\r\nConnection: TE";
    let head = head_at_the_application("", lines).await;
    let end = "TE: trailers\r\nConnection: TE";
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\nHost: A.test:80\r\n{ADDED}\r\n{end}"));
}

#[tokio::test]
async fn a_response_reaches_the_client_byte_for_byte() {
    for head in [
        "HTTP/1.1 200 Fine by me\r\nsErVer: x\r\nX-B: 2\r\nX-A: 1\r\nSet-Cookie: a=b\r\nx-b: 3\r\n\
         Set-Cookie: c=d\r\nDate: yesterday\r\nContent-Length: 3",
        "HTTP/1.1 299 \r\nContent-Length: 3",
        "HTTP/1.1 500 Oh, no: it's broken!\r\nContent-Length: 3\r\nVia: 1.1 elsewhere\r\nAge: 7",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\nX-Forwarded-For: mine\r\nHost: odd",
    ] {
        let response: &'static str = format!("{head}\r\n\r\nabc").leak();
        let received = response_at_the_client("GET", response).await;
        assert_eq!((received.head.as_str(), received.text().as_str()), (head, "abc"));
    }
}

#[tokio::test]
async fn lines_about_the_applications_connection_end_here() {
    let response = "HTTP/1.1 200 OK\r\nX-Before: 1\r\nConnection: close, X-Own\r\nX-Own: 2\r\n\
        Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nContent-Length: 3\r\n\
        X-After: 4\r\n\r\nabc";
    let received = response_at_the_client("GET", response).await;
    let kept = "HTTP/1.1 200 OK\r\nX-Before: 1\r\nContent-Length: 3\r\nX-After: 4";
    assert_eq!((received.head.as_str(), received.text().as_str()), (kept, "abc"));
}

#[tokio::test]
async fn a_demand_for_an_upgrade_names_its_protocol() {
    let response = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\
        Content-Length: 0\r\n\r\n";
    let received = response_at_the_client("GET", response).await;
    let kept =
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nContent-Length: 0\r\nConnection: upgrade";
    assert_eq!(received.head, kept);
}

#[tokio::test]
async fn a_response_with_two_framings_is_made_one_or_refused() {
    let one_body = [
        "HTTP/1.1 200 OK\r\nContent-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ];
    let refused = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 30\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/3.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
    ];
    for response in one_body.into_iter().chain(refused) {
        // The application keeps its connection and would take more requests on it.
        let script = Script::answering(response).await;
        let agimo = Agimo::with(script.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        for requests in 1..=2 {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let received = client.response().await;
            if one_body.contains(&response) {
                assert_eq!((received.status, received.text().as_str()), (200, "abc"));
                assert_eq!(received.header("content-length"), None, "{}", received.head);
            } else {
                let outcome = (received.status, received.reason());
                assert_eq!(outcome, (502, Some("response-malformed")), "{response:?}");
            }
            assert_eq!(script.connections(), requests, "used again after {response:?}");
        }
        assert!(client.received.is_empty(), "{response:?}: {:?}", client.received);
    }
}
