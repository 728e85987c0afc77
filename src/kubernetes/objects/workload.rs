//! A Deployment or StatefulSet, as far as agimo reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;

use super::requests;
use crate::backend::ResourceRequests;
use crate::kubernetes::annotations;
use crate::kubernetes::scale::FIELD_MANAGER;
use crate::ownership::directive::Pin;

/// A Deployment or StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadObject {
    pub replicas: u32,
    pub resource_version: String,
    /// Why its pods are rejected, where its controller reports it.
    pub pods_rejected: Option<String>,
    /// A change has not reached all replicas, or is paused.
    pub is_rolling_out: bool,
    /// A Deployment is paused, so that a new pod template gets no pods.
    pub is_paused: bool,
    pub template: Arc<PodTemplate>,
    /// The field managers other than agimo that own `replicas`, as far as the object tells. The API server records no
    /// owner for a zero that was written through the scale subresource.
    pub replicas_writers: Arc<[String]>,
    /// Tells it from earlier and later ones of the same name.
    pub uid: Arc<str>,
    /// Seconds since 1970.
    pub created: i64,
    /// The annotations that make it a service.
    pub annotations: Option<Arc<BTreeMap<String, String>>>,
    pub managed_by: Option<Arc<str>>,
    pub pin: Option<Pin>,
    /// What is wrong with agimo's annotations.
    pub annotation_problem: Option<Arc<str>>,
}

/// What the pods of a workload have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTemplate {
    pub labels: BTreeMap<String, String>,
    /// The names of container ports.
    pub port_names: Vec<String>,
    pub requests: ResourceRequests,
}

// === impl WorkloadObject ===

impl WorkloadObject {
    pub fn of_deployment(deployment: &Deployment) -> Self {
        let conditions =
            deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let pods_rejected = conditions
            .filter(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")
            .find_map(|condition| condition.message.clone());
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas);
        Self {
            pods_rejected,
            is_rolling_out: is_rolling_out(deployment),
            is_paused: is_paused(deployment),
            template: spec.map(|spec| PodTemplate::read(&spec.template)).unwrap_or_default().into(),
            ..Self::new(replicas, deployment)
        }
    }

    /// A StatefulSet has no condition that says why its pods are rejected; only its events do.
    pub fn of_stateful_set(set: &StatefulSet) -> Self {
        let spec = set.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas);
        let status = set.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation);
        let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
        let is_partial = strategy.is_some_and(|strategy| {
            let partition = strategy.rolling_update.as_ref().and_then(|update| update.partition);
            strategy.type_.as_deref() == Some("OnDelete") || partition.is_some_and(|from| from > 0)
        });
        // The current revision becomes the update revision when all pods have it (apps/v1 StatefulSetStatus).
        let has_two =
            status.is_some_and(|status| status.current_revision != status.update_revision);
        let is_rolling_out = lags(observed, set.metadata.generation) || (has_two && !is_partial);
        Self {
            is_rolling_out,
            template: spec.map(|spec| PodTemplate::read(&spec.template)).unwrap_or_default().into(),
            ..Self::new(replicas, set)
        }
    }

    fn new<K: ResourceExt>(replicas: Option<i32>, object: &K) -> Self {
        let pin = annotations::pin(object.annotations());
        Self {
            // The default is 1 (apps/v1 DeploymentSpec).
            replicas: replicas.unwrap_or(1).try_into().unwrap_or(0),
            resource_version: object.resource_version().unwrap_or_default(),
            replicas_writers: replicas_writers(object.managed_fields()),
            created: object.creation_timestamp().map_or(0, |created| created.0.as_second()),
            annotations: annotations::of_service(object.annotations()),
            managed_by: annotations::managed_by(object.labels()),
            uid: object.uid().unwrap_or_default().into(),
            annotation_problem: pin.as_ref().err().map(|problem| problem.as_str().into()),
            pin: pin.ok().flatten(),
            ..Self::default()
        }
    }
}

// === impl PodTemplate ===

impl PodTemplate {
    fn read(template: &PodTemplateSpec) -> Self {
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
        let spec = template.spec.iter();
        // An init container that goes on running may serve, too (sidecar containers).
        let containers =
            spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        Self {
            labels: labels.unwrap_or_default(),
            port_names: ports.filter_map(|port| port.name.clone()).collect(),
            requests: template.spec.as_ref().map(requests::of_pod).unwrap_or_default(),
        }
    }
}

/// The field managers that own `spec.replicas`, without agimo (Kubernetes, Server-Side Apply, field management).
fn replicas_writers(managed_fields: &[ManagedFieldsEntry]) -> Arc<[String]> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.is_some_and(|fields| fields["f:spec"].get("f:replicas").is_some())
    };
    let managers = managed_fields.iter().filter(owns).filter_map(|entry| entry.manager.clone());
    managers.filter(|manager| manager != FIELD_MANAGER).collect()
}

fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// Whether the controller has not seen the newest change. Without a status nothing is known of it.
fn lags(observed: Option<i64>, newest: Option<i64>) -> bool {
    observed.is_some() && observed < newest
}

/// Whether a Deployment has replicas of an older template, or its newest ones were never all available. The reason of
/// the condition Progressing tells the latter (Kubernetes, Deployment status), and stays as it is when a complete
/// Deployment is scaled.
fn is_rolling_out(deployment: &Deployment) -> bool {
    let Some(status) = &deployment.status else { return is_paused(deployment) };
    let has_old = status.replicas.unwrap_or(0) > status.updated_replicas.unwrap_or(0);
    let progressing =
        status.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let is_complete = progressing
        .is_none_or(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"));
    is_paused(deployment)
        || lags(status.observed_generation, deployment.metadata.generation)
        || has_old
        || !is_complete
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_writers_of_replicas_are_those_that_own_the_field() {
        let entry = |manager: &str, fields: serde_json::Value| json!({ "manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields });
        let replicas = json!({ "f:spec": { "f:replicas": {} } });
        let deployment = json!({
            "metadata": { "name": "web", "resourceVersion": "7", "managedFields": [
                entry("argocd-controller", replicas.clone()),
                entry(FIELD_MANAGER, replicas),
                entry("kube-controller-manager", json!({ "f:status": { "f:replicas": {} } })),
                entry("kubectl-edit", json!({ "f:spec": { "f:template": {} } })),
            ] },
            "spec": {
                "paused": true,
                "selector": {},
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": {
                        "initContainers": [{ "name": "proxy", "ports": [{ "name": "mesh", "containerPort": 1 }] }],
                        "containers": [{ "name": "web", "ports": [{ "name": "http", "containerPort": 2 }] }],
                    },
                },
            },
        });
        let read = WorkloadObject::of_deployment(&serde_json::from_value(deployment).unwrap());
        assert_eq!(*read.replicas_writers, ["argocd-controller"]);
        assert!(read.is_paused && read.is_rolling_out);
        assert_eq!(read.template.labels, BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        assert_eq!(read.template.port_names, ["mesh", "http"]);
    }
}
