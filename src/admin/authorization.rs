//! Who may change something through the admin port: whoever has a token of `--admin-tokens`, or a token of the cluster with the
//! right to scale the workload.

use futures_util::future::BoxFuture;
use hyper::{HeaderMap, StatusCode};

use crate::control_port::tokens::{Tokens, bearer};
use crate::workload::WorkloadId;

/// What callers of changing paths must show. By default nobody may change anything.
#[derive(Default)]
pub struct Authorization {
    /// Whoever has one of them may change every workload.
    pub tokens: Option<Tokens>,
    /// Asks the cluster about other tokens.
    pub review: Option<Review>,
}

/// Whether the owner of a token may scale a workload.
pub type Review =
    Box<dyn Fn(String, WorkloadId) -> BoxFuture<'static, Result<Reviewed, String>> + Send + Sync>;

/// What the cluster says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reviewed {
    /// The name of the user.
    Allowed(String),
    Denied(String),
    Unknown,
}

/// Why a call is refused.
pub type Refusal = (StatusCode, String);

/// The name of whoever has a token of `--admin-tokens`.
const TOKEN_HOLDER: &str = "admin-token";

// === impl Authorization ===

impl Authorization {
    /// The name of the caller.
    ///
    /// # Errors
    /// When the caller may not scale the workload.
    pub async fn check(
        &self,
        headers: &HeaderMap,
        workload: &WorkloadId,
    ) -> Result<String, Refusal> {
        if self.tokens.is_none() && self.review.is_none() {
            let error = "nobody may change anything through this port: start agimo with --admin-tokens or \
                         --admin-token-review";
            return Err((StatusCode::FORBIDDEN, error.to_owned()));
        }
        let Some(token) = bearer(headers) else {
            let error = "send a token: `Authorization: Bearer …`; the commands of agimo read it with --token-file";
            return Err((StatusCode::UNAUTHORIZED, error.to_owned()));
        };
        if self.tokens.as_ref().is_some_and(|tokens| tokens.accept(token)) {
            return Ok(TOKEN_HOLDER.to_owned());
        }
        let unknown = (StatusCode::UNAUTHORIZED, "the token is not known here".to_owned());
        let Some(review) = &self.review else { return Err(unknown) };
        match review(token.to_owned(), workload.clone()).await {
            Ok(Reviewed::Allowed(name)) => Ok(name),
            Ok(Reviewed::Unknown) => Err(unknown),
            Ok(Reviewed::Denied(name)) => {
                let error = format!("{name} may not update the scale of {workload}");
                Err((StatusCode::FORBIDDEN, error))
            }
            Err(problem) => {
                let error = format!("the cluster cannot be asked about the token: {problem}");
                Err((StatusCode::SERVICE_UNAVAILABLE, error))
            }
        }
    }
}
