//! Whether the ServiceAccount of an installed agimo has the permissions that agimo needs, by asking the API server
//! (authorization.k8s.io/v1 SubjectAccessReview).

use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cli::serving::{ReadinessSource, ServeOptions};
use crate::findings::Finding;
use crate::kube_client::limited;

/// An agimo that runs in the cluster.
#[derive(Clone, Debug)]
pub struct Installation {
    pub namespace: String,
    pub service_account: String,
    /// The arguments of its container.
    pub options: ServeOptions,
}

/// Verbs on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Permission {
    group: &'static str,
    /// With the subresource, such as `deployments/scale`.
    resource: &'static str,
    verbs: &'static [&'static str],
    /// Empty for all namespaces, and for resources without one.
    namespace: String,
    /// Absent for every object.
    name: Option<String>,
    /// What does not work without it.
    purpose: &'static str,
    /// Without it, something is only not explained.
    is_minor: bool,
}

const READ: &[&str] = &["list", "watch"];
/// The permissions in each namespace that is watched, with what is missing without them.
const OF_NAMESPACE: [(&str, &str, &[&str], &str); 5] = [
    ("discovery.k8s.io", "endpointslices", READ, "no endpoint is found"),
    ("", "services", READ, "no port is found"),
    ("apps", "deployments", READ, "no Deployment is found"),
    ("apps", "statefulsets", READ, "no StatefulSet is found"),
    ("autoscaling", "horizontalpodautoscalers", READ, "`scaler = \"auto\"` does not scale"),
];
/// The same, without which agimo works, slower or with fewer explanations.
const MINOR: [(&str, &str, &[&str], &str); 3] = [
    ("", "pods", READ, "wakes are noticed late, and not explained"),
    ("", "events", READ, "failed wakes and image pulls are not explained"),
    ("events.k8s.io", "events", &["create"], "wakes are not recorded as Events"),
];
/// Resources that are in no namespace.
const OF_CLUSTER: [&str; 3] = ["apiservices", "subjectaccessreviews", "tokenreviews"];
/// Reviews at the same time.
const CONCURRENT: usize = 16;
const SCALE: [(&str, &str); 2] = [("apps", "deployments/scale"), ("apps", "statefulsets/scale")];
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// A finding for each missing permission, or one for all of them. `writes`: agimo scales some workload, absent where that is not
/// known. `has_keda`: the cluster has ScaledObjects.
pub async fn findings(
    client: &Client,
    agimo: &Installation,
    writes: Option<bool>,
    has_keda: bool,
) -> Vec<Finding> {
    if agimo.options.readiness_source == ReadinessSource::Prometheus {
        return vec![Finding::ok("agimo needs none: readiness comes from Prometheus")];
    }
    let needed = needed(agimo, writes == Some(true), has_keda);
    let reviews = verbs(&needed).map(|(permission, verb)| async move {
        (permission, verb, limited(review(client, agimo, permission, verb)).await)
    });
    let answers: Vec<_> = stream::iter(reviews).buffered(CONCURRENT).collect().await;
    let mut findings = Vec::new();
    let (mut granted, mut unknown) = (0, Vec::new());
    for (permission, verb, answer) in answers {
        match answer {
            Ok(true) => granted += 1,
            Ok(false) => findings.push(missing(agimo, permission, verb)),
            Err(reason) => unknown.push(reason),
        }
    }
    if let Some(reason) = unknown.first() {
        findings.push(Finding::skipped(
            format!("{} permissions of agimo cannot be checked: {reason}", unknown.len()),
            "use an account that may create subjectaccessreviews.authorization.k8s.io",
        ));
    }
    if writes.is_none() {
        findings.push(Finding::skipped(
            "whether agimo needs to write `replicas` is not known",
            "let the account reach the admin port of agimo (pods/portforward)",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("{} has all {granted} permissions", user(agimo))));
    }
    findings
}

