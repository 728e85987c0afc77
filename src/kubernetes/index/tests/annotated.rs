//! Annotated workloads and the Services that select their pods, in whatever order they are read.

use std::collections::BTreeMap;

use super::*;
use crate::kubernetes::objects::workload::PodTemplate;

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A Deployment whose pods have the labels `app=web` and `tier=front`.
fn annotated(annotations: &[(&str, &str)]) -> Object {
    let labels = pairs(&[("app", "web"), ("tier", "front")]);
    Object::Workload(WorkloadObject {
        annotations: Some(Arc::new(pairs(annotations))),
        template: Arc::new(PodTemplate { labels, ..PodTemplate::default() }),
        ..workload(0, "1")
    })
}

fn selecting(selector: &str) -> Object {
    let Object::Service(service) = service(false) else { unreachable!() };
    Object::Service(ServiceObject { selector: Some(selector.to_owned()), ..service })
}

/// The names of the Services of the only annotated workload.
fn services(index: &Index) -> Vec<String> {
    let all = index.annotated();
    assert_eq!(all.len(), 1);
    all[0].services.keys().cloned().collect()
}

#[test]
fn the_services_that_select_the_pods_are_found_whichever_comes_first() {
    let mut index = index(None);
    put(&mut index, "early", selecting("app=web"));
    put(&mut index, "stricter", selecting("app=web,tier=back"));
    put(&mut index, "web", annotated(&[("host", "web.test")]));
    assert_eq!(services(&index), ["early"]);
    let changes = index.annotated_changes();
    put(&mut index, "late", selecting("tier=front"));
    assert_eq!(services(&index), ["early", "late"]);
    put(&mut index, "stricter", selecting("tier=front,app=web"));
    put(&mut index, "early", selecting("app=other"));
    delete(&mut index, ObjectKind::Service, "late");
    assert_eq!(services(&index), ["stricter"]);
    assert!(changes.has_changed().unwrap());
}

#[test]
fn a_service_that_is_named_need_not_select_the_pods_and_may_come_later() {
    let mut index = index(None);
    put(&mut index, "selecting", selecting("app=web"));
    put(&mut index, "web", annotated(&[("host", "web.test"), ("service", "named")]));
    assert_eq!(services(&index), [""; 0]);
    put(&mut index, "named", selecting("app=other"));
    assert_eq!(services(&index), ["named"]);
    put(&mut index, "web", annotated(&[("host", "web.test")]));
    assert_eq!(services(&index), ["selecting"]);
}

#[test]
fn only_changes_of_annotations_and_services_are_announced() {
    let mut index = index(None);
    put(&mut index, "web", annotated(&[("host", "web.test")]));
    put(&mut index, "plain", Object::Workload(workload(1, "1")));
    let before = *index.annotated_changes().borrow();
    let Object::Workload(object) = annotated(&[("host", "web.test")]) else { unreachable!() };
    let scaled = WorkloadObject { replicas: 3, resource_version: "2".to_owned(), ..object };
    put(&mut index, "web", Object::Workload(scaled));
    put(&mut index, "unrelated", selecting("app=other"));
    assert_eq!(*index.annotated_changes().borrow(), before);
    put(&mut index, "web", Object::Workload(workload(1, "3")));
    assert!(index.annotated().is_empty(), "its annotations were removed");
    assert!(*index.annotated_changes().borrow() > before);
}
