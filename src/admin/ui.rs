//! `/ui`: the dashboard, a page that reads `/api/v1`. It is part of the binary and loads nothing from elsewhere.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header};

use super::response::{AdminResponse, TEXT, respond};

/// A file of the dashboard: its path, media type and content.
type Asset = (&'static str, &'static str, &'static str);

const ASSETS: [Asset; 5] = [
    ("/ui/", "text/html; charset=utf-8", include_str!("ui/dashboard.html")),
    ("/ui/dashboard.css", "text/css; charset=utf-8", include_str!("ui/dashboard.css")),
    ("/ui/dashboard.js", "text/javascript; charset=utf-8", include_str!("ui/dashboard.js")),
    ("/ui/service.js", "text/javascript; charset=utf-8", include_str!("ui/service.js")),
    ("/ui/text.js", "text/javascript; charset=utf-8", include_str!("ui/text.js")),
];

/// A page that shows names and paths from outside runs no script but its own, and loads nothing from other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at this path, if it is one of the dashboard.
pub fn asset(path: &str) -> Option<AdminResponse> {
    if path == "/ui" {
        let mut moved = respond(StatusCode::PERMANENT_REDIRECT, TEXT, Bytes::new());
        moved.headers_mut().insert(header::LOCATION, header::HeaderValue::from_static("/ui/"));
        return Some(moved);
    }
    let (_, media_type, content) = ASSETS.iter().find(|(known, ..)| *known == path)?;
    let mut response = respond(StatusCode::OK, media_type, *content);
    protect(response.headers_mut());
    Some(response)
}

fn protect(headers: &mut HeaderMap) {
    let value = header::HeaderValue::from_static;
    headers.insert(header::CONTENT_SECURITY_POLICY, value(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value("nosniff"));
    headers.insert(header::REFERRER_POLICY, value("no-referrer"));
}
