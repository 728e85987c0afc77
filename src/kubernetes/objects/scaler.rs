//! The scalers other than agimo that a cluster may have: HorizontalPodAutoscalers, and the ScaledObjects of KEDA.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Deserialize;

use super::ObjectName;
use crate::ownership::{Hpa, OtherScaler, Pause};
use crate::scaling_signal::metric::Metric;
use crate::workload::WorkloadKind;

/// A scaler, and the workload that it targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalerObject {
    pub target: (WorkloadKind, ObjectName),
    pub scaler: OtherScaler,
}

/// A ScaledObject of KEDA (keda.sh/v1alpha1), as far as agimo reads it.
#[derive(Clone, Debug, Deserialize)]
pub struct ScaledObject {
    pub metadata: ObjectMeta,
    pub spec: ScaledObjectSpec,
    pub status: Option<ScaledObjectStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaledObjectSpec {
    pub scale_target_ref: ScaleTarget,
    #[serde(default)]
    pub triggers: Vec<Trigger>,
}

/// What KEDA asks for the demand.
#[derive(Clone, Debug, Deserialize)]
pub struct Trigger {
    pub r#type: String,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ScaledObjectStatus {
    #[serde(default)]
    pub conditions: Vec<ScaledObjectCondition>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ScaledObjectCondition {
    pub r#type: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub message: String,
}

/// What a ScaledObject scales; a Deployment unless it says otherwise (KEDA, ScaledObject specification).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTarget {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    pub name: String,
}

const SCALED_OBJECT: &str = "ScaledObject";
/// A ScaledObject is paused where this is not `false`.
const PAUSED: &str = "autoscaling.keda.sh/paused";
/// KEDA scales such a ScaledObject down and never up, where this is not `false`.
const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
/// A ScaledObject is paused at so many replicas.
const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";

// === impl ScalerObject ===

impl ScalerObject {
    /// `None` where it targets something that agimo does not scale.
    pub fn of_hpa(hpa: &HorizontalPodAutoscaler) -> Option<Self> {
        let spec = hpa.spec.as_ref()?;
        let target = &spec.scale_target_ref;
        let target = target_of(hpa, target.api_version.as_deref(), &target.kind, &target.name)?;
        // KEDA lets an HPA scale above zero, and deletes it while the ScaledObject is paused.
        let owner = hpa.owner_references().iter().find(|owner| owner.kind == SCALED_OBJECT);
        let scaler = match owner {
            Some(owner) => {
                OtherScaler::ScaledObject { name: owner.name.clone(), pause: Pause::NotPaused }
            }
            None => OtherScaler::HorizontalPodAutoscaler(Hpa {
                name: hpa.name_any(),
                // The default is 1 (autoscaling/v2 HorizontalPodAutoscalerSpec).
                min_replicas: spec.min_replicas.unwrap_or(1).try_into().unwrap_or(0),
                is_switched_off: is_disabled(hpa) && !has_scaled_to_zero(hpa),
                has_scaled_to_zero: has_scaled_to_zero(hpa),
                reads_agimo: reads_agimo(spec),
            }),
        };
        Some(Self { target, scaler })
    }

