//! What is known of the watches of a namespace.

use super::super::health::{ListHealth, WatchHealth};
use super::*;

#[test]
fn a_namespace_that_cannot_be_read_does_not_stop_the_others() {
    let scope = |namespace: &str| WatchScope {
        kind: ObjectKind::Service,
        namespace: Some(namespace.to_owned()),
    };
    let mut index = Index::new([scope("a"), scope("gone")], None);
    let health = index.health();
    index.apply(&scope("a"), Event::Init);
    index.apply(&scope("a"), Event::InitDone);
    assert!(!health.borrow().is_usable(), "the other may only be slow");
    index.set_fault(&scope("gone"), Some("forbidden".to_owned()));
    assert!(health.borrow().is_usable());
    assert_eq!(health.borrow().of("a"), WatchHealth { is_synced: true, ..WatchHealth::default() });
    let gone = health.borrow().of("gone");
    assert_eq!(gone, WatchHealth { fault: Some("forbidden".to_owned()), ..WatchHealth::default() });
    let mut alone = Index::new([scope("gone")], None);
    alone.set_fault(&scope("gone"), Some("forbidden".to_owned()));
    assert!(!alone.health().borrow().is_usable(), "nothing can be read");
}

#[test]
fn scalers_that_cannot_be_read_concern_nothing_else() {
    let kinds = [ObjectKind::Service, ObjectKind::ScaledObject];
    let mut index = Index::new(kinds.map(|kind| scope(kind, None)), None);
    let health = index.health();
    list(&mut index, &scope(ObjectKind::Service, None), []);
    assert!(!health.borrow().is_usable(), "they may only be slow");
    assert_eq!(health.borrow().of("a").scalers, ListHealth { is_synced: false, fault: None });
    index.set_fault(&scope(ObjectKind::ScaledObject, None), Some("forbidden".to_owned()));
    assert!(health.borrow().is_usable());
    let fault = Some("forbidden".to_owned());
    let scalers = ListHealth { is_synced: false, fault };
    let expected = WatchHealth { is_synced: true, fault: None, scalers };
    assert_eq!(health.borrow().of("a"), expected);
    list(&mut index, &scope(ObjectKind::ScaledObject, None), []);
    assert_eq!(health.borrow().of("a").scalers, ListHealth::default());
}
