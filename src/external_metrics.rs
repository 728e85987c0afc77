//! The metrics of agimo for HorizontalPodAutoscalers, without Prometheus: `external.metrics.k8s.io/v1beta1` as an aggregated API
//! (Kubernetes, "Kubernetes API Aggregation Layer"). Every replica of agimo answers with the demand at all of them.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::warn;

use crate::control_port::tls::{CertificateSource, ClientCertificate, Tls};
use crate::control_port::{ControlPort, Protocol};
use crate::coordination::Coordination;
use crate::net::tls::CertificateFiles;
use crate::scaling_signal::Signals;
use crate::scaling_signal::metric::Metric;
use crate::shutdown::Shutdown;
use crate::telemetry::{Exposition, Labels, MetricKind};

use self::access::{AccessReviews, Attributes};
use self::front_proxy::FrontProxy;
use self::registration::Registration;
use self::values::WorkloadValue;

pub mod access;
pub mod certificate;
pub mod check;
pub mod discovery;
pub mod front_proxy;
pub mod registration;
pub mod selector;
pub mod values;

/// What the port needs.
pub struct ExternalMetricsPort {
    pub listener: TcpListener,
    pub client: Client,
    /// Namespace and name of the Service that leads to the port.
    pub service: (String, String),
    pub certificate: PortCertificate,
    pub signals: Signals,
    pub coordination: Coordination,
    pub registered: Registered,
    pub shutdown: Shutdown,
}

/// Where the certificate of the port comes from.
#[derive(Clone)]
pub enum PortCertificate {
    /// Somebody else renews it, such as cert-manager.
    Files(Arc<CertificateFiles>),
    /// agimo makes it and keeps it in the Secret with this namespace and name.
    Secret((String, String)),
}

/// Whether the API server sends requests to the Service of this agimo.
#[derive(Clone)]
pub struct Registered(watch::Sender<bool>);

/// Answers the API server.
struct Api {
    front_proxy: watch::Receiver<Option<Arc<FrontProxy>>>,
    access: AccessReviews,
    signals: Signals,
}

/// An error as the Kubernetes API has it.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

pub const GROUP: &str = "external.metrics.k8s.io";
pub const VERSION: &str = "v1beta1";
pub const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";
const MOST_CONNECTIONS: usize = 256;

// === impl ExternalMetricsPort ===

impl ExternalMetricsPort {
    /// Serves until agimo is aborted.
    pub async fn run(self) {
        let Self {
            listener,
            client,
            service,
            certificate,
            signals,
            coordination,
            registered,
            shutdown,
        } = self;
        let secret = match &certificate {
            PortCertificate::Files(_) => None,
            PortCertificate::Secret(name) => Some(name.clone()),
        };
        let registration =
            Registration::new(client.clone(), coordination, service, secret, registered.0);
        let source = match certificate {
            PortCertificate::Files(files) => CertificateSource::Files(files),
            PortCertificate::Secret(_) => CertificateSource::Published(registration.certificate()),
        };
        let port = ControlPort {
            listener,
            name: "external metrics",
            protocol: Protocol::Http2,
            most_connections: MOST_CONNECTIONS,
            tls: Some(Tls::new(source).with_client_issuers(registration.issuers())),
            shutdown,
        };
        let front_proxy = registration.front_proxy();
        let api = Arc::new(Api { front_proxy, access: AccessReviews::new(client), signals });
        let service = service_fn(move |request: Request<Incoming>| {
            let api = api.clone();
            async move {
                let answer = api.answer(&request).await;
                Ok::<_, Infallible>(answer.unwrap_or_else(Failure::into_response))
            }
        });
        // The registration ends only with the port.
        tokio::select! {
            () = port.serve(service) => {}
            () = registration.run() => {}
        }
    }
}

// === impl Registered ===

