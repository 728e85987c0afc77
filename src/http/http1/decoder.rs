//! Removes the framing of a message body: lengths, chunks, trailers (RFC 9112 sections 6 and 7).

use crate::http::body::{BodyError, BodyFrame};
use crate::http::fields::{FieldKind, Fields, FieldsBuilder};

use super::chunk_extension::{ChunkExtension, Grammar};
use super::framing::Framing;
use crate::http::content_length::MOST_BODY_BYTES;

/// Turns the bytes of one body into frames, however the bytes are cut.
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    grammar: Grammar,
    /// What has arrived of the trailer section.
    section: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sized(u64),
    UntilClose,
    /// Reading a chunk's size; the digits so far.
    Size {
        value: u64,
        digits: u8,
    },
    /// Between a chunk's size and its CR: an extension, which is ignored.
    Extension {
        value: u64,
        bytes: u16,
        at: ChunkExtension,
    },
    SizeLineFeed(u64),
    Data(u64),
    DataReturn,
    DataLineFeed,
    /// Reading the trailer section up to its empty line.
    Trailers,
    Done,
}

const MALFORMED_CHUNK: BodyError = BodyError::Malformed("a chunk is malformed");
const MALFORMED_TRAILERS: BodyError =
    BodyError::Malformed("the trailer section is malformed or too large");

/// A trailer section larger than this is rejected.
const MOST_TRAILER_BYTES: usize = 8 * 1024;
/// Chunk extensions are ignored (RFC 9112 section 7.1.1) up to this length: a client's, and an application's.
const MOST_EXTENSION_BYTES: u16 = 1024;
const MOST_RESPONSE_EXTENSION_BYTES: u16 = 16 * 1024;
/// Digits of a chunk's size, with leading zeros.
const MOST_SIZE_DIGITS: u8 = 16;

// === impl Decoder ===

impl Decoder {
    pub(super) fn new(framing: Framing, grammar: Grammar) -> Self {
        let state = match framing {
            Framing::Empty => State::Done,
            Framing::Sized(length) => State::Sized(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, grammar, section: Vec::new() }
    }

    /// Takes the next frame off the front of `input`; `None` when the input is used up and the body has not ended. What
    /// is left of the input at the end of the body belongs to the next message.
    pub(super) fn decode<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<BodyFrame<'a>>, BodyError> {
        loop {
            match self.state {
                State::Done => return Ok(Some(BodyFrame::End(Fields::default()))),
                _ if input.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(BodyFrame::Data(std::mem::take(input)))),
                State::Sized(left) => {
                    let data = take(input, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::Done } else { State::Sized(left) };
                    return Ok(Some(BodyFrame::Data(data)));
                }
                State::Data(left) => {
                    let data = take(input, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                    return Ok(Some(BodyFrame::Data(data)));
                }
                State::Trailers => {
                    if let Some(trailers) = self.take_trailers(input)? {
                        self.state = State::Done;
                        return Ok(Some(BodyFrame::End(trailers)));
                    }
                }
                _ => {
                    let byte = input[0];
                    *input = &input[1..];
                    self.state = self.state.after(byte, self.grammar)?;
                }
            }
        }
    }

    /// The peer has closed its side: the end of a body that lasts until then, an error for any other.
    pub(super) fn end_of_input(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Disconnected),
        }
    }

    fn take_trailers(&mut self, input: &mut &[u8]) -> Result<Option<Fields>, BodyError> {
        while !input.is_empty() {
            let line_end = input.iter().position(|byte| *byte == b'\n');
            let part = take(input, line_end.map_or(u64::MAX, |at| at as u64 + 1));
            self.section.extend_from_slice(part);
            let bare = line_end.is_some() && !self.section.ends_with(b"\r\n");
            if bare || self.section.len() > MOST_TRAILER_BYTES {
                return Err(MALFORMED_TRAILERS);
            }
            if self.section == b"\r\n" || self.section.ends_with(b"\r\n\r\n") {
                let section = std::mem::take(&mut self.section);
                return checked_trailers(&section).map(Some);
            }
        }
        Ok(None)
    }
}

// === impl State ===

