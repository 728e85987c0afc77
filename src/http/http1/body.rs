//! Takes the framing off a message body: sizes, chunks, trailers (RFC 9112 section 7). It reads no socket.

use super::framing::Length;
use crate::http::fields::Kind;

/// Takes the framing off a body, piece by piece.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The trailer section, each line with its CR LF, as it will be passed on.
    trailers: Vec<u8>,
}

/// What `Decoder::decode` found at the front of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Data(&'a [u8]),
    /// The input is used up and the body has not ended.
    More,
    /// The body has ended; what is left of the input belongs to the next message.
    End,
}

/// The body is not what its framing promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub enum BodyError {
    Chunk,
    Trailers,
    Short,
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
    /// Between a chunk's size and its CR: an extension, read and dropped.
    Extension {
        value: u64,
        bytes: u16,
    },
    SizeLineFeed(u64),
    Data(u64),
    DataReturn,
    DataLineFeed,
    /// Reading the trailer section up to its empty line.
    Trailers,
    Done,
}

/// A trailer section larger than this is refused.
const MOST_TRAILER_BYTES: usize = 8 * 1024;
/// Chunk extensions are read and dropped (RFC 9112 section 7.1.1), but not without end.
const MOST_EXTENSION_BYTES: u16 = 1024;

// === impl Decoder ===

impl Decoder {
    pub fn new(length: Length) -> Self {
        let state = match length {
            Length::Empty => State::Done,
            Length::Sized(length) => State::Sized(length),
            Length::Chunked => State::Size { value: 0, digits: 0 },
            Length::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Vec::new() }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer lines passed on after a chunked body (RFC 9110 section 6.5).
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Takes the next piece off the front of `input`.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Piece<'a>, BodyError> {
        loop {
            match self.state {
                State::Done => return Ok(Piece::End),
                _ if input.is_empty() => return Ok(Piece::More),
                State::UntilClose => return Ok(Piece::Data(std::mem::take(input))),
                State::Sized(left) => {
                    let data = take(input, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::Done } else { State::Sized(left) };
                    return Ok(Piece::Data(data));
                }
                State::Data(left) => {
                    let data = take(input, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::DataReturn } else { State::Data(left) };
                    return Ok(Piece::Data(data));
                }
                State::Trailers => self.take_trailers(input)?,
                _ => {
                    let byte = input[0];
                    *input = &input[1..];
                    self.state = self.state.after(byte)?;
                }
            }
        }
    }

    /// The peer has closed: the end of a body that lasts until then, an error for any other.
    pub fn end_of_input(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(BodyError::Short),
        }
    }

    fn take_trailers(&mut self, input: &mut &[u8]) -> Result<(), BodyError> {
        while self.state == State::Trailers && !input.is_empty() {
            let line_end = input.iter().position(|byte| *byte == b'\n');
            let part = take(input, line_end.map_or(u64::MAX, |at| at as u64 + 1));
            self.trailers.extend_from_slice(part);
            let bare = line_end.is_some() && !self.trailers.ends_with(b"\r\n");
            if bare || self.trailers.len() > MOST_TRAILER_BYTES {
                return Err(BodyError::Trailers);
            }
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                self.trailers = checked_trailers(&self.trailers)?;
                self.state = State::Done;
            }
        }
        Ok(())
    }
}

// === impl BodyError ===

impl BodyError {
    /// For the sender.
    pub fn words(self) -> &'static str {
        match self {
            Self::Chunk => "a chunk is malformed",
            Self::Trailers => "the trailer section is malformed or too large",
            Self::Short => "the body ended early",
        }
    }
}

// === impl State ===

