//! The field lines of a message head or a trailer section, with their order, case and bytes as received.

/// The field section of a message (RFC 9110 section 5).
///
/// One buffer and an index into it: a line that is passed on costs one copy, and a held request keeps little more than
/// the bytes that its client sent. `http::HeaderMap` would lower-case the names and group the lines.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    raw: Box<[u8]>,
    lines: Box<[IndexedLine]>,
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldLine<'a> {
    pub kind: FieldKind,
    pub name: &'a [u8],
    /// Without the white space around it.
    pub value: &'a [u8],
}

/// The field names that the proxy interprets; all others are `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
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
    /// It also names field lines that must not be passed on.
    pub names_others: bool,
}

/// Collects field lines that were not received as one text: those of agimo's own responses, of trailer sections, and
/// of codecs that decode each line by itself.
#[derive(Debug, Default)]
pub struct FieldsBuilder {
    raw: Vec<u8>,
    lines: Vec<IndexedLine>,
}

/// A part of the buffer of `Fields`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    length: u32,
}

#[derive(Clone, Copy, Debug)]
struct IndexedLine {
    name: Span,
    value: Span,
    kind: FieldKind,
}

// === impl Fields ===

impl Fields {
    /// Copies `head` and indexes the lines of it that are in `parsed`.
    pub(in crate::http) fn index(head: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let lines = parsed
            .iter()
            .map(|header| IndexedLine {
                name: Span::of(header.name.as_bytes(), head),
                value: Span::of(header.value, head),
                kind: FieldKind::of(header.name.as_bytes()),
            })
            .collect();
        Self { raw: head.into(), lines }
    }

    pub fn iter(&self) -> impl Iterator<Item = FieldLine<'_>> {
        self.lines.iter().map(|line| FieldLine {
            kind: line.kind,
            name: self.bytes(line.name),
            value: self.bytes(line.value),
        })
    }

    /// The values of every line of this kind, in order.
    pub fn all(&self, kind: FieldKind) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |line| line.kind == kind).map(|line| self.bytes(line.value))
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn has(&self, kind: FieldKind) -> bool {
        self.lines.iter().any(|line| line.kind == kind)
    }

    pub fn connection(&self) -> ConnectionOptions {
        let mut options = ConnectionOptions::default();
        for option in self.all(FieldKind::Connection).flat_map(list_members) {
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

    /// Whether a `Connection` line names this field, so that it is not passed on.
    pub fn connection_names(&self, name: &[u8]) -> bool {
        self.all(FieldKind::Connection)
            .flat_map(list_members)
            .any(|option| option.eq_ignore_ascii_case(name))
    }

    /// The value of the first line of this kind.
    pub(in crate::http) fn span_of(&self, kind: FieldKind) -> Option<Span> {
        self.lines.iter().find(|line| line.kind == kind).map(|line| line.value)
    }

    /// A part of the buffer: of a field line, or one that is none, such as the request path.
    pub(in crate::http) fn bytes(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.raw[start..start + span.length as usize]
    }
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1), without empty ones.
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

// === impl FieldsBuilder ===

impl FieldsBuilder {
    /// Appends a line; `value` is what the line has after the white space around it is removed.
    pub fn line(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        let line = IndexedLine {
            name: self.bytes(name),
            value: self.bytes(value),
            kind: FieldKind::of(name),
        };
        self.lines.push(line);
        self
    }

    /// Appends bytes: those of a field line, or others.
    pub(in crate::http) fn bytes(&mut self, bytes: &[u8]) -> Span {
        let start = self.raw.len() as u32;
        self.raw.extend_from_slice(bytes);
        Span { start, length: bytes.len() as u32 }
    }

    pub fn build(self) -> Fields {
        Fields { raw: self.raw.into(), lines: self.lines.into() }
    }
}

// === impl Span ===

impl Span {
    /// The place of `part` inside of `whole`, of which it is a slice.
    pub(in crate::http) fn of(part: &[u8], whole: &[u8]) -> Self {
        if part.is_empty() {
            return Self::default();
        }
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Self { start: start as u32, length: part.len() as u32 }
    }
}

// === impl FieldKind ===

impl FieldKind {
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
