//! Writes the heads of requests and responses as HTTP/1 messages.

use http::{Method, StatusCode, Version};

use crate::http::fields::FieldKind;
use crate::http::forwarded::FieldSink;
use crate::http::message::{BodyLength, RequestHead, ResponseHead};
use crate::http::outgoing::{OutgoingRequest, asks_for_trailers};

use super::framing::Framing;

/// Appends the head of a request, with a key of agimo for a WebSocket that has none.
pub fn write_request_head(
    request: &OutgoingRequest<'_>,
    framing: Framing,
    websocket_key: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let head = request.head;
    let authority = head.authority();
    let [slash, path] = request.path();
    for part in [head.method.as_str().as_bytes(), b" ", slash, path, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    // A request without Host has its authority from elsewhere.
    if let (Some(authority), false) = (authority, head.fields.has(FieldKind::Host)) {
        out.line(b"Host", authority);
    }
    let mut trailers = false;
    request.write_fields(out, |out, field| match field.kind {
        // RFC 9112 section 3.2.2: the authority of the target replaces Host.
        FieldKind::Host => out.line(field.name, authority.unwrap_or(field.value)),
        FieldKind::Te => trailers |= asks_for_trailers(field),
        FieldKind::Upgrade if !head.upgrade => {}
        _ => out.line(field.name, field.value),
    });
    if let Some(key) = websocket_key {
        out.line(b"Sec-WebSocket-Key", key);
    }
    if needs_zero_length(head) {
        out.line(b"Content-Length", b"0");
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match (head.upgrade, trailers) {
        (true, _) => b"Connection: upgrade\r\n",
        (false, true) => b"TE: trailers\r\nConnection: TE\r\n",
        (false, false) => b"",
    });
    out.extend_from_slice(b"\r\n");
}

/// An HTTP/2 request without a body needs no Content-Length; HTTP/1.1 expects one with these methods (RFC 9110 section 8.6).
fn needs_zero_length(head: &RequestHead) -> bool {
    head.version == Version::HTTP_2
        && head.body == BodyLength::None
        && matches!(head.method, Method::POST | Method::PUT | Method::PATCH)
        && !head.fields.has(FieldKind::ContentLength)
}

/// Appends the head of a response to a client that sent `version`. `states_empty` says that the client would wait for a body
/// unless it is told that there is none.
pub(super) fn write_response_head(
    head: &ResponseHead,
    framing: Framing,
    states_empty: bool,
    version: Version,
    keep_alive: bool,
    out: &mut Vec<u8>,
) {
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let names_protocols = head.names_protocols();
    for part in [b"HTTP/1.1 ", head.status.as_str().as_bytes(), b" ", head.reason(), b"\r\n"] {
        out.extend_from_slice(part);
    }
    head.write_fields(out, |out, upgrade| {
        if names_protocols {
            out.line(upgrade.name, upgrade.value);
        }
    });
    if states_empty {
        out.line(b"Content-Length", b"0");
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(match (keep_alive || switches, names_protocols) {
        _ if head.status.is_informational() && !switches => b"",
        (true, true) => b"Connection: upgrade\r\n",
        (false, true) => b"Connection: upgrade, close\r\n",
        (true, false) if version == Version::HTTP_10 => b"Connection: keep-alive\r\n",
        (true, false) => b"",
        (false, false) => b"Connection: close\r\n",
    });
    out.extend_from_slice(b"\r\n");
}

/// Writes field lines as HTTP/1 does.
impl FieldSink for Vec<u8> {
    fn start_line(&mut self, name: &[u8]) {
        self.extend_from_slice(name);
        self.extend_from_slice(b": ");
    }

    fn value(&mut self, part: &[u8]) {
        self.extend_from_slice(part);
    }

    fn end_line(&mut self) {
        self.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::super::head::parse_request;
    use super::super::response_head::parse_response;
    use super::*;
    use crate::http::fields::FieldsBuilder;
    use crate::http::forwarded::ClientIdentity;
    use crate::http::message::HeadLimits;

    const LIMITS: HeadLimits = HeadLimits { head: 4096, uri: 1024, lines: 64 };

    fn request(text: &str, trusted: &str) -> String {
        let (head, _) = parse_request(text.as_bytes(), &LIMITS).unwrap().unwrap();
        let networks: Vec<IpNet> =
            trusted.split_terminator(' ').map(|net| net.parse().unwrap()).collect();
        let address = "10.0.0.1".parse().unwrap();
        let mut client = ClientIdentity::new(address, None);
        client.set_trusted(networks.iter().any(|network| network.contains(&address)));
        let mut out = Vec::new();
        let framing = Framing::for_recipient(head.body, true);
        write_request_head(
            &OutgoingRequest {
                head: &head,
                client: &client,
                stripped_prefix: b"",
                via: b"agimo-0",
                trace: None,
            },
            framing,
            None,
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    const ADDED: &str = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
        Forwarded: for=10.0.0.1;host=a;proto=http\r\nVia: 1.1 agimo-0\r\n";

    #[test]
    fn lines_keep_their_order_and_case_without_hop_by_hop_lines() {
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
    fn forwarded_lines_are_kept_only_from_trusted_proxies() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
            X-Forwarded-Host: c\r\nForwarded: for=1.2.3.4\r\n\r\n";
        assert_eq!(request(text, ""), format!("GET / HTTP/1.1\r\nHost: a\r\n{ADDED}\r\n"));
        let trusted = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: c\r\n\
            Forwarded: for=1.2.3.4, for=10.0.0.1;host=c;proto=https\r\nVia: 1.1 agimo-0\r\n\r\n";
        assert_eq!(request(text, "10.0.0.0/8"), trusted);
    }

    #[test]
    fn connection_cannot_remove_content_length_and_host() {
        let out = request(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length\r\nContent-Length: 3\r\n\r\n",
            "",
        );
        assert!(out.contains("Content-Length: 3\r\n") && out.contains("Host: a\r\n"), "{out}");
    }

    #[test]
    fn upgrade_and_te_trailers_are_passed_on() {
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
    fn a_request_without_host_gets_one_from_its_authority() {
        let mut fields = FieldsBuilder::default();
        fields.line(b"accept", b"*/*");
        let (method, version) = (Method::GET, Version::HTTP_2);
        let head =
            RequestHead::new(method, version, Some(b"a"), b"/x", BodyLength::Unknown, fields);
        let client = ClientIdentity::new("10.0.0.1".parse().unwrap(), None);
        let mut out = Vec::new();
        let request = OutgoingRequest {
            head: &head,
            client: &client,
            stripped_prefix: b"",
            via: b"agimo-0",
            trace: None,
        };
        write_request_head(&request, Framing::Chunked, None, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "GET /x HTTP/1.1\r\nHost: a\r\naccept: */*\r\n{}Transfer-Encoding: chunked\r\n\r\n",
                ADDED.replace("Via: 1.1", "Via: 2.0")
            )
        );
    }

    #[test]
    fn a_response_is_passed_on_as_received_without_hop_by_hop_lines() {
        let text = b"HTTP/1.1 200 Fine by me\r\nserver: x\r\nX-B: 2\r\nConnection: close\r\nContent-Length: 3\r\n\r\n";
        let (mut head, _, _) = parse_response(text).unwrap().unwrap();
        head.declared_length = Some(3);
        let mut out = Vec::new();
        write_response_head(&head, Framing::Sized(3), false, Version::HTTP_11, true, &mut out);
        let expected =
            "HTTP/1.1 200 Fine by me\r\nserver: x\r\nX-B: 2\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
