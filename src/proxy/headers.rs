//! Which field lines go on to the next hop, and which are added. It keeps order, case and values.

use std::net::IpAddr;

use http::{StatusCode, Version};
use ipnet::IpNet;

use crate::http::fields::{ConnectionOptions, Fields, Kind, Line, list};
use crate::http::http1::framing::Length;
use crate::http::http1::head::{RequestHead, ResponseHead};

/// What the next hop is told about the client (RFC 7239, and the X-Forwarded headers it follows).
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// The peer's address in words.
    address: Box<str>,
    /// Its own word about those before it is believed.
    trusted: bool,
}

/// What happens to the connection to the client after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    pub keep_alive: bool,
    /// The version in the client's request.
    pub version: Version,
}

// === impl ClientIdentity ===

impl ClientIdentity {
    pub fn new(address: IpAddr, trusted_proxies: &[IpNet]) -> Self {
        let address = address.to_canonical();
        let trusted = trusted_proxies.iter().any(|network| network.contains(&address));
        Self { address: address.to_string().into(), trusted }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether a line about earlier hops is passed on as it came.
    fn believes(&self, kind: Kind) -> bool {
        self.trusted && matches!(kind, Kind::XForwardedProto | Kind::XForwardedHost)
    }

    /// Appends `X-Forwarded-*` and `Forwarded`, each with this hop at its end.
    fn write(&self, fields: &Fields, host: &[u8], out: &mut Vec<u8>) {
        let earlier = |kind| fields.all(kind).filter(|_| self.trusted);
        join(out, b"X-Forwarded-For", earlier(Kind::XForwardedFor), &[self.address.as_bytes()]);
        if earlier(Kind::XForwardedProto).next().is_none() {
            out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
        }
        if earlier(Kind::XForwardedHost).next().is_none() {
            line(out, b"X-Forwarded-Host", host);
        }
        // RFC 7239 section 6: IPv6 addresses are quoted and in brackets; so are hosts with a port.
        let (open, close) = if self.address.contains(':') { ("\"[", "]\"") } else { ("", "") };
        let quote = if host.iter().all(|byte| is_token(*byte)) { "" } else { "\"" };
        let parts = [
            b"for=",
            open.as_bytes(),
            self.address.as_bytes(),
            close.as_bytes(),
            b";host=",
            quote.as_bytes(),
            host,
            quote.as_bytes(),
            b";proto=http",
        ];
        join(out, b"Forwarded", earlier(Kind::Forwarded), &parts);
    }
}

/// Whether a request asks to leave HTTP (RFC 9110 section 7.8).
///
/// `h2c` is not passed on: HTTP/2 says to ignore it (RFC 9113 section 3.1), and a tunnel that speaks
/// HTTP to the application would slip past everything that is decided per request.
pub fn asks_for_upgrade(head: &RequestHead) -> bool {
    head.version == Version::HTTP_11
        && head.fields.connection().upgrade
        && head.fields.has(Kind::Upgrade)
        && !head
            .fields
            .all(Kind::Upgrade)
            .flat_map(list)
            .any(|name| name.eq_ignore_ascii_case(b"h2c"))
}

/// Appends the head for the application.
pub fn write_request(
    head: &RequestHead,
    length: Length,
    upgrade: bool,
    client: &ClientIdentity,
    out: &mut Vec<u8>,
) {
    let target = head.target();
    let options = head.fields.connection();
    for part in [head.method.as_str().as_bytes(), b" ", target.path, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    // Only HTTP/1.0 may leave Host out; towards the application it is needed.
    if let (Some(authority), false) = (target.authority, head.fields.has(Kind::Host)) {
        line(out, b"Host", authority);
    }
    let mut trailers = false;
    for field in head.fields.iter() {
        match field.kind {
            // RFC 9112 section 3.2.2: the target's authority replaces Host.
            Kind::Host => line(out, field.name, target.authority.unwrap_or(field.value)),
            Kind::Upgrade if upgrade => line(out, field.name, field.value),
            Kind::Te => {
                trailers |= list(field.value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
            }
            Kind::XForwardedFor | Kind::Forwarded => {}
            Kind::XForwardedProto | Kind::XForwardedHost if !client.believes(field.kind) => {}
            _ if ends_here(&field, &head.fields, options) => {}
            _ => line(out, field.name, field.value),
        }
    }
    client.write(&head.fields, head.authority().unwrap_or_default(), out);
    if length == Length::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match (upgrade, trailers) {
        (true, _) => b"Connection: upgrade\r\n",
        (false, true) => b"TE: trailers\r\nConnection: TE\r\n",
        (false, false) => b"",
    });
    out.extend_from_slice(b"\r\n");
}

/// Appends the head for the client. `length` is the framing towards the client.
pub fn write_response(head: &ResponseHead, length: Length, client: Persistence, out: &mut Vec<u8>) {
    let options = head.fields.connection();
    // A switch, or the demand for one, names its protocols (RFC 9110 sections 7.8 and 15.5.22).
    let upgrade =
        matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let coded = head.fields.has(Kind::TransferEncoding);
    for part in [b"HTTP/1.1 ", head.status.as_str().as_bytes(), b" ", head.reason(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    for field in head.fields.iter() {
        match field.kind {
            Kind::Upgrade if upgrade => line(out, field.name, field.value),
            Kind::ContentLength if coded => {}
            _ if ends_here(&field, &head.fields, options) => {}
            _ => line(out, field.name, field.value),
        }
    }
    if length == Length::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    out.extend_from_slice(match (client.keep_alive || switches, upgrade) {
        _ if head.status.is_informational() && !switches => b"",
        (true, true) => b"Connection: upgrade\r\n",
        (false, true) => b"Connection: upgrade, close\r\n",
        (true, false) if client.version == Version::HTTP_10 => b"Connection: keep-alive\r\n",
        (true, false) => b"",
        (false, false) => b"Connection: close\r\n",
    });
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 7.6.1: these lines are for one connection, and so is what `Connection` names.
/// `Content-Length` and `Host` cannot be named away: they frame and route the message.
fn ends_here(field: &Line<'_>, fields: &Fields, options: ConnectionOptions) -> bool {
    match field.kind {
        Kind::Connection
        | Kind::KeepAlive
        | Kind::ProxyConnection
        | Kind::Te
        | Kind::TransferEncoding
        | Kind::Upgrade => true,
        Kind::ContentLength | Kind::Host => false,
        _ => options.names_others && fields.connection_names(field.name),
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// One line with the earlier values, comma-separated, and a last one made of `parts`.
fn join<'a>(
    out: &mut Vec<u8>,
    name: &[u8],
    earlier: impl Iterator<Item = &'a [u8]>,
    parts: &[&[u8]],
) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for value in earlier {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http1::head::Limits;

    const LIMITS: Limits = Limits { head: 4096, uri: 1024, lines: 64 };

    fn request(text: &str, trusted: &str) -> String {
        let (head, _) = RequestHead::parse(text.as_bytes(), &LIMITS).unwrap().unwrap();
        let networks: Vec<IpNet> =
            trusted.split_terminator(' ').map(|net| net.parse().unwrap()).collect();
        let client = ClientIdentity::new("10.0.0.1".parse().unwrap(), &networks);
        let mut out = Vec::new();
        let length = Length::of_request(&head).unwrap();
        write_request(&head, length, asks_for_upgrade(&head), &client, &mut out);
        String::from_utf8(out).unwrap()
    }

    const ADDED: &str = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
        Forwarded: for=10.0.0.1;host=a;proto=http\r\n";

    #[test]
    fn lines_keep_their_order_and_case_and_hops_end() {
        let out = request(
            "GET /x HTTP/1.1\r\nzeta: 1\r\nHOST: a\r\nConnection: keep-alive, X-Own\r\nx-own: 2\r\n\
             Keep-Alive: 5\r\nAlpha: 3\r\nTE: gzip\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n\r\n",
            "",
        );
        assert_eq!(
            out,
            format!("GET /x HTTP/1.1\r\nzeta: 1\r\nHOST: a\r\nAlpha: 3\r\n{ADDED}\r\n")
        );
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_a_host() {
        let out = request("GET http://a/x?y HTTP/1.1\r\nHost: b\r\n\r\n", "");
        assert_eq!(out, format!("GET /x?y HTTP/1.1\r\nHost: a\r\n{ADDED}\r\n"));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
            X-Forwarded-Host: c\r\nForwarded: for=1.2.3.4\r\n\r\n";
        assert_eq!(request(text, ""), format!("GET / HTTP/1.1\r\nHost: a\r\n{ADDED}\r\n"));
        let trusted = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: c\r\n\
            X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n\
            Forwarded: for=1.2.3.4, for=10.0.0.1;host=a;proto=http\r\n\r\n";
        assert_eq!(request(text, "10.0.0.0/8"), trusted);
    }

    #[test]
    fn content_length_and_host_cannot_be_named_away() {
        let out = request(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\nContent-Length: 3\r\n\r\n",
            "",
        );
        assert!(out.contains("Content-Length: 3\r\n") && out.contains("Host: a\r\n"), "{out}");
    }

    #[test]
    fn an_upgrade_is_passed_on_and_trailers_are_welcome() {
        let out = request(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: b\r\n\r\n",
            "",
        );
        assert!(out.contains("Upgrade: websocket\r\nSec-WebSocket-Protocol: b\r\n"), "{out}");
        assert!(out.ends_with("Connection: upgrade\r\n\r\n"), "{out}");
        let out =
            request("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n", "");
        assert!(out.ends_with("TE: trailers\r\nConnection: TE\r\n\r\n"), "{out}");
    }

    #[test]
    fn a_response_passes_untouched_but_for_its_hop() {
        let text = b"HTTP/1.1 200 Fine by me\r\nserver: x\r\nX-B: 2\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
        let (head, _) = ResponseHead::parse(text).unwrap().unwrap();
        let mut out = Vec::new();
        let client = Persistence { keep_alive: true, version: Version::HTTP_11 };
        write_response(&head, Length::Sized(3), client, &mut out);
        let expected =
            "HTTP/1.1 200 Fine by me\r\nserver: x\r\nX-B: 2\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
