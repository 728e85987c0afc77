//! What the pods of a workload request of a node (Kubernetes, "Resource Management for Pods and Containers").

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::backend::ResourceRequests;

/// What the scheduler counts for one pod: its containers and sidecars together, or an init container with the sidecars before it,
/// whichever is more, and what the pod needs itself (Kubernetes, "Sidecar Containers", resource sharing).
pub fn of_pod(spec: &PodSpec) -> ResourceRequests {
    let is_sidecar = |container: &Container| container.restart_policy.as_deref() == Some("Always");
    let (mut sidecars, mut most) = (ResourceRequests::default(), ResourceRequests::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of_resources(container.resources.as_ref());
        if is_sidecar(container) {
            sidecars = sidecars.plus(own);
        } else {
            most = most.max(sidecars.plus(own));
        }
    }
    let containers = spec.containers.iter().map(|one| of_resources(one.resources.as_ref()));
    let of_containers = most.max(containers.fold(sidecars, ResourceRequests::plus));
    let overhead = spec.overhead.as_ref();
    let overhead = |name: &str| overhead.and_then(|overhead| amount(&overhead.get(name)?.0));
    of_containers.plus(requests(overhead))
}

fn of_resources(resources: Option<&ResourceRequirements>) -> ResourceRequests {
    // What is limited and not requested is requested as limited.
    requests(|name| {
        let of = |values: Option<&BTreeMap<String, Quantity>>| {
            values.and_then(|values| amount(&values.get(name)?.0))
        };
        let requested = resources.and_then(|resources| of(resources.requests.as_ref()));
        requested.or_else(|| resources.and_then(|resources| of(resources.limits.as_ref())))
    })
}

fn requests(value: impl Fn(&str) -> Option<f64>) -> ResourceRequests {
    ResourceRequests {
        // To the nearest: the product of fractions is rarely exact.
        cpu_millis: value("cpu").map_or(0, |cores| (cores * 1e3).round() as u64),
        memory_bytes: value("memory").map_or(0, |bytes| bytes.round() as u64),
    }
}

/// A quantity as a number (Kubernetes, "Quantity").
fn amount(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    let with_suffix = SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number: f64 = text.strip_suffix(suffix)?.parse().ok()?;
        Some(number * factor)
    });
    let number = with_suffix.or_else(|| text.parse().ok())?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, expected) in [
            ("100m", Some(0.1)),
            ("2", Some(2.0)),
            ("64Mi", Some(67_108_864.0)),
            ("1.5G", Some(1.5e9)),
            ("1e3", Some(1e3)),
            ("12E", Some(12e18)),
            ("-1", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(amount(text), expected, "{text}");
        }
    }

    #[test]
    fn a_pod_requests_what_runs_at_once_at_most() {
        let container = |cpu: &str, memory: &str| json!({ "name": "a", "resources": { "requests": { "cpu": cpu, "memory": memory } } });
        let mut sidecar = container("50m", "16Mi");
        sidecar["restartPolicy"] = "Always".into();
        let limited = json!({ "name": "b", "resources": { "limits": { "memory": "32Mi" } } });
        let spec = json!({
            "containers": [container("9m", "64Mi"), limited],
            "initContainers": [container("990m", "1Mi"), sidecar, container("1", "1Mi")],
            "overhead": { "cpu": "13m" },
        });
        let requests = of_pod(&serde_json::from_value(spec).unwrap());
        let expected = ResourceRequests { cpu_millis: 1_063, memory_bytes: 112 << 20 };
        assert_eq!(requests, expected);
    }
}
