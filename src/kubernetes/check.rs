//! For `agimo check --cluster`: reads the objects behind the services once. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, PodSpec, Service};
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::image_pull::{self, ImagePull};
use super::objects::ServiceObject;
use super::objects::scaler::{ScaledObject, ScalerObject};
use super::objects::workload::WorkloadObject;
use crate::config::ServicePort;
use crate::findings::{Finding, Section};
use crate::kube_client::error_with_sources;
use crate::workload::{WorkloadId, WorkloadKind};

pub mod keda;
pub mod permissions;
pub mod service;

/// A service of a configuration, as far as the check needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedService {
    /// Host, and path prefix unless that is `/`.
    pub name: String,
    pub workload: WorkloadId,
    pub service_name: String,
    pub service_port: ServicePort,
    /// The value of `scaler`.
    pub scaler: String,
    pub early_ready: bool,
}

/// The keys of a service in the effective configuration.
#[derive(Deserialize)]
struct Keys {
    host: String,
    path_prefix: String,
    r#type: String,
    namespace: String,
    name: String,
    service_name: String,
    service_port: Value,
    scaler: String,
    early_ready: bool,
}

/// What one namespace has.
#[derive(Debug, Default)]
pub struct NamespaceObjects {
    pub workloads: BTreeMap<(WorkloadKind, String), CheckedWorkload>,
    pub services: BTreeMap<String, ServiceObject>,
    pub scalers: Vec<ScalerObject>,
    pub pulls: Vec<ImagePull>,
    /// What cannot be listed, and why.
    pub unreadable: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct CheckedWorkload {
    pub object: WorkloadObject,
    pub pods: PodSpec,
}

/// Events are kept for an hour by default (kube-apiserver, `--event-ttl`); the newest of these are enough.
const MAX_EVENTS: u32 = 500;

/// A section for each service.
pub async fn services(client: &Client, services: &[CheckedService]) -> Vec<Section> {
    let namespaces: BTreeSet<&str> =
        services.iter().map(|service| service.workload.namespace.as_str()).collect();
    let read = namespaces.iter().map(|namespace| NamespaceObjects::read(client, namespace));
    let objects: BTreeMap<&str, NamespaceObjects> =
        namespaces.iter().copied().zip(join_all(read).await).collect();
    let section = |checked: &CheckedService| Section {
        name: format!("service {}", checked.name),
        findings: match objects.get(checked.workload.namespace.as_str()) {
            Some(objects) => service::findings(checked, objects),
            None => Vec::new(),
        },
    };
    services.iter().map(section).collect()
}

/// The version of Kubernetes.
pub async fn api_server(client: &Client) -> Finding {
    /// The oldest that is supported.
    const OLDEST: u32 = 30;
    match client.apiserver_version().await {
        Err(error) => Finding::failed(
            format!("the API server does not answer: {}", error_with_sources(&error)),
            "correct the kubeconfig, or choose another context with --kube-context",
        ),
        Ok(version) => {
            let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
            let text = format!("Kubernetes {}", version.git_version);
            if version.major == "1" && digits.parse().is_ok_and(|minor: u32| minor < OLDEST) {
                Finding::failed(text, format!("agimo needs Kubernetes 1.{OLDEST} or later"))
            } else {
                Finding::ok(text)
            }
        }
    }
}

/// Every object of this kind in a namespace, or in all; empty where the cluster has no such kind.
async fn list<K>(
    client: &Client,
    namespace: Option<&str>,
    parameters: &ListParams,
) -> kube::Result<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    match api.list(parameters).await {
        Ok(listed) => Ok(listed.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

// === impl CheckedService ===

impl CheckedService {
    /// The services in the cluster of an effective configuration (`Config::effective`, `/api/v1/config`).
    pub fn of_configuration(configuration: &Value) -> Vec<Self> {
        let services = configuration["services"].as_array().into_iter().flatten();
        services.filter_map(Self::read).collect()
    }

    fn read(service: &Value) -> Option<Self> {
        let keys = Keys::deserialize(service).ok()?;
        let service_port = match &keys.service_port {
            Value::String(name) => ServicePort::Name(name.clone()),
            number => ServicePort::Number(u16::try_from(number.as_u64()?).ok()?),
        };
        Some(Self {
            name: format!("{}{}", keys.host, keys.path_prefix.trim_end_matches('/')),
            workload: WorkloadId {
                kind: WorkloadKind::in_cluster(&keys.r#type)?,
                namespace: keys.namespace,
                name: keys.name,
            },
            service_name: keys.service_name,
            service_port,
            scaler: keys.scaler,
            early_ready: keys.early_ready,
        })
    }
}

// === impl NamespaceObjects ===

impl NamespaceObjects {
    async fn read(client: &Client, namespace: &str) -> Self {
        let mut objects = Self::default();
        let (namespace, all) = (Some(namespace), ListParams::default());
        let deployments = list::<Deployment>(client, namespace, &all).await;
        for deployment in objects.listed("Deployments", deployments) {
            let object = WorkloadObject::of_deployment(&deployment);
            let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone());
            objects.add(WorkloadKind::Deployment, deployment.name_any(), object, spec);
        }
        let sets = list::<StatefulSet>(client, namespace, &all).await;
        for set in objects.listed("StatefulSets", sets) {
            let object = WorkloadObject::of_stateful_set(&set);
            let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone());
            objects.add(WorkloadKind::StatefulSet, set.name_any(), object, spec);
        }
        let services = list::<Service>(client, namespace, &all).await;
        for service in objects.listed("Services", services) {
            objects.services.insert(service.name_any(), ServiceObject::read(&service));
        }
        let hpas = list::<HorizontalPodAutoscaler>(client, namespace, &all).await;
        let hpas = objects.listed("HorizontalPodAutoscalers", hpas);
        objects.scalers.extend(hpas.iter().filter_map(ScalerObject::of_hpa));
        let scaled = list::<ScaledObject>(client, namespace, &all).await;
        let scaled = objects.listed("ScaledObjects", scaled);
        objects.scalers.extend(scaled.iter().filter_map(ScalerObject::of_scaled_object));
        let fields = format!("involvedObject.kind=Pod,reason={}", image_pull::REASON);
        let pulled = ListParams::default().fields(&fields).limit(MAX_EVENTS);
        let events = list::<Event>(client, namespace, &pulled).await;
        let events = objects.listed("Events", events);
        objects.pulls = events.iter().filter_map(ImagePull::read).collect();
        objects
    }

    /// What was listed; nothing where that was not possible.
    fn listed<K>(&mut self, kind: &str, listed: kube::Result<Vec<K>>) -> Vec<K> {
        listed.unwrap_or_else(|error| {
            self.unreadable.push(format!("{kind}: {}", error_with_sources(&error)));
            Vec::new()
        })
    }

    fn add(
        &mut self,
        kind: WorkloadKind,
        name: String,
        object: WorkloadObject,
        pods: Option<PodSpec>,
    ) {
        let pods = pods.unwrap_or_default();
        self.workloads.insert((kind, name), CheckedWorkload { object, pods });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;

    #[test]
    fn services_of_an_effective_configuration_are_read() {
        let text = "[[services]]\nhost = 'a.test'\npath_prefix = '/shop'\ntype = 'sts'\nnamespace = 'n'\nname = 'db'\n\
            service_name = 's'\nservice_port = 'web'\n[[services]]\nhost = 'b.test'\ntype = 'process'\ncommand = ['x']";
        let services = CheckedService::of_configuration(&parse(text).unwrap().effective());
        let workload = WorkloadId {
            kind: WorkloadKind::StatefulSet,
            namespace: "n".to_owned(),
            name: "db".to_owned(),
        };
        let expected = CheckedService {
            name: "a.test/shop".to_owned(),
            workload,
            service_name: "s".to_owned(),
            service_port: ServicePort::Name("web".to_owned()),
            scaler: "external".to_owned(),
            early_ready: false,
        };
        assert_eq!(services, [expected]);
    }
}
