//! Finds the route of a request: exact host first, then wildcard host, then any host; of its routes the longest path
//! prefix.

use std::collections::HashMap;

/// A table from host and path to a target, built once for each configuration and shared by all cores.
#[derive(Debug)]
pub struct Table<T> {
    exact: HashMap<Box<str>, Vec<Route<T>>>,
    /// Keyed by what follows the `*`: `.example.com`.
    wildcard: HashMap<Box<str>, Vec<Route<T>>>,
    /// For every host that has no route of its own.
    any: Vec<Route<T>>,
}

#[derive(Debug)]
struct Route<T> {
    /// Without a trailing slash; empty for every path.
    prefix: Box<str>,
    target: T,
}

/// A DNS name has at most 253 characters (RFC 1035 section 2.3.4); longer hosts match nothing.
const LONGEST_HOST: usize = 255;

/// The host and the path of what names a service, such as `shop.example/cart`; without a path, `/`.
pub fn host_and_path(name: &str) -> (&str, &str) {
    name.find('/').map_or((name, "/"), |at| name.split_at(at))
}

// === impl Table ===

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new(), any: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Adds a target. `host` and `prefix` are in the form of the checked configuration.
    pub fn insert(&mut self, host: &str, prefix: &str, target: T) {
        let routes = match host.strip_prefix('*') {
            Some("") => &mut self.any,
            Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
            None => self.exact.entry(host.into()).or_default(),
        };
        let prefix = prefix.trim_end_matches('/');
        let at = routes.partition_point(|route| route.prefix.len() >= prefix.len());
        routes.insert(at, Route { prefix: prefix.into(), target });
    }

    /// Whether there is a target for exactly this host and prefix.
    pub fn contains(&self, host: &str, prefix: &str) -> bool {
        let routes = match host.strip_prefix('*') {
            Some("") => Some(&self.any),
            Some(suffix) => self.wildcard.get(suffix),
            None => self.exact.get(host),
        };
        let prefix = prefix.trim_end_matches('/');
        routes.is_some_and(|routes| routes.iter().any(|route| *route.prefix == *prefix))
    }

    /// The target for a host as a client sent it (any case, port and trailing dot allowed) and a request path,
    /// which may have a query.
    pub fn find(&self, authority: &[u8], path: &[u8]) -> Option<&T> {
        let mut buffer = [0; LONGEST_HOST];
        let host = normalise(authority, &mut buffer)?;
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let exact = self.exact.get(host).and_then(|routes| longest(routes, path));
        let wildcard = || {
            // A wildcard stands for one label, the part before the first dot. An address has no labels.
            let dot = host.find('.').filter(|at| *at > 0)?;
            longest(self.wildcard.get(&host[dot..])?, path)
        };
        exact.or_else(wildcard).or_else(|| longest(&self.any, path))
    }
}

/// Routes are ordered by the length of their prefix, longest first.
fn longest<'a, T>(routes: &'a [Route<T>], path: &[u8]) -> Option<&'a T> {
    routes.iter().find(|route| matches(route.prefix.as_bytes(), path)).map(|route| &route.target)
}

/// A prefix matches whole path segments: `/api` matches `/api` and `/api/x`, not `/apis`.
fn matches(prefix: &[u8], path: &[u8]) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.first().is_none_or(|byte| *byte == b'/'),
        None => false,
    }
}

/// The host of an authority, without its port; an IPv6 address keeps its brackets (RFC 3986 section 3.2.2).
pub fn host_of(authority: &[u8]) -> Option<&[u8]> {
    Some(match authority.first()? {
        b'[' => {
            let end = authority.iter().position(|byte| *byte == b']')? + 1;
            is_port(&authority[end..]).then_some(&authority[..end])?
        }
        _ => {
            let end = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
            is_port(&authority[end..]).then_some(&authority[..end])?
        }
    })
}

/// The host of an authority in lower case, without port and trailing dot.
fn normalise<'a>(authority: &[u8], buffer: &'a mut [u8; LONGEST_HOST]) -> Option<&'a str> {
    let host = host_of(authority)?;
    let host = host.strip_suffix(b".").unwrap_or(host);
    let lower = buffer.get_mut(..host.len())?;
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

