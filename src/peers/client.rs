//! Follows what every other replica reports.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

use super::frame::Frame;
use super::{API, PATH};
use crate::backoff::Backoff;
use crate::control_port::tokens::Tokens;
use crate::coordination::Coordination;

/// Why a replica cannot be followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("silent for 2 s")]
    Silent,
    #[error("it accepts none of the tokens of this replica")]
    Unauthorized,
    #[error("unexpected status {0}")]
    Status(StatusCode),
    #[error("a line that is no report: {0}")]
    Line(#[from] serde_json::Error),
    #[error("a line is longer than 64 MiB")]
    TooLong,
    #[error("the connection has ended")]
    Ended,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A replica sends a line at least twice a second.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
/// Far more than the reports of 100,000 workloads.
const LONGEST_LINE: usize = 64 * 1024 * 1024;

/// Follows every replica that is listed, until it is not listed any more. Never ends.
pub async fn run(coordination: Coordination, tokens: Tokens) {
    let mut listed = coordination.listed();
    let mut followers = JoinSet::new();
    let mut by_address: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    loop {
        let addresses = listed.borrow_and_update().clone();
        by_address.retain(|address, follower| {
            let is_listed = addresses.contains(address);
            if !is_listed {
                follower.abort();
            }
            is_listed
        });
        for address in addresses {
            by_address.entry(address).or_insert_with(|| {
                followers.spawn(follow(address, coordination.clone(), tokens.clone()))
            });
        }
        tokio::select! {
            // The sender is as old as the coordination.
            _ = listed.changed() => {}
            Some(ended) = followers.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    }
}

/// Follows one replica, again after each failure. Ends when the address turns out to be that of this replica itself.
async fn follow(address: SocketAddr, coordination: Coordination, tokens: Tokens) {
    let mut failures = 0;
    loop {
        let mut has_heard = false;
        let Err(error) = follow_once(address, &coordination, &tokens, &mut has_heard).await else {
            return;
        };
        coordination.note_disconnected(address);
        failures = if has_heard { 1 } else { failures + 1 };
        // A replica that starts or ends does not answer for a moment.
        if failures == 4 {
            warn!(%address, %error, "another replica of agimo cannot be followed: no workload is put to sleep");
        } else {
            debug!(%address, %error, "another replica of agimo cannot be followed");
        }
        tokio::time::sleep(RETRY.delay(failures)).await;
    }
}

async fn follow_once(
    address: SocketAddr,
    coordination: &Coordination,
    tokens: &Tokens,
    has_heard: &mut bool,
) -> Result<(), FollowError> {
    let mut body = request(address, &Method::GET, PATH, tokens).await?.into_body();
    let mut line = Vec::new();
    loop {
        let next = tokio::time::timeout(SILENCE_TIMEOUT, body.frame()).await;
        let data = match next.map_err(|_| FollowError::Silent)? {
            Some(frame) => frame?.into_data().unwrap_or_default(),
            None => return Err(FollowError::Ended),
        };
        let mut rest = &data[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let frame: Frame = serde_json::from_slice(&line)?;
            line.clear();
            if frame.instance == coordination.instance() {
                coordination.note_own(address);
                return Ok(());
            }
            let reports = frame.reports.into_iter().filter_map(|report| report.into_parts());
            coordination.apply(address, !*has_heard, reports.collect());
            *has_heard = true;
        }
        line.extend_from_slice(rest);
        if line.len() > LONGEST_LINE {
            return Err(FollowError::TooLong);
        }
    }
}

/// What each other replica answers to a path and query of the API, or why it does not: to a question (GET), or to what a person has
/// asked for (POST). It takes two seconds at most.
pub async fn send(
    coordination: &Coordination,
    tokens: &Tokens,
    method: Method,
    path_and_query: String,
) -> Vec<(SocketAddr, Result<Bytes, String>)> {
    let path = format!("{API}{path_and_query}");
    let asking = coordination.peers().into_iter().map(|address| {
        let (method, path) = (&method, &path);
        async move {
            let exchange = async {
                let response = request(address, method, path, tokens).await?;
                let body = Limited::new(response.into_body(), LONGEST_LINE).collect().await;
                body.map(http_body_util::Collected::to_bytes).map_err(|_| FollowError::TooLong)
            };
            let answer = tokio::time::timeout(SILENCE_TIMEOUT, exchange).await;
            let answer = answer.unwrap_or(Err(FollowError::Silent));
            (address, answer.map_err(|error| error.to_string()))
        }
    });
    futures_util::future::join_all(asking).await
}

/// Asks with one token after the other: while they are being replaced, the other replica may not have the first one yet.
async fn request(
    address: SocketAddr,
    method: &Method,
    path: &str,
    tokens: &Tokens,
) -> Result<Response<Incoming>, FollowError> {
    for token in tokens.read() {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|_| FollowError::Silent)??;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
        // It ends with the body of its only response.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::new());
        let Ok(request) = request else { continue };
        let responding = tokio::time::timeout(SILENCE_TIMEOUT, sender.send_request(request)).await;
        let response = responding.map_err(|_| FollowError::Silent)??;
        match response.status() {
            StatusCode::OK => return Ok(response),
            StatusCode::UNAUTHORIZED => {}
            other => return Err(FollowError::Status(other)),
        }
    }
    Err(FollowError::Unauthorized)
}
