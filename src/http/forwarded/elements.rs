//! The elements of a `Forwarded` field value (RFC 7239 section 4). Pure.

use std::net::IpAddr;

use crate::http::fields::is_token;

/// One element: what one proxy knew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) node: Option<Vec<u8>>,
    pub(super) host: Option<Vec<u8>>,
    pub(super) proto: Option<Vec<u8>>,
}

/// The elements of one field value; `None` where it is malformed, so that nobody could tell where an element ends.
pub(super) fn parse(value: &[u8]) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    let mut rest = value;
    loop {
        rest = rest.trim_ascii_start();
        let name_length = rest.iter().take_while(|byte| is_token(**byte)).count();
        if name_length > 0 {
            let (name, after) = rest.split_at(name_length);
            let (text, after) = parse_value(after.strip_prefix(b"=")?)?;
            rest = after.trim_ascii_start();
            let parameter = match name.to_ascii_lowercase().as_slice() {
                b"for" => Some(&mut element.node),
                b"host" => Some(&mut element.host),
                b"proto" => Some(&mut element.proto),
                _ => None,
            };
            if let Some(parameter) = parameter {
                *parameter = Some(text);
            }
        }
        match rest.split_first() {
            Some((b';', after)) => rest = after,
            Some((b',', after)) => {
                elements.push(std::mem::take(&mut element));
                rest = after;
            }
            Some(_) => return None,
            None => {
                elements.push(element);
                return Some(elements);
            }
        }
    }
}

/// A token or a quoted string (RFC 9110 section 5.6.4), without its quotes, and what follows it.
fn parse_value(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let length = rest.iter().take_while(|byte| is_token(**byte)).count();
        let (token, after) = rest.split_at(length);
        return (length > 0).then(|| (token.to_vec(), after));
    };
    let mut text = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((text, &quoted[at + 1..])),
            b'\\' => text.push(*bytes.next()?.1),
            byte => text.push(*byte),
        }
    }
    None
}

/// The address of a node as `X-Forwarded-For` writes it: without brackets and port (RFC 7239 section 6). Names that hide
/// an address stay as they are.
pub(super) fn plain_node(node: &[u8]) -> &[u8] {
    if let Some(rest) = node.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']').unwrap_or(rest.len());
        return &rest[..end];
    }
    match node.iter().position(|byte| *byte == b':') {
        Some(colon) => &node[..colon],
        None => node,
    }
}

/// An entry of `X-Forwarded-For` as a node: IPv6 addresses are in brackets (RFC 7239 section 6).
pub(super) fn node_of(entry: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(entry).ok().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(IpAddr::V6(address)) => format!("[{address}]").into_bytes(),
        _ => entry.to_vec(),
    }
}

/// A parameter value: as it is where it is a token, otherwise as a quoted string.
pub(super) fn quote(value: &[u8]) -> Vec<u8> {
    if !value.is_empty() && value.iter().all(|byte| is_token(*byte)) {
        return value.to_vec();
    }
    let mut quoted = vec![b'"'];
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(node: &str, host: &str, proto: &str) -> Element {
        let value = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        Element { node: value(node), host: value(host), proto: value(proto) }
    }

    #[test]
    fn elements_are_separated_by_commas_outside_of_quotes() {
        let value = b"for=1.2.3.4;Proto=https , For=\"[2001:db8::1]:80\";host=\"a,b;\\\"c\";by=x,";
        let expected = [
            element("1.2.3.4", "", "https"),
            element("[2001:db8::1]:80", "a,b;\"c", ""),
            element("", "", ""),
        ];
        assert_eq!(parse(value).unwrap(), expected);
    }

    #[test]
    fn malformed_values_have_no_elements() {
        for value in ["for=\"1.2.3.4", "for=1.2.3.4;host=\"a\\", "for", "for=", "for=a b", "(x)"] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn nodes_are_translated_both_ways() {
        for (node, plain) in [
            ("1.2.3.4:80", "1.2.3.4"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("_hidden", "_hidden"),
            ("unknown", "unknown"),
        ] {
            assert_eq!(plain_node(node.as_bytes()), plain.as_bytes(), "{node}");
        }
        assert_eq!(node_of(b"2001:db8::1"), b"[2001:db8::1]");
        assert_eq!(node_of(b"1.2.3.4"), b"1.2.3.4");
    }

    proptest! {
        #[test]
        fn what_is_quoted_parses_to_itself(value in prop::collection::vec(32u8..127, 1..20)) {
            let written = [b"host=", quote(&value).as_slice()].concat();
            let elements = parse(&written).unwrap();
            prop_assert_eq!(elements[0].host.as_deref(), Some(value.as_slice()));
        }
    }
}
