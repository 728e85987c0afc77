//! Requests in cleartext for a service that is to be used over HTTPS.

use crate::config::ServiceConfig;
use crate::http::forwarded::ClientIdentity;
use crate::http::message::RequestHead;
use crate::routing::host_of;

/// The port of URLs with the scheme `https` that name none (RFC 9110 section 4.2.2).
const HTTPS_PORT: u16 = 443;

/// Where a client is to send this request instead; `None` where it may go on.
pub fn location(
    config: &ServiceConfig,
    identity: &ClientIdentity,
    request: &RequestHead,
) -> Option<String> {
    let port = config.redirect_to_https?;
    if identity.is_https(&request.fields) {
        return None;
    }
    let host = std::str::from_utf8(host_of(request.authority()?)?).ok()?;
    // What calls it inside of the cluster expects its own protocol there.
    let name = host.strip_suffix('.').unwrap_or(host);
    if config.names_in_cluster().iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return None;
    }
    let path = match request.path() {
        b"*" => b"/",
        path => path,
    };
    let path = std::str::from_utf8(path).ok()?;
    Some(match port {
        HTTPS_PORT => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    })
}
