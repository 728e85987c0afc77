//! Where a message body ends, and the framing that says so (RFC 9112 section 6). It holds no body.

use http::{Method, StatusCode, Version};

use super::head::{HeadError, RequestHead, ResponseHead};
use crate::http::fields::{Fields, Kind, list};

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Empty,
    /// Bytes still to come.
    Sized(u64),
    Chunked,
    /// Responses only.
    UntilClose,
}

// === impl Length ===

impl Length {
    /// The body of a request; anything that two readers could frame differently is refused.
    pub fn of_request(head: &RequestHead) -> Result<Self, HeadError> {
        let fields = &head.fields;
        if fields.has(Kind::TransferEncoding) {
            if head.version == Version::HTTP_10 {
                return Err(HeadError::Malformed("HTTP/1.0 has no Transfer-Encoding"));
            }
            if fields.has(Kind::ContentLength) {
                return Err(HeadError::Malformed(
                    "there are both Content-Length and Transfer-Encoding",
                ));
            }
            return if is_chunked(fields) {
                Ok(Self::Chunked)
            } else {
                Err(HeadError::NotImplemented)
            };
        }
        Ok(content_length(fields)?.map_or(Self::Empty, Self::sized))
    }

    /// The body of a final response to a request with `method`.
    pub fn of_response(head: &ResponseHead, method: &Method) -> Result<Self, HeadError> {
        let status = head.status;
        if *method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Ok(Self::Empty);
        }
        if head.fields.has(Kind::TransferEncoding) {
            // Section 6.3: it overrides Content-Length, which the caller must then not pass on.
            return if is_chunked(&head.fields) {
                Ok(Self::Chunked)
            } else {
                Err(HeadError::NotImplemented)
            };
        }
        Ok(content_length(&head.fields)?.map_or(Self::UntilClose, Self::sized))
    }

    /// Appends one piece of a body in this framing.
    pub fn encode(self, data: &[u8], out: &mut Vec<u8>) {
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

    /// Appends the end of a body in this framing.
    pub fn finish(self, trailers: &[u8], out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(trailers);
            out.extend_from_slice(b"\r\n");
        }
    }

    fn sized(length: u64) -> Self {
        if length == 0 { Self::Empty } else { Self::Sized(length) }
    }
}

/// Whether the one transfer coding is `chunked`; others are not implemented here.
fn is_chunked(fields: &Fields) -> bool {
    let mut codings = fields.all(Kind::TransferEncoding).flat_map(list);
    matches!((codings.next(), codings.next()), (Some(only), None) if only.eq_ignore_ascii_case(b"chunked"))
}

fn content_length(fields: &Fields) -> Result<Option<u64>, HeadError> {
    let mut values = fields.all(Kind::ContentLength);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HeadError::Malformed("there is more than one Content-Length"));
    }
    // Digits only: `parse` alone would take a sign.
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .map(Some)
        .ok_or(HeadError::Malformed("Content-Length is not a number"))
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
    use crate::http::http1::head::Limits;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head: 4096, uri: 1024, lines: 32 };

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
        fn a_head_has_one_length_or_is_refused(input in head()) {
            if let Ok(Some((head, length))) = RequestHead::parse(&input, &LIMITS) {
                prop_assert!(input[..length].ends_with(b"\r\n\r\n"));
                let lengths = head.fields.all(Kind::ContentLength).count();
                let codings = head.fields.all(Kind::TransferEncoding).count();
                match Length::of_request(&head) {
                    Ok(Length::Chunked) => prop_assert_eq!((lengths, codings), (0, 1)),
                    Ok(Length::Sized(_)) => prop_assert_eq!((lengths, codings), (1, 0)),
                    Ok(Length::Empty) => prop_assert_eq!(codings, 0),
                    Ok(Length::UntilClose) => prop_assert!(false, "a request has an end"),
                    Err(_) => {}
                }
                // What follows a head changes nothing about it.
                let (again, same) = RequestHead::parse(&input[..length], &LIMITS).unwrap().unwrap();
                prop_assert_eq!(same, length);
                prop_assert_eq!(again.raw_target(), head.raw_target());
            }
        }

        #[test]
        fn any_bytes_are_a_head_or_none(input: Vec<u8>) {
            let _ = RequestHead::parse(&input, &LIMITS);
            let _ = ResponseHead::parse(&input);
        }
    }

    #[test]
    fn heads_that_are_nearly_right_are_sometimes_right() {
        use proptest::strategy::ValueTree;
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut accepted = 0;
        for _ in 0..500 {
            let input = head().new_tree(&mut runner).unwrap().current();
            let parsed = RequestHead::parse(&input, &LIMITS);
            accepted += usize::from(
                matches!(parsed, Ok(Some((head, _))) if Length::of_request(&head).is_ok()),
            );
        }
        assert!((50..450).contains(&accepted), "{accepted} of 500 were accepted");
    }
}
