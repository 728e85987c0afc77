//! A client of `/api/v1` (see `api`).

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::de::DeserializeOwned;

use super::shown;
use crate::api::Problem;
use crate::net::dns::Resolver;
use crate::net::http_client::{self, HttpClient};

/// The admin port of an agimo.
pub struct AdminClient {
    /// Without a trailing slash.
    address: String,
    client: HttpClient,
}

/// Of connecting, and of a whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// In bytes. Ten thousand services have about 10 MiB.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

// === impl AdminClient ===

impl AdminClient {
    /// `address` is a URL, such as http://127.0.0.1:9090. Nothing is sent yet.
    pub fn new(address: &str) -> anyhow::Result<Self> {
        let address = address.trim_end_matches('/').to_owned();
        let uri: Uri = address.parse().with_context(|| format!("{address} is not a URL"))?;
        let client = http_client::build(&uri, Resolver::default(), TIMEOUT)
            .context("the root certificates for TLS cannot be loaded")?;
        Ok(Self { address, client })
    }

    /// The answer to a GET of this path and query below `/api/v1/`, as it was sent.
    pub async fn get_text(&self, path: &str) -> anyhow::Result<Bytes> {
        self.send(Request::get(self.url(path)).body(Full::default())?).await
    }

    /// The answer to a POST of this path and query below `/api/v1/`, with a bearer token.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
    ) -> anyhow::Result<T> {
        let mut request = Request::post(self.url(path)).body(Full::default())?;
        if let Some(token) = token {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let value = value.context("the token has characters that no token has")?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.parse(path, &self.send(request).await?)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
        let url = request.uri().to_string();
        let answer = http_client::exchange(&self.client, request, TIMEOUT, MAX_ANSWER).await;
        let (status, body) = answer.map_err(|reason| {
            anyhow!(
                "the admin port of agimo at {} does not answer: {reason}; name another one with --admin, such as \
                 http://agimo.example:9090",
                self.address
            )
        })?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        match serde_json::from_slice(&body) {
            Ok(Problem { error }) => bail!("{}", shown::clean(&error)),
            Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => {
                bail!("{url}: {}", shown::clean(String::from_utf8_lossy(&body).trim()))
            }
            Err(_) => {
                bail!("{url} answers with status {status}: is it the admin port of an agimo?")
            }
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.parse(path, &self.get_text(path).await?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.address)
    }

    fn parse<T: DeserializeOwned>(&self, path: &str, text: &[u8]) -> anyhow::Result<T> {
        serde_json::from_slice(text)
            .with_context(|| format!("{}: an unexpected answer", self.url(path)))
    }
}

/// A path and its parameters.
pub fn with_parameters(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    format!("{path}?{}", query.extend_pairs(parameters).finish())
}
