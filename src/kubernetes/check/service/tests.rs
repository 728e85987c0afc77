//! Tests of the rules for one service.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::findings::Level;
use crate::kubernetes::objects::scaler::ScalerObject;
use crate::kubernetes::objects::workload::WorkloadObject;
use crate::workload::{WorkloadId, WorkloadKind};
use serde_json::{Value, json};

fn checked(scaler: Scaler) -> CheckedService {
    CheckedService {
        name: "web.test".to_owned(),
        workload: WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "a".to_owned(),
            name: "web".to_owned(),
        },
        service_name: "web".to_owned(),
        service_port: ServicePort::Number(80),
        scaler,
        mode: Mode::Enforce,
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
    let findings = findings(checked, objects, true);
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
    assert_eq!(problems(&checked(Scaler::Auto), &sound()), []);
    assert!(findings(&checked(Scaler::Auto), &sound(), true).len() >= 4);
}

#[test]
fn missing_and_unfitting_objects_are_named() {
    let empty = NamespaceObjects::default();
    only(
        &problems(&checked(Scaler::Auto), &empty),
        Level::Failed,
        "deployment a/web does not exist",
    );
    let mut without_service = sound();
    without_service.services.clear();
    only(
        &problems(&checked(Scaler::Auto), &without_service),
        Level::Failed,
        "Service a/web does not exist",
    );
    let mut unreadable = sound();
    unreadable.unreadable.insert("ScaledObjects", "forbidden".to_owned());
    unreadable.unreadable.insert("Events", "forbidden".to_owned());
    let found = problems(&checked(Scaler::Auto), &unreadable);
    assert!(
        found.len() == 2 && found.iter().all(|(level, _)| *level == Level::Skipped),
        "{found:?}"
    );
    let mut unreadable = NamespaceObjects::default();
    unreadable.unreadable.insert("Deployments", "forbidden".to_owned());
    only(
        &problems(&checked(Scaler::Auto), &unreadable),
        Level::Skipped,
        "Deployments of the namespace a",
    );
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
        only(&problems(&checked(Scaler::Auto), &objects), Level::Failed, part);
    }
    let manual = objects(container(), json!({}), json!({ "selector": null }));
    only(&problems(&checked(Scaler::Auto), &manual), Level::Warning, "has no selector");
}

fn hpa(name: &str, min: i32, conditions: Value) -> ScalerObject {
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
    let spec = json!({ "minReplicas": min, "maxReplicas": 3, "scaleTargetRef": target });
    let status = json!({ "conditions": conditions });
    let hpa =
        json!({ "metadata": { "name": name, "namespace": "a" }, "spec": spec, "status": status });
    ScalerObject::of_hpa(&serde_json::from_value(hpa).unwrap()).unwrap()
}

fn scaled_object(annotations: Value) -> ScalerObject {
    let object = json!({
        "metadata": { "name": "s", "namespace": "a", "annotations": annotations },
        "spec": { "scaleTargetRef": { "name": "web" } },
    });
    ScalerObject::of_scaled_object(&serde_json::from_value(object).unwrap()).unwrap()
}

