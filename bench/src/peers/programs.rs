//! The programs that are compared, and what they need to hold the requests of one application.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::clients::unix_micros;
use crate::configuration::{path_text, strings};
use crate::environment::Environment;
use crate::http::{HOST, send_request, websocket_handshake_with};
use crate::kubernetes::api_proxy::ApiProxy;
use crate::kubernetes::{apply, kubectl, wait_until};
use crate::launch::RunningProgram;
use crate::process_stats::ProcessStats;
use crate::servers::Server;

use super::Binaries;

const MANIFEST: &str = include_str!("manifest.yaml");
const OBJECTS: &str = include_str!("objects.yaml");
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/peers-private";
const ENDPOINT_SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/peers-1";
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A change of an endpoint has reached every program after this time.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// The activator listens there, whatever its settings.
const ACTIVATOR_PORT: u16 = 8012;
/// Where the scaler looks for the interceptor, as the manifest says.
const INTERCEPTOR_ADMIN_PORT: u16 = 9090;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Agimo,
    Interceptor,
    Activator,
}

/// One of them, running.
pub(super) struct Program {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    pub(super) stats: ProcessStats,
    /// Where agimo serves KEDA.
    pub(super) keda: SocketAddr,
    _process: RunningProgram,
}

/// The application, and the objects of the cluster that describe it.
pub(super) struct Application<'a> {
    pub(super) environment: &'a Environment,
    binaries: &'a Binaries,
    api: ApiProxy,
    pub(super) node: Ipv4Addr,
    pub(super) origin: Server,
}

/// The request that all of them get. The activator goes by its own fields, the interceptor wants to know about encodings.
pub(super) fn request() -> Vec<u8> {
    format!("GET / HTTP/1.1\r\n{}\r\n", fields()).into_bytes()
}

/// The opening handshake of a WebSocket with the same fields.
pub(super) fn web_socket_handshake() -> Vec<u8> {
    websocket_handshake_with(&fields())
}

fn fields() -> String {
    format!(
        "Host: {HOST}\r\nUser-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
         Knative-Serving-Namespace: default\r\nKnative-Serving-Revision: peers\r\n"
    )
}

// === impl Application ===

impl<'a> Application<'a> {
    /// Starts it, and creates the objects.
    pub(super) fn start(environment: &'a Environment, binaries: &'a Binaries) -> io::Result<Self> {
        let address = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
        let node = kubectl(&["get", "nodes", "-o", address])?;
        let node = node.parse().map_err(|_| io::Error::other(format!("node address {node:?}")))?;
        let origin = Server::origin_at(environment, node)?;
        let port = origin.address.port().to_string();
        let filled = MANIFEST.replace("{node}", &node.to_string()).replace("{origin_port}", &port);
        apply(&filled)?;
        wait_until("the new kinds are not served", START_TIMEOUT, || Ok(apply(OBJECTS).is_ok()))?;
        let api = ApiProxy::start()?;
        Ok(Self { environment, binaries, api, node, origin })
    }

