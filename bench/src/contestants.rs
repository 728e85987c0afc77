//! The proxies under test and how they are started. Nothing is measured here.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::configuration::{self, AgimoSetup, own_path, path_text, strings};
use crate::exchange::fetch;
use crate::launch::Running;
use crate::meter::Meter;
use crate::scene::Scene;

/// How long a program may take to listen; 10,000 services are read in this time too.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A started proxy, or the origin itself for `direct`.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) meter: Meter,
    /// Where everything it printed is.
    pub(crate) log: PathBuf,
    /// agimo's admin address.
    admin: Option<SocketAddr>,
    /// Ends with the contestant.
    process: Running,
}

// === impl Contestant ===

impl Contestant {
    /// The origin; every contestant but agimo, which starts its own, has it behind it.
    pub(crate) fn origin(scene: &Scene) -> io::Result<Self> {
        let port = scene.free_port()?;
        let command = strings(&[&own_path()?, "origin", "--port", &port.to_string()]);
        Self::start(
            scene,
            "direct",
            scene.load_core(),
            &command,
            port,
            &scene.new_folder("origin")?,
        )
    }

    /// HAProxy: one thread, keep-alive on both sides, every idle connection open to every request.
    pub(crate) fn haproxy(scene: &Scene, origin: &Self) -> io::Result<Self> {
        let folder = scene.new_folder("haproxy")?;
        let port = scene.free_port()?;
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration::haproxy(port, origin.address))?;
        let command = strings(&["haproxy", "-db", "-f", &path_text(&file)?]);
        Self::start(scene, "HAProxy", scene.proxy_core(), &command, port, &folder)
    }

    /// nginx: one worker, keep-alive on both sides.
    pub(crate) fn nginx(scene: &Scene, origin: &Self) -> io::Result<Self> {
        let folder = scene.new_folder("nginx")?;
        let port = scene.free_port()?;
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration::nginx(port, origin.address, &path_text(&folder)?))?;
        let command = strings(&[
            "nginx",
            "-c",
            &path_text(&file)?,
            "-e",
            &path_text(&folder.join("error.log"))?,
        ]);
        let mut contestant =
            Self::start(scene, "nginx", scene.proxy_core(), &command, port, &folder)?;
        // The worker does the work; the master listens a moment before there is one.
        let master = contestant.process.pid();
        let mut family = Meter::process(master);
        contestant.process.wait_until("with a worker", START_LIMIT, || {
            family = Meter::family(master).unwrap_or_else(|_| Meter::process(master));
            family.processes() == 2
        })?;
        contestant.meter = family;
        Ok(contestant)
    }

    /// agimo, asleep: its application starts with the first request.
    pub(crate) fn agimo(
        scene: &Scene,
        binary: &Path,
        name: &str,
        setup: &AgimoSetup,
    ) -> io::Result<Self> {
        let folder = scene.new_folder("agimo")?;
        let port = scene.free_port()?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, scene.free_port()?));
        let file = folder.join("config.toml");
        fs::write(&file, configuration::agimo(scene, setup)?)?;
        let mut command = strings(&[
            &path_text(binary)?,
            "--conf",
            &path_text(&file)?,
            "--port",
            &port.to_string(),
        ]);
        let exporter = admin.port().to_string();
        command.extend(strings(&["--prometheus-exporter-port", &exporter, "--bind", "127.0.0.1"]));
        command.extend(strings(&["--threads", "1", "--log", "text"]));
        if setup.access_log {
            command.push("--access-log".to_owned());
        }
        let log = folder.join("output.log");
        let mut process = Running::start(name, scene.proxy_core(), &command, &log)?;
        process.wait_until("ready", START_LIMIT, || {
            fetch(admin, "localhost", "/readyz", Duration::from_secs(1))
                .is_ok_and(|(status, _)| status == 200)
        })?;
        Ok(Self {
            name: name.to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            meter: Meter::process(process.pid()),
            log,
            admin: Some(admin),
            process,
        })
    }

    fn start(
        scene: &Scene,
        name: &str,
        core: Option<usize>,
        command: &[String],
        port: u16,
        folder: &Path,
    ) -> io::Result<Self> {
        debug_assert!(core.is_some() == scene.cores.is_some());
        let log = folder.join("output.log");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Running::start(name, core, command, &log)?;
        process.wait_until("listening", START_LIMIT, || TcpStream::connect(address).is_ok())?;
        let meter = Meter::process(process.pid());
        Ok(Self { name: name.to_owned(), address, meter, log, admin: None, process })
    }

    /// Waits until agimo itself says that it holds `count` requests for `host`.
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
                    "{} holds {held:?} requests instead of {count}",
                    self.name
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The value of the sample of `name` whose `host` label is `host`.
fn gauge(metrics: &str, name: &str, host: &str) -> Option<f64> {
    let label = format!("host=\"{host}\"");
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    let line = metrics.lines().filter(of_name).find(|line| line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_found_by_its_host() {
        let metrics = "# TYPE agimo_held_requests gauge\n\
            agimo_held_requests{host=\"other\"} 1\nagimo_held_requests{host=\"held.local\"} 2000\n";
        assert_eq!(gauge(metrics, "agimo_held_requests", "held.local"), Some(2000.0));
        assert_eq!(gauge(metrics, "agimo_held", "held.local"), None);
    }
}
