//! A client that sends the bytes it is told to and reads responses strictly, so that tests see the wire.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Received and not yet taken.
    pub(crate) received: Vec<u8>,
}

/// A response as it came.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Status line and field lines, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub(crate) trailers: String,
}

/// A request as it came to an application.
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
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads more; false at the end of the stream or on a reset.
    pub(crate) async fn read(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let length = within("bytes", self.stream.read(&mut buffer)).await.unwrap_or(0);
        self.received.extend_from_slice(&buffer[..length]);
        length > 0
    }

    /// Reads until `end` has come and takes everything up to and including it.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.received, end.as_bytes()) {
                let taken: Vec<u8> = self.received.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            assert!(
                self.read().await,
                "closed before {end:?}: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// Whether nothing has come that was not taken; it does not wait.
    pub(crate) fn is_silent(&self) -> bool {
        let unread = self.stream.try_read(&mut [0]);
        self.received.is_empty()
            && unread.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Ends this side of the connection abruptly: the peer sees a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Ends this side of the stream; the peer may go on.
    pub(crate) async fn shut_down(&mut self) {
        within("the end of writing", self.stream.shutdown()).await.unwrap();
    }

    /// Exactly this many bytes.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.read().await, "closed after {} of {length} bytes", self.received.len());
        }
        self.received.drain(..length).collect()
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.received)
    }

    /// Whether the peer has ended the stream without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.read().await
    }

    /// The next response to a GET; informational ones are responses of their own.
    pub(crate) async fn response(&mut self) -> Response {
        self.response_to("GET").await
    }

    pub(crate) async fn response_to(&mut self, method: &str) -> Response {
        let head = self.until("\r\n\r\n").await;
        let head = head.trim_end_matches("\r\n").to_owned();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: Vec::new(), trailers: String::new() };
        let empty = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
        if empty {
            return response;
        }
        if response.header("transfer-encoding").is_some() {
            (response.body, response.trailers) = self.chunks().await;
        } else if let Some(length) = response.header("content-length") {
            response.body = self.bytes(length.parse().unwrap()).await;
        } else {
            response.body = self.rest().await;
        }
        response
    }

    /// The next request, as an application reads it; none when the connection ends before it.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        while find(&self.received, b"\r\n\r\n").is_none() {
            if !self.read().await {
                return None;
            }
        }
        let head = self.until("\r\n\r\n").await.trim_end_matches("\r\n").to_owned();
        let (mut body, mut trailers) = (Vec::new(), String::new());
        if field(&head, "transfer-encoding").is_some() {
            (body, trailers) = self.chunks().await;
        } else if let Some(length) = field(&head, "content-length") {
            body = self.bytes(length.parse().unwrap()).await;
        }
        Some(Request { head, body, trailers })
    }

    /// A chunked body and its trailer section.
    async fn chunks(&mut self) -> (Vec<u8>, String) {
        let (mut body, mut trailers) = (Vec::new(), String::new());
        loop {
            let size = self.until("\r\n").await;
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            if size == 0 {
                loop {
                    match self.until("\r\n").await.as_str() {
                        "\r\n" => return (body, trailers),
                        line => trailers.push_str(line),
                    }
                }
            }
            let data = self.bytes(size + 2).await;
            body.extend_from_slice(&data[..size]);
            assert_eq!(&data[size..], b"\r\n");
        }
    }
}

// === impl Response ===

impl Response {
    /// The first value of a field; the name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// agimo's own reason, if the answer is its own.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("x-agimo-reason")
    }
}

// === impl Request ===

impl Request {
    /// The first value of a field; the name in any case.
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
