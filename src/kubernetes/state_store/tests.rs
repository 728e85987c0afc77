//! Tests of the store, with a fake API server.

use super::super::fake_api;
use super::*;

fn deployment(name: &str) -> WorkloadId {
    WorkloadId {
        kind: WorkloadKind::Deployment,
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    }
}

fn config_map(version: u32, data: &[(&str, &str)]) -> ConfigMap {
    let data: BTreeMap<_, _> = data.iter().copied().collect();
    let metadata = json!({ "name": "r", "namespace": "a", "resourceVersion": version.to_string() });
    serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap()
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn pin(state: PinnedState, until: Option<SystemTime>) -> OperatorPin {
    OperatorPin { pin: Pin { state, until }, by: "alice".into() }
}

#[test]
fn changes_wait_to_be_written_once() {
    let mut saved = Saved::default();
    let web = key(&deployment("web"));
    assert_eq!(web, "deployment.shop.web");
    assert_eq!(workload(&web), Some(deployment("web")));
    assert!(!saved.save(web.clone(), None), "nothing to remove");
    assert!(saved.save(web.clone(), some("3")));
    assert!(!saved.save(web.clone(), some("3")), "it is the same");
    assert_eq!(saved.unwritten, [(web.clone(), some("3"))].into());
    assert!(saved.save(web.clone(), None));
    assert_eq!(saved.unwritten, [(web.clone(), None)].into());
    let patch = serde_json::to_string(&json!({ "data": saved.unwritten })).unwrap();
    assert_eq!(patch, r#"{"data":{"deployment.shop.web":null}}"#);
    assert_eq!(saved.values.get(&web), None);
}

#[test]
fn the_config_map_replaces_what_is_not_waiting_to_be_written() {
    let mut saved = Saved::default();
    saved.read(&config_map(5, &[("a", "2"), ("b", "4")]));
    let values = |saved: &Saved| BTreeMap::from_iter(saved.values.clone());
    let expected = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
    assert_eq!(values(&saved).len(), 2);
    saved.save("a".to_owned(), some("7"));
    saved.read(&config_map(6, &[("a", "2")]));
    assert_eq!(values(&saved), expected("7"));
    let changes = saved.unwritten.clone();
    saved.save("a".to_owned(), some("8"));
    saved.written(&changes, &config_map(7, &[("a", "7")]));
    assert_eq!(values(&saved), expected("8"), "changed during the write");
    let changes = saved.unwritten.clone();
    saved.written(&changes, &config_map(8, &[("a", "8")]));
    assert!(saved.unwritten.is_empty());
    saved.read(&config_map(7, &[("a", "7")]));
    assert_eq!(values(&saved), expected("8"), "the watch is behind the write");
    saved.read(&config_map(9, &[]));
    assert!(saved.values.is_empty());
}

#[test]
fn a_key_that_is_too_long_is_kept_in_memory_only() {
    let mut saved = Saved::default();
    let long = key(&deployment(&"n".repeat(253)));
    assert!(!saved.save(long.clone(), some("3")));
    assert!(saved.unwritten.is_empty());
    saved.read(&config_map(1, &[]));
    assert_eq!(saved.values.get(&long), some("3").as_ref());
}

#[test]
fn without_a_config_map_numbers_are_kept_in_memory() {
    let saved = StateStore::new(None);
    assert!(saved.is_loaded());
    assert_eq!(saved.replicas(&deployment("web")), 1);
    saved.save_replicas(&deployment("web"), 4);
    assert_eq!(saved.replicas(&deployment("web")), 4);
    saved.save_replicas(&deployment("web"), 1);
    assert!(saved.lock().values.is_empty());
    assert!(!StateStore::new(Some(ObjectName::new("a", "r"))).is_loaded());
}

#[test]
fn saved_replicas_are_numbers_above_one() {
    let data = [("a", "3"), ("b", "x"), ("c", "0"), ("d", "99999999999")];
    let data = data.map(|(name, value)| (format!("deployment.shop.{name}"), value));
    let data: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let saved = StateStore::new(None);
    saved.lock().read(&config_map(1, &data));
    let read = ["a", "b", "c", "d"].map(|name| saved.replicas(&deployment(name)));
    assert_eq!(read, [3, 1, 1, 1]);
}

#[test]
fn pins_are_read_as_they_were_written_and_removed_when_they_have_ended() {
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(3600);
    let saved = StateStore::new(None);
    saved.save_pin(&deployment("a.b"), Some(&pin(PinnedState::Awake, None)));
    saved.save_pin(&deployment("web"), Some(&pin(PinnedState::Asleep, Some(until))));
    let expected = [
        (deployment("a.b"), pin(PinnedState::Awake, None)),
        (deployment("web"), pin(PinnedState::Asleep, Some(until))),
    ];
    assert_eq!(saved.lock().pins(), expected.into());
    let written = saved.lock().values["pin.deployment.shop.web"].clone();
    assert_eq!(written, r#"{"state":"asleep","until":"1970-01-01T01:00:00Z","by":"alice"}"#);
    let process = WorkloadId { kind: WorkloadKind::Process, ..deployment("p") };
    saved.save_pin(&process, Some(&pin(PinnedState::Awake, None)));
    saved.save_pin(&deployment("a.b"), None);
    assert!(saved.lock().values.is_empty(), "the ended one is removed, too");
    for wrong in
        ["", "{}", r#"{"state":"dozing","by":"a"}"#, r#"{"state":"awake","until":"x","by":"a"}"#]
    {
        assert_eq!(read_pin(wrong), None, "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_are_read_from_the_config_map_and_written_to_it() {
    let (client, log) = fake_api::client(|request| match request.method.as_str() {
        "PATCH" => (200, serde_json::to_value(config_map(8, &[])).unwrap()),
        _ => {
            let pin = ("pin.deployment.shop.web", r#"{"state":"awake","by":"alice"}"#);
            let object = config_map(7, &[("deployment.shop.web", "3"), pin]);
            let list = json!({
                "kind": "ConfigMapList", "apiVersion": "v1",
                "metadata": { "resourceVersion": "7" }, "items": [object],
            });
            (200, list)
        }
    });
    let saved = StateStore::new(Some(ObjectName::new("a", "r")));
    let pins = Pins::default();
    let running = tokio::spawn(saved.clone().run(client, pins.clone()));
    until(|| saved.is_loaded()).await;
    assert_eq!(saved.replicas(&deployment("web")), 3);
    assert_eq!(pins.get(&deployment("web")), Some(pin(PinnedState::Awake, None)));
    saved.save_replicas(&deployment("web"), 5);
    until(|| log.lock().unwrap().iter().any(|request| request.method == "PATCH")).await;
    running.abort();
    let log = log.lock().unwrap();
    assert_eq!(log[0].path, "/api/v1/namespaces/a/configmaps");
    assert!(log[0].query.contains("fieldSelector=metadata.name%3Dr"), "{log:?}");
    let patch = log.iter().find(|request| request.method == "PATCH").unwrap();
    assert_eq!(patch.path, "/api/v1/namespaces/a/configmaps/r");
    assert_eq!(patch.body, json!({ "data": { "deployment.shop.web": "5" } }));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again() {
    let failures = std::sync::atomic::AtomicUsize::new(2);
    let failures = Arc::new(failures);
    let (client, log) = fake_api::client(move |request| match request.method.as_str() {
        "PATCH" => {
            let left = failures.load(std::sync::atomic::Ordering::Relaxed);
            failures.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
            let written = || (200, serde_json::to_value(config_map(9, &[])).unwrap());
            if left > 0 { fake_api::forbidden() } else { written() }
        }
        _ => fake_api::forbidden(),
    });
    let saved = StateStore::new(Some(ObjectName::new("a", "r")));
    let running = tokio::spawn(saved.clone().run(client, Pins::default()));
    saved.save_pin(&deployment("web"), Some(&pin(PinnedState::Awake, None)));
    until(|| saved.lock().unwritten.is_empty()).await;
    running.abort();
    let log = log.lock().unwrap();
    assert_eq!(log.iter().filter(|request| request.method == "PATCH").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_config_map_does_not_keep_agimo_from_being_ready() {
    let (client, log) = fake_api::client(|_| fake_api::forbidden());
    let saved = StateStore::new(Some(ObjectName::new("a", "r")));
    let running = tokio::spawn(saved.clone().run(client, Pins::default()));
    until(|| saved.is_loaded()).await;
    saved.save_replicas(&deployment("web"), 5);
    until(|| log.lock().unwrap().iter().any(|request| request.method == "PATCH")).await;
    running.abort();
    assert_eq!(saved.replicas(&deployment("web")), 5, "it is kept in memory");
}

async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the condition holds");
}
