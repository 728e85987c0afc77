//! `scaler = "external"`: agimo reports demand and follows the replicas that another scaler sets; it never writes them.

use crate::fixtures::{Namespace, SampleRequest, SleepCycles, start_agimo};

#[tokio::test]
async fn agimo_reports_demand_and_follows_the_replicas_that_another_scaler_sets() {
    let namespace = Namespace::new("external").await;
    let web = namespace.deployment("web").apply().await;
    let cycles = SleepCycles::apply(&namespace, "1s").await;
    let service = web.service_config("web.test", "timeout = \"15s\"\nsleep_after = \"1s\"");
    let agimo = start_agimo(&(service + &cycles.service_config())).await;
    assert_eq!(agimo.service_status("web.test").await["kept_awake_by"], "external");

    let get = SampleRequest::get("web.test");
    let held = get.send_once(agimo.address);
    let scale_up = async {
        agimo.until_metric("agimo_held_requests{host=\"web.test\"}", 1.0).await;
        agimo.until_metric("agimo_active_requests{host=\"web.test\"}", 1.0).await;
        agimo.until_state("web.test", "waking").await;
        assert_eq!(web.current_replicas().await, 0);
        web.scale(1).await;
    };
    tokio::join!(held, scale_up);

    cycles.assert_stays_awake(&agimo, &web).await;
    get.send_once(agimo.address).await;
    web.scale(0).await;
    agimo.until_state("web.test", "asleep").await;
    agimo.until_ready_endpoints("web.test", 0).await;
    web.scale(2).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    get.send_once(agimo.address).await;

    let managers = web.field("{.metadata.managedFields[*].manager}").await;
    assert!(!managers.split(' ').any(|manager| manager == "agimo"), "{managers}");
    // One generation for the creation, and one for each of the three `kubectl scale`.
    assert_eq!(web.generation().await, 4);
    let is_write = |line: &String| line.contains("\"scaled\"") && line.contains("\"web\"");
    assert!(!agimo.log().iter().any(is_write), "agimo has scaled the Deployment");
}

#[tokio::test]
async fn a_request_for_a_workload_that_nobody_wakes_gets_a_504_at_its_deadline() {
    let namespace = Namespace::new("nobody").await;
    let web = namespace.deployment("web").apply().await;
    let service = web.service_config("web.test", "timeout = \"1s\"\nsleep_after = \"1s\"");
    let agimo = start_agimo(&service).await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    // The wake ends when no request waits for it any more.
    agimo.until_state("web.test", "asleep").await;
    assert_eq!(web.generation().await, 1);
}
