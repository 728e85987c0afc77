//! Writes a workload's `replicas`, through its scale subresource only and only if the object has not changed since it
//! was read. What to write is decided purely.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::not_ready;
use super::objects::ObjectName;
use crate::cause::{Cause, NotReadyReason};
use crate::kube_client::error_with_sources;
use crate::workload::{WorkloadId, WorkloadKind};

/// What `replicas` of a workload is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesiredScale {
    /// Whatever it is.
    Unchanged,
    /// This many if it is zero; unchanged otherwise.
    Awake(u32),
    Exactly(u32),
}

/// `replicas` as last read or written, and the version of the object that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleRead {
    pub replicas: u32,
    pub resource_version: String,
}

/// A write of `replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleWrite {
    pub replicas: u32,
    /// The version that the object must still have.
    pub resource_version: String,
}

/// What `replicas` is after an attempt to write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleResult {
    pub read: ScaleRead,
    /// The object had changed, so it was only read.
    pub is_conflict: bool,
}

/// A write that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleFailure {
    pub reason: NotReadyReason,
    /// The next attempt waits this long.
    pub retry_after: Duration,
}

/// Limit for a write, the reading after a conflict included.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failure that may be over soon.
const SHORT_RETRY_DELAY: Duration = Duration::from_millis(500);
/// After a failure that an operator must fix.
const LONG_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The name of the writer in the managed fields of an object.
pub const FIELD_MANAGER: &str = "agimo";

// === impl DesiredScale ===

impl DesiredScale {
    /// The number to write, if `replicas` differs from what is desired.
    pub fn replicas_to_write(self, current: u32) -> Option<u32> {
        match self {
            Self::Awake(replicas) if current == 0 => Some(replicas.max(1)),
            Self::Exactly(replicas) if current != replicas => Some(replicas),
            _ => None,
        }
    }
}

// === impl ScaleRead ===

impl ScaleRead {
    /// The newer of what the watch read and what was written. Resource versions of one object are compared as
    /// numbers (Kubernetes API concepts, resource versions).
    pub fn newer(read: Self, written: Option<&Self>) -> Self {
        match written {
            Some(written) if written.version() > read.version() => written.clone(),
            _ => read,
        }
    }

    fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }
}

/// Writes `replicas` if the object still has the expected version; otherwise only reads it again.
///
/// # Errors
/// When the API server rejects the write or does not answer in time. After a timeout the write may have taken effect.
pub async fn write(
    client: Client,
    workload: WorkloadId,
    write: ScaleWrite,
) -> Result<ScaleResult, ScaleFailure> {
    let name = ObjectName::new(&workload.namespace, &workload.name);
    let attempt = async {
        match workload.kind {
            WorkloadKind::StatefulSet => {
                let api: Api<StatefulSet> = Api::namespaced(client, &name.namespace);
                patch(&api, &name, &write).await
            }
            WorkloadKind::Deployment | WorkloadKind::Process => {
                let api: Api<Deployment> = Api::namespaced(client, &name.namespace);
                patch(&api, &name, &write).await
            }
        }
    };
    match tokio::time::timeout(WRITE_TIMEOUT, attempt).await {
        Ok(Ok((scale, is_conflict))) => {
            let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            let read = ScaleRead {
                replicas: replicas.try_into().unwrap_or(0),
                resource_version: scale.metadata.resource_version.unwrap_or_default(),
            };
            Ok(ScaleResult { read, is_conflict })
        }
        Ok(Err(error)) => Err(failure(&name, &error)),
        Err(_) => Err(ScaleFailure {
            reason: NotReadyReason {
                cause: Cause::Unknown,
                detail: format!("{name}: the API server did not answer within 5 s"),
            },
            retry_after: SHORT_RETRY_DELAY,
        }),
    }
}

/// The parameters of every patch that agimo sends.
pub fn patch_parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

async fn patch<K>(
    api: &Api<K>,
    name: &ObjectName,
    write: &ScaleWrite,
) -> kube::Result<(Scale, bool)>
where
    K: Clone + serde::de::DeserializeOwned,
{
    let body = json!({
        "metadata": { "resourceVersion": write.resource_version },
        "spec": { "replicas": write.replicas },
    });
    match api.patch_scale(&name.name, &patch_parameters(), &Patch::Merge(&body)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok((api.get_scale(&name.name).await?, true))
        }
        outcome => Ok((outcome?, false)),
    }
}

fn failure(name: &ObjectName, error: &kube::Error) -> ScaleFailure {
    let (cause, message, retry_after) = match error {
        kube::Error::Api(status) if status.code == 404 => {
            (Cause::WorkloadMissing, status.message.clone(), SHORT_RETRY_DELAY)
        }
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            let fix = "let agimo get and patch its scale subresource";
            (Cause::ScaleRefused, format!("{}; {fix}", status.message), LONG_RETRY_DELAY)
        }
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            (Cause::ScaleRefused, status.message.clone(), LONG_RETRY_DELAY)
        }
        other => {
            let message = format!("the API server: {}", error_with_sources(other));
            (Cause::Unknown, message, SHORT_RETRY_DELAY)
        }
    };
    let detail = not_ready::detail(&name.to_string(), &message);
    ScaleFailure { reason: NotReadyReason { cause, detail }, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(replicas: u32, version: &str) -> ScaleRead {
        ScaleRead { replicas, resource_version: version.to_owned() }
    }

    #[test]
    fn only_a_difference_from_the_desired_scale_is_written() {
        assert_eq!(DesiredScale::Awake(1).replicas_to_write(0), Some(1));
        assert_eq!(DesiredScale::Awake(3).replicas_to_write(0), Some(3));
        assert_eq!(DesiredScale::Awake(1).replicas_to_write(5), None);
        assert_eq!(DesiredScale::Exactly(0).replicas_to_write(5), Some(0));
        assert_eq!(DesiredScale::Exactly(0).replicas_to_write(0), None);
        assert_eq!(DesiredScale::Exactly(3).replicas_to_write(5), Some(3));
        assert_eq!(DesiredScale::Exactly(3).replicas_to_write(3), None);
        assert_eq!(DesiredScale::Unchanged.replicas_to_write(0), None);
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_caught_up() {
        let written = read(0, "10");
        assert_eq!(ScaleRead::newer(read(1, "9"), Some(&written)), written);
        assert_eq!(ScaleRead::newer(read(0, "10"), Some(&written)), written);
        assert_eq!(ScaleRead::newer(read(2, "11"), Some(&written)), read(2, "11"));
        assert_eq!(ScaleRead::newer(read(2, "9"), None), read(2, "9"));
    }
}
