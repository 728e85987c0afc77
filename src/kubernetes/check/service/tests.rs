//! Tests of the rules for one service.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::findings::Level;
use crate::kubernetes::objects::scaler::ScalerObject;
use crate::kubernetes::objects::workload::WorkloadObject;
use crate::workload::{WorkloadId, WorkloadKind};
use serde_json::{Value, json};

fn checked(scaler: &str) -> CheckedService {
    CheckedService {
        name: "web.test".to_owned(),
        workload: WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "a".to_owned(),
            name: "web".to_owned(),
        },
        service_name: "web".to_owned(),
        service_port: ServicePort::Number(80),
        scaler: scaler.to_owned(),
        early_ready: false,
    }
}

fn container() -> Value {
    json!({
        "name": "web", "image": "r.test/web:1", "ports": [{ "name": "http", "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1 },
    })
}

fn objects(container: Value, deployment: Value, service: Value) -> NamespaceObjects {
    let template = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [container] } });
    let mut spec = json!({ "selector": {}, "template": template });
    spec.as_object_mut().unwrap().extend(deployment.as_object().unwrap().clone());
    let deployment = json!({ "metadata": { "name": "web" }, "spec": spec });
    let deployment = serde_json::from_value(deployment).unwrap();
    let mut objects = NamespaceObjects::default();
    let object = WorkloadObject::of_deployment(&deployment);
    let pods = deployment.spec.unwrap().template.spec;
    objects.add(WorkloadKind::Deployment, "web".to_owned(), object, pods);
    let mut spec =
        json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": "http" }] });
    spec.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    let service = json!({ "metadata": { "name": "web" }, "spec": spec });
    let service = ServiceObject::read(&serde_json::from_value(service).unwrap());
    objects.services = BTreeMap::from([("web".to_owned(), service)]);
    objects
}

fn sound() -> NamespaceObjects {
    objects(container(), json!({}), json!({}))
}

/// The findings that ask for something.
fn problems(checked: &CheckedService, objects: &NamespaceObjects) -> Vec<(Level, String)> {
    let findings = findings(checked, objects);
    let asking = findings.into_iter().filter(|finding| finding.level != Level::Ok);
    asking.map(|finding| (finding.level, finding.text)).collect()
}

#[track_caller]
fn only(problems: &[(Level, String)], level: Level, part: &str) {
    let [(found, text)] = problems else { panic!("{problems:?}") };
    assert!(*found == level && text.contains(part), "{problems:?}");
}

#[test]
fn a_sound_service_has_no_problems() {
    assert_eq!(problems(&checked("auto"), &sound()), []);
    assert!(findings(&checked("auto"), &sound()).len() >= 4);
}

#[test]
fn missing_and_unfitting_objects_are_named() {
    let empty = NamespaceObjects::default();
    only(&problems(&checked("auto"), &empty), Level::Failed, "deployment a/web does not exist");
    let mut without_service = sound();
    without_service.services.clear();
    only(
        &problems(&checked("auto"), &without_service),
        Level::Failed,
        "Service a/web does not exist",
    );
    let mut unreadable = NamespaceObjects::default();
    unreadable.unreadable.push("Services: forbidden".to_owned());
    only(&problems(&checked("auto"), &unreadable), Level::Skipped, "Services: forbidden");
    for (deployment, service, part) in [
        (json!({}), json!({ "type": "ExternalName" }), "ExternalName"),
        (
            json!({}),
            json!({ "selector": { "app": "api" } }),
            "selects app=api and the pods have app=web",
        ),
        (
            json!({}),
            json!({ "ports": [{ "port": 81, "name": "x" }] }),
            "no TCP port 80; it has 81 (x)",
        ),
        (
            json!({}),
            json!({ "ports": [{ "port": 80, "targetPort": "web" }] }),
            "container port `web`",
        ),
        (json!({ "paused": true }), json!({}), "is paused"),
    ] {
        let objects = objects(container(), deployment, service);
        only(&problems(&checked("auto"), &objects), Level::Failed, part);
    }
    let manual = objects(container(), json!({}), json!({ "selector": null }));
    only(&problems(&checked("auto"), &manual), Level::Warning, "has no selector");
}

#[test]
fn two_writers_of_replicas_are_a_conflict() {
    let hpa = |name: &str, min: i32| {
        let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
        let spec = json!({ "minReplicas": min, "maxReplicas": 3, "scaleTargetRef": target });
        let hpa = json!({ "metadata": { "name": name, "namespace": "a" }, "spec": spec });
        ScalerObject::of_hpa(&serde_json::from_value(hpa).unwrap()).unwrap()
    };
    let with = |scalers: Vec<ScalerObject>| NamespaceObjects { scalers, ..sound() };
    only(
        &problems(&checked("agimo"), &with(vec![hpa("h", 1)])),
        Level::Failed,
        "agimo and the Horizontal",
    );
    only(&problems(&checked("external"), &sound()), Level::Failed, "no scaler is found");
    only(
        &problems(&checked("external"), &with(vec![hpa("h", 1)])),
        Level::Warning,
        "never scales to zero",
    );
    assert_eq!(problems(&checked("external"), &with(vec![hpa("h", 0)])), []);
    assert_eq!(problems(&checked("auto"), &with(vec![hpa("h", 1)])), []);
    let two = with(vec![hpa("h", 1), hpa("i", 1)]);
    only(&problems(&checked("auto"), &two), Level::Failed, "undo what the others write");
}

#[test]
fn what_makes_a_wake_slow_is_a_warning() {
    let changed = |key: &str, value: Value| {
        let mut container = container();
        container[key] = value;
        objects(container, json!({}), json!({}))
    };
    for (key, value, part) in [
        ("readinessProbe", json!({ "tcpSocket": { "port": 1 } }), "runs every 10 s"),
        (
            "readinessProbe",
            json!({ "periodSeconds": 1, "initialDelaySeconds": 7 }),
            "begins after 7 s",
        ),
        ("readinessProbe", json!(null), "no container has a readiness probe"),
        ("imagePullPolicy", json!("Always"), "asks the registry"),
        ("image", json!("r.test:5000/web"), "asks the registry"),
    ] {
        only(&problems(&checked("auto"), &changed(key, value)), Level::Warning, part);
    }
    assert_eq!(problems(&checked("auto"), &changed("image", json!("r.test/web@sha256:a"))), []);
    let early = CheckedService { early_ready: true, ..checked("auto") };
    assert_eq!(problems(&early, &changed("readinessProbe", json!(null))), []);

    let pull = |seconds| ImagePull {
        pod: "web-7c5d8b9f4-x2x9p".to_owned(),
        image: "web:1".to_owned(),
        took: Duration::from_secs(seconds),
        at: None,
    };
    let mut slow = sound();
    slow.pulls = vec![pull(2)];
    assert_eq!(problems(&checked("auto"), &slow), []);
    slow.pulls.push(pull(12));
    only(&problems(&checked("auto"), &slow), Level::Warning, "took 12.00 s to pull");
}
