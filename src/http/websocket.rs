//! The part of the WebSocket handshake that HTTP/1.1 has and HTTP/2 has not (RFC 6455 section 4.2.2, RFC 8441 section 5).

use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::fields::{FieldKind, Fields};

pub(super) const KEY: &[u8] = b"sec-websocket-key";
pub(super) const ACCEPT: &[u8] = b"sec-websocket-accept";

/// The key of a handshake that agimo translates to HTTP/1.1, and the response that it expects.
#[derive(Debug)]
pub(super) struct GeneratedKey {
    pub(super) key: String,
    accept: String,
}

// === impl GeneratedKey ===

impl GeneratedKey {
    /// For a request to switch to WebSocket that has no key; `None` for all others.
    pub(super) fn of(request: &Fields) -> Option<Self> {
        let is_websocket =
            request.all(FieldKind::Upgrade).any(|name| name.eq_ignore_ascii_case(b"websocket"));
        if !is_websocket || request.named(KEY).is_some() {
            return None;
        }
        let key = generate_key();
        Some(Self { accept: derive_accept_key(key.as_bytes()), key })
    }

    /// Whether a response to it comes from a WebSocket server that has read the key.
    pub(super) fn is_accepted(&self, response: &Fields) -> bool {
        response.named(ACCEPT) == Some(self.accept.as_bytes())
    }
}

/// The value of `Sec-WebSocket-Accept` for a request with a key.
pub(super) fn accept_for(request: &Fields) -> Option<String> {
    request.named(KEY).map(derive_accept_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::FieldsBuilder;

    fn fields(lines: &[(&[u8], &[u8])]) -> Fields {
        let mut fields = FieldsBuilder::default();
        lines.iter().for_each(|(name, value)| {
            fields.line(name, value);
        });
        fields.build()
    }

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn a_key_is_answered_as_in_the_rfc() {
        let request = fields(&[(b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ==")]);
        assert_eq!(accept_for(&request).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn only_a_websocket_without_a_key_gets_one() {
        let generated = GeneratedKey::of(&fields(&[(b"upgrade", b"websocket")])).unwrap();
        assert_eq!(generated.key.len(), 24, "16 bytes in base64: {}", generated.key);
        let accept = derive_accept_key(generated.key.as_bytes());
        assert!(generated.is_accepted(&fields(&[(b"Sec-WebSocket-Accept", accept.as_bytes())])));
        assert!(!generated.is_accepted(&fields(&[(b"Sec-WebSocket-Accept", b"x")])));
        assert!(!generated.is_accepted(&fields(&[])));
        assert!(GeneratedKey::of(&fields(&[(b"upgrade", b"connect-udp")])).is_none());
        let with_key = fields(&[(b"upgrade", b"websocket"), (KEY, b"x")]);
        assert!(GeneratedKey::of(&with_key).is_none());
    }
}