fn verbs(needed: &[Permission]) -> impl Iterator<Item = (&Permission, &'static str)> {
    needed
        .iter()
        .flat_map(|permission| permission.verbs.iter().map(move |verb| (permission, *verb)))
}

fn missing(agimo: &Installation, permission: &Permission, verb: &str) -> Finding {
    let Permission { group, resource, namespace, name, purpose, is_minor, .. } = permission;
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let place = match namespace.as_str() {
        "" if OF_CLUSTER.contains(resource) => String::new(),
        "" => " in all namespaces".to_owned(),
        namespace => format!(" in {namespace}"),
    };
    let text = format!("{} may not {verb} {resource}{group}{name}{place}: {purpose}", user(agimo));
    let fix = "upgrade the chart, or add the rule to the role of agimo (docs/kubernetes.md, \"Permissions\")";
    if *is_minor { Finding::warning(text, fix) } else { Finding::failed(text, fix) }
}

fn needed(agimo: &Installation, writes: bool, has_keda: bool) -> Vec<Permission> {
    let options = &agimo.options;
    let everywhere = [String::new()];
    let namespaces = if options.watch_namespaces.is_empty() {
        &everywhere[..]
    } else {
        &options.watch_namespaces
    };
    let mut needed = Vec::new();
    let of = |namespace: &str, is_minor, (group, resource, verbs, purpose)| Permission {
        group,
        resource,
        verbs,
        namespace: namespace.to_owned(),
        name: None,
        purpose,
        is_minor,
    };
    for namespace in namespaces {
        needed.extend(OF_NAMESPACE.map(|permission| of(namespace, false, permission)));
        needed.extend(MINOR.map(|permission| of(namespace, true, permission)));
        if has_keda {
            let purpose = "`scaler = \"auto\"` does not put workloads to sleep";
            needed.push(of(namespace, false, ("keda.sh", "scaledobjects", READ, purpose)));
        }
        if writes {
            let purpose = "agimo cannot wake a workload, nor put it to sleep";
            needed.extend(SCALE.map(|(group, resource)| {
                of(namespace, false, (group, resource, &["get", "patch"], purpose))
            }));
        }
    }
    if let Some((namespace, _)) = &options.peer_service
        && !options.watch_namespaces.is_empty()
        && !options.watch_namespaces.contains(namespace)
    {
        let purpose = "the replicas of agimo do not find each other";
        needed.push(of(namespace, false, ("discovery.k8s.io", "endpointslices", READ, purpose)));
    }
    let leases = "coordination.k8s.io";
    let no_leader = "the replicas of agimo choose no leader, so no workload is put to sleep";
    if let Some((namespace, _)) = &options.lease {
        needed.push(of(namespace, false, (leases, "leases", &["create"], no_leader)));
    }
    let named = |group, resource, verbs, place: &Option<(String, String)>, purpose| {
        let (namespace, name) = place.clone()?;
        let is_minor = false;
        Some(Permission { group, resource, verbs, namespace, name: Some(name), purpose, is_minor })
    };
    needed.extend(named(leases, "leases", &["get", "update"], &options.lease, no_leader));
    let store = "a restart forgets the replicas of sleeping workloads";
    let verbs = &["get", "list", "watch", "patch"];
    needed.extend(named("", "configmaps", verbs, &options.replica_store, store));
    let of_cluster = |group, resource, verbs, name: Option<&str>, purpose| Permission {
        group,
        resource,
        verbs,
        namespace: String::new(),
        name: name.map(str::to_owned),
        purpose,
        is_minor: false,
    };
    let access = "authorization.k8s.io";
    if options.external_metrics_port.is_some() {
        let purpose = "no user may read the external metrics";
        needed.push(of_cluster(access, "subjectaccessreviews", &["create"], None, purpose));
        let purpose = "the API server does not trust the certificate of agimo";
        let group = "apiregistration.k8s.io";
        needed.push(of_cluster(
            group,
            "apiservices",
            &["get", "patch"],
            Some(API_SERVICE),
            purpose,
        ));
        let secret = &options.external_metrics_secret;
        let purpose = "the replicas of agimo cannot share a certificate";
        needed.extend(named("", "secrets", &["get", "update"], secret, purpose));
        let map = Some(("kube-system".to_owned(), "extension-apiserver-authentication".to_owned()));
        let purpose = "agimo does not recognise the API server";
        needed.extend(named("", "configmaps", &["get", "list", "watch"], &map, purpose));
    }
    if options.admin_token_review {
        let purpose = "tokens of the cluster are not accepted";
        needed.push(of_cluster(
            "authentication.k8s.io",
            "tokenreviews",
            &["create"],
            None,
            purpose,
        ));
        needed.push(of_cluster(access, "subjectaccessreviews", &["create"], None, purpose));
    }
    needed
}

