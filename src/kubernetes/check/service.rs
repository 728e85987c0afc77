//! What keeps the workload of one service from waking fast, or at all. Pure.

use k8s_openapi::api::core::v1::{Container, Probe};

use super::{CheckedService, CheckedWorkload, NamespaceObjects};
use crate::config::ServicePort;
use crate::findings::Finding;
use crate::kubernetes::image_pull::ImagePull;
use crate::kubernetes::objects::ServiceObject;
use crate::kubernetes::pod_names;
use crate::ownership::OtherScaler;
use crate::telemetry::durations;

#[cfg(test)]
mod tests;

/// A longer interval between two probes is a large part of a usual cold start.
const LONGEST_PROBE_PERIOD: i32 = 2;
/// The default of `periodSeconds` (core/v1 Probe).
const DEFAULT_PROBE_PERIOD: i32 = 10;
/// A pull that takes longer is a large part of a usual cold start, in seconds.
const SLOW_PULL: f64 = 5.0;

/// At least one finding.
pub fn findings(checked: &CheckedService, objects: &NamespaceObjects) -> Vec<Finding> {
    let CheckedService { workload, .. } = checked;
    if !objects.unreadable.is_empty() {
        return vec![Finding::skipped(
            format!("cannot be checked: {}", objects.unreadable.join("; ")),
            format!("use an account that may list these in the namespace {}", workload.namespace),
        )];
    }
    let found = objects.workloads.get(&(workload.kind, workload.name.clone()));
    let Some(found) = found else {
        return vec![Finding::failed(
            format!("{workload} does not exist"),
            "create it, or correct `type`, `namespace` and `name` of the service",
        )];
    };
    let mut findings = vec![replicas(checked, found)];
    match objects.services.get(&checked.service_name) {
        Some(service) => findings.extend(service_fits(checked, found, service)),
        None => findings.push(Finding::failed(
            format!("the Service {}/{} does not exist", workload.namespace, checked.service_name),
            "create it, or correct `service_name` of the service",
        )),
    }
    findings.push(scaler(checked, objects));
    if !checked.early_ready {
        findings.push(readiness_probe(found));
    }
    findings.extend(images(found));
    findings.extend(slowest_pull(checked, objects));
    findings
}

fn replicas(checked: &CheckedService, found: &CheckedWorkload) -> Finding {
    let (workload, object) = (&checked.workload, &found.object);
    if object.is_paused {
        return Finding::failed(
            format!("{workload} is paused: it gets no pods of a new template"),
            format!(
                "kubectl --namespace {} rollout resume {}",
                workload.namespace,
                resource(checked)
            ),
        );
    }
    if let Some(problem) = &object.annotation_problem {
        return Finding::failed(
            format!("the annotations of {workload} are invalid: {problem}"),
            "correct the annotation; docs/annotations.md describes each",
        );
    }
    if let Some(rejected) = &object.pods_rejected {
        return Finding::failed(
            format!("the pods of {workload} are rejected: {rejected}"),
            "raise the quota, or correct the pod template",
        );
    }
    Finding::ok(format!("{workload} exists, with {} replicas now", object.replicas))
}

/// `deployment/web`.
fn resource(checked: &CheckedService) -> String {
    format!("{}/{}", checked.workload.kind.as_str(), checked.workload.name)
}

fn service_fits(
    checked: &CheckedService,
    found: &CheckedWorkload,
    service: &ServiceObject,
) -> Vec<Finding> {
    let name = format!("the Service {}/{}", checked.workload.namespace, checked.service_name);
    if service.is_external_name {
        return vec![Finding::failed(
            format!("{name} has the type ExternalName, which has no endpoints"),
            "name a Service that selects the pods in `service_name`",
        )];
    }
    let template = &found.object.template;
    let mut findings = Vec::new();
    if service.selector.is_none() {
        findings.push(Finding::warning(
            format!("{name} has no selector: its endpoints are written by another controller"),
            "add the labels of the pod template as its selector, unless that is intended",
        ));
    } else if !service.may_select(&template.labels) {
        let labels: Vec<_> =
            template.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        findings.push(Finding::failed(
            format!(
                "{name} selects {} and the pods have {}",
                service.selector.as_deref().unwrap_or_default(),
                labels.join(",")
            ),
            "make the selector of the Service match the labels of the pod template",
        ));
    }
    let wanted = match &checked.service_port {
        ServicePort::Number(number) => number.to_string(),
        ServicePort::Name(name) => name.clone(),
    };
    match service.port(&checked.service_port) {
        None => {
            let shown = |port: &crate::kubernetes::objects::PortObject| match port.name.as_str() {
                "" => port.number.to_string(),
                name => format!("{} ({name})", port.number),
            };
            let ports: Vec<_> = service.ports.iter().map(shown).collect();
            findings.push(Finding::failed(
                format!("{name} has no TCP port {wanted}; it has {}", ports.join(", ")),
                "correct `service_port` of the service",
            ));
        }
        Some(port) => match &port.target {
            ServicePort::Name(target) if !template.port_names.contains(target) => {
                findings.push(Finding::failed(
                    format!("port {wanted} of {name} leads to the container port `{target}`, which the pods lack"),
                    "name the container port in the pod template, or correct `targetPort` of the Service",
                ));
            }
            _ => findings.push(Finding::ok(format!("{name} has the port {wanted}"))),
        },
    }
    findings
}

