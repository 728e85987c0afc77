//! What a failed TLS session means to whoever runs agimo.

use std::io;

use rustls::{AlertDescription, Error};

/// Why a server does not go on with a session, as far as it says so in an alert (RFC 8446 section 6.2); `None` for an error that
/// is not one of TLS.
pub fn describe(error: &io::Error) -> Option<&'static str> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the application does not offer this version of HTTP over TLS (ALPN)"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the application demands a certificate of agimo (`tls_certificate`)"
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => "the application does not accept the certificate of agimo (`tls_certificate`)",
        Error::AlertReceived(_) => "the application has ended the TLS session with an alert",
        _ => "the TLS session is broken",
    })
}
