//! For `agimo check --cluster`: reads the objects behind the services once. It writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, PodSpec, Service};
use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::annotations;
use super::image_pull::{self, ImagePull};
use super::objects::ServiceObject;
use super::objects::scaler::{ScaledObject, ScalerObject};
use super::objects::workload::WorkloadObject;
use crate::config::scaling::{Mode, Scaler};
use crate::config::{self, ServicePort};
use crate::findings::{Finding, Section};
use crate::kube_client::limited;
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
    pub scaler: Scaler,
    pub mode: Mode,
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
    mode: String,
    early_ready: bool,
}

/// What one namespace has.
#[derive(Debug, Default)]
pub struct NamespaceObjects {
    pub workloads: BTreeMap<(WorkloadKind, String), CheckedWorkload>,
    pub services: BTreeMap<String, ServiceObject>,
    pub scalers: Vec<ScalerObject>,
    pub pulls: Vec<ImagePull>,
    /// The kinds that cannot be listed, by their names in the plural, and why.
    pub unreadable: BTreeMap<&'static str, String>,
}

#[derive(Clone, Debug, Default)]
pub struct CheckedWorkload {
    pub object: WorkloadObject,
    pub pods: PodSpec,
}

/// Objects in one answer of the API server.
const PAGE: u32 = 500;
/// Answers for the events of one namespace; further ones are left out.
const MOST_EVENT_PAGES: usize = 10;
/// Requests to the API server at the same time.
const CONCURRENT: usize = 8;

/// A section for each service. `can_write`: agimo has a way to write `replicas`.
pub async fn services(
    client: &Client,
    services: &[CheckedService],
    has_keda: bool,
    can_write: bool,
) -> Vec<Section> {
    let namespaces: BTreeSet<&str> =
        services.iter().map(|service| service.workload.namespace.as_str()).collect();
    let read = namespaces.iter().copied().map(|namespace| async move {
        (namespace, NamespaceObjects::read(client, namespace, has_keda).await)
    });
    let objects: BTreeMap<&str, NamespaceObjects> =
        stream::iter(read).buffer_unordered(CONCURRENT).collect().await;
    let section = |checked: &CheckedService| {
        let objects = objects.get(checked.workload.namespace.as_str());
        let findings = objects.map(|objects| service::findings(checked, objects, can_write));
        Section::new(format!("service {}", checked.name), findings.unwrap_or_default())
    };
    services.iter().map(section).collect()
}

/// Workloads with annotations of a service that are not a service of this agimo, in these namespaces, or in all.
pub async fn rejected_annotations(
    client: &Client,
    namespaces: &[String],
    services: &[CheckedService],
) -> Vec<Finding> {
    let everywhere = [None];
    let named: Vec<_> = namespaces.iter().map(|name| Some(name.as_str())).collect();
    let namespaces = if named.is_empty() { &everywhere[..] } else { &named };
    let known: BTreeSet<&WorkloadId> = services.iter().map(|service| &service.workload).collect();
    let mut findings = Vec::new();
    for namespace in namespaces {
        let found = async {
            let deployments = annotated::<Deployment>(client, *namespace, WorkloadKind::Deployment);
            let sets = annotated::<StatefulSet>(client, *namespace, WorkloadKind::StatefulSet);
            Ok::<_, String>([deployments.await?, sets.await?].concat())
        };
        match found.await {
            Ok(workloads) => {
                let rejected = workloads.into_iter().filter(|workload| !known.contains(workload));
                findings.extend(rejected.map(|workload| {
                    Finding::warning(
                        format!(
                            "{workload} has annotations of a service, and agimo does not serve it"
                        ),
                        format!(
                            "kubectl --namespace {} describe {} {}: an Event says what to correct",
                            workload.namespace,
                            workload.kind.as_str(),
                            workload.name
                        ),
                    )
                }));
            }
            Err(reason) => findings.push(Finding::skipped(
                format!("workloads with annotations are not known: {reason}"),
                "use an account that may list deployments and statefulsets",
            )),
        }
    }
    findings
}

/// The workloads of this kind with the annotation of a service.
async fn annotated<K>(
    client: &Client,
    namespace: Option<&str>,
    kind: WorkloadKind,
) -> Result<Vec<WorkloadId>, String>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let listed = list::<K>(client, namespace, &ListParams::default(), usize::MAX).await?;
    // A workload with the label belongs to another installation.
    let with_annotations = listed.iter().filter(|object| {
        annotations::of_service(object.annotations()).is_some()
            && annotations::managed_by(object.labels()).is_none()
    });
    let id = |object: &K| WorkloadId {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    };
    Ok(with_annotations.map(id).collect())
}

/// The version of Kubernetes, and whether the API server answers.
pub async fn api_server(client: &Client) -> (Finding, bool) {
    /// The oldest that is supported.
    const OLDEST: u32 = 30;
    match limited(client.apiserver_version()).await {
        Err(reason) => {
            let fix = "correct the kubeconfig, or choose another context with --kube-context";
            (Finding::failed(format!("the API server does not answer: {reason}"), fix), false)
        }
        Ok(version) => {
            let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
            let text = format!("Kubernetes {}", version.git_version);
            let is_old = digits.parse().is_ok_and(|minor: u32| minor < OLDEST);
            let finding = if version.major == "1" && is_old {
                let text = format!("{text} is too old: agimo needs 1.{OLDEST} or later");
                Finding::failed(text, "upgrade the cluster")
            } else {
                Finding::ok(text)
            };
            (finding, true)
        }
    }
}

