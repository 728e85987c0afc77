//! `affinity = "cookie"`: the requests of one client go to the same process as long as it is ready.

use crate::support::agimo::Agimo;
use crate::support::client::Response;
use crate::support::eventually;
use crate::support::python::PythonApplication;

const KEYS: &str = "replicas = 3\naffinity = \"cookie\"";

fn get(cookie: &str) -> String {
    format!("GET /pid HTTP/1.1\r\nHost: a.test\r\n{cookie}\r\n")
}

async fn send(agimo: &Agimo, request: &str) -> Response {
    let mut client = agimo.connect().await;
    client.send(request).await;
    client.response().await
}

/// The cookie that a response sets, as the client sends it back.
fn cookie_of(response: &Response) -> String {
    let set = response.header("set-cookie").unwrap_or_else(|| panic!("{}", response.head));
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    format!("Cookie: a=b; {}\r\n", set.split(';').next().unwrap())
}

#[tokio::test]
async fn a_client_with_the_cookie_stays_with_one_process() {
    let agimo = Agimo::with(PythonApplication::new("a.test").key(KEYS).service()).start().await;
    let first = send(&agimo, &get("")).await;
    let cookie = cookie_of(&first);
    eventually("three ready processes", || async {
        let services = agimo.admin("/services").await.text();
        let services: serde_json::Value = serde_json::from_str(&services).unwrap();
        (services[0]["ready_endpoints"] == 3).then_some(())
    })
    .await;
    let mut others = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let sticky = send(&agimo, &get(&cookie)).await;
        assert_eq!(sticky.text(), first.text());
        assert_eq!(sticky.header("set-cookie"), None, "the cookie is still right");
        let without = send(&agimo, &get("")).await;
        let own = send(&agimo, &get(&cookie_of(&without))).await;
        assert_eq!(own.text(), without.text());
        others.insert(without.text());
    }
    assert!(others.len() > 1, "clients without a cookie are spread: {others:?}");
}

#[tokio::test]
async fn a_cookie_of_an_endpoint_that_is_gone_is_replaced() {
    let agimo = Agimo::with(PythonApplication::new("a.test").key(KEYS).service()).start().await;
    let response = send(&agimo, &get("Cookie: agimo_affinity=01234567\r\n")).await;
    assert_eq!(response.status, 200);
    let cookie = cookie_of(&response);
    assert!(!cookie.contains("01234567"));
    assert_eq!(send(&agimo, &get(&cookie)).await.text(), response.text());
}

#[tokio::test]
async fn without_affinity_no_cookie_is_set() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    assert_eq!(send(&agimo, &get("")).await.header("set-cookie"), None);
}
