//! Header fields of requests and responses: which are removed, which are added, and that all others are forwarded
//! unchanged.

use tokio::sync::mpsc;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Response;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The head that an application receives for a request with these header fields.
async fn head_at_the_application(config: &str, lines: &str) -> String {
    let (seen, mut heads) = mpsc::channel(1);
    let server = ScriptedServer::serve(move |mut client, _| {
        let seen = seen.clone();
        async move {
            let request = client.request().await.unwrap();
            seen.send(request.head).await.unwrap();
            client.send(HI).await;
        }
    })
    .await;
    let agimo = Agimo::with(config.to_owned() + &server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(format!("GET /x?y=%20&z HTTP/1.1\r\n{lines}\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);
    let head = within("a request", heads.recv()).await.unwrap();
    // Each agimo has another name.
    let (via, others): (Vec<&str>, Vec<&str>) =
        head.split("\r\n").partition(|line| line.starts_with("Via: 1.1 agimo-"));
    assert_eq!(via.len(), 1, "{head}");
    others.join("\r\n")
}

/// The response that a client receives when the application writes `response` and closes the connection.
async fn response_at_the_client(method: &str, response: &'static str) -> Response {
    let server = ScriptedServer::serve(move |mut client, _| async move {
        client.request().await.unwrap();
        client.send(response).await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
    client.response_to(method).await
}

const ADDED: &str = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
    X-Forwarded-Host: A.test:80\r\nForwarded: for=127.0.0.1;host=\"A.test:80\";proto=http";

#[tokio::test]
async fn request_fields_keep_their_order_and_case() {
    let lines = "zeta: 1\r\nHOST: A.test:80\r\nCookie: a=b\r\nX-Empty:\r\nx-list: a,  b ,c\r\n\
        Cookie: c=d\r\nX-Bytes: \u{fc}\u{2603}\r\nAccept-Encoding: gzip\r\nAuthorization: Basic x";
    let head = head_at_the_application("", lines).await;
    let kept = lines.replace("X-Empty:", "X-Empty: ");
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\n{kept}\r\n{ADDED}"));
}

#[tokio::test]
async fn hop_by_hop_request_fields_are_removed() {
    let lines = "Host: A.test:80\r\nConnection: keep-alive, X-Own\r\nX-Before: 1\r\nx-own: 2\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\
        Connection: x-Other\r\nX-OTHER: 3\r\nX-After: 4";
    let head = head_at_the_application("", lines).await;
    let kept = "Host: A.test:80\r\nX-Before: 1\r\nX-After: 4";
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\n{kept}\r\n{ADDED}"));
}

#[tokio::test]
async fn connection_options_do_not_remove_host_or_framing_fields() {
    let lines = "Host: A.test:80\r\nContent-Length: 0\r\nConnection: host, content-length, \
        x-forwarded-for, forwarded";
    let head = head_at_the_application("", lines).await;
    let kept = "Host: A.test:80\r\nContent-Length: 0";
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\n{kept}\r\n{ADDED}"));
}

#[tokio::test]
async fn forwarding_fields_of_untrusted_clients_are_replaced() {
    let lines = "Host: A.test:80\r\nX-Forwarded-For: 1.2.3.4\r\nx-forwarded-proto: https\r\n\
        X-FORWARDED-HOST: b.test\r\nForwarded: for=1.2.3.4;proto=https\r\nX-Forwarded-For: 5.6.7.8";
    for config in ["", "trusted_proxies = [\"10.0.0.0/8\"]\n"] {
        let head = head_at_the_application(config, lines).await;
        assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\nHost: A.test:80\r\n{ADDED}"));
    }
}

#[tokio::test]
async fn forwarding_fields_of_trusted_proxies_are_extended() {
    let lines = "Host: a.test\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: b.test\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 9.9.9.9";
    let trusted = "trusted_proxies = [\"127.0.0.0/8\"]\n";
    let head = head_at_the_application(trusted, lines).await;
    let expected = "GET /x?y=%20&z HTTP/1.1\r\nHost: a.test\r\n\
        X-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: b.test\r\nForwarded: for=1.2.3.4, for=127.0.0.1;host=b.test;proto=https";
    assert_eq!(head, expected);
    // A trusted proxy that sends no such field gets the same fields as other clients.
    let head = head_at_the_application(trusted, "Host: A.test:80").await;
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\nHost: A.test:80\r\n{ADDED}"));
}

#[tokio::test]
async fn te_trailers_is_forwarded_if_the_client_sent_it() {
    let lines = "Host: A.test:80\r\nTE: gzip, trailers\r\nConnection: TE";
    let head = head_at_the_application("", lines).await;
    let end = "TE: trailers\r\nConnection: TE";
    assert_eq!(head, format!("GET /x?y=%20&z HTTP/1.1\r\nHost: A.test:80\r\n{ADDED}\r\n{end}"));
}

#[tokio::test]
async fn response_heads_and_bodies_are_forwarded_unchanged() {
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
async fn hop_by_hop_response_fields_are_removed() {
    let response = "HTTP/1.1 200 OK\r\nX-Before: 1\r\nConnection: close, X-Own\r\nX-Own: 2\r\n\
        Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Connection: close\r\nContent-Length: 3\r\n\
        X-After: 4\r\n\r\nabc";
    let received = response_at_the_client("GET", response).await;
    let kept = "HTTP/1.1 200 OK\r\nX-Before: 1\r\nContent-Length: 3\r\nX-After: 4";
    assert_eq!((received.head.as_str(), received.text().as_str()), (kept, "abc"));
}

#[tokio::test]
async fn a_426_response_keeps_its_upgrade_field() {
    let response = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\
        Content-Length: 0\r\n\r\n";
    let received = response_at_the_client("GET", response).await;
    let kept =
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nContent-Length: 0\r\nConnection: upgrade";
    assert_eq!(received.head, kept);
}

#[tokio::test]
async fn responses_that_can_be_read_in_one_way_only_are_accepted_and_normalized() {
    let many = "X-Line: y\r\n".repeat(300);
    let extension = "x".repeat(5000);
    for (response, head) in [
        (
            "HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length : 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 3",
        ),
        (
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nX: a   b\r\nContent-Length: 3",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\ncontent-length: 03\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        ),
        (
            "HTTP/1.1 200 OK\r\nX-Agimo-Reason: mine\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3",
        ),
        (
            &format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 3\r\n\r\nabc"),
            &format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 3"),
        ),
        (
            &format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000003;{extension}\r\nabc\r\n0\r\n\r\n"
            ),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
        ),
    ] {
        let received = response_at_the_client("GET", response.to_owned().leak()).await;
        assert_eq!((received.head.as_str(), received.text().as_str()), (head, "abc"));
    }
    let received =
        response_at_the_client("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 7, 7\r\n\r\n").await;
    assert_eq!(received.head, "HTTP/1.1 200 OK\r\nContent-Length: 7");
    let received =
        response_at_the_client("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n").await;
    assert_eq!(received.head, "HTTP/1.1 204 No Content");
    for response in [
        "HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 1, 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n",
    ] {
        assert_eq!(response_at_the_client("HEAD", response).await.status, 502, "{response}");
    }
}

#[tokio::test]
async fn ambiguous_response_framing_is_normalized_and_malformed_responses_are_refused() {
    let normalized = [
        "HTTP/1.1 200 OK\r\nContent-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ];
    let refused = [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 30\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/3.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
    ];
    for response in normalized.into_iter().chain(refused) {
        // The application keeps its connection open, but agimo must not reuse it.
        let server = ScriptedServer::answering(response).await;
        let agimo = Agimo::with(server.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        for requests in 1..=2 {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            let received = client.response().await;
            if normalized.contains(&response) {
                assert_eq!((received.status, received.text().as_str()), (200, "abc"));
                assert_eq!(received.header("content-length"), None, "{}", received.head);
            } else {
                let outcome = (received.status, received.reason());
                assert_eq!(outcome, (502, Some("response-malformed")), "{response:?}");
            }
            assert_eq!(
                server.connections(),
                requests,
                "the connection was reused after {response:?}"
            );
        }
        assert!(client.received.is_empty(), "{response:?}: {:?}", client.received);
    }
}

#[tokio::test]
async fn strip_prefix_removes_the_prefix_that_the_application_does_not_know() {
    let server = ScriptedServer::responding(|request| {
        let prefix = request.header("x-forwarded-prefix").unwrap_or("none");
        let text = format!("{} {prefix}", request.line().split(' ').nth(1).unwrap());
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
    })
    .await;
    let service = server.service("a.test", "path_prefix = '/shop'\nstrip_prefix = true");
    let agimo = Agimo::with(format!("trusted_proxies = ['127.0.0.1']\n{service}")).start().await;
    for (path, expected) in [
        ("/shop", "/ /shop"),
        ("/shop/", "/ /shop"),
        ("/shop/a?b=/shop", "/a?b=/shop /shop"),
        ("/shop?x", "/?x /shop"),
        // As the client sent it: nothing is resolved, and this is another path.
        ("/shop//a", "//a /shop"),
    ] {
        assert_eq!(agimo.get("a.test", path).await.text(), expected, "{path}");
    }
    for path in ["/%73hop", "//shop", "/./shop", "/shopping"] {
        assert_eq!(agimo.get("a.test", path).await.status, 404, "{path}");
    }
    let mut client = agimo.connect().await;
    client.send("GET /shop/a HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Prefix: /outer\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "/a /outer/shop");
}