/// Whether exactly one writer scales the workload.
fn scaler(checked: &CheckedService, objects: &NamespaceObjects) -> Finding {
    let target = (checked.workload.kind, &checked.workload.name);
    let targeting =
        objects.scalers.iter().filter(|scaler| (scaler.target.0, &scaler.target.1.name) == target);
    let mut names: Vec<String> =
        targeting.clone().map(|scaler| described(&scaler.scaler)).collect();
    // KEDA makes an HPA for each ScaledObject.
    names.sort();
    names.dedup();
    let lowest = targeting.filter_map(|scaler| match &scaler.scaler {
        OtherScaler::HorizontalPodAutoscaler(hpa) => Some(hpa.min_replicas),
        OtherScaler::ScaledObject { .. } => None,
    });
    let lowest = lowest.min();
    match (checked.scaler.as_str(), names.as_slice()) {
        (_, [_, _, ..]) => Finding::failed(
            format!("{} scale the workload, and undo what the others write", names.join(" and ")),
            "keep one of them",
        ),
        ("agimo", [other]) => Finding::failed(
            format!("agimo and {other} both scale the workload"),
            "write `scaler = \"auto\"`, so that agimo takes what the other scaler leaves, or delete the other scaler",
        ),
        ("external", []) => Finding::failed(
            "no scaler is found that wakes the workload, and agimo does not (`scaler = \"external\"`)",
            "write `scaler = \"auto\"`, or create a ScaledObject; ignore this if a scaler outside the cluster does it",
        ),
        ("external", [other]) if lowest.is_some_and(|lowest| lowest > 0) => Finding::warning(
            format!(
                "{other} never scales to zero (minReplicas), and agimo does not (`scaler = \"external\"`)"
            ),
            "write `scaler = \"auto\"`: agimo then scales between zero and one",
        ),
        (_, []) => Finding::ok("agimo scales the workload"),
        (scaler, [other]) => Finding::ok(format!("scaler = \"{scaler}\", beside {other}")),
    }
}

fn described(scaler: &OtherScaler) -> String {
    match scaler {
        OtherScaler::ScaledObject { name, .. } => format!("the ScaledObject {name}"),
        OtherScaler::HorizontalPodAutoscaler(hpa) => {
            format!("the HorizontalPodAutoscaler {}", hpa.name)
        }
    }
}

/// How long the kubelet may need to notice that a pod is ready.
fn readiness_probe(found: &CheckedWorkload) -> Finding {
    const FIX: &str =
        "set `periodSeconds: 1`, or let agimo run the probe itself (`early_ready = true`)";
    let probes = found
        .pods
        .containers
        .iter()
        .filter_map(|container| Some((container, container.readiness_probe.as_ref()?)));
    let period = |probe: &Probe| probe.period_seconds.unwrap_or(DEFAULT_PROBE_PERIOD);
    let Some((container, slowest)) = probes.max_by_key(|(_, probe)| period(probe)) else {
        return Finding::warning(
            "no container has a readiness probe: the pod is ready before the application accepts connections",
            "add a readiness probe with `periodSeconds: 1`; until then agimo tries again until a connection is accepted",
        );
    };
    let Container { name, .. } = container;
    if let Some(delay) = slowest.initial_delay_seconds.filter(|delay| *delay > 0) {
        return Finding::warning(
            format!(
                "the readiness probe of the container {name} begins after {delay} s (`initialDelaySeconds`)"
            ),
            "replace `initialDelaySeconds` by a startup probe with `periodSeconds: 1`",
        );
    }
    let period = period(slowest);
    if period > LONGEST_PROBE_PERIOD {
        return Finding::warning(
            format!(
                "the readiness probe of the container {name} runs every {period} s: a wake may wait as long"
            ),
            FIX,
        );
    }
    Finding::ok(format!("the readiness probe runs every {period} s"))
}

/// Images for which each start of a pod asks the registry.
fn images(found: &CheckedWorkload) -> Option<Finding> {
    let asks = |container: &&Container| {
        let image = container.image.as_deref().unwrap_or_default();
        let last = image.rsplit('/').next().unwrap_or_default();
        // The default for the tag `latest` and without a tag (Kubernetes, "Images").
        let is_latest = !last.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
        match container.image_pull_policy.as_deref() {
            Some(policy) => policy == "Always",
            None => is_latest,
        }
    };
    let container = found.pods.containers.iter().find(asks)?;
    Some(Finding::warning(
        format!(
            "each start of the container {} asks the registry for its image (`imagePullPolicy: Always`)",
            container.name
        ),
        "use a tag that never changes, with `imagePullPolicy: IfNotPresent`",
    ))
}

/// The slowest pull of the last hour, if it was slow.
fn slowest_pull(checked: &CheckedService, objects: &NamespaceObjects) -> Option<Finding> {
    let pulls =
        objects.pulls.iter().filter(|pull| pod_names::belongs_to(&pull.pod, &checked.workload));
    let ImagePull { image, took, .. } = pulls.max_by_key(|pull| pull.took)?;
    let text = format!("the image {image} took {} to pull", durations::short(*took));
    Some(if took.as_secs_f64() > SLOW_PULL {
        Finding::warning(
            text,
            "make the image smaller, or pull it on each node in advance, such as with a DaemonSet",
        )
    } else {
        Finding::ok(text)
    })
}
