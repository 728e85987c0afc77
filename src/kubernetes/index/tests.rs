//! The index, fed with the events of watches in whatever order they come.

use super::super::objects::{PortObject, SliceEndpoint};
use super::*;
use crate::config::{ServicePort, Via};

mod annotated;
mod health;
mod scalers;

const KINDS: [ObjectKind; 4] = [
    ObjectKind::EndpointSlice,
    ObjectKind::Service,
    ObjectKind::Deployment,
    ObjectKind::StatefulSet,
];

fn scope(kind: ObjectKind, namespace: Option<&str>) -> WatchScope {
    WatchScope { kind, namespace: namespace.map(ToOwned::to_owned) }
}

/// An index of the whole cluster without any list yet.
fn index(peers: Option<ObjectName>) -> Index {
    Index::new(KINDS.map(|kind| scope(kind, None)), peers)
}

type Snapshots = watch::Receiver<WorkloadSnapshot>;

/// The Service `a/web` with the ports `http` and `admin`, and the Deployment of that name, followed.
fn with_web(index: &mut Index) -> Snapshots {
    for kind in KINDS {
        list(index, &scope(kind, None), []);
    }
    put(index, "web", service(false));
    put(index, "web", Object::Workload(workload(1, "1")));
    follow(index, "web", ServicePort::Name("http".to_owned()))
}

