//! What agimo needs of the cluster to be an aggregated API: how to recognise the API server, its own certificate in a Secret, and
//! an APIService that leads to it and trusts it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::certificate::StoredCertificate;
use super::front_proxy::{CONFIG_MAP, FrontProxy, NAMESPACE};
use crate::coordination::Coordination;

/// Keeps what the port needs of the cluster.
pub struct Registration {
    client: Client,
    coordination: Coordination,
    /// Namespace and name of the Service that leads to the port.
    service: (String, String),
    /// Namespace and name of the Secret with the certificate that agimo makes; absent where it comes from files.
    secret: Option<(String, String)>,
    front_proxy: watch::Sender<Option<Arc<FrontProxy>>>,
    issuers: watch::Sender<Arc<RootCertStore>>,
    certificate: watch::Sender<Option<Arc<CertifiedKey>>>,
    stored: Option<StoredCertificate>,
    is_registered: watch::Sender<bool>,
    /// What was logged last.
    problem: Option<String>,
    other_owner: Option<String>,
}

/// Something that agimo needs cannot be read or written.
#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    #[error("{0}: {1}; {2}")]
    Api(String, kube::Error, &'static str),
    #[error("{0}: {1}")]
    Invalid(String, String),
    #[error("{0} has no certificate yet: the replica of agimo that leads makes one")]
    NoCertificate(String),
}

/// The APIService of the whole group: one for each cluster.
pub const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// Between two looks at the cluster.
const INTERVAL: Duration = Duration::from_secs(30);
/// As long as something is missing.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

// === impl RegistrationError ===

impl RegistrationError {
    fn of_api_service(error: kube::Error) -> Self {
        let fix = "grant agimo get and patch on this APIService";
        Self::Api(format!("APIService {API_SERVICE}"), error, fix)
    }
}

// === impl Registration ===

impl Registration {
    pub fn new(
        client: Client,
        coordination: Coordination,
        service: (String, String),
        secret: Option<(String, String)>,
        is_registered: watch::Sender<bool>,
    ) -> Self {
        Self {
            client,
            coordination,
            service,
            secret,
            front_proxy: watch::channel(None).0,
            issuers: watch::channel(Arc::new(RootCertStore::empty())).0,
            certificate: watch::channel(None).0,
            stored: None,
            is_registered,
            problem: None,
            other_owner: None,
        }
    }

    pub fn front_proxy(&self) -> watch::Receiver<Option<Arc<FrontProxy>>> {
        self.front_proxy.subscribe()
    }

    /// The issuers of the API server's client certificate.
    pub fn issuers(&self) -> watch::Receiver<Arc<RootCertStore>> {
        self.issuers.subscribe()
    }

    /// The certificate that agimo has made.
    pub fn certificate(&self) -> watch::Receiver<Option<Arc<CertifiedKey>>> {
        self.certificate.subscribe()
    }

    /// Keeps it up to date, forever.
    pub async fn run(mut self) {
        loop {
            let error = match tokio::time::timeout(TIMEOUT, self.update()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the API server does not answer within 10 s".to_owned()),
            };
            let is_complete = error.is_none();
            self.log(error);
            tokio::time::sleep(if is_complete { INTERVAL } else { RETRY_INTERVAL }).await;
        }
    }

    fn log(&mut self, problem: Option<String>) {
        match &problem {
            Some(problem) if self.problem.as_ref() != Some(problem) => {
                warn!(problem, "external metrics are not served");
            }
            Some(problem) => debug!(problem, "external metrics are not served"),
            None if self.problem.is_some() => info!("external metrics are served"),
            None => {}
        }
        self.problem = problem;
    }

    async fn update(&mut self) -> Result<(), RegistrationError> {
        self.read_front_proxy().await?;
        let service = self.read_api_service().await?;
        match self.secret.clone() {
            Some(secret) => self.keep_certificate(&secret, service).await,
            None => Ok(()),
        }
    }

