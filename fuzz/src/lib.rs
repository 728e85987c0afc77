//! Properties that hold for any input. The fuzz targets search for input that violates them, and every test run checks
//! them with the committed seeds.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use agimo::config::annotations::{AnnotatedWorkload, PortOfService};
use agimo::config::tls::EndpointTrust;
use agimo::config::{parse, report};
use agimo::external_metrics::selector;
use agimo::http::fields::{FieldKind, FieldsBuilder};
use agimo::http::forwarded::ClientIdentity;
use agimo::http::grpc;
use agimo::http::http1::framing::Framing;
use agimo::http::http1::head::{keeps_alive, parse_request};
use agimo::http::http1::head_writer::write_request_head;
use agimo::http::http1::response_head::parse_response;
use agimo::http::http2::fields::{self, request_head};
use agimo::http::message::{BodyLength, HeadLimits, RequestHead};
use agimo::http::outgoing::OutgoingRequest;
use agimo::net::proxy_protocol;
use agimo::prometheus::response;
use agimo::workload::{WorkloadId, WorkloadKind};

/// Small enough for a fuzzer to reach every limit.
const LIMITS: HeadLimits = HeadLimits { head: 2048, uri: 512, lines: 16 };

/// Twice as large: a serialized head has a space after every colon, and may name the path that an absolute target omits.
const WIDE_LIMITS: HeadLimits = HeadLimits { head: 4096, uri: 1024, lines: 16 };

/// With the lines that agimo adds.
const OUTGOING_LIMITS: HeadLimits = HeadLimits { head: 1 << 20, uri: 1024, lines: 64 };

/// A configuration is accepted, or refused with errors that can be rendered. Neither panics.
pub fn config(data: &[u8]) {
    // A file that is not UTF-8 is refused before it is parsed.
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(problems) = parse::parse(text) {
        let rendered = report::render("config.toml", text, &problems, false);
        assert!(!rendered.is_empty(), "refused without a reason");
    }
}

/// An accepted request head is unambiguous: serialized, it parses to the same head; bytes after it do not change it; and
/// no prefix of it is accepted as a complete head.
pub fn head(data: &[u8]) {
    // Response heads are parsed from untrusted bytes as well.
    let _ = parse_response(data);
    let Ok(Some((head, length))) = parse_request(data, &LIMITS) else {
        return;
    };
    assert!(length <= data.len() && length <= LIMITS.head);

    let serialized = serialized(&head);
    let Ok(Some((again, serialized_length))) = parse_request(&serialized, &WIDE_LIMITS) else {
        panic!("the head is accepted, but refused after serialization");
    };
    assert_eq!(serialized_length, serialized.len());
    assert_same(&head, &again);

    let Ok(Some((alone, alone_length))) = parse_request(&data[..length], &LIMITS) else {
        panic!("the head is accepted only with the bytes after it");
    };
    assert_eq!(alone_length, length);
    assert_same(&head, &alone);

    for prefix in [length - 1, length / 2] {
        let parsed = parse_request(&data[..prefix], &LIMITS);
        assert!(
            !matches!(parsed, Ok(Some(_))),
            "{prefix} of {length} bytes are accepted as a head"
        );
    }
}

/// A request head that is translated from one version of HTTP to the other stays the same request, and the other side accepts
/// it.
pub fn translation(data: &[u8]) {
    if let Ok(Some((head, _))) = parse_request(data, &LIMITS) {
        to_http2(&head);
    }
    if let Some(parts) = http2_head(data)
        && let Ok(head) = request_head(&parts, true, &LIMITS)
    {
        to_http1(&head);
    }
}

