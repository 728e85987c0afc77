//! Who may change something through the admin port: whoever has a token of `--admin-tokens`, or a token of the cluster with the
//! right to scale the workload.

use futures_util::future::BoxFuture;
use hyper::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;
use tracing::warn;

use super::response::Refusal;
use crate::control_port::tokens::{Tokens, bearer};
use crate::workload::WorkloadId;

/// What callers of changing paths must show. Without tokens and reviews, nobody may change anything.
pub struct Authorization {
    /// Whoever has one of them may change every workload.
    tokens: Option<Tokens>,
    /// Asks the cluster about other tokens.
    review: Option<Review>,
    reviewing: Semaphore,
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

/// The name of whoever has a token of `--admin-tokens`.
const TOKEN_HOLDER: &str = "admin-token";
/// Longer than any token of a cluster.
const LONGEST_TOKEN: usize = 8 * 1024;
/// Tokens that the cluster is asked about at a time.
const MOST_REVIEWING: usize = 4;

// === impl Authorization ===

impl Authorization {
    pub fn new(tokens: Option<Tokens>, review: Option<Review>) -> Self {
        Self { tokens, review, reviewing: Semaphore::new(MOST_REVIEWING) }
    }

    /// Whether a token may be of use at all.
    ///
    /// # Errors
    /// When nobody may change anything, or there is no token.
    pub fn check_token<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        if self.tokens.is_none() && self.review.is_none() {
            let error = "nobody may change anything through this port: start agimo with --admin-tokens or \
                         --admin-token-review";
            return Err((StatusCode::FORBIDDEN, error.to_owned()));
        }
        let token = bearer(headers).filter(|token| token.len() <= LONGEST_TOKEN);
        token.ok_or_else(|| {
            let error = "send a token: `Authorization: Bearer …`; the commands of agimo read it with --token-file";
            (StatusCode::UNAUTHORIZED, error.to_owned())
        })
    }

    /// # Errors
    /// When the caller may not change every workload.
    pub fn check_all(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = self.check_token(headers)?;
        if self.tokens.as_ref().is_some_and(|tokens| tokens.accept(token)) {
            return Ok(());
        }
        let error = "for all services, a token of --admin-tokens is needed: name one service";
        Err((StatusCode::FORBIDDEN, error.to_owned()))
    }

    /// The name of the caller.
    ///
    /// # Errors
    /// When the caller may not scale the workload.
    pub async fn check(
        &self,
        headers: &HeaderMap,
        workload: &WorkloadId,
    ) -> Result<String, Refusal> {
        let token = self.check_token(headers)?;
        if self.tokens.as_ref().is_some_and(|tokens| tokens.accept(token)) {
            return Ok(TOKEN_HOLDER.to_owned());
        }
        let unknown = (StatusCode::UNAUTHORIZED, "the token is not known here".to_owned());
        let Some(review) = &self.review else { return Err(unknown) };
        // Whoever has no right must not keep the API server from its work.
        let Ok(_turn) = self.reviewing.try_acquire() else {
            let error = "too many tokens are being looked at: ask again".to_owned();
            return Err((StatusCode::TOO_MANY_REQUESTS, error));
        };
        match review(token.to_owned(), workload.clone()).await {
            Ok(Reviewed::Allowed(name)) => Ok(name),
            Ok(Reviewed::Unknown) => Err(unknown),
            Ok(Reviewed::Denied(name)) => {
                let error = format!("{name} may not update the scale of {workload}");
                Err((StatusCode::FORBIDDEN, error))
            }
            Err(problem) => {
                warn!(problem, "the cluster cannot be asked about a token for the admin port");
                let error =
                    "the cluster cannot be asked about the token; the log of agimo says why";
                Err((StatusCode::SERVICE_UNAVAILABLE, error.to_owned()))
            }
        }
    }
}
