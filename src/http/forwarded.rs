//! Which field lines a proxy passes on, and the lines by which it tells the next hop about the client.

use std::net::IpAddr;
use std::sync::Arc;

use super::fields::{ConnectionOptions, FieldKind, FieldLine, Fields, is_token, list_members};

mod elements;

/// What the next hop is told about the client (RFC 7239, and the older `X-Forwarded-*` fields).
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    ip: IpAddr,
    /// The address, followed by the description of the certificate. One allocation, because every connection has it.
    text: Arc<str>,
    address_length: u8,
    /// The peer is a trusted proxy: what it says about earlier hops is passed on.
    trusted: bool,
    is_tls: bool,
}

/// A client that is connected over TLS.
#[derive(Debug)]
pub struct TlsClient {
    /// What `X-Forwarded-Client-Cert` says of its certificate; absent where it has presented none.
    pub certificate: Option<String>,
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

/// The field that tells the next hop about the certificate of the client.
const CLIENT_CERTIFICATE: &[u8] = b"X-Forwarded-Client-Cert";

// === impl ClientIdentity ===

impl ClientIdentity {
    /// A client that is no trusted proxy.
    pub fn new(address: IpAddr, tls: Option<TlsClient>) -> Self {
        let ip = address.to_canonical();
        let mut text = ip.to_string();
        // At most 45 bytes.
        let address_length = text.len() as u8;
        let is_tls = tls.is_some();
        text.extend(tls.and_then(|tls| tls.certificate));
        Self { ip, text: text.into(), address_length, trusted: false, is_tls }
    }

    /// What `X-Forwarded-Client-Cert` says; empty where there is nothing to say.
    fn certificate(&self) -> &str {
        &self.text[usize::from(self.address_length)..]
    }

    /// Whether the peer is a trusted proxy.
    pub fn set_trusted(&mut self, trusted: bool) {
        self.trusted = trusted;
    }

    /// Whether the client has sent this request over TLS, to agimo or to the trusted proxy before it.
    pub fn is_https(&self, fields: &Fields) -> bool {
        if self.trusted && fields.iter().any(|line| is_forwarding(line.kind)) {
            // Traefik names the scheme of WebSockets.
            let proto = self.earlier_proto(fields).to_ascii_lowercase();
            return matches!(&*proto, b"https" | b"wss");
        }
        self.is_tls
    }

    /// The scheme of the connection to agimo.
    fn scheme(&self) -> &'static [u8] {
        if self.is_tls { b"https" } else { b"http" }
    }

    /// The scheme of the request as the first trusted proxy received it.
    fn earlier_proto(&self, fields: &Fields) -> Vec<u8> {
        if let Some(first) = members(fields, FieldKind::XForwardedProto).into_iter().next() {
            return first;
        }
        let mut earlier = fields.all(FieldKind::Forwarded).filter_map(elements::parse).flatten();
        let known = earlier.find_map(|element| element.proto);
        known.unwrap_or_else(|| self.scheme().to_vec())
    }

    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    pub fn address(&self) -> &str {
        &self.text[..usize::from(self.address_length)]
    }

    /// The address of a client that is no trusted proxy, which speaks for many clients.
    pub fn untrusted_address(&self) -> Option<IpAddr> {
        (!self.trusted).then_some(self.ip)
    }

    /// Whether a line of the request that tells about the client is passed on as received. The others are written anew
    /// by `write_fields`, or not at all.
    pub fn passes_on(&self, kind: FieldKind) -> bool {
        match kind {
            FieldKind::Forwarded
            | FieldKind::XForwardedFor
            | FieldKind::XForwardedHost
            | FieldKind::XForwardedProto
            | FieldKind::ForwardedDisguised => false,
            FieldKind::ForwardedOther => self.trusted,
            _ => true,
        }
    }

    /// Writes `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` for a request with these fields; this hop is the last
    /// of each.
    pub fn write_fields(&self, fields: &Fields, host: &[u8], sink: &mut impl FieldSink) {
        if !self.certificate().is_empty() {
            sink.line(CLIENT_CERTIFICATE, self.certificate().as_bytes());
        }
        if self.trusted && fields.iter().any(|line| is_forwarding(line.kind)) {
            return self.extend_fields(fields, host, sink);
        }
        let address = self.address().as_bytes();
        sink.line(b"X-Forwarded-For", address);
        sink.line(b"X-Forwarded-Proto", self.scheme());
        sink.line(b"X-Forwarded-Host", host);
        // RFC 7239 section 6: IPv6 addresses are in brackets and quoted; hosts with a port are quoted.
        let (open, close) = if self.ip.is_ipv6() { ("\"[", "]\"") } else { ("", "") };
        let quote = if host.iter().all(|byte| is_token(*byte)) { "" } else { "\"" };
        sink.start_line(b"Forwarded");
        for part in [
            b"for=",
            open.as_bytes(),
            address,
            close.as_bytes(),
            b";host=",
            quote.as_bytes(),
            host,
            quote.as_bytes(),
            b";proto=",
            self.scheme(),
        ] {
            sink.value(part);
        }
        sink.end_line();
    }

