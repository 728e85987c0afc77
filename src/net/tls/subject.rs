//! The subject and the names of a client certificate, in the form of the field `X-Forwarded-Client-Cert` (Envoy,
//! "x-forwarded-client-cert").

use std::fmt::Write;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Object identifiers that have a short name (RFC 4514 section 3).
const SHORT_NAMES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// `Hash`, `Subject`, `URI` and `DNS` of a certificate that has been verified; `None` if it cannot be read.
pub fn describe(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let hash = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut text = String::from("Hash=");
    for byte in hash.as_ref() {
        write!(text, "{byte:02x}").ok()?;
    }
    write!(text, ";Subject={}", quoted(&distinguished_name(parsed.subject()))).ok()?;
    let names = parsed.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => write!(text, ";URI={}", quoted(uri)).ok()?,
            GeneralName::DNSName(host) => write!(text, ";DNS={}", quoted(host)).ok()?,
            _ => {}
        }
    }
    Some(text)
}

/// A name as RFC 4514 writes it: the last part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let written =
        parts.iter().rev().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"));
    written.collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let identifier = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == identifier);
    match (short, attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escaped(value)),
        // Section 2.4: an attribute without a short name, or whose value is no text.
        (_, Ok(value)) => format!("{identifier}={}", escaped(value)),
        (_, Err(_)) => format!("{identifier}=?"),
    }
}

/// A value with everything escaped that could be taken for the end of it (RFC 4514 section 2.4). What is not printable ASCII is
/// written as its bytes in hexadecimal.
fn escaped(value: &str) -> String {
    let mut text = String::new();
    for (at, character) in value.char_indices() {
        let is_edge = at == 0 || at + character.len_utf8() == value.len();
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => text.extend(['\\', character]),
            ' ' if is_edge => text.push_str("\\ "),
            '#' if at == 0 => text.push_str("\\#"),
            ' '..='~' => text.push(character),
            _ => {
                for byte in character.to_string().bytes() {
                    text.push_str(&format!("\\{byte:02X}"));
                }
            }
        }
    }
    text
}

/// A value between quotes, which cannot end it.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn a_certificate_is_described_so_that_no_value_can_end_early() {
        let mut params = CertificateParams::new(vec!["api.test".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop, Inc");
        params.distinguished_name.push(DnType::CommonName, "a\",O=admin;é");
        let uri = "spiffe://shop/ns/a".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let described = describe(certificate.der()).unwrap();
        let (hash, rest) = described.split_once(';').unwrap();
        assert_eq!(hash.len(), "Hash=".len() + 64);
        let expected = r#"Subject="CN=a\\\"\\,O\\=admin\\;\\C3\\A9,O=Shop\\, Inc";DNS="api.test";URI="spiffe://shop/ns/a""#;
        assert_eq!(rest, expected);
    }
}
