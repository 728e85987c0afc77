//! Writes a workload's `replicas`: what to write is decided purely, and only the scale subresource is touched.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::objects::Id;
use super::watches::chain;
use crate::cause::{Cause, NotReadyReason};
use crate::config::KubernetesKind;

/// What is wanted of a workload's `replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Whatever it is.
    Nothing,
    /// At least one; from none, this many.
    Awake(u32),
    Asleep,
}

/// `replicas` as last read or written, and the version of the object that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub replicas: u32,
    pub resource_version: String,
}

/// What is so after a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub known: Known,
    /// Somebody else had changed the object, so that it was only read.
    pub conflicted: bool,
}

/// A write that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub trouble: NotReadyReason,
    /// How long to wait before the next try.
    pub pause: Duration,
}

/// The API server is not waited for longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// After an answer that another try may change soon, and after one that needs somebody's hand.
const SHORT_PAUSE: Duration = Duration::from_millis(500);
const LONG_PAUSE: Duration = Duration::from_secs(5);

/// Who is named as the writer in the object's managed fields.
pub const MANAGER: &str = "agimo";

// === impl Want ===

impl Want {
    /// The number to write, if one is to be written.
    pub fn write(self, known: &Known) -> Option<u32> {
        match (self, known.replicas) {
            (Self::Awake(replicas), 0) => Some(replicas.max(1)),
            (Self::Asleep, 1..) => Some(0),
            _ => None,
        }
    }
}

// === impl Known ===

impl Known {
    /// The newer of what was read and what was written. Resource versions of one object are compared as
    /// numbers (API concepts, resource versions).
    pub fn newer(read: Self, written: Option<&Self>) -> Self {
        match written {
            Some(written) if number(written) > number(&read) => written.clone(),
            _ => read,
        }
    }
}

fn number(known: &Known) -> u64 {
    known.resource_version.parse().unwrap_or(0)
}

/// Writes `replicas` if nobody has changed the object since it was `known`, and answers what it is then;
/// otherwise only reads it again.
pub async fn write(
    client: Client,
    kind: KubernetesKind,
    id: Id,
    replicas: u32,
    known: Known,
) -> Result<Written, Failed> {
    let attempt = async {
        match kind {
            KubernetesKind::Deployment => {
                let api: Api<Deployment> = Api::namespaced(client, &id.namespace);
                patch(&api, &id, replicas, &known).await
            }
            KubernetesKind::StatefulSet => {
                let api: Api<StatefulSet> = Api::namespaced(client, &id.namespace);
                patch(&api, &id, replicas, &known).await
            }
        }
    };
    match tokio::time::timeout(WRITE_TIMEOUT, attempt).await {
        Ok(Ok((scale, conflicted))) => {
            let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
            let known = Known {
                replicas: replicas.try_into().unwrap_or(0),
                resource_version: scale.metadata.resource_version.unwrap_or_default(),
            };
            Ok(Written { known, conflicted })
        }
        Ok(Err(error)) => Err(failed(&id, &error)),
        Err(_) => Err(Failed {
            trouble: NotReadyReason {
                cause: Cause::Unknown,
                detail: format!("{id}: the API server did not answer within 5 s"),
            },
            pause: SHORT_PAUSE,
        }),
    }
}

async fn patch<K>(
    api: &Api<K>,
    id: &Id,
    replicas: u32,
    known: &Known,
) -> kube::Result<(Scale, bool)>
where
    K: Clone + serde::de::DeserializeOwned,
{
    let body = json!({
        "metadata": { "resourceVersion": known.resource_version },
        "spec": { "replicas": replicas },
    });
    let parameters =
        PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_scale(&id.name, &parameters, &Patch::Merge(&body)).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            Ok((api.get_scale(&id.name).await?, true))
        }
        outcome => Ok((outcome?, false)),
    }
}

fn failed(id: &Id, error: &kube::Error) -> Failed {
    let (cause, words, pause) = match error {
        kube::Error::Api(status) if status.code == 404 => {
            (Cause::WorkloadMissing, status.message.clone(), SHORT_PAUSE)
        }
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            let cure = "let agimo get and patch its scale subresource";
            (Cause::ScaleRefused, format!("{}; {cure}", status.message), LONG_PAUSE)
        }
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            (Cause::ScaleRefused, status.message.clone(), LONG_PAUSE)
        }
        other => (Cause::Unknown, format!("the API server: {}", chain(other)), SHORT_PAUSE),
    };
    Failed {
        trouble: NotReadyReason { cause, detail: super::pods::detail(&id.to_string(), &words) },
        pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(replicas: u32, version: &str) -> Known {
        Known { replicas, resource_version: version.to_owned() }
    }

    #[test]
    fn only_a_change_between_none_and_some_is_written() {
        assert_eq!(Want::Awake(1).write(&known(0, "1")), Some(1));
        assert_eq!(Want::Awake(3).write(&known(0, "1")), Some(3));
        assert_eq!(Want::Awake(1).write(&known(5, "1")), None);
        assert_eq!(Want::Asleep.write(&known(5, "1")), Some(0));
        assert_eq!(Want::Asleep.write(&known(0, "1")), None);
        assert_eq!(Want::Nothing.write(&known(0, "1")), None);
    }

    #[test]
    fn what_was_written_holds_until_the_watch_has_caught_up() {
        let written = known(0, "10");
        assert_eq!(Known::newer(known(1, "9"), Some(&written)), written);
        assert_eq!(Known::newer(known(0, "10"), Some(&written)), written);
        assert_eq!(Known::newer(known(2, "11"), Some(&written)), known(2, "11"));
        assert_eq!(Known::newer(known(2, "9"), None), known(2, "9"));
    }
}
