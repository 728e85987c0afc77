//! Starts the servers under test: agimo, HAProxy, nginx and the origin. This module measures nothing.

use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::configuration::{self, AgimoSetup, Backend, Ports, bench_binary, path_text, strings};
use crate::environment::Environment;
use crate::events::Events;
use crate::http::{HOST, fetch};
use crate::launch::RunningProgram;
use crate::process_stats::ProcessStats;

/// Time for a program to start listening, including the time to read 10,000 services.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server under test: a proxy, or the origin itself for direct requests.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Where it speaks HTTP/2; not the origin.
    pub(crate) http2: SocketAddr,
    /// Where it speaks TLS, with HTTP/2 and HTTP/1.1; not the origin.
    pub(crate) https: SocketAddr,
    pub(crate) stats: ProcessStats,
    /// Its output.
    pub(crate) log: PathBuf,
    /// The admin address, for agimo only.
    admin: Option<SocketAddr>,
    /// Stopped when the server is dropped.
    process: RunningProgram,
}

// === impl Server ===

impl Server {
    /// The origin, which is the upstream of HAProxy and nginx; agimo starts an origin itself.
    pub(crate) fn origin(environment: &Environment) -> io::Result<Self> {
        Self::origin_at(environment, Ipv4Addr::LOCALHOST)
    }

    /// The origin on an address of this machine.
    pub(crate) fn origin_at(environment: &Environment, address: Ipv4Addr) -> io::Result<Self> {
        let port = environment.free_port()?;
        let mut command = strings(&[&bench_binary()?, "origin", "--port", &port.to_string()]);
        command.extend(strings(&["--address", &address.to_string()]));
        let directory = environment.new_directory("origin")?;
        let address = SocketAddr::from((address, port));
        Self::start(environment, "direct", environment.load_core(), &command, address, &directory)
    }

