//! The readiness probes that a pod declares, run by agimo itself as the kubelet would (core/v1 Probe).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::net::tls::client::unverified_connector;

/// One probe of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadinessProbe {
    action: Action,
    timeout: Duration,
    /// So many checks in a row must succeed (`successThreshold`).
    successes: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    /// A status from 200 to 399 is success.
    Http { port: u16, is_tls: bool, path: String, headers: Vec<(String, String)> },
    /// The port accepts a connection.
    Tcp { port: u16 },
    /// `SERVING` of grpc.health.v1.Health.
    Grpc { port: u16, service: String },
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The default of `timeoutSeconds`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often to check.
const INTERVAL: Duration = Duration::from_millis(10);
/// `SERVING` (gRPC health checking protocol).
const SERVING: i32 = 1;

/// The probes of a pod; empty where it declares none, and `None` where agimo cannot tell what the kubelet would: a container
/// that does not run, a sidecar container, a command, a startup probe that has not passed, a readiness gate.
pub fn of_pod(pod: &Pod) -> Option<Arc<[ReadinessProbe]>> {
    let spec = pod.spec.as_ref()?;
    let probes = of_template(spec)?;
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let is_running = |status: &&ContainerStatus| {
        status.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    if statuses.clone().filter(is_running).count() < spec.containers.len() {
        return None;
    }
    let has_started = |name: &str| {
        statuses.clone().any(|status| status.name == name && status.started == Some(true))
    };
    let mut starting = spec
        .containers
        .iter()
        .filter(|container| container.startup_probe.is_some() && !has_started(&container.name));
    starting.next().is_none().then(|| probes.into())
}

/// The same for the pods of a template, as far as it can be told before they run.
pub fn of_template(pods: &PodSpec) -> Option<Vec<ReadinessProbe>> {
    let has_sidecar =
        pods.init_containers.iter().flatten().any(|container| container.restart_policy.is_some());
    if has_sidecar || pods.readiness_gates.iter().flatten().next().is_some() {
        return None;
    }
    let mut probes = Vec::new();
    for container in &pods.containers {
        if let Some(probe) = &container.readiness_probe {
            probes.push(ReadinessProbe::read(probe, container)?);
        }
    }
    Some(probes)
}

/// Waits until every address accepts a connection and every probe passes.
pub async fn until_passed(probes: &[ReadinessProbe], pod: IpAddr, addresses: &[SocketAddr]) {
    let connects: Vec<_> =
        addresses.iter().map(|address| ReadinessProbe::connect(address.port())).collect();
    for probe in connects.iter().chain(probes) {
        let mut passed = 0;
        while passed < probe.successes {
            passed = if probe.passes(pod).await { passed + 1 } else { 0 };
            if passed < probe.successes {
                tokio::time::sleep(INTERVAL).await;
            }
        }
    }
}

// === impl ReadinessProbe ===

impl ReadinessProbe {
    fn connect(port: u16) -> Self {
        Self { action: Action::Tcp { port }, timeout: DEFAULT_TIMEOUT, successes: 1 }
    }

    fn read(probe: &Probe, container: &Container) -> Option<Self> {
        let port = |port: &IntOrString| match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                let found = ports.find(|port| port.name.as_ref() == Some(name))?;
                u16::try_from(found.container_port).ok()
            }
        };
        let action = if let Some(get) = &probe.http_get {
            if get.host.as_ref().is_some_and(|host| !host.is_empty()) {
                return None;
            }
            let headers = get.http_headers.iter().flatten();
            Action::Http {
                port: port(&get.port)?,
                is_tls: get.scheme.as_deref() == Some("HTTPS"),
                path: get
                    .path
                    .clone()
                    .filter(|path| !path.is_empty())
                    .unwrap_or_else(|| "/".to_owned()),
                headers: headers
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
            }
        } else if let Some(connect) = &probe.tcp_socket {
            if connect.host.as_ref().is_some_and(|host| !host.is_empty()) {
                return None;
            }
            Action::Tcp { port: port(&connect.port)? }
        } else if let Some(grpc) = &probe.grpc {
            let service = grpc.service.clone().unwrap_or_default();
            Action::Grpc { port: u16::try_from(grpc.port).ok()?, service }
        } else {
            return None;
        };
        let seconds = probe.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Some(Self {
            action,
            timeout: seconds
                .filter(|seconds| *seconds > 0)
                .map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            successes: probe
                .success_threshold
                .and_then(|count| count.try_into().ok())
                .unwrap_or(1)
                .max(1),
        })
    }

    /// One check.
    async fn passes(&self, pod: IpAddr) -> bool {
        tokio::time::timeout(self.timeout, self.check(pod)).await.ok().flatten().is_some()
    }

    async fn check(&self, pod: IpAddr) -> Option<()> {
        let (Action::Http { port, .. } | Action::Tcp { port } | Action::Grpc { port, .. }) =
            &self.action;
        let address = SocketAddr::new(pod, *port);
        let stream = TcpStream::connect(address).await.ok()?;
        match &self.action {
            Action::Tcp { .. } => Some(()),
            Action::Http { is_tls: false, path, headers, .. } => {
                get(stream, address, path, headers).await
            }
            Action::Http { is_tls: true, path, headers, .. } => {
                let name = rustls::pki_types::ServerName::IpAddress(pod.into());
                let stream = unverified_connector()?.connect(name, stream).await.ok()?;
                get(stream, address, path, headers).await
            }
            Action::Grpc { service, .. } => is_serving(stream, address, service).await,
        }
    }
}

