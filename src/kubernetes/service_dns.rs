//! Looks up the addresses of headless Services by name, for routes with `via = "service"`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::task::{Context, Poll};

use tracing::warn;

use super::step::lookups::{Lookup, LookupResult};
use crate::net::dns::Resolver;
use crate::pending_operation::PendingOperation;

/// The lookups of one workload.
pub struct ServiceDns {
    resolver: Resolver,
    namespace: String,
    pending: BTreeMap<String, (Lookup, PendingOperation<Result<IpAddr, String>>)>,
}

// === impl ServiceDns ===

impl ServiceDns {
    pub fn new(resolver: Resolver, namespace: String) -> Self {
        Self { resolver, namespace, pending: BTreeMap::new() }
    }

    /// Keeps exactly these lookups in progress.
    pub fn set_lookups(&mut self, lookups: Vec<Lookup>) {
        self.pending.retain(|_, (pending, _)| lookups.contains(pending));
        for lookup in lookups {
            if !self.pending.contains_key(&lookup.service) {
                let operation = self.begin(&lookup.service);
                self.pending.insert(lookup.service.clone(), (lookup, operation));
            }
        }
    }

    /// Waits for the next result.
    pub async fn next(&mut self) -> LookupResult {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<LookupResult> {
        let finished =
            self.pending.iter_mut().find_map(|(service, (_, operation))| {
                match operation.as_mut().poll(context) {
                    Poll::Ready(address) => Some((service.clone(), address)),
                    Poll::Pending => None,
                }
            });
        let Some((service, address)) = finished else { return Poll::Pending };
        match self.pending.remove(&service) {
            Some((lookup, _)) => Poll::Ready(LookupResult { lookup, address }),
            None => Poll::Pending,
        }
    }

    fn begin(&self, service: &str) -> PendingOperation<Result<IpAddr, String>> {
        let (resolver, namespace) = (self.resolver.clone(), self.namespace.clone());
        let service = service.to_owned();
        Box::pin(async move {
            let found = resolver.service_addresses(&namespace, &service).await;
            let found = found.map_err(|error| error.to_string()).and_then(|addresses| {
                addresses.first().copied().ok_or_else(|| "the name has no address".to_owned())
            });
            if let Err(error) = &found {
                warn!(error, namespace, service, "cannot look up the name of the Service");
            }
            found
        })
    }
}