/// A head as the crate h2 would pass it on. The first three lines are method, path and authority, the others fields.
fn http2_head(data: &[u8]) -> Option<http::request::Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let method = http::Method::from_bytes(lines.next()?).ok()?;
    let path = http::uri::PathAndQuery::try_from(lines.next()?).ok()?;
    let authority = http::uri::Authority::try_from(lines.next()?).ok()?;
    let uri = http::Uri::builder().scheme("http").authority(authority).path_and_query(path);
    let mut request = http::Request::builder().method(method).uri(uri.build().ok()?);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..at], &line[at + 1..]);
        let is_framing = name.eq_ignore_ascii_case(b"content-length");
        // The crate rejects these itself (RFC 9113 section 8.2.2), and a length that is no number.
        let is_rejected = [
            &b"connection"[..],
            b"keep-alive",
            b"proxy-connection",
            b"transfer-encoding",
            b"upgrade",
            b"te",
        ]
        .iter()
        .any(|rejected| name.eq_ignore_ascii_case(rejected));
        if is_rejected || is_framing {
            return None;
        }
        request = request.header(name, value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

fn outgoing<'a>(head: &'a RequestHead, client: &'a ClientIdentity) -> OutgoingRequest<'a> {
    OutgoingRequest { head, client, stripped_prefix: b"", via: b"agimo-0", trace: None }
}

fn to_http2(head: &RequestHead) {
    let client = ClientIdentity::new([10, 0, 0, 1].into(), None);
    let outgoing = outgoing(head, &client);
    // The crate `http` knows no URI for some targets; such a request is refused.
    let Ok(request) = fields::request(&outgoing, http::uri::Scheme::HTTP) else { return };
    let (parts, ()) = request.into_parts();
    for name in ["connection", "host", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!parts.headers.contains_key(name), "{name} in a head of HTTP/2");
    }
    if head.upgrade {
        return;
    }
    assert_eq!(parts.method, head.method);
    assert_eq!(parts.uri.path_and_query().map(|path| path.as_str().as_bytes()), Some(head.path()));
    assert_eq!(parts.uri.authority().map(|name| name.as_str().as_bytes()), head.authority());
}

fn to_http1(head: &RequestHead) {
    let client = ClientIdentity::new([10, 0, 0, 1].into(), None);
    let outgoing = outgoing(head, &client);
    let mut written = Vec::new();
    write_request_head(&outgoing, Framing::Empty, None, &mut written);
    let Ok(Some((again, length))) = parse_request(&written, &OUTGOING_LIMITS) else {
        panic!("refused as HTTP/1.1: {}", String::from_utf8_lossy(&written));
    };
    assert_eq!(length, written.len());
    assert_eq!(again.method, head.method);
    assert_eq!(again.path(), head.path());
    assert_eq!(again.authority(), head.authority());
    assert_eq!((again.body, again.upgrade), (head.body, false));
}

/// An answer of Prometheus is read, or refused with an error text. A value that is not a number or negative means that no
/// replica is ready.
pub fn prometheus(data: &[u8]) {
    match response::parse(data) {
        Err(error) => assert!(!error.to_string().is_empty(), "refused without a reason"),
        Ok(samples) => {
            let ready = response::ready_replicas(&samples, &deployment());
            let reported = samples.iter().map(|sample| sample.value).fold(0.0, f64::max);
            assert!(
                ready.is_none_or(|ready| f64::from(ready) <= reported),
                "more replicas are ready than reported"
            );
        }
    }
}

/// An accepted label selector means the same when it is written out again.
pub fn selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(selector) = selector::parse(text) else {
        return;
    };
    let written = selector.to_string();
    let Ok(again) = selector::parse(&written) else {
        panic!("the selector is accepted, but refused when it is written again: {written}");
    };
    assert_eq!(again.to_string(), written);
}

/// The header of the PROXY protocol is the same whatever follows it, and no part of it is taken for another header.
pub fn proxy_protocol(data: &[u8]) {
    let parsed = proxy_protocol::parse(data);
    let Ok(Some(header)) = parsed else {
        // What is refused stays refused, and what is not complete was not refused before.
        let half = proxy_protocol::parse(&data[..data.len() / 2]);
        assert!(parsed.is_err() || half == Ok(None), "the beginning is {half:?}");
        return;
    };
    assert!(header.length <= data.len());
    assert_eq!(proxy_protocol::parse(&data[..header.length]), parsed);
    for length in 0..header.length {
        assert_eq!(proxy_protocol::parse(&data[..length]), Ok(None), "{length} bytes of it");
    }
}

/// A gRPC call is known by its content type, its timeout is bounded, and the message of a status survives its encoding. The first
/// line of the input is the content type, the second one the timeout.
pub fn grpc(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (content_type, timeout) = (lines.next().unwrap_or(b""), lines.next().unwrap_or(b""));
    let mut fields = FieldsBuilder::default();
    fields.line(b"content-type", content_type);
    fields.line(b"grpc-timeout", timeout);
    let (method, version) = (http::Method::POST, http::Version::HTTP_2);
    let head = RequestHead::new(method, version, Some(b"a"), b"/", BodyLength::Unknown, fields);
    assert!(!head.is_grpc() || content_type.starts_with(b"application/grpc"));
    // At most eight digits, of hours.
    let longest = Duration::from_secs(99_999_999 * 3600);
    assert!(head.grpc_timeout().is_none_or(|timeout| head.is_grpc() && timeout <= longest));
    let Ok(message) = std::str::from_utf8(lines.next().unwrap_or(b"")) else { return };
    let encoded = grpc::encode_message(message);
    assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{encoded:?}");
    let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8();
    assert_eq!(decoded.as_deref(), Ok(message));
}