fn user(agimo: &Installation) -> String {
    format!("system:serviceaccount:{}:{}", agimo.namespace, agimo.service_account)
}

async fn review(
    client: &Client,
    agimo: &Installation,
    permission: &Permission,
    verb: &str,
) -> kube::Result<bool> {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (permission.resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(permission.group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        namespace: Some(permission.namespace.clone()),
        name: permission.name.clone(),
        ..ResourceAttributes::default()
    };
    // The groups of each ServiceAccount (Kubernetes, "Authenticating", service account tokens).
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", agimo.namespace),
        "system:authenticated".to_owned(),
    ];
    let spec = SubjectAccessReviewSpec {
        user: Some(user(agimo)),
        groups: Some(groups),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviewed = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(reviewed.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn installation(arguments: &str) -> Installation {
        let words = ["agimo"].into_iter().chain(arguments.split_whitespace());
        Installation {
            namespace: "agimo".to_owned(),
            service_account: "agimo".to_owned(),
            options: Cli::try_parse_elsewhere(words, &[]).unwrap().serve,
        }
    }

    fn resources(arguments: &str, has_keda: bool) -> Vec<(&'static str, String)> {
        let needed = needed(&installation(arguments), true, has_keda);
        needed.into_iter().map(|permission| (permission.resource, permission.namespace)).collect()
    }

    #[test]
    fn the_permissions_follow_from_the_arguments() {
        let plain = resources("", false);
        let of_namespace = OF_NAMESPACE.len() + MINOR.len() + SCALE.len();
        assert_eq!(plain.len(), of_namespace);
        assert!(plain.iter().all(|(_, namespace)| namespace.is_empty()));
        let restricted = resources(
            "--watch-namespaces a,b --lease agimo/agimo --peer-service agimo/peers",
            true,
        );
        assert!(restricted.contains(&("endpointslices", "agimo".to_owned())));
        assert_eq!(restricted.len(), 2 * (of_namespace + 1) + 3);
        assert!(restricted.contains(&("scaledobjects", "b".to_owned())));
        assert!(restricted.contains(&("leases", "agimo".to_owned())));
        let all = "--external-metrics-port 1 --external-metrics-service a/b --external-metrics-secret a/c \
                   --admin-token-review --replica-store a/r";
        let all = resources(all, false);
        for (resource, namespace) in
            [("apiservices", ""), ("secrets", "a"), ("tokenreviews", ""), ("configmaps", "a")]
        {
            assert!(all.contains(&(resource, namespace.to_owned())), "{resource}");
        }
    }

    #[test]
    fn a_missing_permission_is_named_with_what_does_not_work() {
        let agimo = installation("--watch-namespaces shop");
        let needed = needed(&agimo, true, false);
        let scale =
            needed.iter().find(|permission| permission.resource == "deployments/scale").unwrap();
        assert_eq!(
            missing(&agimo, scale, "patch").text,
            "system:serviceaccount:agimo:agimo may not patch deployments/scale.apps in shop: agimo cannot wake a workload, \
             nor put it to sleep"
        );
    }
}
