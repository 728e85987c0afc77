//! Which field lines a proxy passes on, and the lines by which it tells the next hop about the client.

use std::net::IpAddr;

use ipnet::IpNet;

use super::fields::{ConnectionOptions, FieldKind, FieldLine, Fields};

/// What the next hop is told about the client (RFC 7239, and the older `X-Forwarded-*` fields).
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    address: Box<str>,
    /// The peer is a trusted proxy: what it says about earlier hops is passed on.
    trusted: bool,
}

/// Where a codec writes field lines, each in turn.
pub trait FieldSink {
    fn start_line(&mut self, name: &[u8]);

    /// Appends to the value of the line.
    fn value(&mut self, part: &[u8]);

    fn end_line(&mut self);

    /// A whole line.
    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.start_line(name);
        self.value(value);
        self.end_line();
    }
}

// === impl ClientIdentity ===

impl ClientIdentity {
    pub fn new(address: IpAddr, trusted_proxies: &[IpNet]) -> Self {
        let address = address.to_canonical();
        let trusted = trusted_proxies.iter().any(|network| network.contains(&address));
        Self { address: address.to_string().into(), trusted }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether a line of the request that tells about the client is passed on as received. The others are written anew
    /// by `write_fields`.
    pub fn passes_on(&self, kind: FieldKind) -> bool {
        match kind {
            FieldKind::XForwardedFor | FieldKind::Forwarded => false,
            FieldKind::XForwardedProto | FieldKind::XForwardedHost => self.trusted,
            _ => true,
        }
    }

    /// Writes `X-Forwarded-*` and `Forwarded` for a request with these fields; this hop is the last of each.
    pub fn write_fields(&self, fields: &Fields, host: &[u8], sink: &mut impl FieldSink) {
        let earlier = |kind| fields.all(kind).filter(|_| self.trusted);
        let address = self.address.as_bytes();
        join(sink, b"X-Forwarded-For", earlier(FieldKind::XForwardedFor), &[address]);
        if earlier(FieldKind::XForwardedProto).next().is_none() {
            sink.line(b"X-Forwarded-Proto", b"http");
        }
        if earlier(FieldKind::XForwardedHost).next().is_none() {
            sink.line(b"X-Forwarded-Host", host);
        }
        // RFC 7239 section 6: IPv6 addresses are in brackets and quoted; hosts with a port are quoted.
        let (open, close) = if self.address.contains(':') { ("\"[", "]\"") } else { ("", "") };
        let quote = if host.iter().all(|byte| is_token(*byte)) { "" } else { "\"" };
        let parts = [
            b"for=",
            open.as_bytes(),
            address,
            close.as_bytes(),
            b";host=",
            quote.as_bytes(),
            host,
            quote.as_bytes(),
            b";proto=http",
        ];
        join(sink, b"Forwarded", earlier(FieldKind::Forwarded), &parts);
    }
}

/// Whether a line is meant for one connection only, by its own name or because `Connection` names it (RFC 9110 section
/// 7.6.1). `Content-Length` and `Host` cannot be removed that way: they frame and route the message.
pub fn is_hop_by_hop(line: &FieldLine<'_>, fields: &Fields, options: ConnectionOptions) -> bool {
    match line.kind {
        FieldKind::Connection
        | FieldKind::KeepAlive
        | FieldKind::ProxyConnection
        | FieldKind::Te
        | FieldKind::TransferEncoding
        | FieldKind::Upgrade => true,
        FieldKind::ContentLength | FieldKind::Host => false,
        _ => options.names_others && fields.connection_names(line.name),
    }
}

/// One line with the earlier values, comma-separated, and a last one made of `parts`.
fn join<'a>(
    sink: &mut impl FieldSink,
    name: &[u8],
    earlier: impl Iterator<Item = &'a [u8]>,
    parts: &[&[u8]],
) {
    sink.start_line(name);
    for value in earlier {
        sink.value(value);
        sink.value(b", ");
    }
    for part in parts {
        sink.value(part);
    }
    sink.end_line();
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