impl State {
    /// The state after one byte of framing.
    fn after(self, byte: u8, grammar: Grammar) -> Result<Self, BodyError> {
        let most_bytes = match grammar {
            Grammar::Strict => MOST_EXTENSION_BYTES,
            Grammar::Liberal => MOST_RESPONSE_EXTENSION_BYTES,
        };
        match (self, byte) {
            (Self::Size { value, digits }, byte)
                if byte.is_ascii_hexdigit()
                    && digits < MOST_SIZE_DIGITS
                    && value <= MOST_BODY_BYTES / 16 =>
            {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Ok(Self::Size { value: value * 16 + u64::from(digit), digits: digits + 1 })
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Ok(Self::SizeLineFeed(value)),
            (Self::Size { value, digits: 1.. }, byte) => {
                let at = ChunkExtension::begin(byte, grammar).ok_or(MALFORMED_CHUNK)?;
                Ok(Self::Extension { value, bytes: 0, at })
            }
            (Self::Extension { value, at, .. }, b'\r') if at.is_complete() => {
                Ok(Self::SizeLineFeed(value))
            }
            (Self::Extension { value, bytes, at }, byte) if bytes < most_bytes => {
                let at = at.after(byte).ok_or(MALFORMED_CHUNK)?;
                Ok(Self::Extension { value, bytes: bytes + 1, at })
            }
            (Self::SizeLineFeed(0), b'\n') => Ok(Self::Trailers),
            (Self::SizeLineFeed(size), b'\n') => Ok(Self::Data(size)),
            (Self::DataReturn, b'\r') => Ok(Self::DataLineFeed),
            (Self::DataLineFeed, b'\n') => Ok(Self::Size { value: 0, digits: 0 }),
            _ => Err(MALFORMED_CHUNK),
        }
    }
}

fn take<'a>(input: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at(length);
    *input = rest;
    taken
}

/// The lines of a trailer section that are kept.
fn checked_trailers(section: &[u8]) -> Result<Fields, BodyError> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let parsed = match httparse::parse_headers(section, &mut lines) {
        Ok(httparse::Status::Complete((_, lines))) => lines,
        _ => return Err(MALFORMED_TRAILERS),
    };
    let mut kept = FieldsBuilder::default();
    for line in parsed {
        if FieldKind::of(line.name.as_bytes()).may_be_trailer() {
            kept.line(line.name.as_bytes(), line.value);
        }
    }
    Ok(kept.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, the trailers and what was left.
    type Decoded = (Vec<u8>, Vec<u8>, Vec<u8>);

    /// Decodes `input` given in parts of `step` bytes.
    fn decode(framing: Framing, input: &[u8], step: usize) -> Result<Decoded, BodyError> {
        let mut decoder = Decoder::new(framing, Grammar::Liberal);
        let mut data = Vec::new();
        let mut at = 0;
        while at < input.len() {
            let end = (at + step).min(input.len());
            let mut part = &input[at..end];
            loop {
                match decoder.decode(&mut part)? {
                    Some(BodyFrame::Data(piece)) => data.extend_from_slice(piece),
                    None => break,
                    Some(BodyFrame::End(fields)) => {
                        let left = [part, &input[end..]].concat();
                        let mut trailers = Vec::new();
                        for line in fields.iter() {
                            trailers.extend([line.name, b": ", line.value, b"\r\n"].concat());
                        }
                        return Ok((data, trailers, left));
                    }
                }
            }
            at = end;
        }
        decoder.end_of_input()?;
        Ok((data, Vec::new(), Vec::new()))
    }

    #[test]
    fn chunks_decode_to_the_same_frames_however_they_are_cut() {
        let input = b"5;a=\"b\"\r\nhello\r\nA \r\n, world!!!\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\nGET /";
        for step in 1..=input.len() {
            let (data, trailers, left) = decode(Framing::Chunked, input, step).unwrap();
            assert_eq!(data, b"hello, world!!!", "step {step}");
            assert_eq!(trailers, b"X-Sum: 1\r\n", "a framing field is no trailer");
            assert_eq!(left, b"GET /");
        }
    }

    #[test]
    fn sizes_of_16_digits_and_long_extensions_of_an_application_are_accepted() {
        let extension = "x".repeat(10_000);
        let input = format!("0000000000000005;a={extension}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(decode(Framing::Chunked, input.as_bytes(), 7).unwrap().0, b"hello");
    }

    #[test]
    fn malformed_chunks_are_rejected() {
        for input in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"\r\nhello",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"fffffffffffffffff\r\n",
            b"8000000000000000\r\n",
            b"00000000000000005\r\nhello\r\n0\r\n\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\nX: y\n\r\n\r\n",
            b"5\r\nhel",
        ] {
            assert!(
                decode(Framing::Chunked, input, 3).is_err(),
                "{:?}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn a_body_with_a_length_ends_after_that_many_bytes() {
        assert_eq!(decode(Framing::Sized(3), b"abcdef", 2).unwrap().2, b"def");
        assert_eq!(decode(Framing::Sized(9), b"abc", 2).unwrap_err(), BodyError::Disconnected);
        assert_eq!(decode(Framing::UntilClose, b"abc", 2).unwrap().0, b"abc");
    }
}
