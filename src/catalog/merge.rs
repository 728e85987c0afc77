//! From configured services to routes and workloads: which services lead to the same workload, and what they ask of it
//! together. Pure.

use std::collections::BTreeMap;

use crate::backend::{EndpointSource, Placement, WorkloadSpec};
use crate::config::scaling::{Mode, Scaler};
use crate::config::{KubernetesConfig, ServiceConfig, WorkloadConfig};
use crate::telemetry::Labels;
use crate::workload::WorkloadId;

/// Host and path prefix: what makes a route the same across configurations.
pub type RouteKey = (String, String);

/// A workload as its services configure it together.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedWorkload {
    pub spec: WorkloadSpec,
    /// The first service that leads to it.
    pub service: String,
}

/// The workloads of these services. The longest `sleep_after` wins, and schedules add up. What else belongs to a workload is
/// the same in all of its services: the configuration has been checked for it.
pub fn merge(services: &[ServiceConfig]) -> BTreeMap<WorkloadId, MergedWorkload> {
    let mut workloads = BTreeMap::<WorkloadId, MergedWorkload>::new();
    for service in services {
        let id = service.workload_id();
        match workloads.get_mut(&id) {
            Some(merged) => add(&mut merged.spec, service),
            None => {
                let merged =
                    MergedWorkload { spec: spec(id.clone(), service), service: service.name() };
                workloads.insert(id, merged);
            }
        }
    }
    workloads
}

pub fn route_key(service: &ServiceConfig) -> RouteKey {
    (service.host.clone(), service.path_prefix.clone())
}

/// `host`, and `path_prefix` only where one is configured, so that two services of a host differ.
pub fn labels(service: &ServiceConfig) -> Labels {
    let labels = Labels::default().with("host", &service.host);
    if service.path_prefix == "/" {
        labels
    } else {
        labels.with("path_prefix", &service.path_prefix)
    }
}

/// Where the endpoints of a service come from.
pub fn endpoint_source(service: &ServiceConfig) -> EndpointSource {
    match &service.workload {
        WorkloadConfig::Kubernetes(KubernetesConfig {
            service_name, service_port, via, ..
        }) => EndpointSource::Service {
            name: service_name.clone(),
            port: service_port.clone(),
            via: *via,
        },
        WorkloadConfig::Process(_) => EndpointSource::Processes,
    }
}

fn spec(id: WorkloadId, service: &ServiceConfig) -> WorkloadSpec {
    let (scaler, mode, wake_replicas, autoscaling, placement) = match &service.workload {
        WorkloadConfig::Kubernetes(config) => {
            let sources = vec![endpoint_source(service)];
            let autoscaling = Some(config.autoscaling);
            (config.scaler, config.mode, 1, autoscaling, Placement::Kubernetes { sources })
        }
        WorkloadConfig::Process(process) => {
            let placement = Placement::Process(process.clone());
            (Scaler::Agimo, Mode::Enforce, process.replicas, None, placement)
        }
    };
    WorkloadSpec {
        id,
        host: service.host.clone(),
        scaler,
        mode,
        sleep_after: service.sleep_after,
        awake: service.awake.clone(),
        early_ready: is_early_ready(service),
        wake_replicas,
        autoscaling,
        placement,
    }
}

fn is_early_ready(service: &ServiceConfig) -> bool {
    matches!(&service.workload, WorkloadConfig::Kubernetes(config) if config.early_ready)
}

fn add(spec: &mut WorkloadSpec, service: &ServiceConfig) {
    spec.sleep_after = spec.sleep_after.max(service.sleep_after);
    spec.early_ready |= is_early_ready(service);
    for schedule in &service.awake {
        if !spec.awake.contains(schedule) {
            spec.awake.push(schedule.clone());
        }
    }
    if let Placement::Kubernetes { sources } = &mut spec.placement {
        let source = endpoint_source(service);
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;
    use std::time::Duration;

    fn merged(text: &str) -> BTreeMap<WorkloadId, MergedWorkload> {
        merge(&parse(text).unwrap().services)
    }

    fn deployment(host: &str, more: &str) -> String {
        format!(
            "[[services]]\nhost = '{host}'\ntype = 'deploy'\nnamespace = 'n'\nname = 'web'\n\
             service_name = 'web'\n{more}\n"
        )
    }

    #[test]
    fn services_of_one_deployment_are_one_workload_with_the_longest_sleep_after() {
        let text = [
            deployment("a", "service_port = 80\nsleep_after = '1m'"),
            deployment("b", "service_port = 80\nsleep_after = '3m'"),
            deployment("c", "service_port = 'metrics'\nsleep_after = '2m'"),
        ];
        let workloads = merged(&text.concat());
        assert_eq!(workloads.len(), 1);
        let MergedWorkload { spec, service } = workloads.into_values().next().unwrap();
        assert_eq!((service.as_str(), spec.sleep_after), ("a", Duration::from_secs(180)));
        assert_eq!(spec.id.to_string(), "deployment n/web");
        let Placement::Kubernetes { sources } = &spec.placement else { panic!("{spec:?}") };
        assert_eq!(sources.len(), 2, "one for each port: {sources:?}");
    }

    #[test]
    fn kinds_namespaces_and_names_tell_workloads_apart() {
        let web = deployment("a", "service_port = 80");
        let text = [
            web.clone(),
            web.replace("'a'", "'b'").replace("deploy", "sts"),
            web.replace("'a'", "'c'").replace("'n'", "'m'"),
            web.replace("'a'", "'d'").replace("name = 'web'", "name = 'shop'"),
        ];
        assert_eq!(merged(&text.concat()).len(), 4);
    }
}
