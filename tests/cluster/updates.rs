//! Pods that are replaced, deleted and killed under load: what a client sees of it is nothing.

use std::time::Duration;

use futures_util::future::join_all;

use crate::fixtures::{Load, Namespace, Question, agimo};
use crate::support::eventually;

#[tokio::test]
async fn a_rolling_update_under_load_is_not_noticed() {
    let namespace = Namespace::new("update").await;
    // One stops at once, as applications do that know of no proxy. What may not be repeated needs one that
    // goes on answering until everybody knows.
    let web = namespace.deployment("web").replicas(3).apply().await;
    let api = namespace.deployment("api").replicas(2).slow_stop(Duration::from_secs(1));
    let api = api.apply().await;
    let agimo = agimo(&(web.service("web.test", "") + &api.service("api.test", ""))).await;
    agimo.until_ready_endpoints("web.test", 3).await;
    agimo.until_ready_endpoints("api.test", 2).await;
    let gets = Load::begin(&agimo, &Question::get("web.test"));
    let posts = Load::begin(&agimo, &Question::post("api.test", "a body that is sent once"));
    for sample in [&web, &api] {
        sample.restart().await;
    }
    for sample in [&web, &api] {
        sample.until_rolled_out().await;
    }
    gets.end().await;
    posts.end().await;
}

#[tokio::test]
async fn a_pod_that_is_deleted_finishes_its_request() {
    let namespace = Namespace::new("deleted").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let agimo = agimo(&web.service("web.test", "")).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let pod = web.pods().await.remove(0);
    let slow = agimo.get("web.test", "/slow?for=4s");
    let delete = async {
        agimo.until_metric("agimo_active_requests{host=\"web.test\"}", 1.0).await;
        web.kubectl(&["delete", "pod", &pod, "--wait=false"]).await;
        // As soon as it is known, others are not sent there any more.
        eventually("an answer of its successor", || async {
            let response = agimo.get("web.test", "/").await;
            assert_eq!(response.status, 200);
            (!response.text().contains(&pod)).then_some(())
        })
        .await;
    };
    let (slow, ()) = tokio::join!(slow, delete);
    assert_eq!(slow.status, 200, "{}", slow.head);
    assert!(slow.text().contains(&pod), "{} is from {pod}", slow.text());
}

#[tokio::test]
async fn requests_on_a_pod_that_is_killed_are_answered_by_another() {
    let namespace = Namespace::new("killed").await;
    let web = namespace.deployment("web").replicas(2).apply().await;
    let agimo = agimo(&web.service("web.test", "")).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    let killed = web.pods().await.remove(0);
    let slow = join_all((0..8).map(|_| agimo.get("web.test", "/slow?for=5s")));
    let kill = async {
        agimo.until_metric("agimo_active_requests{host=\"web.test\"}", 8.0).await;
        web.kubectl(&["delete", "pod", &killed, "--grace-period=0", "--force"]).await;
    };
    let (slow, ()) = tokio::join!(slow, kill);
    for response in &slow {
        assert_eq!(response.status, 200, "{}", response.head);
        assert!(!response.text().contains(&killed), "{} is of a dead pod", response.text());
    }
    let retried = "agimo_upstream_retries_total{host=\"web.test\",reason=\"reset\"}";
    assert!(agimo.metric(retried).await.unwrap() >= 1.0, "no request was on the killed pod");
}
