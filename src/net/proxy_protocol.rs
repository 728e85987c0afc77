//! The header with which a load balancer names the client of a connection (PROXY protocol, versions 1 and 2).

use std::net::IpAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};

/// A header at the beginning of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Absent for connections of the load balancer itself, such as its health checks.
    pub client: Option<IpAddr>,
    /// In bytes; what follows belongs to the client.
    pub length: usize,
}

/// A connection that does not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The longest header that is accepted, in bytes. One of version 2 has at most 52 bytes of addresses, then whatever the
/// load balancer adds.
const LONGEST: usize = 4096;
const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The header at the beginning of `received`; `None` while it is not complete.
///
/// # Errors
/// When what has been received is not the beginning of a header.
pub fn parse(received: &[u8]) -> Result<Option<Header>, Invalid> {
    let begins = |signature: &[u8]| {
        let length = signature.len().min(received.len());
        received[..length] == signature[..length]
    };
    if !begins(SIGNATURE_V1) && !begins(SIGNATURE_V2) {
        return Err(Invalid);
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(received, config) {
        Ok((header, length)) => {
            let client = header.proxied_address().map(|addresses| addresses.source.ip());
            Ok(Some(Header { client, length }))
        }
        Err(Error::BufferTooShort) if received.len() < LONGEST => Ok(None),
        Err(_) => Err(Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_name_the_client_however_they_are_split() {
        let v2 = |command: u8, family: u8, addresses: &[u8]| {
            let length = (addresses.len() as u16).to_be_bytes();
            [SIGNATURE_V2, &[0x20 | command, family], &length, addresses].concat()
        };
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x10, 0x00, 0x01, 0xbb];
        let with_extension = [&v4[..], &[0x04, 0x00, 0x01, 0x00]].concat();
        let v6 = [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 1, 0, 2]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4096 443\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::1 ::1 4096 443\r\n".to_vec(), Some("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2(1, 0x11, &v4), Some("192.0.2.7")),
            (v2(1, 0x11, &with_extension), Some("192.0.2.7")),
            (v2(1, 0x21, &v6), Some("2001:db8::1")),
            (v2(0, 0x00, &[]), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let received = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let expected = Header { client, length: header.len() };
            assert_eq!(parse(&received), Ok(Some(expected)), "{header:?}");
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), Ok(None), "{length} of {header:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused_as_early_as_possible() {
        let endless = [SIGNATURE_V2, &[0x21, 0x11, 0xff, 0xff], &[0; LONGEST]].concat();
        for received in [
            &b"G"[..],
            b"PROXX",
            b"\r\n\r\n\0\r\nQUIX",
            b"PROXY TCP4 a b 1 2\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"\x16\x03\x01",
            &endless,
        ] {
            assert_eq!(parse(received), Err(Invalid), "{received:?}");
        }
    }
}
