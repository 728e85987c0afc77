//! The log: responses of agimo itself with their particulars, and the access log.

use serde_json::Value;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::eventually;
use crate::support::python::PythonApplication;

/// The log lines with this message.
fn lines(agimo: &Agimo, message: &str) -> Vec<Value> {
    let parsed = agimo.log().into_iter().filter_map(|line| serde_json::from_str(&line).ok());
    parsed.filter(|line: &Value| line["message"] == message).collect()
}

async fn wait_for_lines(agimo: &Agimo, message: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines {message:?}"), || async {
        Some(lines(agimo, message)).filter(|found| found.len() >= count)
    })
    .await
}

#[tokio::test]
async fn each_kind_of_response_of_agimo_is_logged_once_per_service_with_its_particulars() {
    let malformed = || {
        ScriptedServer::serve(|mut client, _| async move {
            client.request().await;
            client.send("HTTP/1.1 200 OK\r\nServer: x\r\nX y: z\r\n\r\n").await;
        })
    };
    let (one, other) = (malformed().await, malformed().await);
    let config = one.service("a.test", "") + &other.service("b.test", "");
    let agimo = Agimo::with(config).arguments(&["--threads", "1"]).start().await;
    for host in ["a.test", "a.test", "b.test", "unknown.test", "other.test"] {
        let response = agimo.get(host, "/x\u{202e}?y").await;
        if host.starts_with('a') {
            let detail = response.header("x-agimo-detail").unwrap();
            assert_eq!(detail, "line 3: a field name is not a token");
            assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));
        }
    }
    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nbad line\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.header("x-agimo-detail"), Some("line 3 of the request head"));

    let found = wait_for_lines(&agimo, "request failed", 4).await;
    let kinds: Vec<_> = found
        .iter()
        .map(|line| (line["service"].as_str().unwrap(), line["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        ("a.test", "response-malformed"),
        ("b.test", "response-malformed"),
        ("", "unknown-host"),
        ("", "request-malformed"),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(found[0]["detail"], "line 3: a field name is not a token");
    assert_eq!((&found[0]["method"], &found[0]["client"]), (&"GET".into(), &"127.0.0.1".into()));
    assert_eq!(found[0]["uri"], "/x\\u{202e}?y", "hidden characters are escaped");
    assert!(found[3]["detail"].as_str().unwrap().contains("line 3 of the request head"));
}

#[tokio::test]
async fn the_access_log_has_the_reason_and_how_the_response_ended() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        while let Some(request) = client.request().await {
            if request.line().starts_with("GET /broken") {
                return client.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
            }
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let asleep = "[[services]]\nhost = 'c.test'\ntype = 'process'\ncommand = ['sleep', '9']\nhold_timeout = '100ms'\n";
    let agimo = Agimo::with(server.service("a.test", "") + asleep)
        // With several threads, the lines may come in another order than the responses.
        .arguments(&["--access-log", "--threads", "1"])
        .start()
        .await;
    agimo.get("a.test", "/").await;
    let mut client = agimo.connect().await;
    client.send("GET /broken HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.read_to_end().await;
    agimo.get("c.test", "/").await;
    agimo.get("unknown.test", "/").await;
    let found = wait_for_lines(&agimo, "request", 4).await;
    let outcomes: Vec<_> = found
        .iter()
        .map(|line| {
            (
                line["status"].as_u64().unwrap(),
                line["reason"].as_str(),
                line["end"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        (200, None, "complete"),
        (200, None, "broken-off"),
        (504, Some("hold-timeout"), "complete"),
        (404, Some("unknown-host"), "complete"),
    ];
    assert_eq!(outcomes, expected);
    let warned = wait_for_lines(&agimo, "request failed", 3).await;
    assert_eq!(warned[0]["reason"], "response-broken");
}

#[tokio::test]
async fn the_access_log_has_the_end_of_a_tunnel_with_its_duration_and_bytes() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.request().await;
        client
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
        client.read_exact(5).await;
        client.send("bye").await;
    })
    .await;
    let agimo =
        Agimo::with(server.service("a.test", "")).arguments(&["--access-log"]).start().await;
    let mut client = agimo.connect().await;
    client
        .send("GET /t HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 101);
    client.send("hello").await;
    assert_eq!(client.read_exact(3).await, b"bye");
    drop(client);
    let found = wait_for_lines(&agimo, "tunnel ended", 1).await;
    assert_eq!(
        (&found[0]["bytes_to_application"], &found[0]["bytes_to_client"]),
        (&5.into(), &3.into())
    );
    assert_eq!(found[0]["uri"], "/t");
    assert!(found[0]["duration_ms"].as_f64().is_some());
}

#[tokio::test]
async fn a_held_request_is_logged_with_its_method_path_and_client() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    agimo.get("a.test", "/?token=secret").await;
    let found = wait_for_lines(&agimo, "request held, waking the workload", 1).await;
    let text = |field: &str| found[0][field].as_str().unwrap();
    assert_eq!((text("method"), text("path"), text("client")), ("GET", "/", "127.0.0.1"));
    assert!(!found[0].to_string().contains("secret"), "the query is left out");
}