impl Default for Registered {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Registered {
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    /// Writes the metric family of the registration.
    pub fn collect(&self, page: &mut Exposition) {
        page.family(
            "agimo_external_metrics_registered",
            MetricKind::Gauge,
            "Whether the APIService of external.metrics.k8s.io leads to this agimo.",
        );
        page.sample(&Labels::default(), u64::from(*self.0.borrow()));
    }
}

// === impl Api ===

impl Api {
    async fn answer<B>(&self, request: &Request<B>) -> Result<Response<Full<Bytes>>, Failure> {
        let path = request.uri().path();
        if matches!(path, "/healthz" | "/livez" | "/readyz") {
            return Ok(Response::new(Full::from("ok")));
        }
        if request.method() != Method::GET {
            return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this API answers only GET"));
        }
        let metric = metric_path(path);
        let attributes = match metric {
            Some((namespace, metric)) => {
                Attributes::Metric { namespace: namespace.to_owned(), metric: metric.to_owned() }
            }
            None => Attributes::Path(path.to_owned()),
        };
        self.authorize(request, &attributes).await?;
        let document = match (metric, path.trim_end_matches('/')) {
            (Some((namespace, metric)), _) => {
                self.values(namespace, metric, request.uri().query().unwrap_or_default())?
            }
            (None, "/apis") => discovery::groups(),
            (None, "/apis/external.metrics.k8s.io") => discovery::group(),
            (None, "/apis/external.metrics.k8s.io/v1beta1") => discovery::resources(),
            (None, "/openapi/v2") => discovery::open_api_v2(),
            (None, "/openapi/v3") => discovery::open_api_v3_index(),
            (None, "/openapi/v3/apis/external.metrics.k8s.io/v1beta1") => discovery::open_api_v3(),
            _ => return Err(Failure::new(StatusCode::NOT_FOUND, format!("there is no {path}"))),
        };
        Ok(json_response(StatusCode::OK, &document))
    }

    /// Only the API server is answered, and only for users who may read what they ask for.
    async fn authorize<B>(
        &self,
        request: &Request<B>,
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        let front_proxy = self.front_proxy.borrow().clone();
        let certificate = request.extensions().get::<ClientCertificate>();
        let user = front_proxy.zip(certificate).and_then(|(front_proxy, certificate)| {
            front_proxy.user(&certificate.0, request.headers())
        });
        let Some(user) = user else {
            let message =
                "only requests that kube-apiserver passes on are answered: use kubectl get --raw";
            return Err(Failure::new(StatusCode::UNAUTHORIZED, message));
        };
        match self.access.is_allowed(&user, attributes).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message = match attributes {
                    Attributes::Metric { namespace, metric } => format!(
                        "{} may not list {metric}.{GROUP} in namespace {namespace}",
                        user.name
                    ),
                    Attributes::Path(path) => format!("{} may not get {path}", user.name),
                };
                Err(Failure::new(StatusCode::FORBIDDEN, message))
            }
            Err(error) => {
                let message = format!(
                    "the API server does not say what {} may do: {error}; grant agimo create on subjectaccessreviews",
                    user.name
                );
                warn!(message, "a request for external metrics failed");
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message))
            }
        }
    }

    /// The values of a metric for the workloads of a namespace that the selector of the query selects.
    fn values(&self, namespace: &str, metric: &str, query: &str) -> Result<Value, Failure> {
        let Some(metric) = Metric::named(metric) else {
            let names = Metric::ALL.map(Metric::name).join(" and ");
            let message = format!("agimo has no metric {metric}: it has {names}");
            return Err(Failure::new(StatusCode::NOT_FOUND, message));
        };
        let mut parameters = form_urlencoded::parse(query.as_bytes());
        let text = parameters.find(|(name, _)| name == "labelSelector").map(|(_, value)| value);
        let selector = selector::parse(&text.unwrap_or_default())
            .map_err(|problem| Failure::new(StatusCode::BAD_REQUEST, problem))?;
        // Read before the demand: a replica that falls silent in between has been counted.
        let is_complete = self.signals.is_complete();
        let mut values = Vec::new();
        for workload in self.signals.workloads_in(namespace) {
            let Some(labels) = values::selected_labels(&workload, &selector) else { continue };
            let found = self.signals.workload(&workload.id);
            let Some(config) = found.and_then(|found| found.autoscaling()) else { continue };
            let window = config.stable_window;
            let Some(signal) = self.signals.signal(&workload.id, window) else { continue };
            let value =
                WorkloadValue::new(metric, &workload.id, labels, &signal, window, is_complete)
                    .map_err(|unknown| {
                        Failure::new(StatusCode::SERVICE_UNAVAILABLE, unknown.to_string())
                    })?;
            values.push(value);
        }
        Ok(values::list(metric, &values, &timestamp()))
    }
}

/// The namespace and the metric of a path.
fn metric_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/apis/external.metrics.k8s.io/v1beta1/namespaces/")?;
    let (namespace, metric) = rest.split_once('/')?;
    (!namespace.is_empty() && !metric.is_empty() && !metric.contains('/'))
        .then_some((namespace, metric))
}

/// Now, in whole seconds (RFC 3339), as metav1.Time has it.
fn timestamp() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

fn json_response(status: StatusCode, document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(document.to_string()));
    *response.status_mut() = status;
    let fields: &mut HeaderMap = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

// === impl Failure ===

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let reason = match status {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InternalError",
        };
        Self { status, reason, message: message.into() }
    }

    /// A Status (Kubernetes API conventions, "Response Status Kind").
    fn into_response(self) -> Response<Full<Bytes>> {
        let document = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status.as_u16(),
        });
        json_response(self.status, &document)
    }
}
