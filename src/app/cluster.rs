//! Chooses the source of readiness for workloads in Kubernetes: its API, or Prometheus.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::activation::events::EventBus;
use crate::catalog::backends::BackendFactory;
use crate::cli::serving::ReadinessSource;
use crate::config::{Config, WorkloadConfig};
use crate::coordination::Coordination;
use crate::keda::FindTarget;
use crate::kube_client::{self, Source};
use crate::kubernetes::objects::ObjectName;
use crate::kubernetes::{Cluster, ClusterOptions};
use crate::ledger::Ledger;
use crate::net::dns::Resolver;
use crate::prometheus::Prometheus;
use crate::shutdown::Shutdown;

/// What the command line says about the cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    pub readiness: ReadinessSource,
    pub prometheus_address: Option<String>,
    pub kube_context: Option<String>,
    /// Empty means all.
    pub watch_namespaces: Vec<String>,
    /// Namespace and name of the Service of agimo's own replicas.
    pub peer_service: Option<(String, String)>,
    /// Namespace and name of the Lease by which the replicas choose a leader.
    pub lease: Option<(String, String)>,
    /// Namespace and name of the ConfigMap that keeps the replicas of sleeping workloads.
    pub replica_store: Option<(String, String)>,
}

/// The source of readiness.
pub enum ReadinessBackend {
    Kubernetes(Box<Cluster>),
    Prometheus(Prometheus),
    Neither,
}

/// Chooses the source, and logs the choice if a service needs it. `external_metrics`: whether HorizontalPodAutoscalers read the
/// metrics of agimo from agimo itself.
///
/// # Errors
/// When the source that the command line names, or one that a service in Kubernetes needs, cannot be used.
pub async fn choose(
    settings: ClusterSettings,
    config: &Config,
    coordination: &Coordination,
    shutdown: &Shutdown,
    events: &EventBus,
    ledger: &Ledger,
    external_metrics: Option<watch::Receiver<bool>>,
) -> anyhow::Result<ReadinessBackend> {
    let is_needed = config
        .services
        .iter()
        .any(|service| matches!(service.workload, WorkloadConfig::Kubernetes(_)))
        || config.annotations.is_some();
    let resolver = Resolver::default();
    if settings.readiness != ReadinessSource::Prometheus {
        match kube_client::find(settings.kube_context.as_deref(), resolver.clone()).await {
            Ok(Some((client, source))) => {
                if is_needed {
                    log_kubernetes(&settings, &source);
                }
                let object_name = |(namespace, name)| ObjectName { namespace, name };
                let options = ClusterOptions {
                    namespaces: settings.watch_namespaces,
                    peer_service: settings.peer_service.map(object_name),
                    lease: settings.lease.map(object_name),
                    coordination: coordination.clone(),
                    shutdown: shutdown.clone(),
                    events: events.clone(),
                    ledger: ledger.clone(),
                    replica_store: settings.replica_store.map(object_name),
                    external_metrics,
                };
                let cluster = Cluster::new(client, resolver, options);
                return Ok(ReadinessBackend::Kubernetes(Box::new(cluster)));
            }
            Ok(None) if settings.readiness == ReadinessSource::Kubernetes => {
                return Err(anyhow!(
                    "--readiness-source kubernetes needs a cluster, and none is found: set KUBECONFIG or --kube-context, \
                     or run agimo in a pod with a service account"
                ));
            }
            Ok(None) => {}
            Err(error) if is_needed || settings.readiness == ReadinessSource::Kubernetes => {
                return Err(error.into());
            }
            Err(error) => warn!("{error}; no service needs it now"),
        }
    }
    if config.annotations.is_some() {
        return Err(anyhow!(
            "`annotations = true` needs the Kubernetes API: run agimo in the cluster, or set KUBECONFIG or --kube-context"
        ));
    }
    match settings.prometheus_address {
        Some(address) => {
            if is_needed {
                info!(address, "readiness comes from Prometheus");
            }
            let prometheus = Prometheus::new(&address, resolver).context("--prometheus-address")?;
            Ok(ReadinessBackend::Prometheus(prometheus))
        }
        None if settings.readiness == ReadinessSource::Prometheus => Err(anyhow!(
            "--readiness-source prometheus needs --prometheus-address http://prometheus:9090"
        )),
        None => Ok(ReadinessBackend::Neither),
    }
}

fn log_kubernetes(settings: &ClusterSettings, source: &Source) {
    match &settings.prometheus_address {
        Some(address) => info!(
            ?source,
            address,
            "readiness comes from the Kubernetes API, which has precedence; --readiness-source prometheus selects Prometheus"
        ),
        None => info!(?source, "readiness comes from the Kubernetes API"),
    }
}

// === impl ReadinessBackend ===

impl ReadinessBackend {
    /// The cluster, where readiness comes from its API.
    pub fn kubernetes(&self) -> Option<Cluster> {
        match self {
            Self::Kubernetes(cluster) => Some(Cluster::clone(cluster)),
            Self::Prometheus(_) | Self::Neither => None,
        }
    }

    /// Finds the target of a ScaledObject.
    pub fn find_target(&self) -> FindTarget {
        match self {
            Self::Kubernetes(cluster) => {
                let cluster = cluster.clone();
                Arc::new(move |namespace, name| cluster.scaled_object_target(namespace, name))
            }
            Self::Prometheus(_) | Self::Neither => Arc::new(|_, _| None),
        }
    }

    /// Makes the backends of workloads in Kubernetes.
    pub fn backends(&self) -> Option<BackendFactory> {
        match self {
            Self::Kubernetes(cluster) => {
                let cluster = cluster.clone();
                Some(Box::new(move |context| Some(cluster.backend(context))))
            }
            Self::Prometheus(prometheus) => {
                let prometheus = prometheus.clone();
                Some(Box::new(move |context| Some(prometheus.backend(context.spec))))
            }
            Self::Neither => None,
        }
    }

    /// Whether endpoints are known: not before the first list of every watch.
    pub fn is_ready(&self) -> Box<dyn Fn() -> bool + Send + Sync> {
        match self {
            Self::Kubernetes(cluster) => {
                let cluster = cluster.clone();
                Box::new(move || cluster.is_ready())
            }
            Self::Prometheus(_) | Self::Neither => Box::new(|| true),
        }
    }

    /// The task that must run for it, for ever.
    pub fn task(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Self::Kubernetes(cluster) => Box::pin(cluster.run()),
            Self::Prometheus(prometheus) => Box::pin(prometheus.run()),
            Self::Neither => Box::pin(std::future::pending()),
        }
    }
}