#[test]
fn somebody_must_wake_the_workload_and_nobody_else_write_replicas() {
    let with = |scalers: Vec<ScalerObject>| NamespaceObjects { scalers, ..sound() };
    let none = || json!([]);
    let disabled =
        || json!([{ "type": "ScalingActive", "status": "False", "reason": "ScalingDisabled" }]);
    let paused = || scaled_object(json!({ "autoscaling.keda.sh/paused": "true" }));
    let paused_at_zero = || scaled_object(json!({ "autoscaling.keda.sh/paused-replicas": "0" }));
    let running = || scaled_object(json!({}));
    for (scaler, others, level, part) in [
        (
            Scaler::Agimo,
            vec![hpa("h", 1, none())],
            Level::Failed,
            "agimo and HorizontalPodAutoscaler h both",
        ),
        (Scaler::Agimo, vec![running()], Level::Failed, "agimo and ScaledObject s both"),
        (Scaler::External, vec![], Level::Warning, "no scaler is found"),
        (Scaler::External, vec![hpa("h", 1, none())], Level::Warning, "never sleeps"),
        (Scaler::External, vec![hpa("h", 0, disabled())], Level::Failed, "nothing wakes"),
        (Scaler::External, vec![hpa("h", 1, disabled())], Level::Failed, "nothing wakes"),
        (Scaler::External, vec![paused()], Level::Failed, "nothing wakes"),
        (Scaler::Auto, vec![paused_at_zero()], Level::Failed, "nothing wakes"),
        // While the workload sleeps, both are disabled.
        (
            Scaler::Auto,
            vec![hpa("h", 1, disabled()), hpa("i", 1, disabled())],
            Level::Failed,
            "undo what",
        ),
        (Scaler::Auto, vec![hpa("h", 1, none()), hpa("i", 1, none())], Level::Failed, "undo what"),
    ] {
        only(&problems(&checked(scaler), &with(others)), level, part);
    }
    let of_keda = {
        let mut same = hpa("keda-hpa-s", 1, none());
        same.scaler = running().scaler;
        same
    };
    for (scaler, others) in [
        (Scaler::External, vec![hpa("h", 0, none())]),
        (Scaler::External, vec![running()]),
        (Scaler::Auto, vec![hpa("h", 1, none())]),
        (Scaler::Auto, vec![hpa("h", 0, disabled())]),
        (Scaler::Auto, vec![running(), of_keda]),
        (Scaler::Auto, vec![paused()]),
        (Scaler::Agimo, vec![paused()]),
        (Scaler::Auto, vec![paused(), hpa("h", 1, none())]),
    ] {
        assert_eq!(problems(&checked(scaler), &with(others.clone())), [], "{others:?}");
    }
    let texts = |checked: &CheckedService, objects: &NamespaceObjects, can_write| {
        let findings = findings(checked, objects, can_write).into_iter();
        findings.map(|finding| finding.text).collect::<Vec<_>>().join("\n")
    };
    let beside_paused = texts(&checked(Scaler::Agimo), &with(vec![paused()]), true);
    assert!(beside_paused.contains("ScaledObject s is paused"), "{beside_paused}");
    let from_prometheus = texts(&checked(Scaler::Auto), &sound(), false);
    assert!(from_prometheus.contains("no scaler is found"), "{from_prometheus}");
    let observing = CheckedService { mode: Mode::Observe, ..checked(Scaler::Agimo) };
    assert_eq!(problems(&observing, &with(vec![hpa("h", 1, none())])), []);
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
        only(&problems(&checked(Scaler::Auto), &changed(key, value)), Level::Warning, part);
    }
    assert_eq!(
        problems(&checked(Scaler::Auto), &changed("image", json!("r.test/web@sha256:a"))),
        []
    );
    let startup = changed("startupProbe", json!({ "tcpSocket": { "port": 1 } }));
    only(
        &problems(&checked(Scaler::Auto), &startup),
        Level::Warning,
        "startup probe of the container web runs every 10 s",
    );
    let early = CheckedService { early_ready: true, ..checked(Scaler::Auto) };
    assert_eq!(problems(&early, &changed("readinessProbe", json!(null))), []);
    let command = json!({ "exec": { "command": ["true"] } });
    only(
        &problems(&early, &changed("readinessProbe", command)),
        Level::Warning,
        "cannot run it itself",
    );

    let pull = |seconds| ImagePull {
        pod: "web-7c5d8b9f4-x2x9p".to_owned(),
        image: "web:1".to_owned(),
        took: Duration::from_secs(seconds),
        at: None,
    };
    let mut slow = sound();
    slow.pulls = vec![pull(2)];
    assert_eq!(problems(&checked(Scaler::Auto), &slow), []);
    slow.pulls.push(pull(12));
    only(&problems(&checked(Scaler::Auto), &slow), Level::Warning, "took 12.00 s to pull");
}
