//! Who may change something through the admin port, as the command line says.

use std::path::Path;

use anyhow::{Context, anyhow};
use kube::Client;

use crate::admin::authorization::{Authorization, Review, Reviewed};
use crate::control_port::tokens::Tokens;
use crate::kubernetes::token_review;

/// By default nobody may.
#[derive(Default)]
pub struct ChangeSettings {
    /// Whoever has one of them may change every workload.
    pub tokens: Option<Tokens>,
    /// Users of the cluster may change the workloads that they may scale.
    pub asks_cluster: bool,
}

// === impl ChangeSettings ===

impl ChangeSettings {
    /// # Errors
    /// When there is no usable token.
    pub fn new(tokens: Option<&Path>, asks_cluster: bool) -> anyhow::Result<Self> {
        let tokens = tokens.map(Tokens::new).transpose();
        let tokens = tokens.map_err(|error| anyhow!("--admin-tokens: {error}"))?;
        Ok(Self { tokens, asks_cluster })
    }

    /// # Errors
    /// When the cluster is to be asked and there is none.
    pub(super) fn authorization(self, client: Option<Client>) -> anyhow::Result<Authorization> {
        let Self { tokens, asks_cluster } = self;
        let review = match asks_cluster {
            true => Some(review(client.context("--admin-token-review needs the Kubernetes API")?)),
            false => None,
        };
        Ok(Authorization::new(tokens, review))
    }
}

fn review(client: Client) -> Review {
    Box::new(move |token, workload| {
        let client = client.clone();
        Box::pin(async move {
            let owner = token_review::owner(client, token, &workload).await?;
            Ok(match owner {
                None => Reviewed::Unknown,
                Some(owner) if owner.may_scale => Reviewed::Allowed(owner.name),
                Some(owner) => Reviewed::Denied(owner.name),
            })
        })
    })
}
