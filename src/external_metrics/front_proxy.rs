//! Who sends a request: the user that the Kubernetes API server names in its header fields, once it has shown its own
//! certificate (Kubernetes, "Configure the Aggregation Layer").

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How the API server of this cluster is recognised, and where it names the user.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Of its client certificate.
    pub issuers: Arc<RootCertStore>,
    /// The common names that its certificate may have; any where there are none.
    allowed_names: Vec<String>,
    user_fields: Vec<String>,
    uid_fields: Vec<String>,
    group_fields: Vec<String>,
    /// In lower case.
    extra_prefixes: Vec<String>,
}

/// The user for whom the API server sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Where every cluster publishes it.
pub const NAMESPACE: &str = "kube-system";
pub const CONFIG_MAP: &str = "extension-apiserver-authentication";

/// Every user is of one of these groups (Kubernetes, "Default roles").
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
/// Users of this group may do everything (Kubernetes, "User-facing roles").
const MASTERS: &str = "system:masters";

// === impl FrontProxy ===

impl FrontProxy {
    /// Reads the ConfigMap `extension-apiserver-authentication`.
    ///
    /// # Errors
    /// What is missing or wrong in it.
    pub fn read(config_map: &ConfigMap) -> Result<Self, String> {
        let data = config_map.data.as_ref();
        let text = |key: &str| {
            data.and_then(|data| data.get(key)).map(String::as_str).ok_or_else(|| {
                format!(
                    "it has no `{key}`: start kube-apiserver with --requestheader-client-ca-file"
                )
            })
        };
        let names = |key: &str| {
            serde_json::from_str::<Vec<String>>(text(key)?)
                .map_err(|error| format!("`{key}` is no list of names: {error}"))
        };
        let mut issuers = RootCertStore::empty();
        const AUTHORITY: &str = "requestheader-client-ca-file";
        for certificate in CertificateDer::pem_slice_iter(text(AUTHORITY)?.as_bytes()) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|found| issuers.add(found).map_err(|error| error.to_string()));
            added.map_err(|error| format!("`{AUTHORITY}`: {error}"))?;
        }
        if issuers.is_empty() {
            return Err(format!("`{AUTHORITY}` has no certificate"));
        }
        let prefixes = names("requestheader-extra-headers-prefix")?;
        Ok(Self {
            issuers: Arc::new(issuers),
            allowed_names: names("requestheader-allowed-names")?,
            user_fields: names("requestheader-username-headers")?,
            // Clusters before Kubernetes 1.32 have none.
            uid_fields: names("requestheader-uid-headers").unwrap_or_default(),
            group_fields: names("requestheader-group-headers")?,
            extra_prefixes: prefixes.iter().map(|prefix| prefix.to_ascii_lowercase()).collect(),
        })
    }

    /// The user that a client with this verified certificate names. `None` for a client that is not the API server, or that
    /// names nobody.
    pub fn user(&self, certificate: &CertificateDer<'_>, fields: &HeaderMap) -> Option<User> {
        if !self.allowed_names.is_empty() {
            let name = common_name(certificate)?;
            self.allowed_names.iter().find(|allowed| **allowed == name)?;
        }
        let values = |name: &str| {
            let values = fields.get_all(name).into_iter();
            values.filter_map(|value| value.to_str().ok()).map(ToOwned::to_owned)
        };
        let first = |names: &[String]| {
            names.iter().flat_map(|name| values(name)).find(|value| !value.is_empty())
        };
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for field in fields.keys() {
            for prefix in &self.extra_prefixes {
                let Some(key) = field.as_str().strip_prefix(prefix) else { continue };
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                extra.entry(key).or_default().extend(values(field.as_str()));
            }
        }
        let mut groups: Vec<String> =
            self.group_fields.iter().flat_map(|name| values(name)).collect();
        let (name, uid) = (first(&self.user_fields)?, first(&self.uid_fields));
        // The API server leaves it out where it asks for itself.
        let is_known = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if name != ANONYMOUS && !groups.iter().any(is_known) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Some(User { name, uid, groups, extra })
    }
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

// === impl User ===

impl User {
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(common_name: &str) -> rcgen::Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn config_map(changes: &[(&str, Option<&str>)]) -> ConfigMap {
        let authority = certificate("front-proxy-ca").pem();
        let mut data: BTreeMap<String, String> = [
            ("requestheader-client-ca-file", authority.as_str()),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for (key, value) in changes {
            data.remove(*key);
            data.extend(value.map(|value| ((*key).to_owned(), value.to_owned())));
        }
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    fn fields() -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "system:serviceaccount:kube-system:horizontal-pod-autoscaler"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "system:serviceaccounts"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-authentication.kubernetes.io%2fcredential-id", "jti=1"),
        ] {
            fields.append(http::HeaderName::from_static(name), value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn the_user_is_the_one_that_the_api_server_names() {
        let proxy = FrontProxy::read(&config_map(&[])).unwrap();
        let user = proxy.user(certificate("front-proxy-client").der(), &fields()).unwrap();
        assert_eq!(user.name, "system:serviceaccount:kube-system:horizontal-pod-autoscaler");
        assert_eq!(user.uid.as_deref(), Some("7"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:authenticated"]);
        let key = "authentication.kubernetes.io/credential-id";
        assert_eq!(user.extra, [(key.to_owned(), vec!["jti=1".to_owned()])].into());
        assert!(!user.is_master());
        let mut fields = fields();
        fields.remove("x-remote-group");
        let user = proxy.user(certificate("front-proxy-client").der(), &fields).unwrap();
        assert_eq!(user.groups, ["system:authenticated"]);
        fields.insert("x-remote-user", "system:anonymous".parse().unwrap());
        let user = proxy.user(certificate("front-proxy-client").der(), &fields).unwrap();
        assert_eq!(user.groups, Vec::<String>::new());
    }

    #[test]
    fn nobody_else_can_name_a_user() {
        let proxy = FrontProxy::read(&config_map(&[])).unwrap();
        assert_eq!(proxy.user(certificate("somebody").der(), &fields()), None);
        assert_eq!(proxy.user(certificate("front-proxy-client").der(), &HeaderMap::new()), None);
        let any = FrontProxy::read(&config_map(&[("requestheader-allowed-names", Some("[]"))]));
        assert!(any.unwrap().user(certificate("somebody").der(), &fields()).is_some());
    }

    #[test]
    fn a_config_map_without_a_key_is_rejected_with_the_name_of_the_key() {
        for (change, part) in [
            (("requestheader-client-ca-file", None), "it has no `requestheader-client-ca-file`"),
            (("requestheader-client-ca-file", Some("x")), "has no certificate"),
            (("requestheader-group-headers", Some("x")), "is no list of names"),
        ] {
            let problem = FrontProxy::read(&config_map(&[change])).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        assert!(FrontProxy::read(&config_map(&[("requestheader-uid-headers", None)])).is_ok());
    }
}