impl State {
    /// The state after one byte of framing.
    fn after(self, byte: u8) -> Result<Self, BodyError> {
        match (self, byte) {
            (Self::Size { value, digits }, byte) if byte.is_ascii_hexdigit() && digits < 15 => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Ok(Self::Size { value: value * 16 + u64::from(digit), digits: digits + 1 })
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Ok(Self::SizeLineFeed(value)),
            (Self::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => {
                Ok(Self::Extension { value, bytes: 0 })
            }
            (Self::Extension { value, .. }, b'\r') => Ok(Self::SizeLineFeed(value)),
            (Self::Extension { value, bytes }, b'\t' | b' '..=b'~' | 0x80..)
                if bytes < MOST_EXTENSION_BYTES =>
            {
                Ok(Self::Extension { value, bytes: bytes + 1 })
            }
            (Self::SizeLineFeed(0), b'\n') => Ok(Self::Trailers),
            (Self::SizeLineFeed(size), b'\n') => Ok(Self::Data(size)),
            (Self::DataReturn, b'\r') => Ok(Self::DataLineFeed),
            (Self::DataLineFeed, b'\n') => Ok(Self::Size { value: 0, digits: 0 }),
            _ => Err(BodyError::Chunk),
        }
    }
}

fn take<'a>(input: &mut &'a [u8], most: u64) -> &'a [u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (taken, rest) = input.split_at(length);
    *input = rest;
    taken
}

/// Keeps the lines a recipient may merge; framing and routing fields have no place in a trailer
/// section (RFC 9110 section 6.5.1).
fn checked_trailers(section: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let parsed = match httparse::parse_headers(section, &mut lines) {
        Ok(httparse::Status::Complete((_, lines))) => lines,
        _ => return Err(BodyError::Trailers),
    };
    let mut kept = Vec::with_capacity(section.len());
    for line in parsed {
        if Kind::of(line.name.as_bytes()) == Kind::Other {
            for part in [line.name.as_bytes(), b": ", line.value, b"\r\n"] {
                kept.extend_from_slice(part);
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data, the trailers and what was left.
    type Decoded = (Vec<u8>, Vec<u8>, Vec<u8>);

    /// Decodes `input` given in pieces of `step` bytes.
    fn decode(length: Length, input: &[u8], step: usize) -> Result<Decoded, BodyError> {
        let mut decoder = Decoder::new(length);
        let mut data = Vec::new();
        let mut at = 0;
        while at < input.len() {
            let end = (at + step).min(input.len());
            let mut part = &input[at..end];
            loop {
                match decoder.decode(&mut part)? {
                    Piece::Data(piece) => data.extend_from_slice(piece),
                    Piece::More => break,
                    Piece::End => {
                        let left = [part, &input[end..]].concat();
                        return Ok((data, decoder.trailers().to_vec(), left));
                    }
                }
            }
            at = end;
        }
        decoder.end_of_input()?;
        Ok((data, decoder.trailers().to_vec(), Vec::new()))
    }

    #[test]
    fn chunks_decode_alike_however_they_are_cut() {
        let input = b"5;a=\"b\"\r\nhello\r\nA \r\n, world!!!\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\nGET /";
        for step in 1..=input.len() {
            let (data, trailers, left) = decode(Length::Chunked, input, step).unwrap();
            assert_eq!(data, b"hello, world!!!", "step {step}");
            assert_eq!(trailers, b"X-Sum: 1\r\n", "a framing field is no trailer");
            assert_eq!(left, b"GET /");
        }
    }

    #[test]
    fn bad_chunks_are_refused() {
        for input in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"\r\nhello",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"0\r\nX: y\n\r\n\r\n",
            b"5\r\nhel",
        ] {
            assert!(
                decode(Length::Chunked, input, 3).is_err(),
                "{:?}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn a_sized_body_ends_where_it_said() {
        assert_eq!(decode(Length::Sized(3), b"abcdef", 2).unwrap().2, b"def");
        assert_eq!(decode(Length::Sized(9), b"abc", 2).unwrap_err(), BodyError::Short);
        assert_eq!(decode(Length::UntilClose, b"abc", 2).unwrap().0, b"abc");
    }

    #[test]
    fn encoding_gives_what_decoding_takes() {
        let mut out = Vec::new();
        Length::Chunked.encode(&[b'x'; 300], &mut out);
        Length::Chunked.finish(b"A: b\r\n", &mut out);
        let (data, trailers, left) = decode(Length::Chunked, &out, 7).unwrap();
        assert_eq!((data.len(), &trailers[..], &left[..]), (300, &b"A: b\r\n"[..], &b""[..]));
    }
}
