//! Heads on their way to the next hop: which field lines are passed on, and which are added, in every version of HTTP.

use http::{StatusCode, Version};

use super::fields::{FieldKind, FieldLine, list_members};
use super::forwarded::{ClientIdentity, FieldSink, is_hop_by_hop};
use super::message::{RequestHead, ResponseHead};
use super::trace_context::TraceParent;

/// A request on its way to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingRequest<'a> {
    pub head: &'a RequestHead,
    /// What the endpoint is told about the client.
    pub client: &'a ClientIdentity,
    /// The start of the path that the endpoint does not see; empty for none. It gets it as `X-Forwarded-Prefix`.
    pub stripped_prefix: &'a [u8],
    /// This agimo in `Via` (RFC 9110 section 7.6.3).
    pub via: &'a [u8],
    /// The span of agimo that the endpoint is to continue, in place of what the client sent; absent where there is none.
    pub trace: Option<OutgoingTrace>,
}

/// The trace context of a request that has a span of agimo (W3C Trace Context).
#[derive(Clone, Copy, Debug)]
pub struct OutgoingTrace {
    pub parent: TraceParent,
    /// The client sent no valid `traceparent`, so that its `tracestate` belongs to no trace (section 3.3).
    pub is_new: bool,
}

/// Whether this `TE` line says that the sender accepts trailers (RFC 9110 section 10.1.4).
pub(super) fn asks_for_trailers(te: &FieldLine<'_>) -> bool {
    list_members(te.value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

// === impl OutgoingRequest ===

impl<'a> OutgoingRequest<'a> {
    /// The path that the endpoint sees, in two parts: a slash, where the rest has lost its own.
    pub fn path(&self) -> [&'a [u8]; 2] {
        let path = self.head.path();
        match path.strip_prefix(self.stripped_prefix) {
            Some(rest) if !self.stripped_prefix.is_empty() => {
                [if rest.first() == Some(&b'/') { b"" } else { b"/" }, rest]
            }
            _ => [b"", path],
        }
    }

    /// Writes the field lines of the request, those of the client in their order. `write_version_specific` writes what differs
    /// between versions of HTTP: it is called for each `Host`, `Upgrade`, `TE` and `Cookie`.
    pub fn write_fields<S: FieldSink>(
        &self,
        sink: &mut S,
        mut write_version_specific: impl FnMut(&mut S, &FieldLine<'_>),
    ) {
        let Self { head, client, stripped_prefix, via, trace } = self;
        let fields = &head.fields;
        let options = fields.connection();
        let mut earlier_prefix: &[u8] = b"";
        for field in fields.iter() {
            match field.kind {
                FieldKind::Host | FieldKind::Upgrade | FieldKind::Te | FieldKind::Cookie => {
                    write_version_specific(sink, &field);
                }
                FieldKind::MaxForwards if head.max_forwards().is_some() => {
                    let left = head.max_forwards().unwrap_or_default().saturating_sub(1);
                    sink.line(field.name, left.to_string().as_bytes());
                }
                kind if !client.passes_on(kind) => {}
                FieldKind::ForwardedOther
                    if !stripped_prefix.is_empty()
                        && field.name.eq_ignore_ascii_case(b"x-forwarded-prefix") =>
                {
                    earlier_prefix = field.value;
                }
                _ if trace.is_some_and(|trace| trace.replaces(&field)) => {}
                _ if is_hop_by_hop(&field, fields, options) => {}
                _ => sink.line(field.name, field.value),
            }
        }
        if let Some(trace) = trace {
            sink.line(b"traceparent", trace.parent.to_string().as_bytes());
        }
        client.write_fields(fields, head.authority().unwrap_or_default(), sink);
        if !stripped_prefix.is_empty() {
            sink.start_line(b"X-Forwarded-Prefix");
            sink.value(earlier_prefix.strip_suffix(b"/").unwrap_or(earlier_prefix));
            sink.value(stripped_prefix);
            sink.end_line();
        }
        sink.start_line(b"Via");
        sink.value(match head.version {
            Version::HTTP_10 => b"1.0 ",
            Version::HTTP_2 => b"2.0 ",
            _ => b"1.1 ",
        });
        sink.value(via);
        sink.end_line();
    }
}

// === impl OutgoingTrace ===

impl OutgoingTrace {
    fn replaces(&self, field: &FieldLine<'_>) -> bool {
        field.name.eq_ignore_ascii_case(b"traceparent")
            || (self.is_new && field.name.eq_ignore_ascii_case(b"tracestate"))
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// Whether it names protocols in `Upgrade`: it switches to them, or demands it (RFC 9110 sections 7.8 and 15.5.22).
    pub fn names_protocols(&self) -> bool {
        matches!(self.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED)
    }

    /// Writes the field lines of the response that are passed on, in their order. `Upgrade` is left to the codec.
    pub fn write_fields<S: FieldSink>(
        &self,
        sink: &mut S,
        mut write_upgrade: impl FnMut(&mut S, &FieldLine<'_>),
    ) {
        let options = self.fields.connection();
        let mut declared_length = self.declared_length;
        for field in self.fields.iter() {
            match field.kind {
                FieldKind::Upgrade => write_upgrade(sink, &field),
                // Once, in one form, and only where it may be.
                FieldKind::ContentLength => {
                    if let Some(length) = declared_length.take() {
                        sink.line(field.name, length.to_string().as_bytes());
                    }
                }
                // Only agimo's own responses say so.
                FieldKind::AgimoOwn if !self.is_own => {}
                _ if is_hop_by_hop(&field, &self.fields, options) => {}
                _ => sink.line(field.name, field.value),
            }
        }
    }
}
