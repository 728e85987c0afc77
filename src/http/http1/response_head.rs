//! Parses response heads. An application's slips are accepted where RFC 9112 says how to read them and no two recipients
//! can disagree.

use http::{StatusCode, Version};

use crate::http::codec::Malformation;
use crate::http::fields::{Fields, Span};
use crate::http::message::{BodyLength, HeadError, ResponseHead};

use super::head::{parse_error, version};

/// Field lines that are parsed on the stack; a head with more of them is parsed again on the heap.
const USUAL_LINES: usize = 128;
/// The most field lines of a response head.
const MOST_LINES: usize = 2048;
/// Bytes of the head of a response; an application is trusted further than a client.
const MOST_BYTES: usize = 256 * 1024;

/// Parses the response head at the start of `bytes`; `None` when its end has not arrived yet.
///
/// Returns the head, without the length of its body, with its version and its own length in bytes.
pub fn parse_response(bytes: &[u8]) -> Result<Option<(ResponseHead, Version, usize)>, HeadError> {
    let mut lines = [httparse::EMPTY_HEADER; USUAL_LINES];
    match parse_with(bytes, &mut lines) {
        Err(HeadError::TooLarge) => {
            parse_with(bytes, &mut vec![httparse::EMPTY_HEADER; MOST_LINES])
        }
        parsed => parsed,
    }
}

fn parse_with<'b>(
    bytes: &'b [u8],
    lines: &mut [httparse::Header<'b>],
) -> Result<Option<(ResponseHead, Version, usize)>, HeadError> {
    let mut response = httparse::Response::new(lines);
    let mut parser = httparse::ParserConfig::default();
    // RFC 9112 section 5.1: a proxy removes white space between a field name and the colon.
    parser.allow_spaces_after_header_name_in_responses(true);
    // RFC 9112 section 5.2: a gateway replaces folded lines, or rejects the response.
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let length = match parser.parse_response(&mut response, bytes).map_err(parse_error)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() > MOST_BYTES => return Err(HeadError::TooLarge),
        httparse::Status::Partial => return Ok(None),
    };
    let head = &bytes[..length];
    if response.headers.iter().any(|line| line.value.contains(&b'\n')) {
        return parse_response(&unfolded(head));
    }
    let (Some(code), Some(minor)) = (response.code, response.version) else {
        return Err(HeadError::Malformed("the status line is not complete"));
    };
    let parsed = ResponseHead {
        status: StatusCode::from_u16(code)
            .map_err(|_| HeadError::Malformed("the status code is out of range"))?,
        body: BodyLength::None,
        declared_length: None,
        reason: Span::of(response.reason.unwrap_or_default().as_bytes(), head),
        fields: Fields::index(head, response.headers),
        is_own: false,
    };
    Ok(Some((parsed, version(minor), length)))
}

/// What is wrong with a head that is rejected.
pub(super) fn malformation(error: HeadError, head: &[u8]) -> Malformation {
    Malformation::find(error, head, |lines| parse_response(lines).is_err())
}

/// A head of the same length in which spaces stand for the line breaks of folded lines (RFC 9112 section 5.2).
fn unfolded(head: &[u8]) -> Vec<u8> {
    let mut unfolded = head.to_vec();
    for at in 1..head.len() {
        let is_folded = matches!(head.get(at + 1), Some(b' ' | b'\t'));
        if head[at] == b'\n' && is_folded {
            unfolded[at] = b' ';
            if head[at - 1] == b'\r' {
                unfolded[at - 1] = b' ';
            }
        }
    }
    unfolded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(String, String)> {
        let (head, _, length) = parse_response(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        head.fields.iter().map(|line| (text(line.name), text(line.value))).collect()
    }

    #[test]
    fn slips_that_have_one_reading_are_accepted() {
        let head = "HTTP/1.1 200 OK\r\nServer : x\r\nX-Folded: a\r\n  b\r\n\tc\r\nX: d\r\n\r\n";
        let found = lines(head);
        assert_eq!(found[0], ("Server".to_owned(), "x".to_owned()));
        assert_eq!(found[1], ("X-Folded".to_owned(), "a    b  \tc".to_owned()));
        assert_eq!(found[2], ("X".to_owned(), "d".to_owned()));
    }

    #[test]
    fn a_head_may_have_many_lines_and_not_any_number() {
        let head = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
        for count in [USUAL_LINES, USUAL_LINES + 1, 300, MOST_LINES] {
            assert_eq!(lines(&head(count)).len(), count);
        }
        let error = parse_response(head(MOST_LINES + 1).as_bytes()).unwrap_err();
        assert_eq!(error, HeadError::TooLarge);
    }

    #[test]
    fn the_line_that_breaks_a_rule_is_found() {
        let head = b"HTTP/1.1 200 OK\r\nServer: x\r\nX y: z\r\nA: b\r\n\r\n";
        let found = malformation(parse_response(head).unwrap_err(), head);
        assert_eq!(found.to_string(), "line 3: a field name is not a token");
    }

    #[test]
    fn malformed_heads_are_rejected() {
        for head in [
            "HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX y: z\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(parse_response(head.as_bytes()).is_err(), "{head:?}");
        }
    }
}