    /// `None` where it targets something that agimo does not scale.
    pub fn of_scaled_object(object: &ScaledObject) -> Option<Self> {
        let ScaleTarget { api_version, kind, name } = &object.spec.scale_target_ref;
        let kind = kind.as_deref().unwrap_or("Deployment");
        let target = target_of(object, api_version.as_deref(), kind, name)?;
        let annotation = |name: &str| object.annotations().get(name).map(|value| value.trim());
        let pause = if let Some(replicas) = annotation(PAUSED_REPLICAS) {
            // A number that cannot be read is a pause without one.
            replicas.parse().map_or(Pause::Paused, Pause::PausedAt)
        } else if [PAUSED, PAUSED_SCALE_OUT]
            .into_iter()
            .any(|name| annotation(name).is_some_and(|value| !is_false(value)))
        {
            Pause::Paused
        } else {
            Pause::NotPaused
        };
        let scaler = OtherScaler::ScaledObject { name: object.name_any(), pause };
        Some(Self { target, scaler })
    }
}

/// What a scaler of the same namespace targets.
fn target_of<K: ResourceExt>(
    scaler: &K,
    api_version: Option<&str>,
    kind: &str,
    name: &str,
) -> Option<(WorkloadKind, ObjectName)> {
    if api_version.is_some_and(|version| !version.is_empty() && !version.starts_with("apps/")) {
        return None;
    }
    let kind = match kind {
        "Deployment" => WorkloadKind::Deployment,
        "StatefulSet" => WorkloadKind::StatefulSet,
        _ => return None,
    };
    Some((kind, ObjectName::new(&scaler.namespace().unwrap_or_default(), name)))
}

/// Whether an HPA does nothing because its target is at zero. It wakes only what it put to sleep itself (conditions of
/// autoscaling/v2).
fn is_disabled(hpa: &HorizontalPodAutoscaler) -> bool {
    conditions(hpa).any(|condition| {
        condition.type_ == "ScalingActive"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("ScalingDisabled")
    })
}

/// Whether it was the HPA that scaled its target to zero.
fn has_scaled_to_zero(hpa: &HorizontalPodAutoscaler) -> bool {
    conditions(hpa).any(|condition| condition.type_ == "ScaledToZero" && condition.status == "True")
}

fn conditions(
    hpa: &HorizontalPodAutoscaler,
) -> impl Iterator<Item = &HorizontalPodAutoscalerCondition> {
    hpa.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

/// Whether an HPA reads a metric of agimo and selects its own target by name.
fn reads_agimo(spec: &HorizontalPodAutoscalerSpec) -> bool {
    let metrics = spec.metrics.iter().flatten().filter_map(|metric| metric.external.as_ref());
    metrics.filter(|external| Metric::named(&external.metric.name).is_some()).any(|external| {
        let Some(selector) = &external.metric.selector else { return false };
        let label = |key: &str| selector.match_labels.as_ref().and_then(|labels| labels.get(key));
        let target = &spec.scale_target_ref;
        let is_kind = |kind: &String| kind.eq_ignore_ascii_case(&target.kind);
        // Whether a host or another expression selects the target is not known here.
        label("name") == Some(&target.name)
            && label("kind").is_none_or(is_kind)
            && label("host").is_none()
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    })
}

/// The spellings of Go's `strconv.ParseBool`. KEDA takes what it cannot parse for true.
fn is_false(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

// === impl ScaledObject ===

impl Resource for ScaledObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        SCALED_OBJECT.into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        "keda.sh".into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        "v1alpha1".into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        "scaledobjects".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn web() -> (WorkloadKind, ObjectName) {
        (WorkloadKind::Deployment, ObjectName::new("a", "web"))
    }

    fn of_hpa(metadata: Value, min: Value, conditions: Value) -> OtherScaler {
        let spec = json!({ "minReplicas": min });
        read_hpa(
            json!({ "metadata": metadata, "spec": spec, "status": { "conditions": conditions } }),
        )
    }

    fn read_hpa(mut hpa: Value) -> OtherScaler {
        hpa["spec"]["maxReplicas"] = json!(3);
        hpa["spec"]["scaleTargetRef"] =
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
        let read = ScalerObject::of_hpa(&serde_json::from_value(hpa).unwrap()).unwrap();
        assert_eq!(read.target, web());
        read.scaler
    }

    #[test]
    fn an_hpa_may_read_the_metrics_of_agimo() {
        for (kind, name, labels, expected) in [
            ("External", "agimo_active_requests", json!({ "name": "web" }), true),
            (
                "External",
                "agimo_requests_per_second",
                json!({ "name": "web", "kind": "deployment" }),
                true,
            ),
            (
                "External",
                "agimo_requests_per_second",
                json!({ "name": "web", "kind": "statefulset" }),
                false,
            ),
            ("External", "agimo_requests_per_second", json!({ "host": "web.test" }), false),
            ("External", "agimo_active_requests", json!({ "name": "api" }), false),
            ("External", "queue_length", json!({ "name": "web" }), false),
            ("Pods", "agimo_active_requests", json!({ "name": "web" }), false),
        ] {
            let metric = json!({ "name": name, "selector": { "matchLabels": labels } });
            let source = json!({ "metric": metric, "target": { "type": "AverageValue", "averageValue": "10" } });
            let metric = json!({ "type": kind, kind.to_lowercase(): source });
            let hpa = json!({
                "metadata": { "name": "h", "namespace": "a" },
                "spec": { "minReplicas": 0, "metrics": [metric] },
            });
            let OtherScaler::HorizontalPodAutoscaler(hpa) = read_hpa(hpa) else { panic!() };
            assert_eq!(hpa.reads_agimo, expected, "{kind} {name} {labels}");
        }
    }

    #[test]
    fn an_hpa_is_switched_off_by_a_zero_that_is_not_its_own() {
        let name = || json!({ "name": "h", "namespace": "a" });
        let condition = |kind: &str, status: &str, reason: &str| json!({ "type": kind, "status": status, "reason": reason });
        let disabled = condition("ScalingActive", "False", "ScalingDisabled");
        let active = condition("ScalingActive", "True", "ValidMetricFound");
        let [zero, no_zero] =
            ["True", "False"].map(|status| condition("ScaledToZero", status, "x"));
        for (min, conditions, expected_min, expected, has_scaled_to_zero) in [
            (json!(null), json!([]), 1, false, false),
            (json!(0), json!([active]), 0, false, false),
            (json!(0), json!([disabled]), 0, true, false),
            (json!(0), json!([disabled, no_zero]), 0, true, false),
            (json!(0), json!([disabled, zero]), 0, false, true),
        ] {
            let expected = OtherScaler::HorizontalPodAutoscaler(Hpa {
                name: "h".to_owned(),
                min_replicas: expected_min,
                is_switched_off: expected,
                has_scaled_to_zero,
                reads_agimo: false,
            });
            assert_eq!(of_hpa(name(), min, conditions), expected);
        }
        let owner = json!({ "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "s", "uid": "u" });
        let of_keda = json!({ "name": "keda-hpa-s", "namespace": "a", "ownerReferences": [owner] });
        let expected = OtherScaler::ScaledObject { name: "s".to_owned(), pause: Pause::NotPaused };
        assert_eq!(of_hpa(of_keda, json!(1), json!([])), expected);
    }

    fn of_scaled_object(annotations: Value, target: Value) -> Option<ScalerObject> {
        let object = json!({
            "metadata": { "name": "s", "namespace": "a", "annotations": annotations },
            "spec": { "scaleTargetRef": target, "triggers": [] },
        });
        ScalerObject::of_scaled_object(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_scaled_object_may_be_paused() {
        for (annotations, expected) in [
            (json!({}), Pause::NotPaused),
            (json!({ PAUSED: "true" }), Pause::Paused),
            (json!({ PAUSED: "false" }), Pause::NotPaused),
            (json!({ PAUSED: "yes" }), Pause::Paused),
            (json!({ PAUSED_SCALE_OUT: "true" }), Pause::Paused),
            (json!({ "autoscaling.keda.sh/paused-scale-in": "true" }), Pause::NotPaused),
            (json!({ PAUSED_REPLICAS: "many" }), Pause::Paused),
            (json!({ PAUSED_REPLICAS: "3" }), Pause::PausedAt(3)),
            (json!({ PAUSED_REPLICAS: "0", PAUSED: "true" }), Pause::PausedAt(0)),
        ] {
            let read = of_scaled_object(annotations, json!({ "name": "web" })).unwrap();
            let scaler = OtherScaler::ScaledObject { name: "s".to_owned(), pause: expected };
            assert_eq!(read, ScalerObject { target: web(), scaler });
        }
    }

    #[test]
    fn scalers_of_other_kinds_of_objects_are_left_alone() {
        let of = |target: Value| of_scaled_object(json!({}), target);
        assert!(of(json!({ "kind": "StatefulSet", "name": "db" })).is_some());
        let rollout =
            json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web" });
        assert_eq!(of(rollout), None);
        let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "web" });
        assert_eq!(of(job), None);
    }
}
