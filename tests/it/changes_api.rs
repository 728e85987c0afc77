//! Changing calls of `/api/v1` and the commands that make them: wake, sleep, pin; and the explanation of a request.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::support::agimo::Agimo;
use crate::support::client::{Client, Response};
use crate::support::python::PythonApplication;
use crate::support::{eventually, within};

const AGIMO: &str = env!("CARGO_BIN_EXE_agimo");
const TOKEN: &str = "a token of the operators";

/// An agimo with an application that sleeps after an hour, and the file with the token that may change something.
async fn start() -> (Agimo, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{TOKEN}").unwrap();
    let application = PythonApplication::new("a.test").key("sleep_after = \"1h\"");
    let agimo = Agimo::with(application.service());
    let agimo = agimo.arguments(&["--admin-tokens", file.path().to_str().unwrap()]).start().await;
    (agimo, file)
}

async fn post(agimo: &Agimo, path: &str, token: Option<&str>) -> Response {
    let mut client = Client::connect(agimo.admin).await;
    let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    client
        .send(format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: admin\r\n{token}Content-Length: 0\r\n\
             Connection: close\r\n\r\n"
        ))
        .await;
    client.response().await
}

async fn json(agimo: &Agimo, path: &str) -> Value {
    let response = agimo.admin(&format!("/api/v1/{path}")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_str(&response.text()).unwrap()
}

async fn until_state(agimo: &Agimo, state: &str) -> Value {
    eventually(&format!("the state {state}"), || async {
        let service = json(agimo, "services").await["services"][0].clone();
        (service["state"] == state).then_some(service)
    })
    .await
}

async fn command(agimo: &Agimo, arguments: &[&str]) -> Output {
    let mut command = Command::new(AGIMO);
    command.args(arguments).args(["--admin", &format!("http://{}", agimo.admin)]);
    within("the command to end", command.stdin(Stdio::null()).output()).await.unwrap()
}

fn stdout(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn only_a_token_may_change_something() {
    let (agimo, _token) = start().await;
    for (path, token, status, problem) in [
        ("wake?host=a.test", None, 401, "send a token"),
        ("wake?host=a.test", Some("another token of that length"), 401, "not known"),
        ("wake?host=b.test", Some(TOKEN), 404, "no service of the configuration has the host"),
        ("wake", Some(TOKEN), 400, "write which service"),
        ("wake?host=a.test&for=1h", Some(TOKEN), 400, "`for` is no parameter of this path"),
        ("pin?host=a.test&for=soon", Some(TOKEN), 400, "`for` is a time such as 2h"),
        ("pin?host=a.test&state=half", Some(TOKEN), 400, "`state` is awake or asleep"),
        ("pin?host=a.test&until=5", Some(TOKEN), 400, "`until` is no parameter of this path"),
        ("sleep?host=a.test", Some(TOKEN), 409, "the workload is asleep"),
        ("services", Some(TOKEN), 404, "what can be changed is"),
    ] {
        let response = post(&agimo, path, token).await;
        let answer: Value = serde_json::from_str(&response.text()).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!((response.status, error.contains(problem)) == (status, true), "{path}: {error}");
    }
    assert_eq!(until_state(&agimo, "asleep").await["open_requests"], 0);
    // Without tokens nobody may.
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let response = post(&agimo, "wake?host=a.test", Some(TOKEN)).await;
    assert_eq!(response.status, 403);
    assert!(response.text().contains("--admin-tokens"), "{}", response.text());
}

#[tokio::test]
async fn a_person_wakes_a_workload_and_puts_it_to_sleep_again() {
    let (agimo, token) = start().await;
    let token = token.path().to_str().unwrap();
    let woken = stdout(command(&agimo, &["wake", "a.test", "--token-file", token, "--wait"]).await);
    assert_eq!(woken, "process a.test: it is being woken\nprocess a.test: awake\n");
    let slept = ["sleep", "a.test", "--token-file", token, "--wait=30s"];
    let slept = stdout(command(&agimo, &slept).await);
    assert!(slept.ends_with("process a.test: asleep\n"), "{slept}");
    let why = stdout(command(&agimo, &["why", "a.test"]).await);
    assert!(why.contains("put to sleep by admin-token, who asked for it"), "{why}");
    assert!(why.contains("woken by admin-token, who asked for it: ready"), "{why}");
    agimo.until_logged("asked for through the admin port").await;
}

#[tokio::test]
async fn an_open_request_is_not_cut_by_a_person_who_asks_for_sleep() {
    let (agimo, token) = start().await;
    let mut client = agimo.connect().await;
    client.send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.read_until("begin").await;
    let sleep = ["sleep", "a.test", "--token-file", token.path().to_str().unwrap()];
    let refused = command(&agimo, &sleep).await;
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(error, "agimo: a request is open, and is not cut\n");
    assert!(!refused.status.success());
    assert_eq!(agimo.get("a.test", "/release").await.status, 200);
    client.read_until("end").await;
}

#[tokio::test]
async fn a_pin_keeps_a_workload_awake_or_asleep_until_it_is_removed() {
    let (agimo, token) = start().await;
    let token = ["--token-file", token.path().to_str().unwrap()];
    let pin = |words: &[&str]| [words, &token[..]].concat().join(" ");
    let run = async |words: &[&str]| {
        let words = pin(words);
        // No word has a space.
        stdout(command(&agimo, &words.split(' ').collect::<Vec<_>>()).await)
    };
    let pinned = run(&["pin", "a.test", "--for", "2h"]).await;
    assert!(pinned.starts_with("process a.test: it is pinned awake for "), "{pinned}");
    let service = until_state(&agimo, "awake").await;
    assert_eq!(
        (&service["kept_awake_by"], &service["pin"]["by"]),
        (&"pin".into(), &"admin-token".into())
    );
    assert!(service["pin"]["until_unix"].as_f64().is_some());
    let explained = stdout(command(&agimo, &["explain", "a.test/cart"]).await);
    assert!(explained.contains("awake: a pin of admin-token keeps it awake"), "{explained}");
    run(&["pin", "a.test", "--asleep"]).await;
    until_state(&agimo, "asleep").await;
    let rejected = agimo.get("a.test", "/").await;
    assert_eq!((rejected.status, rejected.reason()), (503, Some("pinned-asleep")));
    let explained = stdout(command(&agimo, &["explain", "a.test"]).await);
    assert!(
        explained.contains("rejected because the workload is pinned asleep (503, pinned-asleep)"),
        "{explained}"
    );
    assert_eq!(run(&["unpin", "a.test"]).await, "process a.test: its pin is removed\n");
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    assert_eq!(run(&["unpin", "a.test"]).await, "process a.test: agimo had no pin for it\n");
}

#[tokio::test]
async fn a_request_is_explained_before_it_is_sent() {
    let services =
        [("a.test", "/"), ("a.test", "/api"), ("*.b.test", "/")].map(|(host, prefix)| {
            PythonApplication::new(host)
                .key(&format!("path_prefix = '{prefix}'\nname = 'web'"))
                .service()
        });
    let agimo = Agimo::with(services.concat()).start().await;
    let explain = async |request: &str| stdout(command(&agimo, &["explain", request]).await);
    let text = explain("a.test/api/x").await;
    for part in [
        "is held until an endpoint is ready, for ",
        "agimo wakes the workload",
        "host a.test, path prefix /api\n",
        "process web\n",
        "a.test, *.b.test\n",
        "asleep: no request waits for it\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(explain("x.b.test").await.contains("wildcard host *.b.test, path prefix /\n"));
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let text = explain("a.test").await;
    assert!(text.contains("is forwarded at once, to the only ready endpoint\n"), "{text}");
    assert!(
        text.contains("it is idle, and is scaled to zero in ")
            || text.contains("a request has just ended")
    );
    let error = command(&agimo, &["explain", "c.test"]).await;
    assert!(String::from_utf8(error.stderr).unwrap().contains("has the host `c.test`"));
}

#[tokio::test]
async fn the_api_tells_which_replica_answers() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let peers = json(&agimo, "peers").await;
    assert_eq!((&peers["is_leader"], &peers["peers"]), (&true.into(), &Value::Array(Vec::new())));
    assert!(peers["version"].as_str().unwrap().starts_with(env!("CARGO_PKG_VERSION")), "{peers}");
}

#[tokio::test]
async fn changes_of_services_are_streamed() {
    let (agimo, _token) = start().await;
    let mut stream = Client::connect(agimo.admin).await;
    stream.send("GET /api/v1/services/changes HTTP/1.1\r\nHost: admin\r\n\r\n").await;
    let first = stream.read_until("\n\n").await;
    assert!(first.contains("text/event-stream"), "{first}");
    let message = |text: &str| -> Option<Value> {
        let data = text.lines().find_map(|line| line.strip_prefix("data: "))?;
        Some(serde_json::from_str(data).unwrap())
    };
    let first = message(&first).unwrap();
    assert_eq!(first["services"][0]["state"], "asleep");
    assert!(first["now_unix"].as_f64().is_some());
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let changed = within("the change", async {
        loop {
            let text = stream.read_until("\n\n").await;
            if let Some(message) = message(&text)
                && message["services"][0]["sleeps_at_unix"].is_number()
            {
                return message;
            }
        }
    })
    .await;
    let service = &changed["services"][0];
    assert_eq!((&service["state"], &service["ready_endpoints"]), (&"awake".into(), &1.into()));
    assert_eq!(service["last_wake"]["outcome"], "answered");
    agimo.reconfigure(&PythonApplication::new("b.test").service());
    let removed = within("the removal", async {
        loop {
            let text = stream.read_until("\n\n").await;
            if let Some(message) = message(&text)
                && !message["removed"].as_array().unwrap().is_empty()
            {
                return message;
            }
        }
    })
    .await;
    assert_eq!(removed["removed"][0], "a.test/");
    assert_eq!(removed["services"][0]["host"], "b.test");
}
