//! `scaler = "external"`: agimo reports and follows, and never writes.

use crate::fixtures::{Namespace, Question, agimo};

#[tokio::test]
async fn another_scales_and_agimo_only_reports_and_follows() {
    let namespace = Namespace::new("external").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = agimo(&web.service("web.test", "timeout = \"15s\"\nsleep_after = \"1s\"")).await;
    assert_eq!(agimo.shown("web.test").await["kept_awake_by"], "external");

    let get = Question::get("web.test");
    let held = get.ask_once(agimo.address);
    let person = async {
        agimo.until_metric("agimo_held_requests{host=\"web.test\"}", 1.0).await;
        agimo.until_metric("agimo_active_requests{host=\"web.test\"}", 1.0).await;
        agimo.until_state("web.test", "waking").await;
        assert_eq!(web.current_replicas().await, 0);
        web.scale(1).await;
    };
    tokio::join!(held, person);

    // Idle for longer than `sleep_after`, and not agimo's to put to sleep: what comes next is a person's.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(web.current_replicas().await, 1);
    get.ask_once(agimo.address).await;
    web.scale(0).await;
    agimo.until_state("web.test", "asleep").await;
    agimo.until_ready_endpoints("web.test", 0).await;
    web.scale(2).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    get.ask_once(agimo.address).await;

    let managers = web.field("{.metadata.managedFields[*].manager}").await;
    assert!(!managers.split(' ').any(|manager| manager == "agimo"), "{managers}");
    // One generation for the object as it was made, and one for each time that a person scaled it.
    assert_eq!(web.field("{.metadata.generation}").await, "4");
    assert!(!agimo.log().iter().any(|line| line.contains("\"scaled\"")));
}

#[tokio::test]
async fn a_held_request_that_nobody_serves_is_answered_in_time() {
    let namespace = Namespace::new("nobody").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = agimo(&web.service("web.test", "timeout = \"1s\"\nsleep_after = \"1s\"")).await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    // It is not waited for any longer than somebody waits for it.
    agimo.until_state("web.test", "asleep").await;
    assert_eq!(web.field("{.metadata.generation}").await, "1");
}
