//! Whether the ScaledObjects that ask agimo for its demand reach it, and work.

use kube::api::ListParams;
use kube::{Client, ResourceExt};

use super::list;
use super::permissions::Installation;
use crate::findings::Finding;
use crate::kubernetes::objects::ObjectName;
use crate::kubernetes::objects::scaler::ScaledObject;

/// The types of triggers that name the address of a scaler (KEDA, "External" and "External Push").
const EXTERNAL: [&str; 2] = ["external", "external-push"];

/// Every ScaledObject of a cluster that has KEDA.
///
/// # Errors
/// When they cannot be listed.
pub async fn scaled_objects(client: &Client) -> Result<Vec<ScaledObject>, Finding> {
    list(client, None, &ListParams::default(), usize::MAX).await.map_err(|reason| {
        let text = format!("ScaledObjects cannot be listed: {reason}");
        Finding::skipped(text, "use an account that may list scaledobjects.keda.sh")
    })
}

/// A finding for each ScaledObject that asks this agimo.
pub fn findings(agimo: &Installation, objects: &[ScaledObject]) -> Vec<Finding> {
    let asking =
        objects.iter().filter(|object| addresses(object).any(|address| is_of(agimo, address)));
    let mut findings: Vec<Finding> = asking.map(|object| finding(agimo, object)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("no ScaledObject asks agimo"));
    }
    findings
}

fn finding(agimo: &Installation, object: &ScaledObject) -> Finding {
    let name = format!("the ScaledObject {}", ObjectName::of(object));
    let Some(port) = agimo.options.keda_port else {
        return Finding::failed(
            format!("{name} asks agimo, whose port for KEDA is closed"),
            "set `keda.enabled: true` in the values of the chart",
        );
    };
    let ports = addresses(object)
        .filter(|address| is_of(agimo, address))
        .map(|address| address.rsplit_once(':').map(|(_, port)| port));
    if let Some(other) = ports.flatten().find(|found| *found != port.to_string()) {
        return Finding::failed(
            format!("{name} asks agimo on port {other}, and its port for KEDA is {port}"),
            "correct `scalerAddress` in the trigger",
        );
    }
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let not_ready = conditions
        .filter(|condition| condition.r#type == "Ready")
        .find(|found| found.status == "False");
    match not_ready {
        Some(condition) => Finding::failed(
            format!("{name} is not ready: {}", condition.message),
            format!(
                "kubectl --namespace {} describe scaledobject {}",
                object.namespace().unwrap_or_default(),
                object.name_any()
            ),
        ),
        None => Finding::ok(format!("{name} asks agimo")),
    }
}

fn addresses(object: &ScaledObject) -> impl Iterator<Item = &str> {
    let external =
        object.spec.triggers.iter().filter(|trigger| EXTERNAL.contains(&trigger.r#type.as_str()));
    external.filter_map(|trigger| trigger.metadata.get("scalerAddress")).map(String::as_str)
}

/// Whether an address is that of the Service for KEDA of the chart, `<name>-keda.<namespace>`.
fn is_of(agimo: &Installation, address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let mut labels = host.split('.');
    let is_keda = labels.next().is_some_and(|service| service.ends_with("-keda"));
    is_keda && labels.next() == Some(agimo.namespace.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::findings::Level;
    use serde_json::json;

    fn found(arguments: &[&str], address: &str, ready: &str) -> Finding {
        let trigger = json!({ "type": "external-push", "metadata": { "scalerAddress": address } });
        let object = json!({
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "scaleTargetRef": { "name": "web" }, "triggers": [trigger] },
            "status": { "conditions": [{ "type": "Ready", "status": ready, "message": "cannot connect" }] },
        });
        let words = ["agimo"].into_iter().chain(arguments.iter().copied());
        let agimo = Installation {
            namespace: "agimo".to_owned(),
            service_account: "agimo".to_owned(),
            options: Cli::try_parse_elsewhere(words, &[]).unwrap().serve,
        };
        findings(&agimo, &[serde_json::from_value(object).unwrap()]).remove(0)
    }

    #[test]
    fn a_scaled_object_must_reach_the_port_for_keda() {
        let (open, own) = (["--keda-port", "9092"], "agimo-keda.agimo:9092");
        for (arguments, address, ready, level, part) in [
            (&open[..], own, "True", Level::Ok, "shop/web asks agimo"),
            (
                &open,
                "agimo-keda.agimo.svc.cluster.local:9092",
                "Unknown",
                Level::Ok,
                "shop/web asks agimo",
            ),
            (&open, "other-scaler.shop:9092", "True", Level::Ok, "no ScaledObject"),
            (&open, "agimo-keda.other:9092", "True", Level::Ok, "no ScaledObject"),
            (&open, "agimo-keda.agimo:9090", "True", Level::Failed, "on port 9090"),
            (&open, own, "False", Level::Failed, "cannot connect"),
            (&[], own, "True", Level::Failed, "is closed"),
        ] {
            let found = found(arguments, address, ready);
            assert!(found.level == level && found.text.contains(part), "{found:?}");
        }
    }
}
