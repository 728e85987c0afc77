//! `scaler = "agimo"`: awake on the first request, asleep after the last, and no request lost between the two.

use std::time::Duration;

use crate::fixtures::{Namespace, Question, agimo};

#[tokio::test]
async fn a_deployment_and_a_stateful_set_wake_and_sleep() {
    let namespace = Namespace::new("scaling").await;
    let web = namespace.deployment("web").apply().await;
    let db = namespace.stateful_set("db").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"2s\"";
    let agimo = agimo(&(web.service("web.test", keys) + &db.service("db.test", keys))).await;
    for (sample, host) in [(&web, "web.test"), (&db, "db.test")] {
        let response = agimo.get(host, "/").await;
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with(&format!("hello from {}", sample.name)));
        assert_eq!(sample.current_replicas().await, 1);
    }
    for sample in [&web, &db] {
        sample.until_asleep().await;
    }
}

#[tokio::test]
async fn a_workload_of_two_services_is_not_put_to_sleep_by_either() {
    let namespace = Namespace::new("shared").await;
    let web = namespace.deployment("web").apply().await;
    let service = |host| web.service(host, "scaler = \"agimo\"\nsleep_after = \"1s\"");
    let agimo = agimo(&(service("one.test") + &service("other.test"))).await;
    Question::get("one.test").ask_once(agimo.address).await;
    agimo.until_logged("several services lead to the workload").await;
    // Both have been idle for longer than `sleep_after`.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for host in ["one.test", "other.test"] {
        let shown = agimo.shown(host).await;
        assert_eq!(
            (&shown["state"], &shown["kept_awake_by"]),
            (&"awake".into(), &"services".into())
        );
    }
    agimo.reconfigure(&service("one.test"));
    web.until_asleep().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_first_requests_make_one_wake_and_are_all_answered() {
    let namespace = Namespace::new("crowd").await;
    let web = namespace.deployment("web").slow_start(Duration::from_secs(1)).apply().await;
    let agimo = agimo(&web.service("web.test", "scaler = \"agimo\"")).await;
    let requests = (0..500).map(|_| {
        let address = agimo.address;
        tokio::spawn(async move {
            let mut client = crate::support::client::Client::connect(address).await;
            client.send("GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
            client.response().await.status
        })
    });
    let requests: Vec<_> = requests.collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(
        agimo.metric("agimo_wakes_total{host=\"web.test\",result=\"ready\"}").await,
        Some(1.0)
    );
}

#[tokio::test]
async fn twenty_times_to_sleep_and_back_lose_no_request() {
    let namespace = Namespace::new("trickle").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = agimo(&web.service("web.test", "scaler = \"agimo\"\nsleep_after = \"1s\"")).await;
    let get = Question::get("web.test");
    // The pauses are the trickle: most let it fall asleep, some not quite.
    let pauses = [1_300, 1_150, 400, 1_500].map(Duration::from_millis);
    for pause in pauses.iter().cycle().take(60) {
        get.ask_once(agimo.address).await;
        if agimo.wakes("web.test").await >= 20.0 {
            break;
        }
        tokio::time::sleep(*pause).await;
    }
    assert!(agimo.wakes("web.test").await >= 20.0);
    web.until_asleep().await;
}

#[tokio::test]
async fn what_another_wakes_is_used_at_once_and_put_to_sleep_when_idle() {
    let namespace = Namespace::new("another").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = agimo(&web.service("web.test", "scaler = \"agimo\"\nsleep_after = \"2s\"")).await;
    web.scale(2).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    Question::get("web.test").ask_once(agimo.address).await;
    assert_eq!(agimo.wakes("web.test").await, 0.0);
    web.until_asleep().await;
    // Woken again it has as many replicas as it had.
    Question::get("web.test").ask_once(agimo.address).await;
    assert_eq!(web.current_replicas().await, 2);
}
