//! Requests and responses as bytes: builds the requests of the benchmark and finds the end of a response. It supports only
//! the responses that the origin sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The host that all servers serve.
pub(crate) const HOST: &str = "bench.local";

/// The path for which the origin sends no response.
pub(crate) const NO_RESPONSE_PATH: &str = "/never";

/// The path for which the origin accepts a WebSocket.
const WEBSOCKET_PATH: &str = "/socket";

/// The example key of RFC 6455 section 1.3. With a fixed key, the origin need not compute a hash.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Length of head and body in bytes.
    pub(crate) length: usize,
}

/// A GET request with the headers of a small client.
pub(crate) fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// The opening handshake of a WebSocket.
pub(crate) fn websocket_handshake(host: &str) -> Vec<u8> {
    websocket_handshake_with(&format!("Host: {host}\r\n"))
}

/// The same with these field lines in place of the host alone.
pub(crate) fn websocket_handshake_with(fields: &str) -> Vec<u8> {
    format!(
        "GET {WEBSOCKET_PATH} HTTP/1.1\r\n{fields}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Parses the response at the start of `bytes`; `None` while it is incomplete.
///
/// A response other than 101 without `Content-Length` is an error.
pub(crate) fn parse_response(bytes: &[u8]) -> io::Result<Option<Response>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head
        .parse(bytes)
        .map_err(|error| io::Error::other(format!("invalid response head: {error}")))?;
    let httparse::Status::Complete(head_length) = parsed else {
        return Ok(None);
    };
    let status = head.code.unwrap_or(0);
    let body = if status == 101 {
        0
    } else {
        head.headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("response {status} without Content-Length")))?
    };
    let length = head_length + body;
    Ok((bytes.len() >= length).then_some(Response { status, length }))
}

/// Sends `request` on a blocking stream and reads the complete response.
pub(crate) fn send_request(stream: &mut TcpStream, request: &[u8]) -> io::Result<Response> {
    stream.write_all(request)?;
    let mut received = Vec::with_capacity(1024);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..count]);
        if let Some(response) = parse_response(&received)? {
            return Ok(response);
        }
    }
}

/// Sends one GET on a new connection; returns the status and everything after the head.
pub(crate) fn fetch(
    address: SocketAddr,
    host: &str,
    path: &str,
    limit: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    let text = String::from_utf8_lossy(&received);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_with_its_body() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(
            parse_response(whole).unwrap(),
            Some(Response { status: 200, length: whole.len() })
        );
        for end in 0..whole.len() {
            assert_eq!(parse_response(&whole[..end]).unwrap(), None);
        }
    }

    #[test]
    fn a_101_response_has_no_body() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(
            parse_response(head).unwrap(),
            Some(Response { status: 101, length: head.len() })
        );
    }

    #[test]
    fn a_response_without_content_length_is_an_error() {
        assert!(parse_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
