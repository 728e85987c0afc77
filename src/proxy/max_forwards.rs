//! Answers OPTIONS and TRACE requests that may not be forwarded any further (RFC 9110 section 7.6.2).

use http::{Method, StatusCode};

use crate::http::fields::FieldsBuilder;
use crate::http::message::{BodyLength, RequestHead, ResponseHead};

/// Fields that a TRACE response leaves out (RFC 9110 section 9.3.8).
const SENSITIVE: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];

/// The response of agimo as the final recipient, if the request may not be forwarded.
pub fn final_response(request: &RequestHead) -> Option<(ResponseHead, Vec<u8>)> {
    if request.max_forwards() != Some(0) {
        return None;
    }
    let mut fields = FieldsBuilder::default();
    let mut body = Vec::new();
    if request.method == Method::TRACE {
        fields.line(b"content-type", b"message/http");
        body = received_head(request);
    }
    fields.line(b"content-length", body.len().to_string().as_bytes());
    let length = BodyLength::Known(body.len() as u64);
    Some((ResponseHead::new(StatusCode::OK, length, fields), body))
}

fn received_head(request: &RequestHead) -> Vec<u8> {
    let first = format!("{} ", request.method);
    let version = format!(" {:?}\r\n", request.version);
    let mut head = [first.as_bytes(), request.path(), version.as_bytes()].concat();
    let is_sensitive =
        |name: &[u8]| SENSITIVE.iter().any(|sensitive| name.eq_ignore_ascii_case(sensitive));
    for line in request.fields.iter().filter(|line| !is_sensitive(line.name)) {
        head.extend([line.name, b": ", line.value, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    head
}
