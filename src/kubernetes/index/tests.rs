//! What the index makes of what watches bring, in whatever order they bring it.

use std::time::{Duration, Instant};

use super::super::objects::PortObject;
use super::*;
use crate::config::{Scaler, Via};

const KINDS: [Kind; 4] = [Kind::Slices, Kind::Services, Kind::Deployments, Kind::StatefulSets];

fn scope(kind: Kind, namespace: Option<&str>) -> Scope {
    Scope { kind, namespace: namespace.map(ToOwned::to_owned) }
}

/// An index of the whole cluster; nothing has been read yet.
fn index(peers: Option<Id>) -> Index {
    Index::new(KINDS.map(|kind| scope(kind, None)), peers)
}

/// The Service `a/web` with the ports `http` and `admin`, and the Deployment of that name, followed.
fn with_web(index: &mut Index) -> watch::Receiver<Seen> {
    for kind in KINDS {
        list(index, &scope(kind, None), []);
    }
    put(index, "web", service(false));
    put(index, "web", Object::Workload(workload(1, "1")));
    index.follow(&config("web", ServicePort::Name("http".to_owned())))
}

fn config(name: &str, service_port: ServicePort) -> KubernetesConfig {
    KubernetesConfig {
        kind: KubernetesKind::Deployment,
        namespace: "a".to_owned(),
        name: name.to_owned(),
        service_name: name.to_owned(),
        service_port,
        scaler: Scaler::Agimo,
        via: Via::Pod,
    }
}

fn service(prefers_ipv6: bool) -> Object {
    let port = |name: &str, number| PortObject {
        name: name.to_owned(),
        number,
        target: ServicePort::Name(name.to_owned()),
    };
    let ports = vec![port("http", 80), port("admin", 81)];
    Object::Service(ServiceObject { ports, selector: None, prefers_ipv6, cluster_ip: None })
}

fn workload(replicas: u32, version: &str) -> WorkloadObject {
    WorkloadObject { replicas, resource_version: version.to_owned(), refused: None }
}

/// A slice of `a/<service>` that leads the port `http` to this number.
fn slice(service: &str, number: u16, endpoints: impl IntoIterator<Item = SliceEndpoint>) -> Slice {
    let endpoints: Vec<_> = endpoints.into_iter().collect();
    Slice {
        service: Id::new("a", service),
        is_ipv6: endpoints.first().is_some_and(|endpoint| endpoint.address.is_ipv6()),
        ports: vec![("admin".to_owned(), 9), ("http".to_owned(), number)],
        endpoints,
    }
}

fn ready(address: &str, pod: &str) -> SliceEndpoint {
    let (address, pod) = (address.parse().unwrap(), Some(pod.into()));
    SliceEndpoint { address, pod, ready: true, last_resort: false }
}

fn leaving(address: &str, pod: &str) -> SliceEndpoint {
    SliceEndpoint { ready: false, last_resort: true, ..ready(address, pod) }
}

fn kind_of(object: &Object) -> Kind {
    match object {
        Object::Slice(_) => Kind::Slices,
        Object::Service(_) => Kind::Services,
        Object::Workload(_) => Kind::Deployments,
    }
}

fn put(index: &mut Index, name: &str, object: Object) {
    let scope = scope(kind_of(&object), None);
    index.apply(&scope, Event::Apply((Id::new("a", name), Some(object))));
}

fn put_slice(index: &mut Index, name: &str, slice: Slice) {
    put(index, name, Object::Slice(slice));
}

fn delete(index: &mut Index, kind: Kind, name: &str) {
    index.apply(&scope(kind, None), Event::Delete((Id::new("a", name), None)));
}

/// A whole list, as a watch brings it at first and after it has lost its place.
fn list(index: &mut Index, scope: &Scope, objects: impl IntoIterator<Item = (Id, Object)>) {
    index.apply(scope, Event::Init);
    for (id, object) in objects {
        index.apply(scope, Event::InitApply((id, Some(object))));
    }
    index.apply(scope, Event::InitDone);
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn ready_of(seen: &watch::Receiver<Seen>) -> Vec<String> {
    addresses(&seen.borrow().ready)
}

#[test]
fn nothing_is_known_before_every_list_has_come() {
    let mut index = index(None);
    let seen = index.follow(&config("web", ServicePort::Number(80)));
    for kind in KINDS {
        assert!(!index.is_synced() && !seen.borrow().synced);
        list(&mut index, &scope(kind, None), []);
    }
    assert!(index.is_synced() && seen.borrow().synced);
    assert!(seen.borrow().workload.is_none() && seen.borrow().service.is_none());
}

#[test]
fn a_new_list_replaces_the_old_one() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    put_slice(&mut index, "web-2", slice("web", 8080, [ready("10.0.0.2", "p2")]));
    let slices = scope(Kind::Slices, None);
    index.apply(&slices, Event::Init);
    assert_eq!(ready_of(&seen).len(), 2, "what is known holds until the list is whole");
    let new = Object::Slice(slice("web", 8080, [ready("10.0.0.3", "p3")]));
    index.apply(&slices, Event::InitApply((Id::new("a", "web-2"), Some(new))));
    index.apply(&slices, Event::InitDone);
    assert_eq!(ready_of(&seen), ["10.0.0.3:8080"]);
    list(&mut index, &scope(Kind::Services, None), []);
    list(&mut index, &scope(Kind::Deployments, None), []);
    let seen = seen.borrow();
    assert!(seen.service.is_none() && seen.workload.is_none() && seen.ready.is_empty());
}

