//! What keeps the workload of one service from waking fast, or at all. Pure.

use k8s_openapi::api::core::v1::{Container, Probe};

use super::{CheckedService, CheckedWorkload, NamespaceObjects};
use crate::config::ServicePort;
use crate::config::scaling::{Mode, Scaler};
use crate::findings::Finding;
use crate::kubernetes::image_pull::ImagePull;
use crate::kubernetes::objects::scaler::ScalerObject;
use crate::kubernetes::objects::{PortObject, ServiceObject};
use crate::kubernetes::{pod_names, readiness_probe};
use crate::ownership::{OtherScaler, OtherScalers, Ownership, Pause, ScaleFacts};
use crate::telemetry::durations;
use crate::workload::WorkloadKind;

#[cfg(test)]
mod tests;

/// A longer interval between two probes is a large part of a usual cold start.
const LONGEST_PROBE_PERIOD: i32 = 2;
/// The default of `periodSeconds` (core/v1 Probe).
const DEFAULT_PROBE_PERIOD: i32 = 10;
/// A pull that takes longer is a large part of a usual cold start, in seconds.
const SLOW_PULL: f64 = 5.0;

/// At least one finding.
pub fn findings(
    checked: &CheckedService,
    objects: &NamespaceObjects,
    can_write: bool,
) -> Vec<Finding> {
    let CheckedService { workload, .. } = checked;
    let found = objects.workloads.get(&(workload.kind, workload.name.clone()));
    let Some(found) = found else {
        return vec![unknown(checked, objects, kind_in_plural(checked)).unwrap_or_else(|| {
            Finding::failed(
                format!("{workload} does not exist"),
                "create it, or correct `type`, `namespace` and `name` of the service",
            )
        })];
    };
    let mut findings = vec![replicas(checked, found)];
    match objects.services.get(&checked.service_name) {
        Some(service) => findings.extend(service_fits(checked, found, service)),
        None => findings.push(unknown(checked, objects, "Services").unwrap_or_else(|| {
            Finding::failed(
                format!(
                    "the Service {}/{} does not exist",
                    workload.namespace, checked.service_name
                ),
                "create it, or correct `service_name` of the service",
            )
        })),
    }
    let scalers = ["HorizontalPodAutoscalers", "ScaledObjects"];
    let unknown_scalers = scalers.into_iter().find_map(|kind| unknown(checked, objects, kind));
    findings.push(unknown_scalers.unwrap_or_else(|| scaler(checked, objects, can_write)));
    findings.push(readiness(checked, found));
    findings.extend(images(found));
    findings.extend(unknown(checked, objects, "Events").or_else(|| slowest_pull(checked, objects)));
    findings
}

/// That a kind cannot be listed, where that is so.
fn unknown(checked: &CheckedService, objects: &NamespaceObjects, kind: &str) -> Option<Finding> {
    let reason = objects.unreadable.get(kind)?;
    let namespace = &checked.workload.namespace;
    Some(Finding::skipped(
        format!("{kind} of the namespace {namespace} cannot be listed: {reason}"),
        format!("use an account that may list {} there", kind.to_lowercase()),
    ))
}

fn kind_in_plural(checked: &CheckedService) -> &'static str {
    match checked.workload.kind {
        WorkloadKind::StatefulSet => "StatefulSets",
        _ => "Deployments",
    }
}

