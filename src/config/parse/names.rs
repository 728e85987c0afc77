//! Hosts, paths and Kubernetes names: what is one, in which form it is kept, and the cure where it is none. It resolves
//! nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a text is no name: what is wrong with it (stands after "the value"), and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) wrong: &'static str,
    pub(super) cure: String,
}

/// Longest DNS name in its written form (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;
/// Longest label of a DNS name (RFC 1035 section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// A host in lower case and without a trailing dot.
pub(super) fn host(written: &str) -> Result<String, Complaint> {
    let host = written.to_ascii_lowercase();
    if let Some((_, rest)) = host.split_once("://") {
        return complain("has a scheme", format!("write only the host: \"{}\"", authority(rest)));
    }
    if let Some((name, path)) = host.split_once('/') {
        let path = path.trim_end_matches('/');
        return complain(
            "has a path",
            format!("write host = \"{name}\" and path_prefix = \"/{path}\""),
        );
    }
    if let Some(address) = host.strip_prefix('[') {
        return bracketed(address);
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return complain("is an IPv6 address without brackets", format!("write \"[{host}]\""));
    }
    if let Some((name, _)) = host.split_once(':') {
        return complain(
            "has a port",
            format!("write \"{name}\": the port of a request does not matter"),
        );
    }
    if !host.is_ascii() {
        return complain(
            "is not ASCII",
            "write the name as clients send it, in the form xn--...".to_owned(),
        );
    }
    let name = host.strip_suffix('.').unwrap_or(&host);
    if name.parse::<Ipv4Addr>().is_ok() {
        return Ok(name.to_owned());
    }
    let labels = name.strip_prefix("*.").unwrap_or(name);
    if labels.contains('*') {
        return complain(
            "has a wildcard elsewhere than as its first label",
            "write \"*.example.com\": the * stands for one whole label, the first".to_owned(),
        );
    }
    if !is_dns_name(labels, true) || name.len() > LONGEST_NAME {
        return complain("is no host name", "write a name such as \"example.com\"".to_owned());
    }
    // RFC 1123 section 2.1: what ends in a number is an address.
    let last = labels.rsplit('.').next().unwrap_or(labels);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return complain(
            "is no IPv4 address",
            "write four numbers from 0 to 255, or a name".to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// A path without trailing slashes, unless it is `/`.
pub(super) fn path_prefix(written: &str) -> Result<String, Complaint> {
    let path = path(written)?;
    if path.contains(['?', '#']) {
        return complain(
            "has a query or fragment",
            "write the path alone, up to the ? or #".to_owned(),
        );
    }
    let prefix = path.trim_end_matches('/');
    if prefix.split('/').any(|segment| matches!(segment, "." | "..")) {
        return complain("has the segment . or ..", "write the path that it leads to".to_owned());
    }
    Ok(if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() })
}

/// A path as it stands in a request line, a query allowed (RFC 9112 section 3.2.1).
pub(super) fn path(written: &str) -> Result<&str, Complaint> {
    if !written.starts_with('/') {
        return complain(
            "does not begin with a slash",
            format!("write \"/{}\"", written.escape_debug()),
        );
    }
    if !written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return complain(
            "has characters that no request line can have",
            "write them percent-encoded, as clients send them: a space is %20".to_owned(),
        );
    }
    Ok(written)
}

/// A Kubernetes name of one label (RFC 1123 section 2.1).
pub(super) fn dns_label(written: &str) -> Result<String, Complaint> {
    if written.contains('.') || written.len() > LONGEST_LABEL || !is_dns_name(written, false) {
        let cure = "write at most 63 letters, digits and \"-\" in lower case, a letter or digit first and last";
        return complain("is no name in Kubernetes", cure.to_owned());
    }
    Ok(written.to_owned())
}

/// A Kubernetes name of several labels.
pub(super) fn dns_name(written: &str) -> Result<String, Complaint> {
    if written.len() > LONGEST_NAME || !is_dns_name(written, false) {
        let cure = "write at most 253 letters, digits, \"-\" and \".\" in lower case, a letter or digit first and last";
        return complain("is no name in Kubernetes", cure.to_owned());
    }
    Ok(written.to_owned())
}

fn complain<T>(wrong: &'static str, cure: String) -> Result<T, Complaint> {
    Err(Complaint { wrong, cure })
}

/// What stands after the opening bracket.
fn bracketed(rest: &str) -> Result<String, Complaint> {
    let Some((address, after)) = rest.split_once(']') else {
        return complain("has no closing bracket", "write \"[2001:db8::1]\"".to_owned());
    };
    match address.parse::<Ipv6Addr>() {
        Err(_) => complain("is no IPv6 address", "write \"[2001:db8::1]\"".to_owned()),
        Ok(address) if after.is_empty() => Ok(format!("[{address}]")),
        Ok(address) => {
            complain("has something after the bracket", format!("write \"[{address}]\""))
        }
    }
}

/// Up to a path or a port.
fn authority(rest: &str) -> &str {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority, |end| &authority[..=end]);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Underscores are in use in host names; Kubernetes has none.
fn is_dns_name(name: &str, underscores: bool) -> bool {
    name.split('.').all(|label| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| {
                matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-') || (underscores && byte == b'_')
            })
    })
}
