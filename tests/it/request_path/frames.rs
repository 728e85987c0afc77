//! The frames of the second codec as bytes and as text.

use agimo::http::body::{BodyError, BodyFrame, BodyFrames};
use agimo::http::fields::{Fields, FieldsBuilder};
use agimo::http::forwarded::{FieldSink, is_hop_by_hop};
use agimo::http::message::{BodyLength, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(super) const REQUEST: u8 = b'Q';
pub(super) const INFORMATIONAL: u8 = b'I';
pub(super) const RESPONSE: u8 = b'R';
pub(super) const DATA: u8 = b'D';
pub(super) const END: u8 = b'E';

/// Kind, and length of the payload.
pub(super) const FRAME_HEAD: usize = 5;

/// Field lines as `name: value`.
pub(super) struct Lines(pub(super) String);

// === impl Lines ===

impl FieldSink for Lines {
    fn start_line(&mut self, name: &[u8]) {
        self.0.push_str(&format!("{}: ", String::from_utf8_lossy(name)));
    }

    fn value(&mut self, part: &[u8]) {
        self.0.push_str(&String::from_utf8_lossy(part));
    }

    fn end_line(&mut self) {
        self.0.push('\n');
    }
}

/// A frame as bytes.
pub(super) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What the other side of a connection in memory does: a test writes frames, and reads them as text.
pub(super) async fn write(io: &mut DuplexStream, frames: &[(u8, &str)]) {
    for (kind, payload) in frames {
        io.write_all(&frame(*kind, payload.as_bytes())).await.unwrap();
    }
}

/// Reads frames up to the next of this kind; returns kind and payload of each, in order.
pub(super) async fn read_to(io: &mut DuplexStream, last: u8) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    loop {
        let kind = io.read_u8().await.unwrap();
        let mut payload = vec![0; io.read_u32().await.unwrap() as usize];
        io.read_exact(&mut payload).await.unwrap();
        frames.push((kind, String::from_utf8(payload).unwrap()));
        if kind == last {
            return frames;
        }
    }
}

pub(super) fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..FRAME_HEAD)?.try_into().unwrap();
    let whole = FRAME_HEAD + u32::from_be_bytes(length) as usize;
    (bytes.len() >= whole).then_some(whole)
}

pub(super) fn append(frames: &mut dyn BodyFrames<'_>, out: &mut Vec<u8>) -> Result<(), BodyError> {
    while let Some(next) = frames.next()? {
        match next {
            BodyFrame::Data(data) => out.extend(frame(DATA, data)),
            BodyFrame::End(trailers) => {
                out.extend(frame(END, text_of(&trailers).as_bytes()));
                break;
            }
        }
    }
    Ok(())
}

pub(super) fn response_text(head: &ResponseHead) -> String {
    format!("{} {}\n{}", head.status.as_u16(), body_text(head.body), text_of(&head.fields))
}

fn text_of(fields: &Fields) -> String {
    let mut lines = Lines(String::new());
    let options = fields.connection();
    for line in fields.iter().filter(|line| !is_hop_by_hop(line, fields, options)) {
        lines.line(line.name, line.value);
    }
    lines.0
}

pub(super) fn fields<'l>(lines: impl Iterator<Item = &'l str>) -> FieldsBuilder {
    let mut fields = FieldsBuilder::default();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        fields.line(name.as_bytes(), value.as_bytes());
    }
    fields
}

pub(super) fn body_text(body: BodyLength) -> String {
    match body {
        BodyLength::None => "none".to_owned(),
        BodyLength::Known(length) => length.to_string(),
        BodyLength::Unknown => "unknown".to_owned(),
    }
}

pub(super) fn body_length(text: &str) -> BodyLength {
    match text {
        "none" => BodyLength::None,
        "unknown" => BodyLength::Unknown,
        length => BodyLength::Known(length.parse().unwrap()),
    }
}
