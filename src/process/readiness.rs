//! Waits until a process is ready: polled fast at first, then slower. It gives up never; its caller does.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::Readiness;

/// A process that starts in milliseconds is seen within five; after that, the pauses stay at about a
/// twentieth of the time it has taken so far.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// One check may take this long.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

/// Returns once a check has passed.
pub async fn passed(address: SocketAddr, readiness: &Readiness) {
    let mut pause = FIRST_PAUSE;
    loop {
        let check = tokio::time::timeout(CHECK_LIMIT, check(address, readiness)).await;
        if matches!(check, Ok(true)) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 21 / 20).min(LONGEST_PAUSE);
    }
}

async fn check(address: SocketAddr, readiness: &Readiness) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    // While nobody listens, a connection to an ephemeral port can meet itself.
    if stream.local_addr().is_ok_and(|own| own == address) {
        return false;
    }
    match readiness {
        Readiness::Tcp => true,
        Readiness::Http(path) => answers(stream, address, path).await.unwrap_or(false),
    }
}

/// Whether `GET path` is answered with 200 to 399, as the kubelet's HTTP probe asks.
async fn answers(stream: TcpStream, address: SocketAddr, path: &str) -> Option<bool> {
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
    // The connection does the work; it may end before the response has been taken from it.
    let response = tokio::select! {
        response = &mut response => response,
        _ = &mut connection => response.await,
    };
    response.map(|response| (200..400).contains(&response.status().as_u16()))
}
