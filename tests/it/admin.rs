//! The admin port: health endpoints, the effective configuration, and unknown paths and methods.

use rustix::process::Signal;

use crate::support::agimo::Agimo;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::python::PythonApplication;

#[tokio::test]
async fn agimo_is_ready_while_serving_and_not_ready_while_draining() {
    let mut agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(agimo.admin(path).await.status, 200, "{path}");
    }
    let mut stream = agimo.connect().await;
    stream.send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    stream.read_until("begin").await;
    agimo.signal(Signal::TERM);
    eventually("503 from /readyz", || async {
        (agimo.admin("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(agimo.admin("/livez").await.status, 200, "agimo is alive while a stream is open");
    drop(stream);
    assert!(agimo.wait_for_exit().await.success());
}

#[tokio::test]
async fn config_shows_effective_values_and_masks_secrets() {
    let service =
        PythonApplication::new("a.test").key("max_held = 7").env("PASSWORD", "hunter2").service();
    let agimo = Agimo::with(format!("timeout = '3s'\n{service}")).start().await;
    let response = agimo.admin("/config").await;
    assert_eq!(response.header("content-type"), Some("application/json"));
    let text = response.text();
    assert!(text.contains("PASSWORD") && text.contains("***"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let service = &config["services"][0];
    assert_eq!((service["host"].as_str(), service["max_held"].as_u64()), (Some("a.test"), Some(7)));
    assert_eq!(service["hold_timeout"].as_str(), Some("3s"), "from the top of the file");
    assert_eq!(service["sleep_after"].as_str(), Some("5m"), "the default");
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405() {
    let agimo = Agimo::with(PythonApplication::new("a.test").service()).start().await;
    let missing = agimo.admin("/nothing").await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("/metrics"), "the answer lists the known paths");
    for (method, status) in [("POST", 405), ("DELETE", 405), ("HEAD", 200)] {
        let mut client = Client::connect(agimo.admin).await;
        client.send(format!("{method} /metrics HTTP/1.1\r\nHost: admin\r\n\r\n")).await;
        assert_eq!(client.response_to(method).await.status, status, "{method}");
    }
}

#[tokio::test]
async fn a_service_whose_last_wake_failed_says_why_and_is_asleep_after_the_backoff() {
    let service = PythonApplication::new("a.test").env("EXIT", 3).service();
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 503);
    let shown = || async {
        let text = agimo.admin("/services").await.text();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()[0].clone()
    };
    let failing = shown().await;
    assert_eq!(failing["state"], "failing");
    let asleep = eventually("the end of the backoff", || async {
        Some(shown().await).filter(|service| service["state"] == "asleep")
    })
    .await;
    for service in [failing, asleep] {
        assert_eq!(service["last_failure"]["reason"], "wake-exited");
        assert!(service["last_failure"]["detail"].as_str().unwrap().contains("exit status: 3"));
    }
}

#[tokio::test]
async fn the_admin_port_may_have_an_address_of_its_own_and_the_health_check_does_not_wait_for_pages()
 {
    let agimo = Agimo::with(PythonApplication::new("a.test").service())
        .arguments(&["--admin-bind", "127.0.0.2"])
        .start()
        .await;
    assert_eq!(agimo.admin.ip().to_string(), "127.0.0.2");
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::connect(agimo.admin).await;
        client.send("GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n".repeat(20)).await;
        clients.push(client);
    }
    assert_eq!(agimo.admin("/livez").await.status, 200);
    let mut statuses = std::collections::BTreeSet::new();
    for client in &mut clients {
        for _ in 0..20 {
            statuses.insert(client.response().await.status);
        }
    }
    assert!(statuses.is_subset(&[200, 503].into()), "{statuses:?}");
}