    /// Those whose binaries are known.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.binary(*kind).is_some()).collect()
    }

    pub(super) fn scaler(&self) -> Option<&PathBuf> {
        self.binaries.scaler.as_ref()
    }

    fn binary(&self, kind: Kind) -> Option<&PathBuf> {
        match kind {
            Kind::Agimo => self.environment.agimo.as_ref(),
            Kind::Interceptor => self.binaries.interceptor.as_ref(),
            Kind::Activator => self.binaries.activator.as_ref(),
        }
    }

    /// Adds or removes the endpoint for programs of this kind. Returns when the write was sent, in microseconds since the Unix epoch.
    pub(super) fn set_ready(&self, kind: Kind, is_ready: bool) -> io::Result<u64> {
        let (node, port) = (self.node, self.origin.address.port());
        let (path, body) = match kind {
            Kind::Activator => {
                let subset = format!(
                    "{{\"addresses\":[{{\"ip\":\"{node}\"}}],\"ports\":[{{\"name\":\"http\",\"port\":{port}}}]}}"
                );
                let subsets = if is_ready { subset } else { String::new() };
                (ENDPOINTS, format!("{{\"subsets\":[{subsets}]}}"))
            }
            Kind::Agimo | Kind::Interceptor => {
                let endpoint =
                    format!("{{\"addresses\":[\"{node}\"],\"conditions\":{{\"ready\":true}}}}");
                let endpoints = if is_ready { endpoint } else { String::new() };
                (ENDPOINT_SLICE, format!("{{\"endpoints\":[{endpoints}]}}"))
            }
        };
        let sent = unix_micros();
        self.api.patch(path, &body)?;
        Ok(sent)
    }

    /// Adds or removes the endpoint, and waits until everybody knows.
    pub(super) fn settle(&self, kind: Kind, is_ready: bool) -> io::Result<()> {
        self.set_ready(kind, is_ready)?;
        thread::sleep(SETTLE_TIME);
        Ok(())
    }

    /// Starts one of them and has it answer a request; `threads` is the number of its threads, or its own default.
    pub(super) fn run(&self, kind: Kind, threads: Option<u32>) -> io::Result<Program> {
        let binary = self.binary(kind).ok_or(io::ErrorKind::NotFound)?;
        self.settle(kind, false)?;
        let directory = self.environment.new_directory(kind.name())?;
        let mut command = strings(&["env"]);
        if let Some(threads) = threads.filter(|_| kind != Kind::Agimo) {
            command.push(format!("GOMAXPROCS={threads}"));
        }
        let (port, admin) = match kind {
            Kind::Activator => (ACTIVATOR_PORT, ACTIVATOR_PORT),
            Kind::Interceptor => (self.environment.free_port()?, INTERCEPTOR_ADMIN_PORT),
            Kind::Agimo => (self.environment.free_port()?, self.environment.free_port()?),
        };
        let keda = self.environment.free_port()?;
        command.extend(kind.environment(port, admin, keda, self.node));
        command.push(path_text(binary)?);
        match kind {
            Kind::Agimo => {
                let file = directory.join("config.toml");
                fs::write(&file, configuration())?;
                command.extend(strings(&["--conf", &path_text(&file)?, "--bind", "127.0.0.1"]));
                command.extend(strings(&["--port", &port.to_string()]));
                command.extend(strings(&["--admin-port", &admin.to_string()]));
                command.extend(strings(&["--keda-port", &keda.to_string()]));
                if let Some(threads) = threads {
                    command.extend(strings(&["--threads", &threads.to_string()]));
                }
            }
            Kind::Interceptor => command.extend(strings(&["--zap-log-level=error"])),
            Kind::Activator => {}
        }
        let core = self.environment.proxy_core().filter(|_| threads == Some(1));
        let log = directory.join("output.log");
        let mut process = RunningProgram::start(kind.name(), core, &command, &log)?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        process.wait_until("listening", START_TIMEOUT, || TcpStream::connect(at(port)).is_ok())?;
        // After its start, so that it learns of the endpoint by a change.
        thread::sleep(SETTLE_TIME);
        self.settle(kind, true)?;
        process.wait_until("answering", START_TIMEOUT, || {
            let answer = TcpStream::connect(at(port)).and_then(|mut client| {
                client.set_read_timeout(Some(Duration::from_secs(5)))?;
                send_request(&mut client, &request())
            });
            answer.is_ok_and(|response| response.status == 200)
        })?;
        let stats = ProcessStats::of_process(process.pid());
        Ok(Program { kind, address: at(port), stats, keda: at(keda), _process: process })
    }
}

/// Of agimo: as with the peers, something else scales the workload.
fn configuration() -> String {
    format!(
        "timeout = \"10m\"\nmax_held = 5000\nmax_connections = 19000\n\n[[services]]\nhost = \"{HOST}\"\ntype = \"deployment\"\nnamespace = \"default\"\n\
         name = \"peers\"\nservice_name = \"peers\"\nservice_port = 80\nscaler = \"external\"\n"
    )
}

// === impl Kind ===

impl Kind {
    /// In the order of the columns.
    pub(super) const ALL: [Self; 3] = [Self::Agimo, Self::Interceptor, Self::Activator];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Agimo => "agimo",
            Self::Interceptor => "interceptor",
            Self::Activator => "activator",
        }
    }

    /// The environment variables, as `NAME=VALUE`.
    fn environment(self, port: u16, admin: u16, other: u16, node: Ipv4Addr) -> Vec<String> {
        match self {
            Self::Agimo => Vec::new(),
            Self::Interceptor => vec![
                format!("KEDA_HTTP_PROXY_PORT={port}"),
                format!("KEDA_HTTP_ADMIN_PORT={admin}"),
                "KEDA_HTTP_DIRECT_POD_ROUTING=true".to_owned(),
                format!("OTEL_PROM_EXPORTER_PORT={other}"),
            ],
            Self::Activator => vec![
                "POD_NAME=activator".to_owned(),
                format!("POD_IP={node}"),
                "SYSTEM_NAMESPACE=knative-serving".to_owned(),
                "CONFIG_LOGGING_NAME=config-logging".to_owned(),
                "CONFIG_OBSERVABILITY_NAME=config-observability".to_owned(),
                "GOGC=500".to_owned(),
            ],
        }
    }
}
