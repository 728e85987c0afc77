//! The address of a Service by its name, for those that have none of their own: looked up when it is asked for. It does
//! not judge what is ready.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::warn;

use super::attempt::{Attempt, outcome};
use crate::config::KubernetesConfig;
use crate::net::dns::Resolver;

/// What DNS says of a Service.
pub struct Named {
    resolver: Resolver,
    name: String,
    /// The endpoints that were ready when it was looked up: with others, the name may lead elsewhere.
    behind: Vec<SocketAddr>,
    found: Option<SocketAddr>,
    resolution: Option<Attempt<Option<SocketAddr>>>,
}

/// After a name could not be looked up.
const RESOLUTION_PAUSE: Duration = Duration::from_secs(1);

// === impl Named ===

impl Named {
    pub fn new(resolver: Resolver, config: &KubernetesConfig) -> Self {
        let name = format!("{}.{}.svc", config.service_name, config.namespace);
        Self { resolver, name, behind: Vec::new(), found: None, resolution: None }
    }

    /// Its address, if it is known by now, while these endpoints are behind it.
    pub fn address(&mut self, port: u16, behind: Vec<SocketAddr>) -> Option<SocketAddr> {
        if self.behind != behind {
            self.behind = behind;
            (self.found, self.resolution) = (None, None);
        }
        if self.found.is_none() && self.resolution.is_none() {
            let (resolver, name) = (self.resolver.clone(), self.name.clone());
            self.resolution = Some(Box::pin(async move {
                match resolver.addresses(&name).await {
                    Ok(found) => found.first().map(|address| SocketAddr::new(*address, port)),
                    Err(error) => {
                        warn!(%error, "the Service's name cannot be looked up");
                        tokio::time::sleep(RESOLUTION_PAUSE).await;
                        None
                    }
                }
            }));
        }
        self.found
    }

    /// Waits until there is something new to be said.
    pub async fn changed(&mut self) {
        self.found = outcome(&mut self.resolution).await;
    }
}
