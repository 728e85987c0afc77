//! Translates heads and trailers between the neutral messages and those of the crate h2.

use h2::ext::Protocol;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};

use crate::http::content_length::single_length;
use crate::http::fields::{FieldKind, Fields, FieldsBuilder, is_token};
use crate::http::forwarded::FieldSink;
use crate::http::message::{BodyLength, HeadError, HeadLimits, RequestHead, ResponseHead};
use crate::http::outgoing::{OutgoingRequest, asks_for_trailers};
use crate::http::request_rules::{check_method, is_authority, is_http_in_tunnel};

/// Collects field lines in a header map, whose names are in lower case (RFC 9113 section 8.2).
#[derive(Default)]
struct HeaderMapSink {
    map: HeaderMap,
    name: Option<HeaderName>,
    value: Vec<u8>,
}

/// The head of a client's request. `has_ended` says that the request has no body.
///
/// A request to switch protocols (RFC 8441) becomes what it would be in HTTP/1.1: a GET with `Upgrade`.
pub fn request_head(
    parts: &request::Parts,
    has_ended: bool,
    limits: &HeadLimits,
) -> Result<RequestHead, HeadError> {
    let protocol = parts.extensions.get::<Protocol>();
    if protocol.is_some_and(|protocol| !is_protocol(protocol.as_str())) {
        return Err(HeadError::Malformed(":protocol is not the name of a protocol"));
    }
    let method = if protocol.is_some() { Method::GET } else { parts.method.clone() };
    check_method(&method)?;
    if parts.headers.len() > limits.lines {
        return Err(HeadError::TooLarge);
    }
    if !parts.headers.keys().all(|name| name.as_str().bytes().all(is_token)) {
        return Err(HeadError::Malformed("a field name is not a token"));
    }
    let lengths = parts.headers.get_all(http::header::CONTENT_LENGTH).iter();
    let declared_length = single_length(lengths.map(HeaderValue::as_bytes))?;
    let mut fields = FieldsBuilder::default();
    add_request_lines(&parts.headers, &mut fields);
    if let Some(protocol) = protocol {
        fields.line(b"upgrade", protocol.as_str().as_bytes());
    } else if let Some(length) = declared_length {
        fields.line(b"content-length", length.to_string().as_bytes());
    }
    let authority = authority(&parts.uri, &parts.headers)?;
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes();
    if path.len() > limits.uri {
        return Err(HeadError::UriTooLong);
    }
    match path {
        b"*" if method != Method::OPTIONS => {
            return Err(HeadError::Malformed("only OPTIONS may ask for *"));
        }
        b"*" | [b'/', ..] => {}
        _ => return Err(HeadError::Malformed("the request target is not a path")),
    }
    let body = body_length(has_ended || protocol.is_some(), declared_length);
    let mut head = RequestHead::new(method, Version::HTTP_2, authority, path, body, fields);
    head.upgrade = protocol.is_some();
    Ok(head)
}

/// The head of an endpoint's response, final or informational.
pub(super) fn response_head(parts: &response::Parts, has_ended: bool) -> ResponseHead {
    let status = parts.status;
    // RFC 9110 sections 6.4.1 and 8.6.
    let has_no_length = status.is_informational() || status == StatusCode::NO_CONTENT;
    let has_no_body = has_ended || has_no_length || status == StatusCode::NOT_MODIFIED;
    let declared_length = declared_length(&parts.headers).filter(|_| !has_no_length);
    let body = body_length(has_no_body, declared_length);
    let mut head = ResponseHead::new(status, body, fields(&parts.headers));
    head.declared_length = declared_length;
    head
}

fn body_length(has_no_body: bool, declared: Option<u64>) -> BodyLength {
    match declared {
        _ if has_no_body => BodyLength::None,
        Some(length) => BodyLength::Known(length),
        None => BodyLength::Unknown,
    }
}

