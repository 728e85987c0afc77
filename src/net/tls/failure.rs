//! What a failed TLS session means to whoever runs agimo.

use std::io;

/// The name of an alert (RFC 8446 section 6), as rustls writes it, and what it means.
const ALERTS: &[(&str, &str)] = &[
    (
        "NoApplicationProtocol",
        "the application does not offer this version of HTTP over TLS (ALPN)",
    ),
    ("CertificateRequired", "the application demands a certificate of agimo (`tls_certificate`)"),
    ("BadCertificate", NOT_ACCEPTED),
    ("UnsupportedCertificate", NOT_ACCEPTED),
    ("CertificateRevoked", NOT_ACCEPTED),
    ("CertificateExpired", NOT_ACCEPTED),
    ("CertificateUnknown", NOT_ACCEPTED),
    ("UnknownCA", NOT_ACCEPTED),
    ("AccessDenied", NOT_ACCEPTED),
];
const NOT_ACCEPTED: &str =
    "the application does not accept the certificate of agimo (`tls_certificate`)";

/// Why a session does not go on, as far as an alert of the server says so; `None` for an error that is not one of TLS. The text of
/// the error is searched: between rustls and the request path, the crate h2 keeps only that.
pub fn describe(error: &io::Error) -> Option<&'static str> {
    if error.kind() != io::ErrorKind::InvalidData {
        return None;
    }
    let text = error.to_string();
    let Some((_, alert)) = text.split_once("received fatal alert: ") else {
        return Some("the TLS session is broken");
    };
    let known = ALERTS.iter().find(|(name, _)| alert.starts_with(name));
    Some(known.map_or("the application has ended the TLS session with an alert", |known| known.1))
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, Error};

    use super::*;

    #[test]
    fn alerts_are_known_by_the_text_of_rustls() {
        for (alert, meaning) in [
            (AlertDescription::NoApplicationProtocol, ALERTS[0].1),
            (AlertDescription::CertificateRequired, ALERTS[1].1),
            (AlertDescription::UnknownCA, NOT_ACCEPTED),
            (
                AlertDescription::InternalError,
                "the application has ended the TLS session with an alert",
            ),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(alert));
            assert_eq!(describe(&error), Some(meaning));
        }
        assert_eq!(describe(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
