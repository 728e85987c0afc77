//! Finds the cluster and builds the client of its API server. It sends no request.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::BoxError;
use tower::util::MapErrLayer;

use crate::net::dns::Resolver;

/// Where the cluster's configuration was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The service account of the pod that agimo runs in.
    InCluster,
    /// `--kube-context`, `KUBECONFIG` or `~/.kube/config`.
    Kubeconfig,
}

/// The cluster was configured and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "cannot use the kubeconfig: {0}; correct it, or name another with KUBECONFIG or --kube-context"
    )]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error(
        "cannot use the pod's service account: {0}; let the pod mount its token (automountServiceAccountToken)"
    )]
    InCluster(#[from] kube::config::InClusterError),
    #[error("cannot build a client from the cluster's configuration: {0}")]
    Client(#[from] kube::Error),
}

/// Limit for connecting to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for the cluster of the kubeconfig's `context`, or of the first that exists: `KUBECONFIG`, the pod's service
/// account, `~/.kube/config`. `None` where none exists.
///
/// # Errors
/// When the configuration of the cluster exists and is invalid.
pub async fn find(
    context: Option<&str>,
    resolver: Resolver,
) -> Result<Option<(Client, Source)>, ConnectError> {
    let from_kubeconfig = || async {
        let context = context.map(ToOwned::to_owned);
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        Config::from_kubeconfig(&options).await
    };
    let (config, source) = if context.is_some() || std::env::var_os("KUBECONFIG").is_some() {
        (from_kubeconfig().await?, Source::Kubeconfig)
    } else if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        (Config::incluster()?, Source::InCluster)
    } else if default_kubeconfig().is_some_and(|file| file.is_file()) {
        (from_kubeconfig().await?, Source::Kubeconfig)
    } else {
        return Ok(None);
    };
    Ok(Some((client(config, resolver)?, source)))
}

fn default_kubeconfig() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".kube/config"))
}

/// kube's own stack of layers, on a connector that resolves names without libc.
fn client(mut config: Config, resolver: Resolver) -> kube::Result<Client> {
    // Each caller has its own retry policy.
    config.default_retry = false;
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http = HttpClient::builder(TokioExecutor::new()).build(connector);
    let builder = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}

/// Of one request that a command makes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The answer of the API server to a command, or why there is none.
///
/// # Errors
/// When the API server refuses the request, or does not answer within 20 seconds.
pub async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| error_with_sources(&error)),
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

/// An error with its sources on one line: the outermost message alone rarely says what happened.
pub fn error_with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        source = cause.source();
    }
    text
}
