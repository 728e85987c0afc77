//! Who else writes `replicas`, by the field managers that the object names, and what keeps each of them from it.

use crate::workload::WorkloadKind;

/// What to change so that these field managers leave `replicas` of a workload of this kind alone.
pub fn fix(managers: &[String], kind: WorkloadKind) -> String {
    if managers.is_empty() {
        return "the object does not name the writer; leave `replicas` out of whatever applies it"
            .to_owned();
    }
    let fixes: Vec<String> = managers.iter().map(|manager| fix_of(manager, kind)).collect();
    fixes.join("; ")
}

/// The names of field managers are those that the tools give themselves; the settings are from their documentation: Argo
/// CD "Sync Options" and "Diff Customization", Flux "Kustomization" and "HelmRelease".
fn fix_of(manager: &str, kind: WorkloadKind) -> String {
    let kind = kind.kubernetes_name();
    match manager {
        "argocd-controller" | "argocd-application-controller" => format!(
            "Argo CD: write in the Application: ignoreDifferences: [{{group: apps, kind: {kind}, jsonPointers: \
             [/spec/replicas]}}] and syncPolicy: {{syncOptions: [RespectIgnoreDifferences=true]}}"
        ),
        "kustomize-controller" => format!(
            "Flux: write in the Kustomization: ignore: [{{paths: [\"/spec/replicas\"], target: {{kind: {kind}}}}}], or \
             remove `replicas` from the manifest; before kustomize-controller 1.9, annotate the object in the manifest \
             with kustomize.toolkit.fluxcd.io/ssa: IfNotPresent, which stops every update of it"
        ),
        "helm-controller" => format!(
            "Flux: leave `replicas` out of the chart's template, and write in the HelmRelease: driftDetection: {{mode: \
             enabled, ignore: [{{paths: [\"/spec/replicas\"], target: {{kind: {kind}}}}}]}}"
        ),
        "helm" => "Helm: leave `replicas` out of the chart's template".to_owned(),
        "kubectl" | "kubectl-client-side-apply" => {
            "kubectl: remove `replicas` from the manifest and apply it again".to_owned()
        }
        "kube-controller-manager" => {
            "a HorizontalPodAutoscaler: write scaler = \"auto\"".to_owned()
        }
        "keda" | "keda-operator" => "KEDA: write scaler = \"auto\"".to_owned(),
        other => format!("{other}: leave `replicas` out of what it applies"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_is_the_setting_of_the_tool() {
        let of = |managers: &[&str]| {
            let managers: Vec<String> = managers.iter().map(ToString::to_string).collect();
            fix(&managers, WorkloadKind::StatefulSet)
        };
        assert_eq!(
            of(&["argocd-controller"]),
            "Argo CD: write in the Application: ignoreDifferences: [{group: apps, kind: StatefulSet, jsonPointers: \
             [/spec/replicas]}] and syncPolicy: {syncOptions: [RespectIgnoreDifferences=true]}"
        );
        assert!(of(&["kustomize-controller"]).contains("kustomize.toolkit.fluxcd.io/ssa"));
        assert!(
            of(&["helm", "nightly-job"])
                .ends_with("; nightly-job: leave `replicas` out of what it applies")
        );
        assert!(of(&[]).contains("does not name the writer"));
    }
}