/// Nothing, or a colon and digits.
fn is_port(rest: &[u8]) -> bool {
    match rest.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn any_host_comes_after_all_others() {
        let table = table(&[("*", "/"), ("*", "/api"), ("a.b", "/x"), ("*.b", "/")]);
        let find = |host: &str, path: &str| table.find(host.as_bytes(), path.as_bytes()).cloned();
        for (host, path, expected) in [
            ("other", "/", "*/"),
            ("127.0.0.1:80", "/api/x", "*/api"),
            ("[::1]", "/", "*/"),
            ("a.b", "/x", "a.b/x"),
            ("a.b", "/y", "*.b/"),
            ("c.b", "/api", "*.b/"),
        ] {
            assert_eq!(find(host, path).as_deref(), Some(expected), "{host}{path}");
        }
    }

    fn table(entries: &[(&str, &str)]) -> Table<String> {
        let mut table = Table::default();
        for (host, prefix) in entries {
            table.insert(host, prefix, format!("{host}{prefix}"));
        }
        table
    }

    fn find<'a>(table: &'a Table<String>, host: &str, path: &str) -> Option<&'a str> {
        table.find(host.as_bytes(), path.as_bytes()).map(String::as_str)
    }

    #[test]
    fn exact_hosts_go_before_wildcards_and_longer_prefixes_before_shorter() {
        let table = table(&[
            ("a.b", "/"),
            ("a.b", "/api/v1"),
            ("a.b", "/api"),
            ("*.b", "/"),
            ("c.b", "/only"),
        ]);
        assert_eq!(find(&table, "a.b", "/x"), Some("a.b/"));
        assert_eq!(find(&table, "a.b", "/api"), Some("a.b/api"));
        assert_eq!(find(&table, "a.b", "/apis"), Some("a.b/"));
        assert_eq!(find(&table, "a.b", "/api/v1/x?q=/"), Some("a.b/api/v1"));
        assert_eq!(find(&table, "a.b", "/api?v1"), Some("a.b/api"));
        assert_eq!(find(&table, "x.b", "/api"), Some("*.b/"));
        assert_eq!(find(&table, "x.y.b", "/"), None, "a wildcard stands for one label");
        assert_eq!(find(&table, "b", "/"), None);
        assert_eq!(find(&table, ".b", "/"), None);
        assert_eq!(find(&table, "c.b", "/other"), Some("*.b/"), "no prefix of the exact host fits");
        assert!(table.contains("a.b", "/api") && table.contains("*.b", "/"));
        assert!(!table.contains("a.b", "/other") && !table.contains("x.b", "/"));
    }

    #[test]
    fn hosts_match_in_any_case_with_port_and_trailing_dot() {
        let table = table(&[("example.com", "/"), ("[::1]", "/"), ("127.0.0.1", "/")]);
        for host in
            ["example.com", "EXAMPLE.com:80", "example.com.", "Example.Com.:8080", "example.com:"]
        {
            assert_eq!(find(&table, host, "/"), Some("example.com/"), "{host}");
        }
        assert_eq!(find(&table, "[::1]:8080", "/"), Some("[::1]/"));
        assert_eq!(find(&table, "127.0.0.1:1", "/"), Some("127.0.0.1/"));
        for host in ["", "example.com:x", "example.com:80:80", "[::1", "[::1]x", &"a".repeat(300)] {
            assert_eq!(find(&table, host, "/"), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(host: Vec<u8>, path: Vec<u8>) {
            let table = table(&[("example.com", "/"), ("*.example.com", "/a")]);
            let _ = table.find(&host, &path);
        }

        #[test]
        fn case_port_and_trailing_dot_never_change_the_route(label in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?", port in 0u16.., dot: bool) {
            let host = format!("{label}.example");
            let table = table(&[(&host, "/"), ("*.example", "/")]);
            let written = format!("{}{}:{port}", host.to_uppercase(), if dot { "." } else { "" });
            let expected = format!("{host}/");
            prop_assert_eq!(find(&table, &written, "/"), Some(expected.as_str()));
            let other = format!("x{written}");
            prop_assert_eq!(find(&table, &other, "/"), Some("*.example/"));
        }

        #[test]
        fn the_longest_matching_prefix_wins(segments in prop::collection::vec("[a-z]{1,3}", 0..6), depths in prop::collection::btree_set(0usize..6, 1..6)) {
            let mut table = Table::default();
            for depth in &depths {
                let prefix = segments.iter().take(*depth).fold(String::new(), |path, s| path + "/" + s);
                if *depth <= segments.len() {
                    table.insert("a", &prefix, *depth);
                }
            }
            let path = segments.iter().fold(String::new(), |path, s| path + "/" + s) + "/";
            let expected = depths.iter().filter(|depth| **depth <= segments.len()).max();
            prop_assert_eq!(table.find(b"a", path.as_bytes()), expected);
        }
    }
}
