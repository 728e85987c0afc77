//! Checks hosts, paths and Kubernetes names, and converts them to one form.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a value is invalid, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidValue {
    /// Completes "the value ...".
    pub(super) problem: &'static str,
    pub(super) fix: String,
}

/// Maximum length of a DNS name in its written form (RFC 1035 section 2.3.4).
const MAX_NAME_LENGTH: usize = 253;
/// Maximum length of a label of a DNS name (RFC 1035 section 2.3.4).
const MAX_LABEL_LENGTH: usize = 63;

/// A host in lower case and without a trailing dot.
pub(super) fn host(written: &str) -> Result<String, InvalidValue> {
    let host = written.to_ascii_lowercase();
    if let Some((_, rest)) = host.split_once("://") {
        return invalid("has a scheme", format!("write only the host: \"{}\"", url_host(rest)));
    }
    if let Some((name, path)) = host.split_once('/') {
        let path = path.trim_end_matches('/');
        return invalid(
            "has a path",
            format!("write host = \"{name}\" and path_prefix = \"/{path}\""),
        );
    }
    if let Some(address) = host.strip_prefix('[') {
        return bracketed(address);
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return invalid("is an IPv6 address without brackets", format!("write \"[{host}]\""));
    }
    if let Some((name, _)) = host.split_once(':') {
        return invalid(
            "has a port",
            format!("write \"{name}\": the port of a request does not matter"),
        );
    }
    if !host.is_ascii() {
        return invalid(
            "is not ASCII",
            "write the name as clients send it, in the form xn--...".to_owned(),
        );
    }
    let name = host.strip_suffix('.').unwrap_or(&host);
    if name.parse::<Ipv4Addr>().is_ok() {
        return Ok(name.to_owned());
    }
    if name == "*" {
        return Ok(name.to_owned());
    }
    let labels = name.strip_prefix("*.").unwrap_or(name);
    if labels.contains('*') {
        return invalid(
            "has a wildcard that is not its first label",
            "write \"*.example.com\": the * stands for one whole label, the first".to_owned(),
        );
    }
    if !is_dns_name(labels, true) || name.len() > MAX_NAME_LENGTH {
        return invalid("is not a host name", "write a name such as \"example.com\"".to_owned());
    }
    // RFC 1123 section 2.1: a name whose last label is a number can only be an address.
    let last = labels.rsplit('.').next().unwrap_or(labels);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return invalid(
            "is not an IPv4 address",
            "write four numbers from 0 to 255, or a name".to_owned(),
        );
    }
    Ok(name.to_owned())
}

/// A host name or an address that a certificate can be for.
pub(super) fn server_name(written: &str) -> Result<String, InvalidValue> {
    if let Ok(address) = written.parse::<Ipv6Addr>() {
        return Ok(address.to_string());
    }
    let name = host(written)?;
    if name.starts_with('*') {
        let fix =
            "write the name that the certificate is for, such as \"shop.internal\"".to_owned();
        return invalid("is a wildcard", fix);
    }
    Ok(name)
}

/// A path without trailing slashes, unless it is `/`.
pub(super) fn path_prefix(written: &str) -> Result<String, InvalidValue> {
    let path = path(written)?;
    if path.contains(['?', '#']) {
        return invalid(
            "has a query or fragment",
            "write the path alone, up to the ? or #".to_owned(),
        );
    }
    let prefix = path.trim_end_matches('/');
    if prefix.split('/').any(|segment| matches!(segment, "." | "..")) {
        return invalid(
            "contains a segment . or ..",
            "write the path that it resolves to".to_owned(),
        );
    }
    Ok(if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() })
}

/// A path as in a request line, with or without a query (RFC 9112 section 3.2.1).
pub(super) fn path(written: &str) -> Result<&str, InvalidValue> {
    if !written.starts_with('/') {
        return invalid(
            "does not begin with a slash",
            format!("write \"/{}\"", written.escape_debug()),
        );
    }
    if !written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid(
            "contains characters that are not allowed in a request line",
            "write them percent-encoded, as clients send them: a space is %20".to_owned(),
        );
    }
    Ok(written)
}

/// A Kubernetes name of one label (RFC 1123 section 2.1).
pub(super) fn dns_label(written: &str) -> Result<String, InvalidValue> {
    if written.contains('.') || written.len() > MAX_LABEL_LENGTH || !is_dns_name(written, false) {
        let fix = "write at most 63 letters, digits and \"-\" in lower case, a letter or digit first and last";
        return invalid("is not a valid Kubernetes name", fix.to_owned());
    }
    Ok(written.to_owned())
}

/// A Kubernetes name of several labels.
pub(super) fn dns_name(written: &str) -> Result<String, InvalidValue> {
    if written.len() > MAX_NAME_LENGTH || !is_dns_name(written, false) {
        let fix = "write at most 253 letters, digits, \"-\" and \".\" in lower case, a letter or digit first and last";
        return invalid("is not a valid Kubernetes name", fix.to_owned());
    }
    Ok(written.to_owned())
}

fn invalid<T>(problem: &'static str, fix: String) -> Result<T, InvalidValue> {
    Err(InvalidValue { problem, fix })
}

/// An IPv6 address in brackets; `rest` is the text after the opening bracket.
fn bracketed(rest: &str) -> Result<String, InvalidValue> {
    let Some((address, after)) = rest.split_once(']') else {
        return invalid("has no closing bracket", "write \"[2001:db8::1]\"".to_owned());
    };
    match address.parse::<Ipv6Addr>() {
        Err(_) => invalid("is not an IPv6 address", "write \"[2001:db8::1]\"".to_owned()),
        Ok(address) if after.is_empty() => Ok(format!("[{address}]")),
        Ok(address) => {
            invalid("has text after the closing bracket", format!("write \"[{address}]\""))
        }
    }
}

/// The host of a URL; `rest` is the text after the scheme.
fn url_host(rest: &str) -> &str {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority, |end| &authority[..=end]);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Host names in use contain underscores; Kubernetes names do not.
fn is_dns_name(name: &str, underscores: bool) -> bool {
    name.split('.').all(|label| {
        (1..=MAX_LABEL_LENGTH).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| {
                matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-') || (underscores && byte == b'_')
            })
    })
}