#[test]
fn a_list_of_one_namespace_says_nothing_of_another() {
    let both = ["a", "b"].map(|namespace| scope(Kind::Slices, Some(namespace)));
    let mut index = Index::new(both.clone(), Some(Id::new("a", "web")));
    let of = |name: &str| {
        let pod = format!("pod-{name}");
        (Id::new("a", name), Object::Slice(slice("web", 80, [ready("10.0.0.1", &pod)])))
    };
    list(&mut index, &both[0], [of("one"), of("two")]);
    assert_eq!(*index.peer_count().borrow(), 2);
    list(&mut index, &both[1], []);
    assert_eq!(*index.peer_count().borrow(), 2);
    list(&mut index, &both[0], [of("two")]);
    assert_eq!(*index.peer_count().borrow(), 1);
}

#[test]
fn a_slice_may_move_to_another_service() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    put(&mut index, "other", service(false));
    let other = index.follow(&config("other", ServicePort::Number(80)));
    put_slice(&mut index, "s", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    assert_eq!((ready_of(&seen).len(), ready_of(&other).len()), (1, 0));
    put_slice(&mut index, "s", slice("other", 8080, [ready("10.0.0.1", "p1")]));
    assert_eq!((ready_of(&seen).len(), ready_of(&other).len()), (0, 1));
    // Its label is gone, or it cannot be decoded any more.
    index.apply(&scope(Kind::Slices, None), Event::Apply((Id::new("a", "s"), None)));
    assert_eq!((ready_of(&seen).len(), ready_of(&other).len()), (0, 0));
    assert!(index.slices.is_empty() && index.slice_services.is_empty());
}

#[test]
fn an_endpoint_in_two_slices_is_one() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    let second = [ready("10.0.0.1", "p1"), ready("10.0.0.2", "p2")];
    put_slice(&mut index, "web-2", slice("web", 8080, second));
    assert_eq!(ready_of(&seen), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    delete(&mut index, Kind::Slices, "web-1");
    assert_eq!(ready_of(&seen), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn the_family_that_the_service_prefers_goes_first() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    put_slice(&mut index, "web-4", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    put_slice(&mut index, "web-6", slice("web", 8080, [ready("fd00::1", "p1")]));
    assert_eq!(ready_of(&seen), ["10.0.0.1:8080"]);
    put(&mut index, "web", service(true));
    assert_eq!(ready_of(&seen), ["[fd00::1]:8080"]);
    delete(&mut index, Kind::Slices, "web-6");
    assert_eq!(ready_of(&seen), ["10.0.0.1:8080"], "any family rather than none");
}

#[test]
fn one_port_may_have_another_number_in_every_slice() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    put_slice(&mut index, "web-2", slice("web", 9090, [ready("10.0.0.2", "p2")]));
    let mut without = slice("web", 80, [ready("10.0.0.3", "p3")]);
    without.ports.retain(|(name, _)| name != "http");
    put_slice(&mut index, "web-3", without);
    assert_eq!(ready_of(&seen), ["10.0.0.1:8080", "10.0.0.2:9090"]);
    let by_number = index.follow(&config("web", ServicePort::Number(81)));
    assert_eq!(by_number.borrow().ready.len(), 3);
    assert!(by_number.borrow().ready.iter().all(|endpoint| endpoint.address.port() == 9));
    let unknown = index.follow(&config("web", ServicePort::Number(82)));
    assert!(unknown.borrow().ready.is_empty() && unknown.borrow().service.is_some());
}

#[test]
fn what_leaves_and_still_answers_is_kept_apart() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    let silent = SliceEndpoint { last_resort: false, ..leaving("10.0.0.3", "p3") };
    let endpoints = [ready("10.0.0.1", "p1"), leaving("10.0.0.2", "p2"), silent];
    put_slice(&mut index, "web-1", slice("web", 8080, endpoints));
    assert_eq!(ready_of(&seen), ["10.0.0.1:8080"]);
    assert_eq!(addresses(&seen.borrow().last_resort), ["10.0.0.2:8080"]);
}

