//! Asks for the last events about a wake that takes long. It is asked for words only; nothing waits for it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};
use tracing::debug;

use super::{condition, pods};
use crate::cause::NotReadyReason;
use crate::config::KubernetesConfig;

const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// The events of one object are few; a flood of them need not be read.
const MOST_EVENTS: u32 = 100;

/// The newest warning about the workload or this pod of it.
pub async fn last_warning(
    client: Client,
    config: KubernetesConfig,
    pod: Option<String>,
) -> Option<NotReadyReason> {
    let kind = condition::kind_of(&config);
    let mut events = about(&client, &config.namespace, kind, &config.name).await;
    if let Some(pod) = pod {
        events.extend(about(&client, &config.namespace, "Pod", &pod).await);
    }
    pods::warning(&events)
}

async fn about(client: &Client, namespace: &str, kind: &str, name: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let fields = format!("involvedObject.kind={kind},involvedObject.name={name},type=Warning");
    let parameters = ListParams::default().fields(&fields).limit(MOST_EVENTS);
    match tokio::time::timeout(LIST_TIMEOUT, api.list(&parameters)).await {
        Ok(Ok(events)) => events.items,
        Ok(Err(error)) => {
            debug!(%error, kind, name, "its events cannot be read");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
