//! Looks up host names as resolv.conf and hosts say, without the libc of the system: a static binary cannot load its
//! modules.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hickory_resolver::TokioResolver;
use hyper_util::client::legacy::connect::dns::Name;

/// A resolver; clones share its cache.
#[derive(Clone, Default)]
pub struct Resolver {
    /// Created for the first name that is not an address; most instances never need one.
    system: Arc<Mutex<Option<TokioResolver>>>,
}

// === impl Resolver ===

impl Resolver {
    /// The addresses of a host. Search domains and `ndots` of resolv.conf apply (resolv.conf(5)).
    ///
    /// # Errors
    /// When the name has no address or no name server answers. A later call may succeed.
    pub async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        let found = self.system()?.lookup_ip(host).await;
        let found = found.map_err(|error| io::Error::other(format!("{host}: {error}")))?;
        Ok(found.iter().collect())
    }

    /// The addresses of a Kubernetes Service. The short form is for a resolv.conf whose search domains have `svc`
    /// already.
    ///
    /// # Errors
    /// When neither name has an address, or no name server answers; a later lookup may succeed.
    pub async fn service_addresses(
        &self,
        namespace: &str,
        service: &str,
    ) -> io::Result<Vec<IpAddr>> {
        match self.addresses(&format!("{service}.{namespace}.svc")).await {
            Ok(found) => Ok(found),
            Err(_) => self.addresses(&format!("{service}.{namespace}")).await,
        }
    }

    fn system(&self) -> io::Result<TokioResolver> {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = &*system {
            return Ok(resolver.clone());
        }
        let made = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        let resolver =
            made.map_err(|error| io::Error::other(format!("/etc/resolv.conf: {error}")))?;
        Ok(system.insert(resolver).clone())
    }
}

/// The form in which the connector of hyper takes a resolver.
impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            // The connector sets the port.
            let with_port = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(with_port.collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_needs_no_name_server() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("::1", "::1")] {
            let found = Resolver::default().addresses(host).await.unwrap();
            assert_eq!(found, [expected.parse::<IpAddr>().unwrap()]);
        }
    }
}
