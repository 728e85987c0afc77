//! Starts the servers under test: agimo, HAProxy, nginx and the origin. This module measures nothing.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::configuration::{self, AgimoSetup, bench_binary, path_text, strings};
use crate::environment::Environment;
use crate::events::Events;
use crate::http::fetch;
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
        let port = environment.free_port()?;
        let command = strings(&[&bench_binary()?, "origin", "--port", &port.to_string()]);
        Self::start(
            environment,
            "direct",
            environment.load_core(),
            &command,
            port,
            &environment.new_directory("origin")?,
        )
    }

    /// HAProxy with one thread.
    pub(crate) fn haproxy(environment: &Environment, origin: &Self) -> io::Result<Self> {
        let directory = environment.new_directory("haproxy")?;
        let (port, http2) = (environment.free_port()?, environment.free_port()?);
        let file = directory.join("haproxy.cfg");
        fs::write(&file, configuration::haproxy(port, http2, origin.address))?;
        let command = strings(&["haproxy", "-db", "-f", &path_text(&file)?]);
        let core = environment.proxy_core();
        let mut server = Self::start(environment, "HAProxy", core, &command, port, &directory)?;
        server.http2.set_port(http2);
        Ok(server)
    }

    /// nginx with one worker.
    pub(crate) fn nginx(environment: &Environment, origin: &Self) -> io::Result<Self> {
        let directory = environment.new_directory("nginx")?;
        let (port, http2) = (environment.free_port()?, environment.free_port()?);
        let file = directory.join("nginx.conf");
        let text = configuration::nginx(port, http2, origin.address, &path_text(&directory)?);
        fs::write(&file, text)?;
        let command = strings(&[
            "nginx",
            "-c",
            &path_text(&file)?,
            "-e",
            &path_text(&directory.join("error.log"))?,
        ]);
        let mut server = Self::start(
            environment,
            "nginx",
            environment.proxy_core(),
            &command,
            port,
            &directory,
        )?;
        // The worker handles the requests; the master listens before it has started the worker.
        let master = server.process.pid();
        let mut stats = ProcessStats::of_process(master);
        server.process.wait_until("running a worker", START_TIMEOUT, || {
            stats = ProcessStats::of_process_and_children(master)
                .unwrap_or_else(|_| ProcessStats::of_process(master));
            stats.process_count() == 2
        })?;
        server.stats = stats;
        server.http2.set_port(http2);
        Ok(server)
    }

    /// agimo; its application is asleep and starts on the first request.
    pub(crate) fn agimo(
        environment: &Environment,
        binary: &Path,
        name: &str,
        setup: &AgimoSetup,
    ) -> io::Result<Self> {
        let directory = environment.new_directory("agimo")?;
        let port = environment.free_port()?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, environment.free_port()?));
        let file = directory.join("config.toml");
        fs::write(&file, configuration::agimo(environment, setup)?)?;
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
        port: u16,
        directory: &Path,
    ) -> io::Result<Self> {
        debug_assert!(core.is_some() == environment.cores.is_some());
        let log = directory.join("output.log");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = RunningProgram::start(name, core, command, &log)?;
        process.wait_until("listening", START_TIMEOUT, || TcpStream::connect(address).is_ok())?;
        let stats = ProcessStats::of_process(process.pid());
        let http2 = address;
        Ok(Self { name: name.to_owned(), address, http2, stats, log, admin: None, process })
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