#[test]
fn peers_are_counted_by_pod_whatever_their_condition() {
    let mut index = index(Some(Id::new("a", "agimo")));
    let count = index.peer_count();
    assert_eq!(*count.borrow(), 0);
    let both = [ready("10.0.0.1", "p1"), leaving("10.0.0.2", "p2")];
    put_slice(&mut index, "agimo-4", slice("agimo", 80, both));
    put_slice(&mut index, "agimo-6", slice("agimo", 80, [ready("fd00::1", "p1")]));
    assert_eq!(*count.borrow(), 2, "two families of one pod are one replica");
    let outside = |address: &str| SliceEndpoint { pod: None, ..ready(address, "") };
    put_slice(&mut index, "agimo-4", slice("agimo", 80, [outside("1.0.0.1"), outside("1.0.0.2")]));
    delete(&mut index, Kind::Slices, "agimo-6");
    assert_eq!(*count.borrow(), 2, "addresses without a pod are counted by themselves");
    delete(&mut index, Kind::Slices, "agimo-4");
    assert_eq!(*count.borrow(), 0);
}

#[test]
fn a_fault_is_told_until_its_watch_says_something() {
    let mut index = index(None);
    let mut seen = with_web(&mut index);
    put_slice(&mut index, "web-1", slice("web", 8080, [ready("10.0.0.1", "p1")]));
    let services = scope(Kind::Services, None);
    index.set_fault(&services, Some("away".to_owned()));
    assert_eq!(seen.borrow_and_update().fault.as_deref(), Some("away"));
    assert_eq!(ready_of(&seen).len(), 1, "what is known goes on to hold");
    assert!(seen.borrow().synced);
    index.set_fault(&services, Some("away".to_owned()));
    index.apply(&services, Event::Init);
    assert!(!seen.has_changed().unwrap(), "a list that begins is no answer yet");
    put(&mut index, "web", service(false));
    assert_eq!(seen.borrow_and_update().fault, None);
}

#[test]
fn only_what_concerns_a_workload_wakes_whoever_runs_it() {
    let mut index = index(None);
    let mut seen = with_web(&mut index);
    seen.mark_unchanged();
    put_slice(&mut index, "other-1", slice("other", 8080, [ready("10.0.0.9", "p9")]));
    put(&mut index, "other", Object::Workload(workload(3, "7")));
    put(&mut index, "web", Object::Workload(workload(1, "1")));
    assert!(!seen.has_changed().unwrap());
    put(&mut index, "web", Object::Workload(workload(2, "8")));
    assert_eq!(seen.borrow_and_update().workload, Some(workload(2, "8")));
    drop(seen);
    index.forget_unfollowed();
    assert_eq!(index.targets.len(), 0, "nobody follows the first any more");
}

#[test]
fn whoever_follows_a_workload_knows_how_many_do() {
    let mut index = index(None);
    let web = with_web(&mut index);
    let _other = index.follow(&config("other", ServicePort::Number(80)));
    assert_eq!(web.borrow().followers, 1);
    let again = index.follow(&config("web", ServicePort::Number(81)));
    assert_eq!((web.borrow().followers, again.borrow().followers), (2, 2));
    drop(again);
    index.forget_unfollowed();
    assert_eq!(web.borrow().followers, 1);
}

#[test]
fn a_namespace_without_a_watch_is_known_as_such() {
    let mut index = Index::new(KINDS.map(|kind| scope(kind, Some("b"))), None);
    assert!(index.follow(&config("web", ServicePort::Number(80))).borrow().unwatched);
    let mut config = config("web", ServicePort::Number(80));
    config.namespace = "b".to_owned();
    assert!(!index.follow(&config).borrow().unwatched);
}

/// The whole of a large cluster, read and read again; the bound is wide, for a busy machine, and far below what one
/// look at every slice for every slice would take.
#[test]
fn ten_thousand_slices_are_read_quickly() {
    let mut index = index(None);
    let seen = with_web(&mut index);
    let objects = || {
        (0..10_000_u32).map(|number| {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
            let service =
                if number == 5_000 { "web".to_owned() } else { format!("s{}", number / 2) };
            let endpoints = [ready(&address, &format!("p{number}"))];
            let slice = slice(&service, 8080, endpoints);
            (Id::new("a", &format!("{service}-{number}")), Object::Slice(slice))
        })
    };
    let slices = scope(Kind::Slices, None);
    let began = Instant::now();
    list(&mut index, &slices, objects());
    assert_eq!(ready_of(&seen), ["10.0.19.136:8080"]);
    list(&mut index, &slices, objects().skip(9_000));
    assert!(ready_of(&seen).is_empty());
    assert_eq!(index.slice_services.len(), 1_000);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
