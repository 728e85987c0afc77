//! Checks the readiness of a process until it is ready: at short intervals first, then at longer ones. The caller
//! limits the time.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::ReadinessCheck;

/// A process that starts in a few milliseconds is found ready within five. The pause then grows to a twentieth of the
/// time waited so far.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);
/// Maximum time of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns when a check has succeeded.
pub async fn wait_until_ready(address: SocketAddr, readiness: &ReadinessCheck) {
    let mut pause = FIRST_PAUSE;
    loop {
        let result = tokio::time::timeout(CHECK_TIMEOUT, is_ready(address, readiness)).await;
        if matches!(result, Ok(true)) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 21 / 20).min(MAX_PAUSE);
    }
}

async fn is_ready(address: SocketAddr, readiness: &ReadinessCheck) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    // While no process listens, a connection to an ephemeral port can connect to itself (TCP simultaneous open).
    if stream.local_addr().is_ok_and(|own| own == address) {
        return false;
    }
    match readiness {
        ReadinessCheck::Tcp => true,
        ReadinessCheck::Http(path) => answers_get(stream, address, path).await.unwrap_or(false),
    }
}

/// Whether `GET path` is answered with a status from 200 to 399, the rule of the kubelet's HTTP probes. `None` if the
/// exchange fails.
async fn answers_get(stream: TcpStream, address: SocketAddr, path: &str) -> Option<bool> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get(path)
        .header("host", address.to_string())
        .header("user-agent", "agimo-readiness")
        .header("connection", "close")
        .body(Empty::<bytes::Bytes>::new())
        .ok()?;
    let response = async { sender.send_request(request).await.ok() };
    tokio::pin!(connection);
    tokio::pin!(response);
    // The connection has to be polled as well. It may end before the response has been read from it.
    let response = tokio::select! {
        response = &mut response => response,
        _ = &mut connection => response.await,
    };
    response.map(|response| (200..400).contains(&response.status().as_u16()))
}