/// Annotations become services of their own workload, or are refused with lines that name an annotation. Each line of the input is
/// the name and the value of one.
pub fn annotations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let annotations = text.lines().filter_map(|line| line.split_once(' '));
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let port = PortOfService { name: "http".to_owned(), number: 80 };
    let workload = AnnotatedWorkload {
        id: deployment(),
        created: 0,
        managed_by: None,
        annotations: Arc::new(annotations.map(owned).collect()),
        services: [("web".to_owned(), vec![port])].into(),
    };
    let file =
        parse::parse("annotations = true\nallowed_hosts = { default = ['*.a.test', 'a.test'] }");
    let config = file.ok().and_then(|file| file.annotations).expect("the file is valid");
    match parse::annotations::parse(&workload, &config) {
        Ok(services) => {
            assert!(!services.is_empty());
            for service in services {
                assert_eq!(service.workload_id(), workload.id);
                assert!(
                    service.host == "a.test" || service.host.ends_with(".a.test"),
                    "{}",
                    service.host
                );
                let EndpointTrust { ca, certificate, .. } = &service.tls.trust;
                assert!(ca.is_none() && certificate.is_none(), "a file of agimo");
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            assert!(problems.iter().all(|problem| !problem.contains('\n')), "{problems:?}");
        }
    }
}

fn deployment() -> WorkloadId {
    WorkloadId {
        kind: WorkloadKind::Deployment,
        namespace: "default".to_owned(),
        name: "web".to_owned(),
    }
}

/// The head as bytes (RFC 9112 sections 3 and 5).
fn serialized(head: &RequestHead) -> Vec<u8> {
    let mut bytes = head.method.as_str().as_bytes().to_vec();
    bytes.push(b' ');
    let host = head.fields.all(FieldKind::Host).next();
    match head.authority().filter(|authority| host != Some(*authority)) {
        None => bytes.extend_from_slice(head.path()),
        // The authority is not that of Host: the target is in absolute-form.
        Some(authority) => {
            let path = if head.path() == b"*" { b"" } else { head.path() };
            bytes.extend([b"http://", authority, path].concat());
        }
    }
    bytes.extend_from_slice(format!(" {:?}\r\n", head.version).as_bytes());
    for line in head.fields.iter() {
        bytes.extend_from_slice(line.name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(line.value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn assert_same(one: &RequestHead, other: &RequestHead) {
    assert_eq!(one.method, other.method);
    assert_eq!(one.path(), other.path());
    assert_eq!((one.body, one.upgrade), (other.body, other.upgrade));
    assert_eq!(one.authority(), other.authority());
    assert_eq!(one.version, other.version);
    assert_eq!(keeps_alive(one.version, &one.fields), keeps_alive(other.version, &other.fields));
    assert!(one.fields.iter().eq(other.fields.iter()), "the fields differ");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Checks the property with every committed seed; there is at least one.
    fn replay(target: &str, property: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut seeds = 0;
        for entry in fs::read_dir(&folder).expect("the folder with the seeds is readable") {
            let path = entry.expect("the entry is readable").path();
            println!("{}", path.display());
            property(&fs::read(path).expect("the seed is readable"));
            seeds += 1;
        }
        assert!(seeds > 0, "no seeds in {}", folder.display());
    }

    #[test]
    fn configuration_seeds_hold() {
        replay("config", super::config);
    }

    #[test]
    fn prometheus_answer_seeds_hold() {
        replay("prometheus", super::prometheus);
    }

    #[test]
    fn label_selector_seeds_hold() {
        replay("selector", super::selector);
    }

    #[test]
    fn translation_seeds_hold() {
        replay("translation", super::translation);
    }

    #[test]
    fn proxy_protocol_seeds_hold() {
        replay("proxy_protocol", super::proxy_protocol);
    }

    #[test]
    fn grpc_seeds_hold() {
        replay("grpc", super::grpc);
    }

    #[test]
    fn annotation_seeds_hold() {
        replay("annotations", super::annotations);
    }

    #[test]
    fn request_head_seeds_hold() {
        replay("head", super::head);
    }
}
