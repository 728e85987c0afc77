//! What the pods of a workload request of a node (Kubernetes, "Resource Management for Pods and Containers").

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::backend::ResourceRequests;

/// What the scheduler counts for one pod: its containers and sidecars together, or its largest init container (Kubernetes, "Init
/// Containers", resource sharing).
pub fn of_pod(spec: &PodSpec) -> ResourceRequests {
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let init = || spec.init_containers.iter().flatten();
    let sum = |of: fn(&Container) -> ResourceRequests| {
        let running = spec.containers.iter().chain(init().filter(is_sidecar));
        running.map(of).fold(ResourceRequests::default(), |sum, one| ResourceRequests {
            cpu_millis: sum.cpu_millis.saturating_add(one.cpu_millis),
            memory_bytes: sum.memory_bytes.saturating_add(one.memory_bytes),
        })
    };
    let before = init().filter(|container| !is_sidecar(container)).map(of_container);
    before.fold(sum(of_container), |most, one| ResourceRequests {
        cpu_millis: most.cpu_millis.max(one.cpu_millis),
        memory_bytes: most.memory_bytes.max(one.memory_bytes),
    })
}

fn of_container(container: &Container) -> ResourceRequests {
    let resources = container.resources.as_ref();
    // What is limited and not requested is requested as limited.
    let value = |name: &str| {
        let of = |values: Option<&std::collections::BTreeMap<String, Quantity>>| {
            values.and_then(|values| amount(&values.get(name)?.0))
        };
        let requested = resources.and_then(|resources| of(resources.requests.as_ref()));
        requested.or_else(|| resources.and_then(|resources| of(resources.limits.as_ref())))
    };
    ResourceRequests {
        cpu_millis: value("cpu").map_or(0, |cores| (cores * 1e3).ceil() as u64),
        memory_bytes: value("memory").map_or(0, |bytes| bytes.ceil() as u64),
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
    fn a_pod_requests_what_runs_at_once_or_its_largest_init_container() {
        let container = |cpu: &str, memory: &str| json!({ "name": "a", "resources": { "requests": { "cpu": cpu, "memory": memory } } });
        let mut sidecar = container("50m", "16Mi");
        sidecar["restartPolicy"] = "Always".into();
        let limited = json!({ "name": "b", "resources": { "limits": { "memory": "32Mi" } } });
        let spec = json!({
            "containers": [container("100m", "64Mi"), limited],
            "initContainers": [sidecar, container("1", "1Mi")],
        });
        let requests = of_pod(&serde_json::from_value(spec).unwrap());
        let expected = ResourceRequests { cpu_millis: 1_000, memory_bytes: 112 << 20 };
        assert_eq!(requests, expected);
    }
}
