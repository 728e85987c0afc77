//! The field lines of a head as they came: order, case and bytes kept. It never changes a value.

use std::ops::Range;

/// The field section of a message (RFC 9110 section 5).
///
/// One buffer and an index into it, so that a line that is passed on costs one copy and a held
/// request keeps little more than the bytes its client sent. `http::HeaderMap` would lower-case the
/// names and group the lines.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    raw: Box<[u8]>,
    lines: Box<[Indexed]>,
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub kind: Kind,
    pub name: &'a [u8],
    /// Without the white space around it.
    pub value: &'a [u8],
}

/// The names that a proxy has to understand; all others pass as `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connection,
    ContentLength,
    Expect,
    Forwarded,
    Host,
    KeepAlive,
    Other,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
}

/// What `Connection` asks for (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Names field lines of the sender's own that must not be passed on.
    pub names_others: bool,
}

#[derive(Clone, Copy, Debug)]
struct Indexed {
    name: u32,
    value: u32,
    value_len: u32,
    name_len: u32,
    kind: Kind,
}

// === impl Fields ===

impl Fields {
    /// Copies `head` and indexes the lines that `parsed` found inside it.
    pub(in crate::http) fn index(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let offset = |part: &[u8]| (part.as_ptr() as usize - head.as_ptr() as usize) as u32;
        let lines = parsed
            .iter()
            .map(|header| Indexed {
                name: offset(header.name.as_bytes()),
                name_len: header.name.len() as u32,
                value: if header.value.is_empty() { 0 } else { offset(header.value) },
                value_len: header.value.len() as u32,
                kind: Kind::of(header.name.as_bytes()),
            })
            .collect();
        Self { raw: head.into(), lines }
    }

    pub fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines.iter().map(|line| Line {
            kind: line.kind,
            name: self.slice(line.name, line.name_len as usize),
            value: self.slice(line.value, line.value_len as usize),
        })
    }

    /// The values of every line of this kind, in order.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            .filter(move |line| line.kind == kind)
            .map(|line| self.slice(line.value, line.value_len as usize))
    }

    pub fn has(&self, kind: Kind) -> bool {
        self.lines.iter().any(|line| line.kind == kind)
    }

    pub fn connection(&self) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        for option in self.all(Kind::Connection).flat_map(list) {
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                options.names_others = true;
            }
        }
        options
    }

    /// Whether some `Connection` line names this field, so that it ends at this hop.
    pub fn connection_names(&self, name: &[u8]) -> bool {
        self.all(Kind::Connection).flat_map(list).any(|option| option.eq_ignore_ascii_case(name))
    }

    /// A part of the head that was indexed, such as the request target.
    pub(in crate::http) fn raw(&self, range: Range<usize>) -> &[u8] {
        &self.raw[range]
    }

    fn slice(&self, start: u32, len: usize) -> &[u8] {
        &self.raw[start as usize..start as usize + len]
    }
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1), empty ones left out.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

// === impl Kind ===

impl Kind {
    pub(in crate::http) fn of(name: &[u8]) -> Self {
        let (candidates, kinds): (&[&[u8]], &[Self]) = match name.len() {
            2 => (&[b"te"], &[Self::Te]),
            4 => (&[b"host"], &[Self::Host]),
            6 => (&[b"expect"], &[Self::Expect]),
            7 => (&[b"upgrade"], &[Self::Upgrade]),
            9 => (&[b"forwarded"], &[Self::Forwarded]),
            10 => (&[b"connection", b"keep-alive"], &[Self::Connection, Self::KeepAlive]),
            14 => (&[b"content-length"], &[Self::ContentLength]),
            15 => (&[b"x-forwarded-for"], &[Self::XForwardedFor]),
            16 => (
                &[b"x-forwarded-host", b"proxy-connection"],
                &[Self::XForwardedHost, Self::ProxyConnection],
            ),
            17 => (
                &[b"transfer-encoding", b"x-forwarded-proto"],
                &[Self::TransferEncoding, Self::XForwardedProto],
            ),
            _ => return Self::Other,
        };
        candidates
            .iter()
            .position(|candidate| name.eq_ignore_ascii_case(candidate))
            .map_or(Self::Other, |at| kinds[at])
    }
}
