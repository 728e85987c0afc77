//! An HTTP client that sends the given bytes unchanged and parses responses strictly.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// One connection; also used for the application's side of one.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Bytes that were received and not yet consumed.
    pub(crate) received: Vec<u8>,
}

/// A response as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Status line and field lines, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub(crate) trailers: String,
}

/// A request as an application received it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Request line and field lines, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub(crate) trailers: String,
}

// === impl Client ===

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream =
            within("a connection to be established", TcpStream::connect(address)).await.unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("bytes to be sent", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads more bytes into `received`; returns false at the end of the stream or on a reset.
    pub(crate) async fn read(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let length =
            within("bytes to be received", self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.received.extend_from_slice(&buffer[..length]);
        length > 0
    }

    /// Reads until `end` has been received; returns everything up to and including it.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.received, end.as_bytes()) {
                let consumed: Vec<u8> = self.received.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&consumed).into_owned();
            }
            assert!(
                self.read().await,
                "closed before {end:?}: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// Whether no unread byte is there now; it does not wait.
    pub(crate) fn has_received_nothing(&self) -> bool {
        let unread = self.stream.try_read(&mut [0]);
        self.received.is_empty()
            && unread.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Closes the connection with a TCP reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Closes the sending side; the peer may continue to send.
    pub(crate) async fn shutdown_write(&mut self) {
        within("the sending side to be closed", self.stream.shutdown()).await.unwrap();
    }

    /// Reads exactly this many bytes.
    pub(crate) async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.read().await, "closed after {} of {length} bytes", self.received.len());
        }
        self.received.drain(..length).collect()
    }

    /// Reads everything up to the end of the stream.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.received)
    }

    /// Waits until the peer sends a byte or closes the connection; true if it closes without a byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.read().await
    }

    /// Reads the next response to a GET. Informational responses are returned as well, one by one.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    /// Reads the next response to a request with this method, which decides whether a body follows.
    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let head = self.read_until("\r\n\r\n").await;
        let head = head.trim_end_matches("\r\n").to_owned();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new(), trailers: String::new() };
        let has_no_body = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
        if has_no_body {
            return response;
        }
        if response.header("transfer-encoding").is_some() {
            (response.body, response.trailers) = self.chunks().await;
        } else if let Some(length) = response.header("content-length") {
            response.body = self.read_exact(length.parse().unwrap()).await;
        } else {
            response.body = self.read_to_end().await;
        }
        response
    }

    /// Reads the next request, as an application does; `None` when the connection ends first.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        while find(&self.received, b"\r\n\r\n").is_none() {
            if !self.read().await {
                return None;
            }
        }
        let head = self.read_until("\r\n\r\n").await.trim_end_matches("\r\n").to_owned();
        let (mut body, mut trailers) = (Vec::new(), String::new());
        if field(&head, "transfer-encoding").is_some() {
            (body, trailers) = self.chunks().await;
        } else if let Some(length) = field(&head, "content-length") {
            body = self.read_exact(length.parse().unwrap()).await;
        }
        Some(Request { head, body, trailers })
    }

    /// Reads a chunked body and its trailer section.
    async fn chunks(&mut self) -> (Vec<u8>, String) {
        let (mut body, mut trailers) = (Vec::new(), String::new());
        loop {
            let size = self.read_until("\r\n").await;
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            if size == 0 {
                loop {
                    match self.read_until("\r\n").await.as_str() {
                        "\r\n" => return (body, trailers),
                        line => trailers.push_str(line),
                    }
                }
            }
            let data = self.read_exact(size + 2).await;
            body.extend_from_slice(&data[..size]);
            assert_eq!(&data[size..], b"\r\n");
        }
    }
}

// === impl Response ===

impl Response {
    /// The first value of a field; the case of the name does not matter.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason that agimo gives in responses that it generates itself.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("x-agimo-reason")
    }
}

// === impl Request ===

impl Request {
    /// The first value of a field; the case of the name does not matter.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    /// The request line.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
