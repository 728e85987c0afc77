//! Requests and responses as bytes: what the load sends, and where an answer ends. It knows only what the origin sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The host that every contestant serves.
pub(crate) const HOST: &str = "bench.local";

/// The path on which the origin never answers.
pub(crate) const NEVER: &str = "/never";

/// The path on which the origin accepts a WebSocket.
pub(crate) const SOCKET: &str = "/socket";

/// The example of RFC 6455 section 1.3; with one fixed key the origin needs no hash.
pub(crate) const SOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What one answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Bytes of head and body.
    pub(crate) length: usize,
}

/// A plain GET as a small client would send it.
pub(crate) fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

/// The opening handshake of a WebSocket.
pub(crate) fn upgrade(host: &str) -> Vec<u8> {
    format!(
        "GET {SOCKET} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {SOCKET_KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// The answer at the start of `bytes`, or nothing while it is incomplete.
///
/// Needs a `Content-Length` unless the status allows no body; anything else is an error.
pub(crate) fn answer(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head
        .parse(bytes)
        .map_err(|error| io::Error::other(format!("bad response head: {error}")))?;
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
    Ok((bytes.len() >= length).then_some(Answer { status, length }))
}

/// Sends `request` on a blocking stream and reads the whole answer.
pub(crate) fn exchange(stream: &mut TcpStream, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request)?;
    let mut received = Vec::with_capacity(1024);
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&buffer[..count]);
        if let Some(answer) = answer(&received)? {
            return Ok(answer);
        }
    }
}

/// One GET on a connection of its own: the status and everything after the head.
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
    fn an_answer_ends_with_its_body() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(answer(whole).unwrap(), Some(Answer { status: 200, length: whole.len() }));
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]).unwrap(), None);
        }
    }

    #[test]
    fn a_handshake_has_no_body() {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(answer(head).unwrap(), Some(Answer { status: 101, length: head.len() }));
    }

    #[test]
    fn an_answer_of_unknown_length_is_refused() {
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