    async fn read_front_proxy(&self) -> Result<(), RegistrationError> {
        let name = format!("ConfigMap {NAMESPACE}/{CONFIG_MAP}");
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMESPACE);
        let config_map = config_maps.get(CONFIG_MAP).await.map_err(|error| {
            let fix =
                "bind agimo to the role extension-apiserver-authentication-reader of kube-system";
            RegistrationError::Api(name.clone(), error, fix)
        })?;
        let found = FrontProxy::read(&config_map)
            .map_err(|problem| RegistrationError::Invalid(name, problem))?;
        let issuers = found.issuers.clone();
        self.issuers.send_if_modified(|known| {
            let is_changed = known.roots != issuers.roots;
            *known = issuers;
            is_changed
        });
        self.front_proxy.send_replace(Some(Arc::new(found)));
        Ok(())
    }

    /// The APIService, if it leads to this agimo.
    async fn read_api_service(&mut self) -> Result<Option<APIService>, RegistrationError> {
        let services: Api<APIService> = Api::all(self.client.clone());
        let service =
            services.get_opt(API_SERVICE).await.map_err(RegistrationError::of_api_service)?;
        let owner = service.as_ref().map(owner);
        let own = format!("{}/{}", self.service.0, self.service.1);
        let is_own = owner.as_deref() == Some(own.as_str());
        self.is_registered.send_if_modified(|known| std::mem::replace(known, is_own) != is_own);
        if is_own {
            self.other_owner = None;
            return Ok(service);
        }
        let owner = owner.unwrap_or_default();
        if self.other_owner.as_ref() != Some(&owner) {
            match owner.as_str() {
                "" => warn!(
                    "there is no APIService {API_SERVICE}: no HPA can read the metrics of agimo"
                ),
                _ => warn!(
                    owner,
                    "the APIService {API_SERVICE} leads to another Service, and agimo leaves it there: no HPA can read the \
                     metrics of agimo; where KEDA is installed, use its trigger external-push instead"
                ),
            }
            self.other_owner = Some(owner);
        }
        Ok(None)
    }

    /// Uses the certificate of the Secret. The leader makes it, and makes the next one when it is due.
    async fn keep_certificate(
        &mut self,
        (namespace, name): &(String, String),
        mut service: Option<APIService>,
    ) -> Result<(), RegistrationError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let description = format!("Secret {namespace}/{name}");
        let failed = |error: kube::Error| {
            let fix = "create it (it may be empty), and grant agimo get and update on it";
            RegistrationError::Api(description.clone(), error, fix)
        };
        let mut secret = secrets.get(name).await.map_err(failed)?;
        let mut stored = secret.data.as_ref().and_then(StoredCertificate::read);
        let host = format!("{}.{}.svc", self.service.1, self.service.0);
        let now = SystemTime::now();
        if self.coordination.is_leader()
            && stored.as_ref().is_none_or(|stored| stored.is_due(&host, now))
        {
            let next =
                StoredCertificate::generate(&host, now, stored.as_ref()).map_err(|error| {
                    RegistrationError::Invalid(description.clone(), error.to_string())
                })?;
            // It is trusted before any replica uses it.
            service = self.trust(&next, service).await?;
            secret.data.get_or_insert_default().extend(next.data());
            // The version in `secret` makes this fail if somebody else has changed it.
            secrets.replace(name, &PostParams::default(), &secret).await.map_err(failed)?;
            info!(secret = description, "a certificate for the external metrics was made");
            stored = Some(next);
        }
        let Some(stored) = stored else {
            return Err(RegistrationError::NoCertificate(description));
        };
        if self.coordination.is_leader() {
            self.trust(&stored, service).await?;
        }
        if self.stored.as_ref() != Some(&stored) {
            let key = stored
                .certified_key()
                .map_err(|problem| RegistrationError::Invalid(description, problem))?;
            self.certificate.send_replace(Some(Arc::new(key)));
            self.stored = Some(stored);
        }
        Ok(())
    }

    /// Makes the API server trust a certificate, unless it does already. Returns the APIService as it is then.
    async fn trust(
        &self,
        certificate: &StoredCertificate,
        service: Option<APIService>,
    ) -> Result<Option<APIService>, RegistrationError> {
        let Some(service) = service else { return Ok(None) };
        let trusted = certificate.trusted();
        let known = service.spec.as_ref().and_then(|spec| spec.ca_bundle.as_ref());
        if known == Some(&trusted) {
            return Ok(Some(service));
        }
        if self.stored.as_ref() == Some(certificate) {
            let writer = writer_of_bundle(&service);
            warn!(
                writer,
                "another writer has replaced the caBundle of the APIService {API_SERVICE}, and agimo restores it; an operator of \
                 KEDA does so: do not run it beside the external metrics of agimo"
            );
        }
        // With its version, so that an APIService that has just been given to another Service is left alone.
        let patch = json!({
            "metadata": { "resourceVersion": service.metadata.resource_version },
            "spec": { "caBundle": trusted },
        });
        let services: Api<APIService> = Api::all(self.client.clone());
        let patched = services.patch(API_SERVICE, &patch_params(), &Patch::Merge(patch)).await;
        patched.map(Some).map_err(RegistrationError::of_api_service)
    }
}

/// Other tools name agimo in a conflict.
fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some("agimo".to_owned()), ..PatchParams::default() }
}

/// The field manager that last wrote the `caBundle`.
fn writer_of_bundle(service: &APIService) -> String {
    let entries = service.metadata.managed_fields.iter().flatten();
    let writes_bundle = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0["f:spec"].get("f:caBundle").is_some())
    };
    let writer = entries.filter(writes_bundle).max_by_key(|entry| entry.time.clone());
    writer.and_then(|entry| entry.manager.clone()).unwrap_or_else(|| "unknown".to_owned())
}

/// The Service to which an APIService leads.
pub(super) fn owner(service: &APIService) -> String {
    let service = service.spec.as_ref().and_then(|spec| spec.service.as_ref());
    let part = |text: Option<&String>| text.cloned().unwrap_or_default();
    service.map_or_else(
        || "the API server itself".to_owned(),
        |service| format!("{}/{}", part(service.namespace.as_ref()), part(service.name.as_ref())),
    )
}