    /// The origin as nginx: with HTTP/2, gRPC and large bodies.
    pub(crate) fn nginx_origin(environment: &Environment) -> io::Result<Self> {
        let directory = environment.new_directory("nginx-origin")?;
        fs::write(directory.join("mebibyte"), vec![b'x'; 1 << 20])?;
        // nginx as root serves with another user.
        for path in [&directory, &directory.join("mebibyte"), &directory.join("..")] {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        let ports = Self::ports(environment)?;
        let text = configuration::nginx_origin(ports, &path_text(&directory)?);
        Self::run_nginx(environment, "direct", environment.load_core(), &directory, &text, ports)
    }

    /// Every proxy, in front of this application: HAProxy, nginx, and agimo where it is measured.
    pub(crate) fn proxies(
        environment: &Environment,
        backend: Backend,
        setup: &AgimoSetup,
    ) -> io::Result<Vec<Self>> {
        let mut all =
            vec![Self::haproxy(environment, backend)?, Self::nginx(environment, backend)?];
        if let Some(binary) = &environment.agimo {
            all.push(Self::agimo(environment, binary, "agimo", setup)?);
        }
        Ok(all)
    }

    pub(crate) fn is_agimo(&self) -> bool {
        self.admin.is_some()
    }

    /// HAProxy with one thread.
    pub(crate) fn haproxy(environment: &Environment, backend: Backend) -> io::Result<Self> {
        let directory = environment.new_directory("haproxy")?;
        create_certificate(&directory)?;
        let ports = Self::ports(environment)?;
        let file = directory.join("haproxy.cfg");
        fs::write(&file, configuration::haproxy(ports, backend, &path_text(&directory)?))?;
        let command = strings(&["haproxy", "-db", "-f", &path_text(&file)?]);
        let core = environment.proxy_core();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.http));
        let server = Self::start(environment, "HAProxy", core, &command, address, &directory)?;
        Ok(server.with_ports(ports))
    }

    /// nginx with one worker.
    pub(crate) fn nginx(environment: &Environment, backend: Backend) -> io::Result<Self> {
        let directory = environment.new_directory("nginx")?;
        create_certificate(&directory)?;
        let ports = Self::ports(environment)?;
        let text = configuration::nginx(ports, backend, &path_text(&directory)?);
        Self::run_nginx(environment, "nginx", environment.proxy_core(), &directory, &text, ports)
    }

    fn run_nginx(
        environment: &Environment,
        name: &str,
        core: Option<usize>,
        directory: &Path,
        text: &str,
        ports: Ports,
    ) -> io::Result<Self> {
        let file = directory.join("nginx.conf");
        fs::write(&file, text)?;
        let errors = path_text(&directory.join("error.log"))?;
        let command = strings(&["nginx", "-c", &path_text(&file)?, "-e", &errors]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.http));
        let mut server = Self::start(environment, name, core, &command, address, directory)?;
        // The worker handles the requests; the master listens before it has started the worker.
        let master = server.process.pid();
        let mut stats = ProcessStats::of_process(master);
        server.process.wait_until("running a worker", START_TIMEOUT, || {
            stats = ProcessStats::of_process_and_children(master)
                .unwrap_or_else(|_| ProcessStats::of_process(master));
            stats.process_count() == 2
        })?;
        server.stats = stats;
        Ok(server.with_ports(ports))
    }

    fn ports(environment: &Environment) -> io::Result<Ports> {
        Ok(Ports {
            http: environment.free_port()?,
            http2: environment.free_port()?,
            https: environment.free_port()?,
        })
    }

    fn with_ports(mut self, ports: Ports) -> Self {
        self.http2.set_port(ports.http2);
        self.https.set_port(ports.https);
        self
    }

    /// This server as what a proxy forwards to.
    pub(crate) fn backend(&self) -> Backend {
        Backend { address: self.address, is_http2: false }
    }

    /// The same over HTTP/2.
    pub(crate) fn http2_backend(&self) -> Backend {
        Backend { address: self.http2, is_http2: true }
    }

    /// agimo; its application is asleep and starts on the first request.
    pub(crate) fn agimo(
        environment: &Environment,
        binary: &Path,
        name: &str,
        setup: &AgimoSetup,
    ) -> io::Result<Self> {
        let directory = environment.new_directory("agimo")?;
        create_certificate(&directory)?;
        let Ports { http: port, https, .. } = Self::ports(environment)?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, environment.free_port()?));
        let file = directory.join("config.toml");
        fs::write(&file, configuration::agimo(environment, setup, &path_text(&directory)?)?)?;
        let mut command = strings(&[
            &path_text(binary)?,
            "--conf",
            &path_text(&file)?,
            "--port",
            &port.to_string(),
        ]);
        let admin_port = admin.port().to_string();
        command.extend(strings(&["--admin-port", &admin_port, "--bind", "127.0.0.1"]));
        command.extend(strings(&["--threads", "1", "--log", "text"]));
        command.extend(strings(&["--tls-port", &https.to_string()]));
        if let Some((collector, ratio)) = setup.traces {
            let (endpoint, ratio) = (format!("http://{collector}"), ratio.to_string());
            command.extend(strings(&["--otlp-endpoint", &endpoint, "--otlp-sample-ratio", &ratio]));
        }
        if setup.access_log {
            command.push("--access-log".to_owned());
        }
        let log = directory.join("output.log");
        let mut process = RunningProgram::start(name, environment.proxy_core(), &command, &log)?;
        process.wait_until("ready", START_TIMEOUT, || {
            fetch(admin, "localhost", "/readyz", Duration::from_secs(1))
                .is_ok_and(|(status, _)| status == 200)
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            name: name.to_owned(),
            address,
            // Told apart by its preface.
            http2: address,
            https: SocketAddr::from((Ipv4Addr::LOCALHOST, https)),
            stats: ProcessStats::of_process(process.pid()),
            log,
            admin: Some(admin),
            process,
        })
    }

    fn start(
        environment: &Environment,
        name: &str,
        core: Option<usize>,
        command: &[String],
        address: SocketAddr,
        directory: &Path,
    ) -> io::Result<Self> {
        debug_assert!(core.is_some() == environment.cores.is_some());
        let log = directory.join("output.log");
        let mut process = RunningProgram::start(name, core, command, &log)?;
        process.wait_until("listening", START_TIMEOUT, || TcpStream::connect(address).is_ok())?;
        let stats = ProcessStats::of_process(process.pid());
        let (http2, https) = (address, address);
        Ok(Self { name: name.to_owned(), address, http2, https, stats, log, admin: None, process })
    }

    /// The lifecycle events of agimo from now on.
    pub(crate) fn events(&self) -> io::Result<Events> {
        let admin = self.admin.ok_or_else(|| io::Error::other("only agimo publishes events"))?;
        Events::follow(admin)
    }

    /// Waits until the metrics of agimo show `count` held requests for `host`. Returns at once for other servers.
    pub(crate) fn wait_until_held(&self, host: &str, count: usize) -> io::Result<()> {
        let Some(admin) = self.admin else {
            return Ok(());
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (_, metrics) = fetch(admin, "localhost", "/metrics", Duration::from_secs(5))?;
            let held = gauge(&metrics, "agimo_held_requests", host);
            if held == Some(count as f64) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "{} holds {held:?} requests, expected {count}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Writes a certificate for ECDSA with P-256 into a directory: `certificate.pem`, `key.pem`, and both in one file.
fn create_certificate(directory: &Path) -> io::Result<()> {
    let path = |name: &str| path_text(&directory.join(name));
    let (certificate, key) = (path("certificate.pem")?, path("key.pem")?);
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=bench", "-addext", &format!("subjectAltName=DNS:{HOST}")])
        .args(["-days", "2", "-out", &certificate, "-keyout", &key])
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("openssl: {error}")));
    }
    let both = [fs::read(&certificate)?, fs::read(&key)?].concat();
    fs::write(directory.join("both.pem"), both)
}

/// The value of the metric `name` with the label `host`.
fn gauge(metrics: &str, name: &str, host: &str) -> Option<f64> {
    let label = format!("host=\"{host}\"");
    let has_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    let line = metrics.lines().filter(has_name).find(|line| line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_by_its_host_label() {
        let metrics = "# TYPE agimo_held_requests gauge\n\
            agimo_held_requests{host=\"other\"} 1\nagimo_held_requests{host=\"held.local\"} 2000\n";
        assert_eq!(gauge(metrics, "agimo_held_requests", "held.local"), Some(2000.0));
        assert_eq!(gauge(metrics, "agimo_held", "held.local"), None);
    }
}