fn replicas(checked: &CheckedService, found: &CheckedWorkload) -> Finding {
    let (workload, object) = (&checked.workload, &found.object);
    if object.is_paused {
        return Finding::failed(
            format!(
                "{workload} is paused, so a rollout is not finished: agimo wakes it and never puts it to sleep"
            ),
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
    Finding::ok(format!("{workload} exists, replicas now: {}", object.replicas))
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
            let shown = |port: &PortObject| match port.name.as_str() {
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
            ServicePort::Name(target)
                if service.selector.is_some() && !template.port_names.contains(target) =>
            {
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

/// Who scales the workload, and whether anybody wakes it.
fn scaler(checked: &CheckedService, objects: &NamespaceObjects, can_write: bool) -> Finding {
    let target = (checked.workload.kind, &checked.workload.name);
    let targeting =
        objects.scalers.iter().filter(|scaler| (scaler.target.0, &scaler.target.1.name) == target);
    let mut others: Vec<OtherScaler> = Vec::new();
    for ScalerObject { scaler, .. } in targeting {
        // KEDA makes an HPA for each ScaledObject, which is read as the same scaler.
        if others.iter().all(|other| other.reference() != scaler.reference()) {
            others.push(scaler.clone());
        }
    }
    let facts = ScaleFacts {
        can_write_replicas: can_write,
        other_scalers: OtherScalers::Known(others.clone()),
        ..ScaleFacts::default()
    };
    let ownership = Ownership::decide(checked.scaler, checked.mode, &facts);
    let description = ownership.description();
    let writers: Vec<_> = others.iter().filter(|other| writes(other)).collect();
    if let [_, _, ..] = writers.as_slice() {
        let names: Vec<_> = writers.iter().map(|other| other.reference()).collect();
        return Finding::failed(
            format!("{} scale the workload, and undo what the others write", names.join(" and ")),
            "keep one of them",
        );
    }
    if checked.mode == Mode::Observe {
        return Finding::ok("agimo observes and writes nothing (`mode = \"observe\"`)");
    }
    if ownership.authority.wakes() {
        return match (writers.first(), others.first()) {
            (Some(other), _) if checked.scaler == Scaler::Agimo => Finding::failed(
                format!("agimo and {} both scale the workload", other.reference()),
                "write `scaler = \"auto\"`, so that agimo does only what the other scaler does not do, or delete the other one",
            ),
            (None, Some(other)) if checked.scaler == Scaler::Agimo => {
                Finding::ok(format!("agimo scales the workload; {} is paused", other.reference()))
            }
            _ => Finding::ok(description),
        };
    }
    match others.first() {
        None => Finding::warning(
            format!("no scaler is found that wakes the workload, and {description}"),
            "write `scaler = \"auto\"`, or create a ScaledObject; ignore this if a scaler of your own reads the metrics",
        ),
        Some(OtherScaler::ScaledObject { name, pause: Pause::Paused | Pause::PausedAt(0) }) => {
            Finding::failed(
                format!(
                    "nothing wakes the workload: the ScaledObject {name} is paused, and {description}"
                ),
                "remove the annotation that pauses it; with `scaler = \"auto\"`, agimo wakes beside one that is paused without a number",
            )
        }
        Some(OtherScaler::HorizontalPodAutoscaler(hpa)) if hpa.is_switched_off => Finding::failed(
            format!(
                "nothing wakes the workload: the HorizontalPodAutoscaler {} is disabled while it is at zero, and {description}",
                hpa.name
            ),
            "write `scaler = \"auto\"`: agimo then wakes it",
        ),
        Some(OtherScaler::HorizontalPodAutoscaler(hpa)) if hpa.min_replicas > 0 => {
            Finding::warning(
                format!(
                    "the workload never sleeps: the HorizontalPodAutoscaler {} keeps {} replicas, and {description}",
                    hpa.name, hpa.min_replicas
                ),
                "write `scaler = \"auto\"`: agimo then scales between zero and one",
            )
        }
        Some(_) => Finding::ok(description),
    }
}

/// Whether another scaler writes `replicas`. An HPA that is disabled is so only while the workload is at zero.
fn writes(other: &OtherScaler) -> bool {
    !matches!(other, OtherScaler::ScaledObject { pause: Pause::Paused, .. })
}

/// How long it may take until a pod that is ready is noticed.
fn readiness(checked: &CheckedService, found: &CheckedWorkload) -> Finding {
    const EARLY: &str =
        "set `periodSeconds: 1`, or let agimo run the probe itself (`early_ready = true`)";
    let pods = &found.pods;
    let period = |probe: &Probe| probe.period_seconds.unwrap_or(DEFAULT_PROBE_PERIOD);
    let slowest = |of: fn(&Container) -> Option<&Probe>| {
        let probes =
            pods.containers.iter().filter_map(|container| Some((container, of(container)?)));
        probes.max_by_key(|(_, probe)| period(probe))
    };
    let readiness = slowest(|container| container.readiness_probe.as_ref());
    let is_left_to_kubelet = readiness_probe::of_template(pods).is_none();
    if let Some((container, probe)) = slowest(|container| container.startup_probe.as_ref())
        && period(probe) > LONGEST_PROBE_PERIOD
    {
        return Finding::warning(
            format!(
                "the startup probe of the container {} runs every {} s, and no readiness probe runs before it has passed",
                container.name,
                period(probe)
            ),
            "set `periodSeconds: 1` of the startup probe",
        );
    }
    if checked.early_ready && !is_left_to_kubelet {
        return Finding::ok("agimo finds out itself when a pod is ready (`early_ready`)");
    }
    let Some((container, probe)) = readiness else {
        return Finding::warning(
            "no container has a readiness probe: the pod is ready before the application accepts connections",
            "add a readiness probe with `periodSeconds: 1`; until then agimo tries again until a connection is accepted",
        );
    };
    let delayed = pods.containers.iter().find_map(|container| {
        let delay =
            container.readiness_probe.as_ref()?.initial_delay_seconds.filter(|delay| *delay > 0)?;
        Some((container, delay))
    });
    if let Some((container, delay)) = delayed {
        return Finding::warning(
            format!(
                "the readiness probe of the container {} begins after {delay} s (`initialDelaySeconds`)",
                container.name
            ),
            "remove `initialDelaySeconds`, and set `periodSeconds: 1`",
        );
    }
    let (name, period) = (&container.name, period(probe));
    if period <= LONGEST_PROBE_PERIOD {
        return Finding::ok(format!("the readiness probe runs every {period} s"));
    }
    let text = format!(
        "the readiness probe of the container {name} runs every {period} s: a wake may wait as long"
    );
    if checked.early_ready {
        let reason = "agimo cannot run it itself: it has a command or a host of its own, or the pod has a readiness gate or a sidecar container";
        return Finding::warning(format!("{text}; {reason}"), "set `periodSeconds: 1`");
    }
    Finding::warning(text, EARLY)
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
