//! Checks the readiness of a process until it is ready: at short intervals first, then at longer ones. The caller
//! limits the time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::ReadinessCheck;

/// Checks one process, at its port of both loopback addresses.
pub struct Checker<'a> {
    pub port: u16,
    pub check: &'a ReadinessCheck,
    /// The host of the service: some applications reject others.
    pub host: &'a str,
    /// Why the last check failed; empty before the first.
    pub last_failure: String,
}

/// Where a process may listen; most listen on the first.
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
/// A process that starts in a few milliseconds is found ready within five. The pause then grows to a twentieth of the
/// time waited so far.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);
/// Maximum time of one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

// === impl Checker ===

impl Checker<'_> {
    /// Returns the address of the process when a check has succeeded.
    pub async fn until_ready(&mut self) -> SocketAddr {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(address) = self.check_once().await {
                return address;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 21 / 20).min(MAX_PAUSE);
        }
    }

    /// The address of the process, if it is ready now.
    pub async fn check_once(&mut self) -> Option<SocketAddr> {
        for ip in ADDRESSES {
            let address = SocketAddr::new(ip, self.port);
            // While no process listens, a connection to an ephemeral port can connect to itself (TCP simultaneous open).
            let connected = tokio::time::timeout(CHECK_TIMEOUT, TcpStream::connect(address)).await;
            let stream = match connected {
                Ok(Ok(stream)) if stream.local_addr().is_ok_and(|own| own != address) => stream,
                Ok(_) => continue,
                Err(_) => {
                    self.last_failure = format!("{address} does not accept a connection");
                    return None;
                }
            };
            return match self.check_connected(stream).await {
                Ok(()) => Some(address),
                Err(failure) => {
                    self.last_failure = failure;
                    None
                }
            };
        }
        self.last_failure = format!("nothing listens on port {}", self.port);
        None
    }

    async fn check_connected(&self, stream: TcpStream) -> Result<(), String> {
        let ReadinessCheck::Http(path) = self.check else { return Ok(()) };
        let status = tokio::time::timeout(CHECK_TIMEOUT, self.get(stream, path)).await;
        match status {
            Ok(Ok(200..400)) => Ok(()),
            Ok(Ok(status)) => Err(format!("GET {path} was answered with status {status}")),
            Ok(Err(error)) => Err(format!("GET {path} got no valid answer: {error}")),
            Err(_) => Err(format!("GET {path} was not answered within {CHECK_TIMEOUT:?}")),
        }
    }

    /// The status of the answer; from 200 to 399 is the rule of the kubelet's HTTP probes.
    async fn get(&self, stream: TcpStream, path: &str) -> Result<u16, String> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let request = Request::get(path)
            .header("host", self.host)
            .header("user-agent", "agimo-readiness")
            .header("connection", "close")
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request);
        tokio::pin!(connection);
        tokio::pin!(response);
        // The connection has to be polled as well. It may end before the response has been read from it.
        let response = tokio::select! {
            response = &mut response => response,
            _ = &mut connection => response.await,
        };
        response.map(|response| response.status().as_u16()).map_err(|error| error.to_string())
    }
}
