//! The certificate that agimo makes for itself: what is stored of it, when it is due, and the next one.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::net::tls::{self, InvalidPem};

/// A certificate that is its own issuer, and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    certificate: String,
    key: String,
    /// What clients are to trust: this certificate, and the one before it as long as a replica may still use it.
    trusted: String,
}

/// How long a new certificate is valid.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// The clocks of the machines in a cluster may differ by so much.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// As a Secret of the type kubernetes.io/tls names them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const TRUSTED: &str = "ca.crt";

// === impl StoredCertificate ===

impl StoredCertificate {
    /// Reads the data of a Secret. `None` where it has none.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        Some(Self { certificate: text(CERTIFICATE)?, key: text(KEY)?, trusted: text(TRUSTED)? })
    }

    /// The data of a Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let entries =
            [(CERTIFICATE, &self.certificate), (KEY, &self.key), (TRUSTED, &self.trusted)];
        let entry =
            |(key, text): (&str, &String)| (key.to_owned(), ByteString(text.clone().into()));
        entries.map(entry).into()
    }

    /// A new certificate for this name, which is trusted beside the one before it.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn generate(
        name: &str,
        now: SystemTime,
        before: Option<&Self>,
    ) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + LIFETIME).into();
        params.distinguished_name.push(DnType::CommonName, "agimo external metrics");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&key)?.pem();
        let mut trusted = certificate.clone();
        trusted.extend(before.map(|before| before.certificate.as_str()));
        Ok(Self { certificate, key: key.serialize_pem(), trusted })
    }

    /// Whether it should be replaced: a third of its lifetime is left, it is for another name, or it cannot be read.
    pub fn is_due(&self, name: &str, now: SystemTime) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(self.certificate.as_bytes()) else {
            return true;
        };
        let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return true };
        let names = parsed.subject_alternative_name().ok().flatten();
        let is_for_name = names.is_some_and(|names| {
            let names = &names.value.general_names;
            names.iter().any(|found| matches!(found, GeneralName::DNSName(found) if *found == name))
        });
        let since_epoch = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64)
        };
        let due = parsed.validity().not_after.timestamp() - (LIFETIME / 3).as_secs() as i64;
        !is_for_name || since_epoch(now) >= due || self.certified_key().is_err()
    }

    /// # Errors
    /// When the certificate or the key cannot be used.
    pub fn certified_key(&self) -> Result<CertifiedKey, String> {
        tls::certified_key(self.certificate.as_bytes(), self.key.as_bytes()).map_err(|invalid| {
            match invalid {
                InvalidPem::Certificate(error) => format!("{CERTIFICATE}: {error}"),
                InvalidPem::Key(error) => format!("{KEY}: {error}"),
            }
        })
    }

    /// The certificates to trust, in PEM, as the `caBundle` of an APIService has them.
    pub fn trusted(&self) -> ByteString {
        ByteString(self.trusted.clone().into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    const NAME: &str = "agimo-external-metrics.agimo.svc";

    fn trusts(
        trusted: &StoredCertificate,
        certificate: &StoredCertificate,
        now: SystemTime,
    ) -> bool {
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_slice_iter(&trusted.trusted().0) {
            roots.add(found.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let key = certificate.certified_key().unwrap();
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let name = ServerName::try_from(NAME).unwrap();
        verifier.verify_server_cert(&key.cert[0], &[], &name, &[], now).is_ok()
    }

    #[test]
    fn it_is_replaced_long_before_it_expires_and_both_are_trusted_then() {
        let now = SystemTime::now();
        let first = StoredCertificate::generate(NAME, now, None).unwrap();
        assert!(trusts(&first, &first, now));
        assert!(!first.is_due(NAME, now) && first.is_due("other.agimo.svc", now));
        assert!(!first.is_due(NAME, now + LIFETIME / 2));
        let later = now + LIFETIME / 4 * 3;
        assert!(first.is_due(NAME, later));
        let second = StoredCertificate::generate(NAME, later, Some(&first)).unwrap();
        assert!(trusts(&second, &first, later) && trusts(&second, &second, later));
        assert!(!trusts(&first, &second, later), "each has a key of its own");
        let third = StoredCertificate::generate(NAME, later, Some(&second)).unwrap();
        assert!(!trusts(&third, &first, later), "only the last one is trusted besides");
        assert_eq!(StoredCertificate::read(&second.data()), Some(second));
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_replaced() {
        let now = SystemTime::now();
        let good = StoredCertificate::generate(NAME, now, None).unwrap();
        let other = StoredCertificate::generate(NAME, now, None).unwrap();
        for broken in [
            StoredCertificate { certificate: "x".to_owned(), ..good.clone() },
            StoredCertificate { key: "x".to_owned(), ..good.clone() },
            StoredCertificate { key: other.key, ..good },
        ] {
            assert!(broken.is_due(NAME, now));
        }
        assert_eq!(StoredCertificate::read(&BTreeMap::new()), None);
    }
}