    /// Extends what a trusted proxy sent. Where it sent one of the two families only, the other is made from it (RFC 7239
    /// section 7.4): applications differ in which they read, and must not read a contradiction.
    fn extend_fields(&self, fields: &Fields, host: &[u8], sink: &mut impl FieldSink) {
        let mut nodes = members(fields, FieldKind::XForwardedFor);
        let mut protos = members(fields, FieldKind::XForwardedProto);
        let mut hosts = members(fields, FieldKind::XForwardedHost);
        // A malformed value could swallow the element of this hop.
        let values = fields.all(FieldKind::Forwarded);
        let forwarded: Vec<_> =
            values.filter_map(|value| Some((value, elements::parse(value)?))).collect();
        let earlier = || forwarded.iter().flat_map(|(_, elements)| elements);
        let is_derived = forwarded.is_empty();
        if nodes.is_empty() {
            let known = earlier().filter_map(|element| element.node.as_deref());
            nodes = known.map(|node| elements::plain_node(node).to_vec()).collect();
        }
        if protos.is_empty() {
            protos.push(self.earlier_proto(fields));
        }
        if hosts.is_empty() {
            let known = earlier().find_map(|element| element.host.clone());
            hosts.push(known.unwrap_or_else(|| host.to_vec()));
        }
        let own = self.address().as_bytes().to_vec();
        let (proto, host) = (protos[0].clone(), hosts[0].clone());
        let origin = |node: &[u8]| {
            let parts: [&[u8]; 6] = [
                b"for=",
                &elements::quote(&elements::node_of(node)),
                b";host=",
                &elements::quote(&host),
                b";proto=",
                &elements::quote(&proto),
            ];
            parts.concat()
        };
        let mut written: Vec<Vec<u8>> = forwarded.iter().map(|(value, _)| value.to_vec()).collect();
        if is_derived {
            for (at, node) in nodes.iter().enumerate() {
                let node_only =
                    || [b"for=", elements::quote(&elements::node_of(node)).as_slice()].concat();
                written.push(if at == 0 { origin(node) } else { node_only() });
            }
        }
        written.push(origin(&own));
        nodes.push(own);
        for (name, values) in [
            (&b"X-Forwarded-For"[..], nodes),
            (b"X-Forwarded-Proto", protos),
            (b"X-Forwarded-Host", hosts),
            (b"Forwarded", written),
        ] {
            sink.line(name, &values.join(&b", "[..]));
        }
    }
}

fn is_forwarding(kind: FieldKind) -> bool {
    matches!(
        kind,
        FieldKind::Forwarded
            | FieldKind::XForwardedFor
            | FieldKind::XForwardedHost
            | FieldKind::XForwardedProto
    )
}

/// The members of all lines of this kind, without those that repeat the one before.
fn members(fields: &Fields, kind: FieldKind) -> Vec<Vec<u8>> {
    let mut members: Vec<Vec<u8>> =
        fields.all(kind).flat_map(list_members).map(<[u8]>::to_vec).collect();
    if kind != FieldKind::XForwardedFor {
        members.dedup();
    }
    members
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
        // Nor what tells about the client: a client must not choose what is passed on of it.
        FieldKind::ContentLength | FieldKind::Host | FieldKind::ForwardedOther => false,
        _ => options.names_others && fields.connection_names(line.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::FieldsBuilder;

    /// The lines that a trusted proxy at 10.0.0.1 has extended, for a request to host `a`.
    fn extended(lines: &[(&str, &str)]) -> Vec<String> {
        let mut fields = FieldsBuilder::default();
        for (name, value) in lines {
            fields.line(name.as_bytes(), value.as_bytes());
        }
        let mut proxy = ClientIdentity::new([10, 0, 0, 1].into(), None);
        proxy.set_trusted(true);
        let mut out = Vec::new();
        proxy.write_fields(&fields.build(), b"a", &mut out);
        let text = String::from_utf8(out).unwrap();
        text.split_terminator("\r\n").map(ToOwned::to_owned).collect()
    }

    #[test]
    fn one_family_is_made_from_the_other() {
        let from_x = extended(&[
            ("X-Forwarded-For", "1.2.3.4, 2001:db8::1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "shop.example:8443"),
        ]);
        let expected = [
            "X-Forwarded-For: 1.2.3.4, 2001:db8::1, 10.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.example:8443",
            "Forwarded: for=1.2.3.4;host=\"shop.example:8443\";proto=https, for=\"[2001:db8::1]\", \
             for=10.0.0.1;host=\"shop.example:8443\";proto=https",
        ];
        assert_eq!(from_x, expected);
        let from_rfc7239 = extended(&[(
            "Forwarded",
            "for=\"[2001:db8::1]:4711\";proto=https;host=b, for=1.2.3.4",
        )]);
        let expected = [
            "X-Forwarded-For: 2001:db8::1, 1.2.3.4, 10.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: b",
            "Forwarded: for=\"[2001:db8::1]:4711\";proto=https;host=b, for=1.2.3.4, \
             for=10.0.0.1;host=b;proto=https",
        ];
        assert_eq!(from_rfc7239, expected);
    }

    #[test]
    fn several_lines_become_one_and_a_malformed_element_is_left_out() {
        let lines = extended(&[
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=\"1.2.3.4"),
        ]);
        let expected = [
            "X-Forwarded-For: 10.0.0.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: a",
            "Forwarded: for=10.0.0.1;host=a;proto=https",
        ];
        assert_eq!(lines, expected);
    }
}
