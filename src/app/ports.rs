//! The ports beside the request path and the admin port, as the command line asks for them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use http::Method;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::admin::v1::AskOthers;
use crate::catalog::Snapshot;
use crate::control_port::pages::PageQueue;
use crate::control_port::tls::{CertificateSource, Tls};
use crate::control_port::tokens::Tokens;
use crate::coordination::Coordination;
use crate::external_metrics::{ExternalMetricsPort, PortCertificate, Registered};
use crate::keda::{FindTarget, KedaPort};
use crate::net::tls;
use crate::peers::{self, Answers, Exchange};
use crate::scaling_signal::Signals;
use crate::shutdown::Shutdown;

/// Those that are absent are not served.
#[derive(Default)]
pub struct ControlPorts {
    /// The exchange of demand with other replicas of agimo.
    pub peers: Option<PeerSettings>,
    pub keda: Option<KedaSettings>,
    /// For HorizontalPodAutoscalers.
    pub external_metrics: Option<ExternalMetricsSettings>,
}

/// What the ports share with the rest of agimo.
pub(super) struct PortContext {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) coordination: Coordination,
    pub(super) answers: Answers,
    pub(super) calls: Answers,
    pub(super) pages: PageQueue,
    pub(super) find_target: FindTarget,
    /// Of the cluster, where readiness comes from its API.
    pub(super) client: Option<Client>,
    pub(super) registered: Registered,
    pub(super) shutdown: Shutdown,
}

/// What the exchange with other replicas of agimo needs.
pub struct PeerSettings {
    pub listener: TcpListener,
    pub tokens: Tokens,
}

/// What the port for KEDA needs.
pub struct KedaSettings {
    pub listener: TcpListener,
    pub tls: Option<Tls>,
}

/// What the port for external metrics needs.
pub struct ExternalMetricsSettings {
    pub listener: TcpListener,
    /// Namespace and name of the Service that leads to the port.
    pub service: (String, String),
    pub certificate: PortCertificate,
}

// === impl ControlPorts ===

impl ControlPorts {
    /// Sends the other replicas of agimo requests with this method, where there may be some.
    pub(super) fn to_others(
        &self,
        method: Method,
        coordination: &Coordination,
    ) -> Option<AskOthers> {
        let (coordination, tokens) = (coordination.clone(), self.peers.as_ref()?.tokens.clone());
        Some(Box::new(move |path| {
            let (coordination, tokens, method) =
                (coordination.clone(), tokens.clone(), method.clone());
            Box::pin(async move { peers::client::send(&coordination, &tokens, method, path).await })
        }))
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let peers = self.peers.as_ref().map(|port| &port.listener);
        let keda = self.keda.as_ref().map(|port| &port.listener);
        let external_metrics = self.external_metrics.as_ref().map(|port| &port.listener);
        let listeners = [peers, keda, external_metrics].into_iter().flatten();
        listeners.filter_map(|listener| listener.local_addr().ok())
    }

    /// Serves each in a task of its own, whose value is its name.
    ///
    /// # Errors
    /// When a listener cannot be used, or a port needs the Kubernetes API and there is none.
    pub(super) fn start(
        self,
        context: PortContext,
        tasks: &mut JoinSet<&'static str>,
    ) -> anyhow::Result<()> {
        let PortContext {
            snapshots,
            coordination,
            answers,
            calls,
            pages,
            find_target,
            client,
            registered,
            shutdown,
        } = context;
        if let Some(PeerSettings { listener, tokens }) = self.peers {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (shutdown, coordination) = (shutdown.clone(), coordination.clone());
            tasks.spawn(async move {
                Exchange { listener, tokens, coordination, answers, calls, pages, shutdown }
                    .run()
                    .await;
                "the exchange with other replicas"
            });
        }
        if self.keda.is_none() && self.external_metrics.is_none() {
            return Ok(());
        }
        let signals = Signals::new(snapshots, coordination.clone());
        let recorded = signals.clone();
        tasks.spawn(async move {
            recorded.run().await;
            "the record of demand"
        });
        if let Some(KedaSettings { listener, tls }) = self.keda {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            info!(address = %listener.local_addr()?, tls = tls.is_some(), "answering KEDA");
            let (signals, shutdown) = (signals.clone(), shutdown.clone());
            let port = KedaPort { listener, tls, signals, find_target, shutdown };
            tasks.spawn(async move {
                port.run().await;
                "the port for KEDA"
            });
        }
        if let Some(ExternalMetricsSettings { listener, service, certificate }) =
            self.external_metrics
        {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let client = client.context("--external-metrics-port needs the Kubernetes API")?;
            info!(address = %listener.local_addr()?, "answering HorizontalPodAutoscalers");
            let port = ExternalMetricsPort {
                listener,
                client,
                service,
                certificate,
                signals,
                coordination,
                registered,
                shutdown,
            };
            tasks.spawn(async move {
                port.run().await;
                "the port for external metrics"
            });
        }
        Ok(())
    }
}

// === impl PeerSettings ===

impl PeerSettings {
    /// Reads the tokens and binds the port; 0 lets the kernel choose.
    ///
    /// # Errors
    /// When there is no usable token or the port is taken.
    pub fn bind(tokens: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let tokens = Tokens::new(tokens).map_err(|error| anyhow!("--peer-tokens: {error}"))?;
        Ok(Self { listener: listen(address, "the exchange", "--peer-port")?, tokens })
    }
}

// === impl KedaSettings ===

impl KedaSettings {
    /// Reads the certificate and binds the port; 0 lets the kernel choose.
    ///
    /// # Errors
    /// When the certificate cannot be used or the port is taken.
    pub fn bind(address: SocketAddr, tls: Option<&Path>) -> anyhow::Result<Self> {
        let files = tls.map(tls::of_folder).transpose();
        let files = files.map_err(|error| anyhow!("--keda-tls: {error}"))?;
        let tls = files.map(|files| Tls::new(CertificateSource::Files(files)));
        Ok(Self { listener: listen(address, "KEDA", "--keda-port")?, tls })
    }
}

// === impl ExternalMetricsSettings ===

impl ExternalMetricsSettings {
    /// Reads the certificate, unless agimo makes it and keeps it in a Secret, and binds the port; 0 lets the kernel choose.
    ///
    /// # Errors
    /// When there is no certificate, it cannot be used, or the port is taken.
    pub fn bind(
        address: SocketAddr,
        service: (String, String),
        tls: Option<&Path>,
        secret: Option<(String, String)>,
    ) -> anyhow::Result<Self> {
        let files = tls.map(tls::of_folder).transpose();
        let files = files.map_err(|error| anyhow!("--external-metrics-tls: {error}"))?;
        let certificate = match (files, secret) {
            (Some(files), _) => PortCertificate::Files(files),
            (None, Some(secret)) => PortCertificate::Secret(secret),
            (None, None) => {
                return Err(anyhow!(
                    "--external-metrics-port needs --external-metrics-secret or --external-metrics-tls"
                ));
            }
        };
        let listener = listen(address, "external metrics", "--external-metrics-port")?;
        Ok(Self { listener, service, certificate })
    }
}

fn listen(address: SocketAddr, purpose: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .with_context(|| {
            format!("cannot listen on {address} for {purpose}; choose another port with {flag}")
        })
}
