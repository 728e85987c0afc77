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
    /// `X-Agimo-*`, with which agimo marks its own responses.
    AgimoOwn,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Expect,
    Forwarded,
    /// A field about the client whose name an application may read as one that agimo writes or checks: CGI, and with it
    /// WSGI, Rack and PHP, replace `-` and sometimes every other character with `_` (RFC 3875 section 4.1.18).
    ForwardedDisguised,
    /// `X-Real-IP` and each `X-Forwarded-*` that agimo does not write itself.
    ForwardedOther,
    Host,
    KeepAlive,
    MaxForwards,
    Other,
    ProxyConnection,
    Te,
    TransferEncoding,
    Upgrade,
    Via,
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

    /// The value of the first line of this name, which need not be one of the kinds.
    pub fn named(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// The same lines and one more.
    pub fn with_line(&self, name: &[u8], value: &[u8]) -> Self {
        let (raw, lines) = (self.raw.to_vec(), self.lines.to_vec());
        let mut builder = FieldsBuilder { raw, lines };
        builder.line(name, value);
        builder.build()
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

/// Whether a token may hold the byte (RFC 9110 section 5.6.2).
pub(in crate::http) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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
        if let Some(b'x' | b'X') = name.first() {
            return Self::of_x(name);
        }
        let (candidates, kinds): (&[&[u8]], &[Self]) = match name.len() {
            2 => (&[b"te"], &[Self::Te]),
            3 => (&[b"via"], &[Self::Via]),
            4 => (&[b"host"], &[Self::Host]),
            6 => (&[b"cookie", b"expect"], &[Self::Cookie, Self::Expect]),
            7 => (&[b"upgrade"], &[Self::Upgrade]),
            9 => (&[b"forwarded"], &[Self::Forwarded]),
            10 => (&[b"connection", b"keep-alive"], &[Self::Connection, Self::KeepAlive]),
            12 => (&[b"content-type", b"max-forwards"], &[Self::ContentType, Self::MaxForwards]),
            14 => (&[b"content-length"], &[Self::ContentLength]),
            16 => (&[b"proxy-connection"], &[Self::ProxyConnection]),
            17 => (&[b"transfer-encoding"], &[Self::TransferEncoding]),
            _ => return Self::Other,
        };
        candidates
            .iter()
            .position(|candidate| name.eq_ignore_ascii_case(candidate))
            .map_or(Self::Other, |at| kinds[at])
    }

    /// Whether a line of this kind is kept in a trailer section. Some applications merge trailers with the head, so those that
    /// frame, route or describe the message are not (RFC 9110 section 6.5.1).
    pub(in crate::http) fn may_be_trailer(self) -> bool {
        self == Self::Other
    }

    /// The kind of a name that begins with `x`.
    fn of_x(name: &[u8]) -> Self {
        let is_disguised = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'-';
        let kind = if folded_prefix(name, b"x-forwarded-") {
            match name.len() {
                15 if folded_prefix(name, b"x-forwarded-for") => Self::XForwardedFor,
                16 if folded_prefix(name, b"x-forwarded-host") => Self::XForwardedHost,
                17 if folded_prefix(name, b"x-forwarded-proto") => Self::XForwardedProto,
                _ => Self::ForwardedOther,
            }
        } else if name.len() == 9 && folded_prefix(name, b"x-real-ip") {
            Self::ForwardedOther
        } else if folded_prefix(name, b"x-agimo-") {
            return Self::AgimoOwn;
        } else {
            return Self::Other;
        };
        if name.iter().any(is_disguised) { Self::ForwardedDisguised } else { kind }
    }
}

/// Whether a name begins with `prefix`, which is in lower case, when every character that is no letter or digit counts
/// as `-`.
fn folded_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name.iter().zip(prefix).all(|(byte, expected)| match byte.to_ascii_lowercase() {
            byte if byte.is_ascii_alphanumeric() => byte == *expected,
            _ => *expected == b'-',
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_an_application_may_fold_to_a_forwarding_field_is_known() {
        for (name, kind) in [
            ("X-Forwarded-For", FieldKind::XForwardedFor),
            ("x-forwarded-PROTO", FieldKind::XForwardedProto),
            ("X_Forwarded_For", FieldKind::ForwardedDisguised),
            ("X-Forwarded_Host", FieldKind::ForwardedDisguised),
            ("x.forwarded.proto", FieldKind::ForwardedDisguised),
            ("X_Forwarded_Ssl", FieldKind::ForwardedDisguised),
            ("X_Real_Ip", FieldKind::ForwardedDisguised),
            ("X-Real-IP", FieldKind::ForwardedOther),
            ("X-Forwarded-Port", FieldKind::ForwardedOther),
            ("X-Forwarded-Prefix", FieldKind::ForwardedOther),
            ("X-Forwarded-Server", FieldKind::ForwardedOther),
            ("X-Forwarded", FieldKind::Other),
            ("X-Forwardedx-For", FieldKind::Other),
            ("Forwarded", FieldKind::Forwarded),
            ("x-agimo-reason", FieldKind::AgimoOwn),
            ("X-Real-IPs", FieldKind::Other),
        ] {
            assert_eq!(FieldKind::of(name.as_bytes()), kind, "{name}");
        }
    }
}
