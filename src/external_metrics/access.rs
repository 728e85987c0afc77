//! Whether a user may read a metric: the Kubernetes API server is asked (authorization.k8s.io/v1 SubjectAccessReview), and its
//! answers are kept for a moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use super::front_proxy::User;

/// What a request wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// List the values of a metric in a namespace.
    Metric { namespace: String, metric: String },
    /// Read a path that is not of the group.
    Path(String),
}

/// Asks the API server, and remembers its answers.
pub struct AccessReviews {
    api: Api<SubjectAccessReview>,
    answers: Mutex<HashMap<(User, Attributes), Answer>>,
}

#[derive(Clone, Copy)]
struct Answer {
    is_allowed: bool,
    expires: Instant,
}

/// As long as the API servers that Kubernetes itself ships.
const ANSWER_LIFETIME: Duration = Duration::from_secs(10);
/// More than the metrics that HPAs read in this time.
const MOST_ANSWERS: usize = 10_000;

// === impl AccessReviews ===

impl AccessReviews {
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client), answers: Mutex::default() }
    }

    /// # Errors
    /// When the API server cannot be asked.
    pub async fn is_allowed(&self, user: &User, attributes: &Attributes) -> kube::Result<bool> {
        if user.is_master() {
            return Ok(true);
        }
        let key = (user.clone(), attributes.clone());
        let now = Instant::now();
        if let Some(answer) = self.lock().get(&key).filter(|answer| now < answer.expires) {
            return Ok(answer.is_allowed);
        }
        let created = self.api.create(&PostParams::default(), &review(user, attributes)).await?;
        let is_allowed = created.status.is_some_and(|status| status.allowed);
        let mut answers = self.lock();
        if answers.len() >= MOST_ANSWERS {
            answers.retain(|_, answer| now < answer.expires);
            if answers.len() >= MOST_ANSWERS {
                answers.clear();
            }
        }
        answers.insert(key, Answer { is_allowed, expires: now + ANSWER_LIFETIME });
        Ok(is_allowed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(User, Attributes), Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn review(user: &User, attributes: &Attributes) -> SubjectAccessReview {
    let (resource_attributes, non_resource_attributes) = match attributes {
        Attributes::Metric { namespace, metric } => (
            Some(ResourceAttributes {
                group: Some(super::GROUP.to_owned()),
                version: Some(super::VERSION.to_owned()),
                resource: Some(metric.clone()),
                namespace: Some(namespace.clone()),
                verb: Some("list".to_owned()),
                ..ResourceAttributes::default()
            }),
            None,
        ),
        Attributes::Path(path) => (
            None,
            Some(NonResourceAttributes { path: Some(path.clone()), verb: Some("get".to_owned()) }),
        ),
    };
    SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: (!user.extra.is_empty()).then(|| user.extra.clone()),
            resource_attributes,
            non_resource_attributes,
        },
        status: None,
    }
}
