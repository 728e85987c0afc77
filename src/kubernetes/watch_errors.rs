//! What the errors of a watch mean, and what to do about them.

use kube::runtime::watcher;

use super::watch_scope::WatchScope;
use crate::kube_client::error_with_sources;

/// The API server does not serve a resource whose definition is not installed.
pub const NOT_FOUND: u16 = 404;

/// Whether the API server knows no such resource.
pub fn is_not_served(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == NOT_FOUND,
        // A watch that is resumed says nothing about what was listed before.
        _ => false,
    }
}

/// An error of a watch, with its fix where a right is missing.
pub fn fault(scope: &WatchScope, error: &watcher::Error) -> String {
    let inner = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        other => return other.to_string(),
    };
    match inner {
        kube::Error::Api(status) if status.is_forbidden() => {
            let place = match &scope.namespace {
                Some(namespace) => format!("a Role in namespace {namespace}"),
                None => "a ClusterRole, or name the namespaces with --watch-namespaces".to_owned(),
            };
            format!("{}; let agimo list and watch them by {place}", status.message)
        }
        other => format!("the API server cannot be read: {}", error_with_sources(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::watch_scope::ObjectKind;
    use super::*;
    use serde_json::json;

    fn services(namespace: Option<&str>) -> WatchScope {
        WatchScope { kind: ObjectKind::Service, namespace: namespace.map(ToOwned::to_owned) }
    }

    #[test]
    fn a_missing_right_is_reported_with_its_fix() {
        let forbidden = || {
            let status = json!({
                "status": "Failure", "reason": "Forbidden", "code": 403, "message": "cannot list",
            });
            let status = serde_json::from_value(status).unwrap();
            watcher::Error::InitialListFailed(kube::Error::Api(status))
        };
        let everywhere = fault(&services(None), &forbidden());
        assert!(everywhere.starts_with("cannot list; "), "{everywhere}");
        assert!(everywhere.contains("--watch-namespaces"), "{everywhere}");
        let here = fault(&services(Some("a")), &forbidden());
        assert!(here.ends_with("by a Role in namespace a"), "{here}");
    }
}
