//! Reaches the admin port of an agimo in a cluster, as `kubectl port-forward` does.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::kube_client::{self, limited};
use crate::net::dns::Resolver;

/// A pod of agimo.
pub struct PortForward {
    pods: Api<Pod>,
    name: String,
    port: u16,
}

/// The label of agimo's pods (the chart, and Kubernetes, "Recommended Labels").
const SELECTOR: &str = "app.kubernetes.io/name=agimo";
/// The label that tells installations apart.
const INSTANCE: &str = "app.kubernetes.io/instance";
/// Where no port of the container has the name `admin`.
const ADMIN_PORT: u16 = 9090;

// === impl PortForward ===

impl PortForward {
    /// Finds a pod of agimo that is ready.
    ///
    /// # Errors
    /// When there is none, or the cluster cannot be asked.
    pub async fn find(namespace: &str, context: Option<&str>) -> anyhow::Result<Self> {
        let found = kube_client::find(context, Resolver::default()).await?;
        let (client, _) = found.context(
            "--namespace needs a cluster, and none is found: set KUBECONFIG or --kube-context",
        )?;
        let mut installations = installations(&client, Some(namespace)).await?;
        if installations.len() > 1 {
            let names: Vec<_> = installations.into_keys().map(|(_, name)| name).collect();
            bail!(
                "the namespace {namespace} has several installations of agimo, {}: forward the port of one of them with \
                 kubectl port-forward, and name it with --admin",
                names.join(" and ")
            );
        }
        let pods = installations.pop_first().map(|(_, pods)| pods).unwrap_or_default();
        let ready = pods.iter().find(|pod| is_ready(pod)).with_context(|| {
            format!("the namespace {namespace} has no ready pod with the label {SELECTOR}")
        })?;
        Ok(Self::to(&client, ready))
    }

    /// Reaches this pod.
    pub fn to(client: &Client, pod: &Pod) -> Self {
        let namespace = pod.namespace().unwrap_or_default();
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
        let admin = ports.find(|port| port.name.as_deref() == Some("admin"));
        let port = admin.and_then(|port| u16::try_from(port.container_port).ok());
        Self {
            name: pod.name_any(),
            pods: Api::namespaced(client.clone(), &namespace),
            port: port.unwrap_or(ADMIN_PORT),
        }
    }

    /// How the pod is named in addresses.
    pub fn host(&self) -> &str {
        &self.name
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// When the pod cannot be reached or does not answer.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        max_answer: usize,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let response = self.open(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_answer).collect().await;
        let body = body.map_err(|error| anyhow!("the answer breaks off: {error}"))?;
        Ok((status, body.to_bytes()))
    }

    /// The same, with the body still to come.
    ///
    /// # Errors
    /// When the pod cannot be reached or does not answer.
    pub async fn open(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut forwarder = self.pods.portforward(&self.name, &[self.port]).await?;
        let stream = forwarder.take_stream(self.port).context("no stream")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the body of its only response.
        tokio::spawn(connection);
        request.headers_mut().insert(HOST, HeaderValue::from_str(&self.name)?);
        // To an origin server, a request has only its path (RFC 9112 section 3.2.1).
        let path = request.uri().path_and_query().context("a request without a path")?;
        *request.uri_mut() = path.as_str().parse()?;
        Ok(sender.send_request(request).await?)
    }
}

/// The pods of agimo in a namespace, or in all, by the namespace and the name of their installation.
///
/// # Errors
/// When the pods cannot be listed.
pub async fn installations(
    client: &Client,
    namespace: Option<&str>,
) -> anyhow::Result<BTreeMap<(String, String), Vec<Pod>>> {
    let (pods, place): (Api<Pod>, _) = match namespace {
        Some(namespace) => {
            (Api::namespaced(client.clone(), namespace), format!("the namespace {namespace}"))
        }
        None => (Api::all(client.clone()), "all namespaces".to_owned()),
    };
    let parameters = ListParams::default().labels(SELECTOR);
    let listed = limited(pods.list(&parameters)).await;
    let listed =
        listed.map_err(|reason| anyhow!("the pods of {place} cannot be listed: {reason}"))?;
    let mut installations = BTreeMap::<_, Vec<Pod>>::new();
    for pod in listed.items {
        let name = pod.labels().get(INSTANCE).cloned().unwrap_or_default();
        installations.entry((pod.namespace().unwrap_or_default(), name)).or_default().push(pod);
    }
    Ok(installations)
}

/// Whether the pod serves and does not terminate.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}
