//! Translates heads and trailers between the neutral messages and those of the crate h2.

use h2::ext::Protocol;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};

use crate::http::fields::{FieldKind, Fields, FieldsBuilder, list_members};
use crate::http::forwarded::{FieldSink, is_hop_by_hop};
use crate::http::message::{BodyLength, HeadError, HeadLimits, RequestHead, ResponseHead};
use crate::http::outgoing::OutgoingRequest;
use crate::http::request_rules::{check_method, is_authority};

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
    let method = if protocol.is_some() { Method::GET } else { parts.method.clone() };
    check_method(&method)?;
    if parts.headers.len() > limits.lines {
        return Err(HeadError::TooLarge);
    }
    let mut fields = FieldsBuilder::default();
    add_request_lines(&parts.headers, &mut fields);
    if let Some(protocol) = protocol {
        fields.line(b"upgrade", protocol.as_str().as_bytes());
    }
    let authority = authority(&parts.uri, &parts.headers)?;
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str).as_bytes();
    if path.len() > limits.uri {
        return Err(HeadError::UriTooLong);
    }
    if path == b"*" && method != Method::OPTIONS {
        return Err(HeadError::Malformed("only OPTIONS may ask for *"));
    }
    let body = match declared_length(&parts.headers) {
        _ if has_ended || protocol.is_some() => BodyLength::None,
        Some(length) => BodyLength::Known(length),
        None => BodyLength::Unknown,
    };
    let mut head = RequestHead::new(method, Version::HTTP_2, authority, path, body, fields);
    head.upgrade = protocol.is_some();
    Ok(head)
}

/// The head of an endpoint's response, final or informational.
pub(super) fn response_head(parts: &response::Parts, has_ended: bool) -> ResponseHead {
    let declared_length = declared_length(&parts.headers);
    let body = match declared_length {
        _ if has_ended || parts.status.is_informational() => BodyLength::None,
        Some(length) => BodyLength::Known(length),
        None => BodyLength::Unknown,
    };
    let mut head = ResponseHead::new(parts.status, body, fields(&parts.headers));
    head.declared_length = declared_length;
    head
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
        FieldKind::Te
            if list_members(field.value).any(|coding| coding.eq_ignore_ascii_case(b"trailers")) =>
        {
            sink.line(b"te", b"trailers");
        }
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

/// The lines of a head or a trailer section, in their order as far as the map keeps it.
pub(super) fn fields(map: &HeaderMap) -> FieldsBuilder {
    let mut fields = FieldsBuilder::default();
    for (name, value) in map {
        fields.line(name.as_str().as_bytes(), value.as_bytes().trim_ascii());
    }
    fields
}

/// A trailer section, without lines that have no place in it (RFC 9110 section 6.5.1).
pub(super) fn trailers(fields: &Fields) -> HeaderMap {
    let mut sink = HeaderMapSink::default();
    for line in fields.iter() {
        let frames_or_routes = matches!(line.kind, FieldKind::ContentLength | FieldKind::Host);
        if !frames_or_routes && !is_hop_by_hop(&line, fields, fields.connection()) {
            sink.line(line.name, line.value);
        }
    }
    sink.map
}

/// All cookies are one line (RFC 9113 section 8.2.3): HTTP/1 knows only that.
fn add_request_lines(map: &HeaderMap, fields: &mut FieldsBuilder) {
    let mut has_cookie = false;
    for (name, value) in map {
        if name == http::header::COOKIE {
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

/// What `content-length` says. The crate h2 has checked that it is one number.
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