/// A request for an endpoint, or why there is none. A request to switch protocols becomes an extended CONNECT (RFC 8441
/// section 4).
pub fn request(
    outgoing: &OutgoingRequest<'_>,
    scheme: Scheme,
) -> Result<Request<()>, &'static str> {
    let head = outgoing.head;
    let mut sink = HeaderMapSink::default();
    outgoing.write_fields(&mut sink, |sink, field| match field.kind {
        FieldKind::Te if asks_for_trailers(field) => sink.line(b"te", b"trailers"),
        // RFC 9113 section 8.2.3: a field for each cookie compresses better.
        FieldKind::Cookie => {
            for cookie in field.value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
                sink.line(b"cookie", cookie);
            }
        }
        _ => {}
    });
    let [slash, path] = outgoing.path();
    let path = PathAndQuery::try_from([slash, path].concat().as_slice())
        .map_err(|_| "the path has a character that HTTP/2 does not allow")?;
    let authority = Authority::try_from(head.authority().unwrap_or_default())
        .map_err(|_| "the host is not a host name or address")?;
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.map_err(|_| "the request target is malformed")?;
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = head.method.clone();
    if head.upgrade {
        let protocol = head.fields.all(FieldKind::Upgrade).next().unwrap_or_default();
        let protocol = std::str::from_utf8(protocol).map_err(|_| "the protocol is not a token")?;
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol));
        sink.map.remove(http::header::SEC_WEBSOCKET_KEY);
    }
    *request.headers_mut() = sink.map;
    Ok(request)
}

/// A response for a client. A switch of protocols becomes a success (RFC 8441 section 5).
pub(super) fn response(head: &ResponseHead) -> Response<()> {
    let mut sink = HeaderMapSink::default();
    head.write_fields(&mut sink, |_, _| ());
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        sink.map.remove(http::header::SEC_WEBSOCKET_ACCEPT);
    }
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = sink.map;
    response
}

/// The lines of a head, in their order as far as the map keeps it.
fn fields(map: &HeaderMap) -> FieldsBuilder {
    let mut fields = FieldsBuilder::default();
    for (name, value) in map {
        fields.line(name.as_str().as_bytes(), value.as_bytes().trim_ascii());
    }
    fields
}

/// A received trailer section.
pub(super) fn received_trailers(map: &HeaderMap) -> Fields {
    let mut fields = FieldsBuilder::default();
    for (name, value) in map {
        let name = name.as_str().as_bytes();
        if FieldKind::of(name).may_be_trailer() && name.iter().copied().all(is_token) {
            fields.line(name, value.as_bytes().trim_ascii());
        }
    }
    fields.build()
}

/// A trailer section to be sent. What has no place in it was left out when it was received.
pub(super) fn trailers(fields: &Fields) -> HeaderMap {
    let mut sink = HeaderMapSink::default();
    for line in fields.iter() {
        sink.line(line.name, line.value);
    }
    sink.map
}

/// All cookies are one line (RFC 9113 section 8.2.3): HTTP/1 knows only that.
fn add_request_lines(map: &HeaderMap, fields: &mut FieldsBuilder) {
    let mut has_cookie = false;
    for (name, value) in map {
        if name == http::header::CONTENT_LENGTH {
            // Once, in one form.
        } else if name == http::header::COOKIE {
            if !std::mem::replace(&mut has_cookie, true) {
                let cookies: Vec<&[u8]> =
                    map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                fields.line(b"cookie", cookies.join(&b"; "[..]).trim_ascii());
            }
        } else {
            fields.line(name.as_str().as_bytes(), value.as_bytes().trim_ascii());
        }
    }
}

/// RFC 9113 section 8.3.1: `:authority` and Host must not differ; a request without both is malformed here, because
/// nothing else names its route.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a [u8]>, HeadError> {
    let mut hosts = headers.get_all(http::header::HOST).iter().map(HeaderValue::as_bytes);
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err(HeadError::Malformed("there is more than one Host"));
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    if let (Some(authority), Some(host)) = (authority, host)
        && !authority.eq_ignore_ascii_case(host)
    {
        return Err(HeadError::Malformed(":authority and Host differ"));
    }
    let authority = authority.or(host).unwrap_or_default();
    if authority.is_empty() {
        return Err(HeadError::Malformed("there is neither :authority nor Host"));
    }
    if !is_authority(authority) {
        return Err(HeadError::Malformed("the host is not a host name or address"));
    }
    Ok(Some(authority))
}