/// Whether the cluster knows the kinds of KEDA, as far as that can be told.
pub async fn has_keda(client: &Client) -> bool {
    let groups = limited(client.list_api_groups()).await;
    groups.map_or(true, |groups| groups.groups.iter().any(|group| group.name == "keda.sh"))
}

/// Every object of this kind in a namespace, or in all, up to so many answers.
async fn list<K>(
    client: &Client,
    namespace: Option<&str>,
    parameters: &ListParams,
    most_pages: usize,
) -> Result<Vec<K>, String>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    // An object that cannot be decoded is left out.
    let api: Api<DeserializeGuard<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut parameters = parameters.clone().limit(PAGE);
    let mut objects = Vec::new();
    for _ in 0..most_pages {
        let page = limited(api.list(&parameters)).await?;
        objects.extend(page.items.into_iter().filter_map(|object| object.0.ok()));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    Ok(objects)
}

// === impl CheckedService ===

impl CheckedService {
    /// The services in the cluster of an effective configuration (`Config::effective`, `/api/v1/config`).
    pub fn of_configuration(configuration: &Value) -> Vec<Self> {
        let services = configuration["services"].as_array().into_iter().flatten();
        services.filter_map(Self::read).collect()
    }

    /// Whether agimo may write its `replicas`.
    pub fn is_scaled_by_agimo(&self) -> bool {
        self.scaler != Scaler::External && self.mode == Mode::Enforce
    }

    fn read(service: &Value) -> Option<Self> {
        let keys = Keys::deserialize(service).ok()?;
        let service_port = match &keys.service_port {
            Value::String(name) => ServicePort::Name(name.clone()),
            number => ServicePort::Number(u16::try_from(number.as_u64()?).ok()?),
        };
        Some(Self {
            name: config::service_name(&keys.host, &keys.path_prefix),
            workload: WorkloadId {
                kind: WorkloadKind::in_cluster(&keys.r#type)?,
                namespace: keys.namespace,
                name: keys.name,
            },
            service_name: keys.service_name,
            service_port,
            scaler: Scaler::from_spelling(&keys.scaler)?,
            mode: Mode::from_spelling(&keys.mode)?,
            early_ready: keys.early_ready,
        })
    }
}

// === impl NamespaceObjects ===

impl NamespaceObjects {
    async fn read(client: &Client, namespace: &str, has_keda: bool) -> Self {
        let mut objects = Self::default();
        let (namespace, all) = (Some(namespace), ListParams::default());
        let deployments = list::<Deployment>(client, namespace, &all, usize::MAX).await;
        for deployment in objects.listed("Deployments", deployments) {
            let object = WorkloadObject::of_deployment(&deployment);
            let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.clone());
            objects.add(WorkloadKind::Deployment, deployment.name_any(), object, spec);
        }
        let sets = list::<StatefulSet>(client, namespace, &all, usize::MAX).await;
        for set in objects.listed("StatefulSets", sets) {
            let object = WorkloadObject::of_stateful_set(&set);
            let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.clone());
            objects.add(WorkloadKind::StatefulSet, set.name_any(), object, spec);
        }
        let services = list::<Service>(client, namespace, &all, usize::MAX).await;
        for service in objects.listed("Services", services) {
            objects.services.insert(service.name_any(), ServiceObject::read(&service));
        }
        if has_keda {
            // Before the HPAs, which KEDA makes from them and which know of no pause.
            let scaled = list::<ScaledObject>(client, namespace, &all, usize::MAX).await;
            let scaled = objects.listed("ScaledObjects", scaled);
            objects.scalers.extend(scaled.iter().filter_map(ScalerObject::of_scaled_object));
        }
        let hpas = list::<HorizontalPodAutoscaler>(client, namespace, &all, usize::MAX).await;
        let hpas = objects.listed("HorizontalPodAutoscalers", hpas);
        objects.scalers.extend(hpas.iter().filter_map(ScalerObject::of_hpa));
        let fields = format!("involvedObject.kind=Pod,reason={}", image_pull::REASON);
        let pulled = ListParams::default().fields(&fields);
        let events = list::<Event>(client, namespace, &pulled, MOST_EVENT_PAGES).await;
        let events = objects.listed("Events", events);
        objects.pulls = events.iter().filter_map(ImagePull::read).collect();
        objects
    }

    /// What was listed; nothing where that was not possible.
    fn listed<K>(&mut self, kind: &'static str, listed: Result<Vec<K>, String>) -> Vec<K> {
        listed.unwrap_or_else(|reason| {
            self.unreadable.insert(kind, reason);
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
            scaler: Scaler::External,
            mode: Mode::Enforce,
            early_ready: false,
        };
        assert_eq!(services, [expected]);
    }
}
