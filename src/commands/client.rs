//! A client of `/api/v1` (see `api`).

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use serde::de::DeserializeOwned;

use super::port_forward::PortForward;
use super::shown;
use crate::api::Problem;
use crate::cli::asking::AdminOptions;
use crate::net::dns::Resolver;
use crate::net::http_client::{self, HttpClient};

/// The admin port of an agimo.
pub struct AdminClient {
    /// A URL without a trailing slash.
    address: String,
    transport: Transport,
}

enum Transport {
    Direct(HttpClient),
    Forwarded(PortForward),
}

const API: &str = "/api/v1/";
/// The admin port of this machine.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:9090";
/// Of connecting, and of a whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// In bytes. Ten thousand services have about 10 MiB.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

// === impl AdminClient ===

impl AdminClient {
    /// Finds the agimo that is meant. Nothing is sent to it yet.
    ///
    /// # Errors
    /// When the address is none, or no agimo is found in the cluster.
    pub async fn new(options: &AdminOptions) -> anyhow::Result<Self> {
        if let Some(namespace) = &options.namespace {
            let forward = PortForward::find(namespace, options.kube_context.as_deref()).await?;
            return Ok(Self::through(forward));
        }
        let address = options.admin.as_deref().unwrap_or(DEFAULT_ADDRESS);
        let address = address.trim_end_matches('/').to_owned();
        let uri: Uri = address.parse().with_context(|| format!("{address} is not a URL"))?;
        let client = http_client::build(&uri, Resolver::default(), TIMEOUT)
            .context("the root certificates for TLS cannot be loaded")?;
        Ok(Self { address, transport: Transport::Direct(client) })
    }

    /// The admin port of one pod.
    pub fn through(forward: PortForward) -> Self {
        let address = format!("http://{}", forward.host());
        Self { address, transport: Transport::Forwarded(forward) }
    }

    /// The answer to a GET of this path and query below `/api/v1/`, as it was sent.
    pub async fn get_text(&self, path: &str) -> anyhow::Result<Bytes> {
        self.get_page(&format!("{API}{path}")).await
    }

    /// The answer to a GET of this path and query, as it was sent.
    pub async fn get_page(&self, path: &str) -> anyhow::Result<Bytes> {
        let url = format!("{}{path}", self.address);
        self.send(Request::get(url).body(Full::default())?).await
    }

    /// The answer to a POST of this path and query below `/api/v1/`, with a bearer token.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
    ) -> anyhow::Result<T> {
        let mut request = Request::post(self.url(path)).body(Full::default())?;
        authorize(&mut request, token)?;
        self.parse(path, &self.send(request).await?)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let url = request.uri().to_string();
        let (status, body) = match &self.transport {
            Transport::Direct(client) => {
                let answer = http_client::exchange(client, request, TIMEOUT, MAX_ANSWER).await;
                answer.map_err(|reason| self.unreachable(&reason))?
            }
            Transport::Forwarded(forward) => {
                let exchange = forward.exchange(request, MAX_ANSWER);
                let answer = tokio::time::timeout(TIMEOUT, exchange).await;
                let answer = answer.unwrap_or_else(|_| bail!("no answer within 10 s"));
                answer.with_context(|| format!("the port-forward to {}", self.address))?
            }
        };
        if status == StatusCode::OK { Ok(body) } else { self.problem(&url, status, &body) }
    }

    fn unreachable(&self, reason: &str) -> anyhow::Error {
        anyhow!(
            "the admin port of agimo at {} does not answer: {reason}; name another one with --admin, such as \
             http://agimo.example:9090, or the namespace of agimo in the cluster with --namespace",
            self.address
        )
    }

    /// What an answer that is no success says.
    fn problem(&self, url: &str, status: StatusCode, body: &[u8]) -> anyhow::Result<Bytes> {
        match serde_json::from_slice(body) {
            Ok(Problem { error }) => bail!("{}", shown::clean(&error)),
            Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => {
                bail!("{url}: {}", shown::clean(String::from_utf8_lossy(body).trim()))
            }
            Err(_) => {
                bail!("{url} answers with status {status}: is it the admin port of an agimo?")
            }
        }
    }

    /// Hands the data of each server-sent event to `each`, until that returns false or the stream ends.
    pub async fn follow(
        &self,
        path: &str,
        token: Option<&str>,
        mut each: impl FnMut(&str) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut request = Request::get(self.url(path)).body(Full::default())?;
        authorize(&mut request, token)?;
        let response = match &self.transport {
            Transport::Direct(client) => {
                let response = http_client::send(client, request).await;
                response.map_err(|reason| self.unreachable(&reason))?
            }
            Transport::Forwarded(forward) => forward.open(request).await?,
        };
        if response.status() != StatusCode::OK {
            let (status, body) = (response.status(), response.into_body());
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map(Collected::to_bytes).unwrap_or_default();
            return self.problem(&self.url(path), status, &body).map(|_| ());
        }
        let (mut body, mut received) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            received.extend_from_slice(&frame?.into_data().unwrap_or_default());
            while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = received.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                // A comment, such as that something was lost.
                if let Some(note) = line.trim_end().strip_prefix(": ") {
                    eprintln!("agimo: {}", shown::clean(note));
                }
                if let Some(data) = line.trim_end().strip_prefix("data: ")
                    && !each(data)?
                {
                    return Ok(());
                }
            }
        }
        bail!("agimo has ended the stream")
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.parse(path, &self.get_text(path).await?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{API}{path}", self.address)
    }

    fn parse<T: DeserializeOwned>(&self, path: &str, text: &[u8]) -> anyhow::Result<T> {
        serde_json::from_slice(text)
            .with_context(|| format!("{}: an unexpected answer", self.url(path)))
    }
}

fn authorize(request: &mut Request<Full<Bytes>>, token: Option<&str>) -> anyhow::Result<()> {
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let value = value.context("the token contains invalid characters")?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(())
}

/// A path and its parameters.
pub fn with_parameters(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("{path}?{}", query.extend_pairs(parameters).finish())
}
