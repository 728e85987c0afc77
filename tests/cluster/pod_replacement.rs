//! Pods are replaced, deleted and killed while requests run: no client sees an error.

use std::time::Duration;

use futures_util::future::join_all;

use crate::fixtures::{Load, Namespace, SampleRequest, start_agimo};
use crate::support::eventually;

#[tokio::test]
async fn a_rolling_update_under_load_fails_no_request() {
    let namespace = Namespace::new("update").await;
    // `web` exits at once on SIGTERM: agimo retries its GETs on another pod. A POST must not be retried, so `api` serves
    // until agimo has seen that the pod is terminating.
    let web = namespace.deployment("web").replicas(3).apply().await;
    let api = namespace.deployment("api").replicas(2).slow_stop(Duration::from_secs(1));
    let api = api.apply().await;
    let agimo =
        start_agimo(&(web.service_config("web.test", "") + &api.service_config("api.test", "")))
            .await;
    agimo.until_ready_endpoints("web.test", 3).await;
    agimo.until_ready_endpoints("api.test", 2).await;
    let get_load = Load::start(&agimo, &SampleRequest::get("web.test"));
    let post_load =
        Load::start(&agimo, &SampleRequest::post("api.test", "a body that is sent once"));
    for sample in [&web, &api] {
        sample.rollout_restart().await;
    }
    for sample in [&web, &api] {
        sample.until_rolled_out().await;
    }
    get_load.stop().await;
    post_load.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_completes_its_request_and_receives_no_new_one() {
    let namespace = Namespace::new("deleted").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let agimo = start_agimo(&web.service_config("web.test", "")).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let pod = web.pod_names().await.remove(0);
    let slow = agimo.get("web.test", "/slow?for=4s");
    let delete = async {
        agimo.until_metric("agimo_active_requests{host=\"web.test\"}", 1.0).await;
        web.kubectl(&["delete", "pod", &pod, "--wait=false"]).await;
        eventually("a response of its successor", || async {
            let response = agimo.get("web.test", "/").await;
            assert_eq!(response.status, 200);
            (!response.text().contains(&pod)).then_some(())
        })
        .await;
        // From then on the terminating pod receives no request.
        for _ in 0..10 {
            let response = SampleRequest::get("web.test").send_once(agimo.address).await;
            assert!(!response.text().contains(&pod), "{} is from {pod}", response.text());
        }
    };
    let (slow, ()) = tokio::join!(slow, delete);
    assert_eq!(slow.status, 200, "{}", slow.head);
    assert!(slow.text().contains(&pod), "{} is from {pod}", slow.text());
}

#[tokio::test]
async fn requests_on_a_killed_pod_are_retried_on_another_pod() {
    let namespace = Namespace::new("killed").await;
    let web = namespace.deployment("web").replicas(2).apply().await;
    let agimo = start_agimo(&web.service_config("web.test", "")).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    let killed = web.pod_names().await.remove(0);
    let slow = join_all((0..8).map(|_| agimo.get("web.test", "/slow?for=5s")));
    let kill = async {
        agimo.until_metric("agimo_active_requests{host=\"web.test\"}", 8.0).await;
        web.kubectl(&["delete", "pod", &killed, "--grace-period=0", "--force"]).await;
    };
    let (slow, ()) = tokio::join!(slow, kill);
    for response in &slow {
        assert_eq!(response.status, 200, "{}", response.head);
        assert!(!response.text().contains(&killed), "{} is from the killed pod", response.text());
    }
    let retried = "agimo_upstream_retries_total{host=\"web.test\",reason=\"reset\"}";
    assert!(agimo.metric(retried).await.unwrap() >= 1.0, "no request was sent to the killed pod");
}
