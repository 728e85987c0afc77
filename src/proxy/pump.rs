//! Moves one body from one connection to the other as it comes, with backpressure. It keeps nothing back.

use std::io;
use std::task::{Context, Poll, ready};

use crate::http::http1::body::{BodyError, Decoder, Piece};
use crate::http::http1::framing::Length;
use crate::net::scratch::{self, Scratch};
use crate::net::stream::Stream;

/// The way of a body from its sender to its recipient.
#[derive(Debug)]
pub struct Pump {
    decoder: Decoder,
    /// The framing towards the recipient.
    framing: Length,
    /// Neither side is chunked.
    plain: bool,
    finished: bool,
    moved: u64,
    /// Most bytes of body that may be moved.
    most: u64,
}

/// Which side ended the way of a body.
#[derive(Debug)]
pub enum PumpError {
    /// The sender went away.
    Sender,
    /// The sender did not keep to its framing.
    Malformed(BodyError),
    /// The body is larger than it may be.
    TooLarge,
    /// The recipient went away.
    Recipient(io::Error),
}

// === impl Pump ===

impl Pump {
    pub fn new(from: Length, to: Length, most: Option<u64>) -> Self {
        Self {
            decoder: Decoder::new(from),
            framing: to,
            plain: from != Length::Chunked && to != Length::Chunked,
            finished: from == Length::Empty,
            moved: 0,
            most: most.unwrap_or(u64::MAX),
        }
    }

    /// The whole body has been passed on, though some of it may still wait for room in the socket.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Appends what `input` holds of the body, in the recipient's framing; returns how much it was.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, PumpError> {
        let mut rest = input;
        while !self.finished {
            match self.decoder.decode(&mut rest).map_err(PumpError::Malformed)? {
                Piece::Data(data) => {
                    self.count(data)?;
                    self.framing.encode(data, out);
                }
                Piece::More => break,
                Piece::End => self.finish(out),
            }
            if self.decoder.is_done() && !self.finished {
                self.finish(out);
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Moves what can be moved; ready when the body has ended and all of it is in the socket.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            ready!(to.poll_flush(cx)).map_err(PumpError::Recipient)?;
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            ready!(scratch::lend(|scratch| self.step(cx, from, to, scratch)))?;
        }
    }

    /// One read and what follows from it.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        scratch: &mut Scratch,
    ) -> Poll<Result<(), PumpError>> {
        let length =
            ready!(from.poll_read(cx, &mut scratch.input)).map_err(|_| PumpError::Sender)?;
        let Scratch { input, output } = scratch;
        if length == 0 {
            self.decoder.end_of_input().map_err(|_| PumpError::Sender)?;
            self.finish(output);
        } else if self.plain {
            let mut rest = &input[..length];
            let data = self.take_plain(&mut rest)?;
            from.unread(rest);
            return Poll::Ready(to.send(cx, data).map_err(PumpError::Recipient));
        } else {
            let used = self.feed(&input[..length], output)?;
            from.unread(&input[used..length]);
        }
        Poll::Ready(to.send(cx, output).map_err(PumpError::Recipient))
    }

    /// The next bytes of a body without chunks on either side: they are sent from where they lie.
    fn take_plain<'a>(&mut self, rest: &mut &'a [u8]) -> Result<&'a [u8], PumpError> {
        let Ok(Piece::Data(data)) = self.decoder.decode(rest) else {
            return Err(PumpError::Sender);
        };
        self.count(data)?;
        self.finished = self.decoder.is_done();
        Ok(data)
    }

    fn count(&mut self, data: &[u8]) -> Result<(), PumpError> {
        self.moved += data.len() as u64;
        if self.moved > self.most { Err(PumpError::TooLarge) } else { Ok(()) }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.framing.finish(self.decoder.trailers(), out);
        self.finished = true;
    }
}
