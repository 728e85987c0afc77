//! Whose token a token of the cluster is, and whether its owner may scale a workload: the API server is asked
//! (authentication.k8s.io/v1 TokenReview, authorization.k8s.io/v1 SubjectAccessReview).

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::kube_client::error_with_sources;
use crate::workload::{WorkloadId, WorkloadKind};

/// The owner of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    pub name: String,
    /// May update the scale of the workload.
    pub may_scale: bool,
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// The owner of the token; `None` where the cluster does not know it.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn owner(
    client: Client,
    token: String,
    workload: &WorkloadId,
) -> Result<Option<TokenOwner>, String> {
    let review = async {
        let Some(user) = user(client.clone(), token).await? else { return Ok(None) };
        let name = user.username.clone().unwrap_or_default();
        Ok(Some(TokenOwner { name, may_scale: may_scale(client, user, workload).await? }))
    };
    let answer = tokio::time::timeout(TIMEOUT, review).await;
    let answer: kube::Result<_> = answer.map_err(|_| "no answer within 5 s".to_owned())?;
    answer.map_err(|error| error_with_sources(&error))
}

async fn user(client: Client, token: String) -> kube::Result<Option<UserInfo>> {
    let spec = TokenReviewSpec { token: Some(token), audiences: None };
    let review = TokenReview { spec, ..TokenReview::default() };
    let reviewed = Api::all(client).create(&PostParams::default(), &review).await?;
    let status = reviewed.status.filter(|status| status.authenticated == Some(true));
    Ok(status.and_then(|status| status.user))
}

async fn may_scale(client: Client, user: UserInfo, workload: &WorkloadId) -> kube::Result<bool> {
    let resource = match workload.kind {
        WorkloadKind::Deployment => "deployments",
        WorkloadKind::StatefulSet => "statefulsets",
        // No right of the cluster speaks about processes on this machine.
        WorkloadKind::Process => return Ok(false),
    };
    let attributes = ResourceAttributes {
        group: Some("apps".to_owned()),
        version: Some("v1".to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some("scale".to_owned()),
        namespace: Some(workload.namespace.clone()),
        name: Some(workload.name.clone()),
        verb: Some("update".to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: user.username,
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    };
    let reviewed = Api::all(client).create(&PostParams::default(), &review).await?;
    Ok(reviewed.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::super::fake_api;
    use super::*;
    use serde_json::json;

    fn web() -> WorkloadId {
        WorkloadId {
            kind: WorkloadKind::StatefulSet,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        }
    }

    #[tokio::test]
    async fn the_owner_of_a_token_is_asked_for_the_right_to_scale_the_workload() {
        let (client, log) = fake_api::client(|request| {
            let status = if request.path.ends_with("/tokenreviews") {
                let user =
                    json!({ "username": "alice", "groups": ["dev"], "extra": { "a": ["b"] } });
                json!({ "authenticated": request.body["spec"]["token"] == "known", "user": user })
            } else {
                json!({ "allowed": request.body["spec"]["groups"] == json!(["dev"]) })
            };
            (201, json!({ "metadata": {}, "spec": request.body["spec"], "status": status }))
        });
        let known = owner(client.clone(), "known".to_owned(), &web()).await;
        let alice = TokenOwner { name: "alice".to_owned(), may_scale: true };
        assert_eq!(known, Ok(Some(alice)));
        assert_eq!(owner(client, "other".to_owned(), &web()).await, Ok(None));
        let log = log.lock().unwrap();
        let asked = &log[1].body["spec"]["resourceAttributes"];
        let expected = json!({
            "group": "apps", "version": "v1", "resource": "statefulsets", "subresource": "scale",
            "namespace": "shop", "name": "web", "verb": "update",
        });
        assert_eq!((log.len(), asked), (3, &expected));
    }

    #[tokio::test]
    async fn a_refused_review_is_an_error() {
        let (client, _) = fake_api::client(|_| fake_api::forbidden());
        let answer = owner(client, "known".to_owned(), &web()).await;
        assert!(answer.is_err_and(|error| error.contains("no permission")));
    }
}
