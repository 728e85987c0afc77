//! How the end of a message body is marked (RFC 9112 section 6).

use http::{StatusCode, Version};

use crate::http::body::{BodyError, BodyFrame, BodyFrames};
use crate::http::content_length::{parse_length, single_length};
use crate::http::fields::{FieldKind, Fields, list_members};
use crate::http::forwarded::FieldSink;
use crate::http::message::{BodyLength, HeadError};

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Empty,
    /// In bytes.
    Sized(u64),
    Chunked,
    /// The body lasts until the connection is closed. Responses only.
    UntilClose,
}

/// The framing of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFraming {
    pub framing: Framing,
    /// What `Content-Length` says, where it may be passed on.
    pub declared_length: Option<u64>,
    /// The response has no body, and its head speaks of one, which some applications send nevertheless.
    pub is_contradictory: bool,
}

// === impl Framing ===

impl Framing {
    /// The body of a request. What two recipients could frame differently is rejected.
    pub fn of_request(version: Version, fields: &Fields) -> Result<Self, HeadError> {
        if fields.has(FieldKind::TransferEncoding) {
            if version == Version::HTTP_10 {
                return Err(HeadError::Malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            if fields.has(FieldKind::ContentLength) {
                return Err(HeadError::Malformed(
                    "there are both Content-Length and Transfer-Encoding",
                ));
            }
            return chunked(fields);
        }
        let length = single_length(fields.all(FieldKind::ContentLength))?;
        Ok(length.map_or(Self::Empty, Self::sized))
    }

    /// The body of a response; `to_head` says that it answers a HEAD request.
    pub fn of_response(
        status: StatusCode,
        fields: &Fields,
        to_head: bool,
    ) -> Result<ResponseFraming, HeadError> {
        let declared_length = repeated_content_length(fields)?;
        let has_coding = has_transfer_coding(fields);
        let announces_body = has_coding || declared_length.is_some_and(|length| length > 0);
        let bodiless = |declared_length| ResponseFraming {
            framing: Self::Empty,
            declared_length,
            is_contradictory: announces_body,
        };
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6: these have no Content-Length.
            return Ok(bodiless(None));
        }
        if to_head || status == StatusCode::NOT_MODIFIED {
            return Ok(bodiless(declared_length));
        }
        let (framing, declared_length) = if has_coding {
            // Section 6.3: it overrides Content-Length, which must then not be passed on.
            (chunked(fields)?, None)
        } else {
            (declared_length.map_or(Self::UntilClose, Self::sized), declared_length)
        };
        Ok(ResponseFraming { framing, declared_length, is_contradictory: false })
    }

    /// The framing in which a body of this length is sent; `chunked` says whether the recipient knows chunks.
    pub fn for_recipient(length: BodyLength, chunked: bool) -> Self {
        match length {
            BodyLength::None => Self::Empty,
            BodyLength::Known(length) => Self::Sized(length),
            BodyLength::Unknown if chunked => Self::Chunked,
            BodyLength::Unknown => Self::UntilClose,
        }
    }

    pub fn body_length(self) -> BodyLength {
        match self {
            Self::Empty => BodyLength::None,
            Self::Sized(length) => BodyLength::Known(length),
            Self::Chunked | Self::UntilClose => BodyLength::Unknown,
        }
    }

    /// Appends all frames of a batch; true when the last was the end of the body.
    pub fn encode_frames(
        self,
        frames: &mut dyn BodyFrames<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, BodyError> {
        while let Some(frame) = frames.next()? {
            match frame {
                BodyFrame::Data(data) => self.encode_data(data, out),
                BodyFrame::End(trailers) => {
                    self.encode_end(&trailers, out);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn encode_data(self, data: &[u8], out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        if self == Self::Chunked {
            let mut digits = [0; 16];
            out.extend_from_slice(hex(data.len(), &mut digits));
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
    }

    fn encode_end(self, trailers: &Fields, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n");
            for line in trailers.iter() {
                out.line(line.name, line.value);
            }
            out.extend_from_slice(b"\r\n");
        }
    }

    fn sized(length: u64) -> Self {
        if length == 0 { Self::Empty } else { Self::Sized(length) }
    }
}

/// Whether a response is encoded at all: `identity`, which HTTP/1.1 once had, encodes nothing.
fn has_transfer_coding(fields: &Fields) -> bool {
    let mut codings = fields.all(FieldKind::TransferEncoding).flat_map(list_members);
    codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// The one transfer coding is `chunked`; others are not implemented.
fn chunked(fields: &Fields) -> Result<Framing, HeadError> {
    let mut codings = fields.all(FieldKind::TransferEncoding).flat_map(list_members);
    match (codings.next(), codings.next()) {
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err(HeadError::NotImplemented),
    }
}

/// Of a response: equal values count once (RFC 9112 section 6.3).
fn repeated_content_length(fields: &Fields) -> Result<Option<u64>, HeadError> {
    let mut all = fields.all(FieldKind::ContentLength).flat_map(|line| line.split(|b| *b == b','));
    let Some(first) = all.next() else { return Ok(None) };
    let first = parse_length(first.trim_ascii())?;
    for other in all {
        if parse_length(other.trim_ascii())? != first {
            return Err(HeadError::Malformed("there are two different Content-Length values"));
        }
    }
    Ok(Some(first))
}

fn hex(mut number: usize, digits: &mut [u8; 16]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[number % 16];
        number /= 16;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::http1::chunk_extension::Grammar;
    use crate::http::http1::decoder::Decoder;
    use crate::http::http1::head::parse_request;
    use crate::http::http1::response_head::parse_response;
    use crate::http::message::HeadLimits;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits { head: 4096, uri: 1024, lines: 32 };

    /// Heads that are nearly right: now and then a line, its end or a byte is not.
    fn head() -> impl Strategy<Value = Vec<u8>> {
        let first = [
            "GET / HTTP/1.1",
            "POST http://a.test/x HTTP/1.1",
            "PUT /x HTTP/1.0",
            "OPTIONS * HTTP/1.1",
        ];
        let lines = [
            "Host: a.test",
            "Content-Length: 5",
            "content-length: 6",
            "Content-Length: 0",
            "Content-Length: +5",
            "Transfer-Encoding: chunked",
            "transfer-encoding: gzip",
            "Connection: close",
            "X:",
            " folded",
            "X y: z",
        ];
        let ends =
            prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\0\r\n")];
        let line = (prop::sample::select(lines.to_vec()), ends)
            .prop_map(|(line, end)| format!("{line}{end}"));
        let lines = prop::collection::vec(line, 0..5);
        let more = prop::collection::vec(any::<u8>(), 0..4);
        (prop::sample::select(first.to_vec()), lines, more).prop_map(|(first, lines, more)| {
            let head = format!("{first}\r\nHost: a.test\r\n{}\r\n", lines.concat()).into_bytes();
            [head, more].concat()
        })
    }

    proptest! {
        #[test]
        fn a_head_has_one_body_length_or_is_rejected(input in head()) {
            if let Ok(Some((head, length))) = parse_request(&input, &LIMITS) {
                prop_assert!(input[..length].ends_with(b"\r\n\r\n"));
                let lengths = head.fields.all(FieldKind::ContentLength).count();
                let codings = head.fields.all(FieldKind::TransferEncoding).count();
                match head.body {
                    BodyLength::Unknown => prop_assert_eq!((lengths, codings), (0, 1)),
                    BodyLength::Known(_) => prop_assert_eq!((lengths, codings), (1, 0)),
                    BodyLength::None => prop_assert_eq!(codings, 0),
                }
                // What follows a head changes nothing about it.
                let (again, same) = parse_request(&input[..length], &LIMITS).unwrap().unwrap();
                prop_assert_eq!(same, length);
                prop_assert_eq!(again.path(), head.path());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(input: Vec<u8>) {
            let _ = parse_request(&input, &LIMITS);
            let _ = parse_response(&input);
        }
    }

    #[test]
    fn the_generated_heads_are_sometimes_accepted() {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut accepted = 0;
        for _ in 0..500 {
            let input = head().new_tree(&mut runner).unwrap().current();
            accepted += usize::from(matches!(parse_request(&input, &LIMITS), Ok(Some(_))));
        }
        assert!((50..450).contains(&accepted), "{accepted} of 500 were accepted");
    }

    #[test]
    fn an_encoded_body_decodes_to_the_same_frames() {
        let mut trailers = crate::http::fields::FieldsBuilder::default();
        trailers.line(b"A", b"b");
        let mut out = Vec::new();
        Framing::Chunked.encode_data(&[b'x'; 300], &mut out);
        Framing::Chunked.encode_end(&trailers.build(), &mut out);
        let mut decoder = Decoder::new(Framing::Chunked, Grammar::Strict);
        let mut input = &out[..];
        let Ok(Some(BodyFrame::Data(data))) = decoder.decode(&mut input) else { panic!() };
        assert_eq!(data, [b'x'; 300]);
        let Ok(Some(BodyFrame::End(trailers))) = decoder.decode(&mut input) else { panic!() };
        let lines: Vec<_> = trailers.iter().map(|line| (line.name, line.value)).collect();
        assert_eq!((lines, input), (vec![(&b"A"[..], &b"b"[..])], &b""[..]));
    }
}
