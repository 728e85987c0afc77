//! Whether the ServiceAccount of an installed agimo has the permissions that agimo needs, by asking the API server
//! (authorization.k8s.io/v1 SubjectAccessReview).

use futures_util::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::CheckedService;
use crate::cli::serving::ServeOptions;
use crate::findings::Finding;
use crate::kube_client::error_with_sources;

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
    purpose: &'static str,
}

const READ: &[&str] = &["list", "watch"];
/// The permissions in each namespace that is watched, with what is missing without them.
const OF_NAMESPACE: [(&str, &str, &[&str], &str); 8] = [
    ("discovery.k8s.io", "endpointslices", READ, "no endpoint is found"),
    ("", "services", READ, "no port is found"),
    ("", "pods", READ, "wakes are noticed late, and not explained"),
    ("apps", "deployments", READ, "no Deployment is found"),
    ("apps", "statefulsets", READ, "no StatefulSet is found"),
    ("", "events", READ, "failed wakes and image pulls are not explained"),
    ("autoscaling", "horizontalpodautoscalers", READ, "`scaler = \"auto\"` does not scale"),
    ("events.k8s.io", "events", &["create"], "wakes are not recorded as Events"),
];
const SCALE: [(&str, &str); 2] = [("apps", "deployments/scale"), ("apps", "statefulsets/scale")];
const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// A finding for each missing permission, or one for all of them. `has_keda`: the cluster has ScaledObjects.
pub async fn findings(
    client: &Client,
    agimo: &Installation,
    services: &[CheckedService],
    has_keda: bool,
) -> Vec<Finding> {
    let needed = needed(agimo, services, has_keda);
    let reviews = needed.iter().flat_map(|permission| {
        permission.verbs.iter().map(move |verb| review(client, agimo, permission, verb))
    });
    let mut findings = Vec::new();
    let mut granted = 0;
    for (answer, (permission, verb)) in join_all(reviews).await.into_iter().zip(verbs(&needed)) {
        match answer {
            Ok(true) => granted += 1,
            Ok(false) => findings.push(missing(agimo, permission, verb)),
            Err(error) => {
                return vec![Finding::skipped(
                    format!(
                        "the permissions of agimo cannot be checked: {}",
                        error_with_sources(&error)
                    ),
                    "use an account that may create subjectaccessreviews.authorization.k8s.io",
                )];
            }
        }
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
    let Permission { group, resource, namespace, name, purpose, .. } = permission;
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let name = name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let place = if namespace.is_empty() {
        "in all namespaces".to_owned()
    } else {
        format!("in {namespace}")
    };
    Finding::failed(
        format!("{} may not {verb} {resource}{group}{name} {place}: {purpose}", user(agimo)),
        "upgrade the chart, or add the rule to the role of agimo (docs/kubernetes.md, \"Permissions\")",
    )
}

fn needed(agimo: &Installation, services: &[CheckedService], has_keda: bool) -> Vec<Permission> {
    let options = &agimo.options;
    let everywhere = [String::new()];
    let namespaces = if options.watch_namespaces.is_empty() {
        &everywhere[..]
    } else {
        &options.watch_namespaces
    };
    let mut needed = Vec::new();
    // Without services in the configuration, annotated workloads may come at any time.
    let writes = services.is_empty() || services.iter().any(|service| service.scaler != "external");
    for namespace in namespaces {
        let of = |(group, resource, verbs, purpose)| Permission {
            group,
            resource,
            verbs,
            namespace: namespace.clone(),
            name: None,
            purpose,
        };
        needed.extend(OF_NAMESPACE.map(of));
        if has_keda {
            needed.push(of((
                "keda.sh",
                "scaledobjects",
                READ,
                "`scaler = \"auto\"` does not scale",
            )));
        }
        if writes {
            let purpose = "agimo cannot wake a workload, nor put it to sleep";
            needed.extend(
                SCALE.map(|(group, resource)| of((group, resource, &["get", "patch"], purpose))),
            );
        }
    }
    let named = |group, resource, verbs, place: &Option<(String, String)>, purpose| {
        let (namespace, name) = place.clone()?;
        Some(Permission { group, resource, verbs, namespace, name: Some(name), purpose })
    };
    let lease = "the replicas of agimo choose no leader, so no workload is put to sleep";
    needed.extend(named(
        "coordination.k8s.io",
        "leases",
        &["get", "update"],
        &options.lease,
        lease,
    ));
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
    use clap::Parser;

    fn installation(arguments: &str) -> Installation {
        let words = ["agimo"].into_iter().chain(arguments.split_whitespace());
        Installation {
            namespace: "agimo".to_owned(),
            service_account: "agimo".to_owned(),
            options: Cli::try_parse_from(words).unwrap().serve,
        }
    }

    fn resources(arguments: &str, has_keda: bool) -> Vec<(&'static str, String)> {
        let needed = needed(&installation(arguments), &[], has_keda);
        needed.into_iter().map(|permission| (permission.resource, permission.namespace)).collect()
    }

    #[test]
    fn the_permissions_follow_from_the_arguments() {
        let plain = resources("", false);
        assert_eq!(plain.len(), OF_NAMESPACE.len() + SCALE.len());
        assert!(plain.iter().all(|(_, namespace)| namespace.is_empty()));
        let restricted = resources("--watch-namespaces a,b --lease agimo/agimo", true);
        assert_eq!(restricted.len(), 2 * (OF_NAMESPACE.len() + 1 + SCALE.len()) + 1);
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
        let needed = needed(&agimo, &[], false);
        let scale =
            needed.iter().find(|permission| permission.resource == "deployments/scale").unwrap();
        assert_eq!(
            missing(&agimo, scale, "patch").text,
            "system:serviceaccount:agimo:agimo may not patch deployments/scale.apps in shop: agimo cannot wake a workload, \
             nor put it to sleep"
        );
    }
}