fn id(namespace: &str, name: &str) -> WorkloadId {
    WorkloadId {
        kind: WorkloadKind::Deployment,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn source(name: &str, port: ServicePort) -> EndpointSource {
    EndpointSource::Service { name: name.to_owned(), port, via: Via::Pod }
}

/// Follows the Deployment `a/<name>` with its Service of the same name.
fn follow(index: &mut Index, name: &str, port: ServicePort) -> Snapshots {
    index.follow(&id("a", name), &[source(name, port)]).1
}

/// What is known of the only source.
fn of_source(snapshot: &Snapshots) -> SourceSnapshot {
    snapshot.borrow().sources.values().next().cloned().unwrap_or_default()
}

fn service(prefers_ipv6: bool) -> Object {
    let port = |name: &str, number| PortObject {
        name: name.to_owned(),
        number,
        target: ServicePort::Name(name.to_owned()),
        protocol: Default::default(),
    };
    let ports = vec![port("http", 80), port("admin", 81)];
    Object::Service(ServiceObject { ports, prefers_ipv6, ..ServiceObject::default() })
}

fn workload(replicas: u32, version: &str) -> WorkloadObject {
    WorkloadObject { replicas, resource_version: version.to_owned(), ..WorkloadObject::default() }
}

/// A slice of `a/<service>` with this number for the port `http`.
fn slice(service: &str, number: u16, endpoints: impl IntoIterator<Item = SliceEndpoint>) -> Slice {
    let endpoints: Vec<_> = endpoints.into_iter().collect();
    Slice {
        service: ObjectName::new("a", service),
        is_ipv6: endpoints.first().is_some_and(|endpoint| endpoint.address.is_ipv6()),
        ports: vec![("admin".to_owned(), 9), ("http".to_owned(), number)],
        endpoints,
    }
}

fn ready(address: &str, pod: &str) -> SliceEndpoint {
    let pod = Some(PodIdentity { name: pod.into(), uid: pod.into() });
    let address = address.parse().unwrap();
    SliceEndpoint { address, pod, ready: true, terminating: false, last_resort: false }
}

fn terminating(address: &str, pod: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, terminating: true, last_resort: true, ..ready(address, pod) }
}

fn kind_of(object: &Object) -> ObjectKind {
    match object {
        Object::Slice(_) => ObjectKind::EndpointSlice,
        Object::Service(_) => ObjectKind::Service,
        Object::Workload(_) => ObjectKind::Deployment,
        Object::Scaler(_) => ObjectKind::ScaledObject,
    }
}

fn put(index: &mut Index, name: &str, object: Object) {
    let scope = scope(kind_of(&object), None);
    index.apply(&scope, Event::Apply((ObjectName::new("a", name), Some(object))));
}

fn put_slice(index: &mut Index, name: &str, slice: Slice) {
    put(index, name, Object::Slice(slice));
}

fn delete(index: &mut Index, kind: ObjectKind, name: &str) {
    index.apply(&scope(kind, None), Event::Delete((ObjectName::new("a", name), None)));
}

/// A complete list, as a watch sends it at first and after it cannot be resumed.
fn list(
    index: &mut Index,
    scope: &WatchScope,
    objects: impl IntoIterator<Item = (ObjectName, Object)>,
) {
    index.apply(scope, Event::Init);
    for (id, object) in objects {
        index.apply(scope, Event::InitApply((id, Some(object))));
    }
    index.apply(scope, Event::InitDone);
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn ready_of(snapshot: &Snapshots) -> Vec<String> {
    addresses(&of_source(snapshot).ready)
}

#[test]
fn the_watches_are_synced_when_each_was_listed() {
    let mut index = index(None);
    let health = index.health();
    let snapshot = follow(&mut index, "web", ServicePort::Number(80));
    for kind in KINDS {
        assert!(!health.borrow().of("a").is_synced);
        list(&mut index, &scope(kind, None), []);
    }
    assert!(health.borrow().of("a").is_synced);
    assert!(snapshot.borrow().workload.is_none() && of_source(&snapshot).service.is_none());
}

#[test]
fn a_new_list_replaces_the_old_one() {
    let mut index = index(None);
    let snapshot = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    put_slice(&mut index, "web-2", slice("web", 8080, [ready("10.0.0.2", "p2")]));
    let slices = scope(ObjectKind::EndpointSlice, None);
    index.apply(&slices, Event::Init);
    assert_eq!(ready_of(&snapshot).len(), 2, "what is known is kept until the list is complete");
    let new = Object::Slice(slice("web", 8080, [ready("10.0.0.3", "p3")]));
    index.apply(&slices, Event::InitApply((ObjectName::new("a", "web-2"), Some(new))));
    index.apply(&slices, Event::InitDone);
    assert_eq!(ready_of(&snapshot), ["10.0.0.3:8080"]);
    list(&mut index, &scope(ObjectKind::Service, None), []);
    list(&mut index, &scope(ObjectKind::Deployment, None), []);
    assert!(of_source(&snapshot) == SourceSnapshot::default());
    assert!(snapshot.borrow().workload.is_none());
}

#[test]
fn a_list_of_one_namespace_does_not_affect_another() {
    let both = ["a", "b"].map(|namespace| scope(ObjectKind::EndpointSlice, Some(namespace)));
    let mut index = Index::new(both.clone(), Some(ObjectName::new("a", "web")));
    let of = |name: &str, address: &str| {
        let pod = format!("pod-{name}");
        (ObjectName::new("a", name), Object::Slice(slice("web", 80, [ready(address, &pod)])))
    };
    list(&mut index, &both[0], [of("one", "10.0.0.1"), of("two", "10.0.0.2")]);
    assert_eq!(index.peers().borrow().len(), 2);
    list(&mut index, &both[1], []);
    assert_eq!(index.peers().borrow().len(), 2);
    list(&mut index, &both[0], [of("two", "10.0.0.2")]);
    assert_eq!(index.peers().borrow().len(), 1);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut index = index(None);
    let snapshot = with_web(&mut index);
    put(&mut index, "other", service(false));
    let other = follow(&mut index, "other", ServicePort::Number(80));
    put_slice(&mut index, "s", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    assert_eq!((ready_of(&snapshot).len(), ready_of(&other).len()), (1, 0));
    put_slice(&mut index, "s", slice("other", 8080, [ready("10.0.0.1", "p1")]));
    assert_eq!((ready_of(&snapshot).len(), ready_of(&other).len()), (0, 1));
    // Its label was removed, or it cannot be decoded any more.
    index.apply(
        &scope(ObjectKind::EndpointSlice, None),
        Event::Apply((ObjectName::new("a", "s"), None)),
    );
    assert_eq!((ready_of(&snapshot).len(), ready_of(&other).len()), (0, 0));
    assert!(index.slices.is_empty());
}

#[test]
fn an_endpoint_in_two_slices_is_counted_once() {
    let mut index = index(None);
    let snapshot = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    let second = [ready("10.0.0.1", "p1"), ready("10.0.0.2", "p2")];
    put_slice(&mut index, "web-2", slice("web", 8080, second));
    assert_eq!(ready_of(&snapshot), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    delete(&mut index, ObjectKind::EndpointSlice, "web-1");
    assert_eq!(ready_of(&snapshot), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn the_address_family_that_the_service_prefers_is_used() {
    let mut index = index(None);
    let snapshot = with_web(&mut index);
    put_slice(&mut index, "web-4", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    put_slice(&mut index, "web-6", slice("web", 8080, [ready("fd00::1", "p1")]));
    assert_eq!(ready_of(&snapshot), ["10.0.0.1:8080"]);
    put(&mut index, "web", service(true));
    assert_eq!(ready_of(&snapshot), ["[fd00::1]:8080"]);
    delete(&mut index, ObjectKind::EndpointSlice, "web-6");
    assert_eq!(ready_of(&snapshot), ["10.0.0.1:8080"], "any family rather than none");
}

#[test]
fn one_port_may_have_another_number_in_every_slice() {
    let mut index = index(None);
    let snapshot = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    put_slice(&mut index, "web-2", slice("web", 9090, [ready("10.0.0.2", "p2")]));
    let mut without = slice("web", 80, [ready("10.0.0.3", "p3")]);
    without.ports.retain(|(name, _)| name != "http");
    put_slice(&mut index, "web-3", without);
    assert_eq!(ready_of(&snapshot), ["10.0.0.1:8080", "10.0.0.2:9090"]);
    let by_number = follow(&mut index, "web", ServicePort::Number(81));
    assert_eq!(ready_of(&by_number).len(), 3);
    assert!(of_source(&by_number).ready.iter().all(|endpoint| endpoint.address.port() == 9));
    let unknown = follow(&mut index, "web", ServicePort::Number(82));
    assert!(ready_of(&unknown).is_empty() && of_source(&unknown).service.is_some());
}

#[test]
fn terminating_endpoints_that_serve_are_kept_apart() {
    let mut index = index(None);
    let snapshot = with_web(&mut index);
    let silent = SliceEndpoint { last_resort: false, ..terminating("10.0.0.3", "p3") };
    let endpoints = [ready("10.0.0.1", "p1"), terminating("10.0.0.2", "p2"), silent];
    put_slice(&mut index, "web-1", slice("web", 8080, endpoints));
    assert_eq!(ready_of(&snapshot), ["10.0.0.1:8080"]);
    assert_eq!(addresses(&of_source(&snapshot).last_resort), ["10.0.0.2:8080"]);
}

#[test]
fn peers_have_one_address_for_each_pod_whatever_its_conditions() {
    let mut index = index(Some(ObjectName::new("a", "agimo")));
    let peers = index.peers();
    let count = || peers.borrow().len();
    assert_eq!(count(), 0);
    let both = [ready("10.0.0.1", "p1"), terminating("10.0.0.2", "p2")];
    put_slice(&mut index, "agimo-4", slice("agimo", 80, both));
    put_slice(&mut index, "agimo-6", slice("agimo", 80, [ready("fd00::1", "p1")]));
    assert_eq!(count(), 2, "two families of one pod are one replica");
    // The first port of its slices is the one of the exchange.
    assert!(peers.borrow().iter().all(|address| address.port() == 9));
    let outside = |address: &str| SliceEndpoint { pod: None, ..ready(address, "") };
    put_slice(&mut index, "agimo-4", slice("agimo", 80, [outside("1.0.0.1"), outside("1.0.0.2")]));
    delete(&mut index, ObjectKind::EndpointSlice, "agimo-6");
    assert_eq!(count(), 2, "addresses without a pod are counted by themselves");
    delete(&mut index, ObjectKind::EndpointSlice, "agimo-4");
    assert_eq!(count(), 0);
}

#[test]
fn a_fault_lasts_until_its_watch_reports_an_object() {
    let mut index = index(None);
    let (snapshot, mut health) = (with_web(&mut index), index.health());
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    let services = scope(ObjectKind::Service, None);
    index.set_fault(&services, Some("no answer".to_owned()));
    assert_eq!(health.borrow_and_update().of("a").fault.as_deref(), Some("no answer"));
    assert_eq!(ready_of(&snapshot).len(), 1, "what is known is kept");
    assert!(health.borrow().of("a").is_synced);
    index.set_fault(&services, Some("no answer".to_owned()));
    index.apply(&services, Event::Init);
    assert!(!health.has_changed().unwrap(), "the beginning of a list is no answer yet");
    put(&mut index, "web", service(false));
    assert_eq!(health.borrow_and_update().of("a").fault, None);
}

#[test]
fn a_follower_is_notified_only_of_what_concerns_its_workload() {
    let mut index = index(None);
    let mut snapshot = with_web(&mut index);
    snapshot.mark_unchanged();
    put_slice(&mut index, "other-1", slice("other", 8080, [ready("10.0.0.9", "p9")]));
    put(&mut index, "other", Object::Workload(workload(3, "7")));
    put(&mut index, "web", Object::Workload(workload(1, "1")));
    assert!(!snapshot.has_changed().unwrap());
    put(&mut index, "web", Object::Workload(workload(2, "8")));
    assert_eq!(snapshot.borrow_and_update().workload, Some(Arc::new(workload(2, "8"))));
}

#[test]
fn sources_of_a_followed_workload_can_change() {
    let mut index = index(None);
    for kind in KINDS {
        list(&mut index, &scope(kind, None), []);
    }
    put(&mut index, "web", service(false));
    put(&mut index, "admin", service(false));
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    let http = source("web", ServicePort::Number(80));
    let (follower, mut snapshot) = index.follow(&id("a", "web"), std::slice::from_ref(&http));
    let admin = source("admin", ServicePort::Number(81));
    index.set_sources(follower, &[http.clone(), admin.clone()]);
    assert_eq!(snapshot.borrow_and_update().sources.len(), 2);
    put_slice(&mut index, "admin-1", slice("admin", 8080, [ready("10.0.0.1", "p1")]));
    assert_eq!(addresses(&snapshot.borrow_and_update().sources[&admin].ready), ["10.0.0.1:9"]);
    index.set_sources(follower, std::slice::from_ref(&admin));
    assert!(!snapshot.borrow_and_update().sources.contains_key(&http));
    put_slice(&mut index, "web-2", slice("web", 8080, [ready("10.0.0.2", "p2")]));
    assert!(!snapshot.has_changed().unwrap(), "it follows the Service no more");
    index.unfollow(follower);
    assert!(index.followers.is_empty());
}

#[test]
fn a_namespace_without_a_watch_is_reported() {
    let mut index = Index::new(KINDS.map(|kind| scope(kind, Some("b"))), None);
    assert!(index.follow(&id("a", "web"), &[]).1.borrow().is_unwatched);
    assert!(!index.follow(&id("b", "web"), &[]).1.borrow().is_unwatched);
}

/// A large cluster where each of the Services is followed: the work for a list, a fault and another list grows with the
/// number of objects and not with its square.
#[test]
fn lists_and_faults_of_ten_thousand_followed_services_cost_one_computation_per_object() {
    const SERVICES: usize = 10_000;
    let mut index = index(None);
    let name = |number: usize| format!("s{number}");
    let followed: Vec<_> = (0..SERVICES)
        .map(|number| follow(&mut index, &name(number), ServicePort::Number(80)))
        .collect();
    let objects = |object: fn(&str, usize) -> Object| {
        (0..SERVICES).map(move |number| {
            let name = name(number);
            (ObjectName::new("a", &name), object(&name, number))
        })
    };
    let slices = |name: &str, number: usize| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number as u32).to_string();
        Object::Slice(slice(name, 8080, [ready(&address, name)]))
    };
    index.computed_sources = 0;
    list(&mut index, &scope(ObjectKind::Service, None), objects(|_, _| service(false)));
    list(&mut index, &scope(ObjectKind::EndpointSlice, None), objects(slices));
    let workloads = objects(|_, _| Object::Workload(workload(1, "1")));
    list(&mut index, &scope(ObjectKind::Deployment, None), workloads);
    list(&mut index, &scope(ObjectKind::StatefulSet, None), []);
    assert_eq!(index.computed_sources, 2 * SERVICES, "one for each Service and slice");
    assert!(followed.iter().all(|snapshot| ready_of(snapshot).len() == 1));
    assert!(index.health().borrow().of("a").is_synced);

    index.computed_sources = 0;
    index.set_fault(&scope(ObjectKind::Service, None), Some("no answer".to_owned()));
    index.set_fault(&scope(ObjectKind::Service, None), None);
    assert_eq!(index.computed_sources, 0, "a fault concerns no source");
    list(&mut index, &scope(ObjectKind::EndpointSlice, None), objects(slices).skip(9_000));
    assert_eq!(index.computed_sources, SERVICES, "one for each slice, listed or gone");
    assert_eq!(index.slices.names().count(), 1_000);
}