/// `Some` where the status is from 200 to 399, as for the kubelet.
async fn get<S>(
    stream: S,
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Option<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path).body(Empty::<Bytes>::new()).ok()?;
    *request.headers_mut() = request_headers(address, headers);
    let response = sender.send_request(request);
    tokio::pin!(connection, response);
    // The connection has to be polled as well. It may end before the response has been read from it.
    let response = tokio::select! {
        response = &mut response => response,
        _ = &mut connection => response.await,
    };
    let status = response.ok()?.status();
    (status >= StatusCode::OK && status < StatusCode::BAD_REQUEST).then_some(())
}

/// Those of the probe, and what it does not name.
fn request_headers(address: SocketAddr, written: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let defaults = [
        (header::HOST, address.to_string()),
        (header::USER_AGENT, "agimo-readiness".to_owned()),
        (header::ACCEPT, "*/*".to_owned()),
        (header::CONNECTION, "close".to_owned()),
    ];
    for (name, value) in defaults {
        if let (false, Ok(value)) = (headers.contains_key(&name), HeaderValue::from_str(&value)) {
            headers.insert(name, value);
        }
    }
    headers
}

/// `Some` where the service is `SERVING`.
async fn is_serving(stream: TcpStream, address: SocketAddr, service: &str) -> Option<()> {
    let executor = TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
    let (sender, connection) = handshake.await.ok()?;
    let service = service.to_owned();
    let exchange = async move {
        let send = tower::service_fn(move |request| {
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        let origin = format!("http://{address}").parse().ok()?;
        let mut client = tonic::client::Grpc::with_origin(send, origin);
        let request = tonic::Request::new(HealthCheckRequest { service });
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let response = client.unary(request, path, codec).await.ok()?;
        (response.into_inner().status == SERVING).then_some(())
    };
    tokio::select! {
        served = exchange => served,
        _ = connection => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Of a pod whose containers all run; `started` says whether their startup probes have passed.
    fn probes(containers: Value, started: bool) -> Option<Arc<[ReadinessProbe]>> {
        let running = json!({ "running": {} });
        let status = |container: &Value| {
            json!({
                "name": container["name"], "started": started, "state": running,
                "image": "", "imageID": "", "ready": false, "restartCount": 0,
            })
        };
        let status: Value = containers.as_array().unwrap().iter().map(status).collect();
        let pod = json!({
            "metadata": { "name": "web" },
            "spec": { "containers": containers },
            "status": { "containerStatuses": status },
        });
        of_pod(&serde_json::from_value(pod).unwrap())
    }

    fn container(probe: Value) -> Value {
        let ports = json!([{ "name": "http", "containerPort": 8080 }]);
        json!({ "name": "web", "ports": ports, "readinessProbe": probe })
    }

    #[test]
    fn every_declared_probe_is_read() {
        let headers = json!([{ "name": "Host", "value": "web.test" }]);
        let get =
            json!({ "path": "/ready", "port": "http", "scheme": "HTTPS", "httpHeaders": headers });
        let http = container(json!({ "httpGet": get, "timeoutSeconds": 3, "successThreshold": 2 }));
        let grpc = container(json!({ "grpc": { "port": 9000, "service": "shop" } }));
        let found = probes(json!([http, grpc]), false).unwrap();
        let expected = ReadinessProbe {
            action: Action::Http {
                port: 8080,
                is_tls: true,
                path: "/ready".to_owned(),
                headers: vec![("Host".to_owned(), "web.test".to_owned())],
            },
            timeout: Duration::from_secs(3),
            successes: 2,
        };
        assert_eq!(found[0], expected);
        assert_eq!(found[1].action, Action::Grpc { port: 9000, service: "shop".to_owned() });
        assert_eq!(probes(json!([{ "name": "web" }]), false).unwrap().len(), 0, "none is declared");
    }

    #[test]
    fn a_pod_whose_readiness_only_the_kubelet_knows_is_left_to_it() {
        let exec = container(json!({ "exec": { "command": ["true"] } }));
        assert_eq!(probes(json!([exec]), false), None);
        let unnamed = container(json!({ "tcpSocket": { "port": "grpc" } }));
        assert_eq!(probes(json!([unnamed]), false), None);
        let mut starting = container(json!({ "tcpSocket": { "port": 8080 } }));
        starting["startupProbe"] = json!({ "tcpSocket": { "port": 8080 } });
        assert_eq!(probes(json!([starting]), false), None);
        assert_eq!(probes(json!([starting]), true).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_pod_is_ready_when_all_of_its_checks_have_passed_as_often_as_asked() {
        use std::sync::atomic::{AtomicU32, Ordering};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let length = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
                assert!(head.starts_with("get /ready http/1.1\r\nhost: web.test\r\n"), "{head}");
                let status = if counted.fetch_add(1, Ordering::Relaxed) < 3 { 503 } else { 302 };
                let response = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        });
        let probe = ReadinessProbe {
            action: Action::Http {
                port: address.port(),
                is_tls: false,
                path: "/ready".to_owned(),
                headers: vec![("Host".to_owned(), "web.test".to_owned())],
            },
            timeout: DEFAULT_TIMEOUT,
            successes: 2,
        };
        let probes = [probe];
        let passed = until_passed(&probes, address.ip(), &[]);
        tokio::time::timeout(Duration::from_secs(10), passed).await.expect("it passes");
        assert_eq!(requests.load(Ordering::Relaxed), 5, "three failures and two successes");
        let addresses = [address];
        let connect = until_passed(&[], address.ip(), &addresses);
        tokio::time::timeout(Duration::from_secs(10), connect)
            .await
            .expect("without a probe, it connects");
    }
}
