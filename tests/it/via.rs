//! Requests that come back to agimo, and requests that may not be forwarded any further.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::agimo::Agimo;
use crate::support::application::{ScriptedServer, service_at};

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn a_service_that_leads_back_to_agimo_is_answered_508() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agimo = Agimo::with(service_at(listener.local_addr().unwrap(), "a.test", "")).start().await;
    let address = agimo.address;
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut back = TcpStream::connect(address).await.unwrap();
                let _ = copy_bidirectional(&mut inside, &mut back).await;
            });
        }
    });
    let response = agimo.get("a.test", "/").await;
    // The inner agimo's response reaches the client through the outer one, which removes the reason.
    assert_eq!(response.status, 508, "{}", response.head);
    let line = agimo.until_logged("loop-detected").await;
    assert!(line.contains("a.test"), "{line}");
}

#[tokio::test]
async fn a_request_that_passed_agimo_for_another_service_is_no_loop() {
    let (received, mut heads) = tokio::sync::mpsc::channel(8);
    let server = || {
        let received = received.clone();
        ScriptedServer::serve(move |mut client, _| {
            let received = received.clone();
            async move {
                while let Some(request) = client.request().await {
                    received.send(request.header("via").unwrap().to_owned()).await.unwrap();
                    client.send(HI).await;
                }
            }
        })
    };
    let (one, other) = (server().await, server().await);
    let config = one.service("a.test", "") + &other.service("b.test", "");
    let agimo = Agimo::with(config).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let via = heads.recv().await.unwrap();
    for (host, status) in [("b.test", 200), ("a.test", 508)] {
        let mut client = agimo.connect().await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nVia: 1.1 other, {via}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, status, "{host}");
    }
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_obeyed() {
    let server = ScriptedServer::responding(|request| {
        let left = request.header("max-forwards").unwrap_or("none");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{left}", left.len())
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for (method, value, expected) in [
        ("OPTIONS", "2", "1"),
        ("TRACE", "1", "0"),
        // For other methods it has no meaning.
        ("GET", "0", "0"),
        ("OPTIONS", "no number", "no number"),
    ] {
        let mut client = agimo.connect().await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: {value}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.text(), expected, "{method} {value}");
    }
    let before = server.connections();
    for (method, body) in
        [("OPTIONS", ""), ("TRACE", "TRACE /x HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n")]
    {
        let mut client = agimo.connect().await;
        let lines = "Host: a.test\r\nMax-Forwards: 0\r\nCookie: secret\r\nAuthorization: secret";
        client.send(format!("{method} /x HTTP/1.1\r\n{lines}\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (200, body));
    }
    assert_eq!(server.connections(), before, "forwarded");
}