/// Whether a request may ask for this protocol.
fn is_protocol(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token) && !is_http_in_tunnel(name.as_bytes())
}

/// What `content-length` of a response says. The crate h2 has checked that it is one number.
fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

// === impl HeaderMapSink ===

impl FieldSink for HeaderMapSink {
    fn start_line(&mut self, name: &[u8]) {
        self.name = HeaderName::from_bytes(name).ok();
        self.value.clear();
    }

    fn value(&mut self, part: &[u8]) {
        self.value.extend_from_slice(part);
    }

    fn end_line(&mut self) {
        // A codec has checked names and values when it received them.
        if let (Some(name), Ok(value)) = (self.name.take(), HeaderValue::from_bytes(&self.value)) {
            let _ = self.map.try_append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head: 4096, uri: 1024, lines: 16 };

    fn parts(method: &str, path: &str, lines: &[(&str, &str)]) -> request::Parts {
        let uri = format!("http://a.test{path}");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn extended_connect(protocol: &str) -> Result<RequestHead, HeadError> {
        let mut parts = parts("CONNECT", "/chat", &[("content-length", "7")]);
        parts.extensions.insert(Protocol::from(protocol));
        request_head(&parts, false, &LIMITS)
    }

    #[test]
    fn a_protocol_becomes_an_upgrade_unless_it_could_be_something_else() {
        let head = extended_connect("websocket").unwrap();
        assert_eq!(
            (head.method.as_str(), head.upgrade, head.body),
            ("GET", true, BodyLength::None)
        );
        assert_eq!(head.fields.named(b"upgrade"), Some(&b"websocket"[..]));
        assert_eq!(head.fields.named(b"content-length"), None);
        for protocol in
            ["", "h2c", "H2C", "a b", "websocket\r\n\r\nDELETE / HTTP/1.1\r\nHost: a.test"]
        {
            assert!(extended_connect(protocol).is_err(), "{protocol:?}");
        }
    }

    #[test]
    fn a_head_that_http1_could_not_carry_is_malformed() {
        for (method, path, lines) in [
            ("GET", "?x", &[][..]),
            ("GET", "/", &[("host", "b.test")]),
            ("POST", "/", &[("content-length", "5"), ("content-length", "5")]),
            ("POST", "/", &[("content-length", "")]),
            ("POST", "/", &[("content-length", "+5")]),
            ("POST", "/", &[("content-length", "9223372036854775808")]),
            ("Get", "/", &[]),
        ] {
            let error = request_head(&parts(method, path, lines), false, &LIMITS).unwrap_err();
            assert!(matches!(error, HeadError::Malformed(_)), "{method} {path} {lines:?}: {error}");
        }
        let head =
            request_head(&parts("POST", "/", &[("content-length", "05")]), false, &LIMITS).unwrap();
        assert_eq!(head.body, BodyLength::Known(5));
        assert_eq!(head.fields.named(b"content-length"), Some(&b"5"[..]));
    }

    #[test]
    fn responses_that_have_no_body_have_none_whatever_follows() {
        let head = |status: u16| {
            let response = Response::builder().status(status).header("content-length", "3");
            response_head(&response.body(()).unwrap().into_parts().0, false)
        };
        let known = |status| (head(status).body, head(status).declared_length);
        assert_eq!(known(200), (BodyLength::Known(3), Some(3)));
        assert_eq!(known(304), (BodyLength::None, Some(3)));
        assert_eq!(known(204), (BodyLength::None, None));
        assert_eq!(known(103), (BodyLength::None, None));
    }

    #[test]
    fn trailers_cannot_frame_route_or_name_a_client() {
        let mut map = HeaderMap::new();
        for name in [
            "grpc-status",
            "content-length",
            "host",
            "x-forwarded-for",
            "forwarded",
            "via",
            "te",
            "cookie",
        ] {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static("0"));
        }
        let kept = received_trailers(&map);
        let names: Vec<&[u8]> = kept.iter().map(|line| line.name).collect();
        assert_eq!(names, [b"grpc-status"]);
    }
}
