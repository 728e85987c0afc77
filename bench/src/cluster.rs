//! A cold start in a real cluster, phase by phase: what agimo takes of it, and what the cluster takes. It runs inside of a
//! cluster of the test bed and asserts nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::configuration::{path_text, strings};
use crate::exchange::fetch;
use crate::launch::Running;
use crate::scene::Scene;
use crate::table::{Bar, Report, Table, median};

/// The host that stands for the sample application.
const HOST: &str = "bench.local";
/// A Deployment at zero, whose probe looks every second, and its Service.
const MANIFEST: &str = include_str!("cluster/manifest.yaml");
const CONFIGURATION: &str = include_str!("cluster/config.toml");

/// A wake takes well under a second here; one in ten a second more.
const WAKE_LIMIT: Duration = Duration::from_secs(30);
/// For the old pod to go: its process ends at once, its object a little later.
const SLEEP_LIMIT: Duration = Duration::from_secs(60);

/// What agimo logs on the way, in the order of the table: the words, and what they stand for.
const STEPS: [(&str, &str); 8] = [
    ("scaled", "scale write accepted"),
    ("pod scheduled", "pod scheduled"),
    ("container started", "container started"),
    ("pod ready", "pod ready"),
    ("slice ready", "EndpointSlice seen by agimo"),
    ("endpoint ready", "request released"),
    ("connected", "connected to the pod"),
    ("forwarded", "request forwarded"),
];

/// How often.
pub(crate) struct Plan {
    wakes: u32,
}

/// One cold start, in milliseconds since its request was sent. What was not seen is not a number: a slice
/// that comes after the pod's own word is not waited for.
struct Wake {
    steps: [f64; STEPS.len()],
    answered: f64,
}

/// A running agimo that scales one Deployment, and its log.
struct Stage {
    address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
    _process: Running,
}

/// Wakes a Deployment again and again, and adds the table and its bars.
pub(crate) fn measure(scene: &Scene, plan: &Plan, report: &mut Report) -> io::Result<()> {
    let Some(binary) = &scene.agimo else {
        add_bars(None, report);
        return Ok(());
    };
    apply()?;
    let stage = Stage::set(scene, binary)?;
    let wakes = (0..plan.wakes).map(|_| stage.wake()).collect::<io::Result<Vec<Wake>>>()?;
    let row = |name: &str, of: &dyn Fn(&Wake) -> f64| {
        let mut figures: Vec<f64> =
            wakes.iter().map(of).filter(|figure| !figure.is_nan()).collect();
        figures.sort_by(f64::total_cmp);
        let show =
            |figure: Option<&f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
        vec![
            name.to_owned(),
            figures.len().to_string(),
            show(figures.first()),
            if figures.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.2}", median(figures.iter().copied()))
            },
            show(figures.last()),
        ]
    };
    let mut rows: Vec<_> = STEPS
        .iter()
        .enumerate()
        .map(|(at, (_, name))| row(name, &move |wake: &Wake| wake.steps[at]))
        .collect();
    rows.push(row("answered", &|wake| wake.answered));
    rows.push(row("agimo's share: to the scale write", &Wake::to_write));
    rows.push(row("agimo's share: readiness seen to forwarded", &Wake::to_forward));
    rows.push(row("the cluster's share", &Wake::of_cluster));
    report.add(Table {
        title: "Cold start in a cluster: milliseconds since the first request was sent".to_owned(),
        columns: ["", "wakes", "best", "median", "worst"].map(str::to_owned).to_vec(),
        rows,
        notes: vec![
            "A Deployment at zero on one node (Kubernetes 1.37, everything of it and the load on the same two cores), a \
             readiness probe every second. The write counts until the API server has answered, its own time included."
                .to_owned(),
            "agimo's log gives the times, on its debug level, which costs it a little. The answer is the application's \
             first, its own time included."
                .to_owned(),
            "The request is released by the pod's Ready condition or by the EndpointSlice, whichever comes first; a slice \
             that came second is counted where it was still looked at. `Readiness seen` is the first of the two."
                .to_owned(),
        ],
    });
    add_bars(Some(&wakes), report);
    Ok(())
}

fn add_bars(wakes: Option<&[Wake]>, report: &mut Report) {
    let worst =
        |of: fn(&Wake) -> f64| move |wakes: &[Wake]| wakes.iter().map(of).fold(f64::MIN, f64::max);
    let bar = |what: &str, figure, limit| Bar { what: what.to_owned(), figure, limit, unit: "ms" };
    report.bar(bar(
        "In a cluster: arrival to scale write, p99",
        wakes.map(worst(Wake::to_write)),
        10.0,
    ));
    let p50 = wakes.map(|wakes| median(wakes.iter().map(Wake::to_forward)));
    report.bar(bar("In a cluster: readiness seen to request forwarded, p50", p50, 0.5));
    report.bar(bar(
        "In a cluster: readiness seen to request forwarded, p99",
        wakes.map(worst(Wake::to_forward)),
        2.0,
    ));
}

fn apply() -> io::Result<()> {
    let mut kubectl = Command::new("kubectl")
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| {
            io::Error::other(format!("kubectl: {error}; run `cargo xtask bench --cluster`"))
        })?;
    if let Some(input) = &mut kubectl.stdin {
        input.write_all(MANIFEST.as_bytes())?;
    }
    drop(kubectl.stdin.take());
    if kubectl.wait()?.success() { Ok(()) } else { Err(io::Error::other("kubectl apply failed")) }
}

// === impl Stage ===

impl Stage {
    fn set(scene: &Scene, binary: &Path) -> io::Result<Self> {
        let folder = scene.new_folder("cluster")?;
        let (port, admin_port) = (scene.free_port()?, scene.free_port()?);
        let file = folder.join("config.toml");
        fs::write(&file, CONFIGURATION)?;
        let command = strings(&[
            &path_text(binary)?,
            "--conf",
            &path_text(&file)?,
            "--port",
            &port.to_string(),
            "--prometheus-exporter-port",
            &admin_port.to_string(),
            "--bind",
            "127.0.0.1",
            "--threads",
            "1",
            "--log",
            "text,debug",
        ]);
        let log = folder.join("output.log");
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        // The cluster needs both cores as much as agimo does.
        let mut process = Running::start("agimo", None, &command, &log)?;
        process.wait_until("ready", WAKE_LIMIT, || {
            fetch(admin, "localhost", "/readyz", Duration::from_secs(1))
                .is_ok_and(|(status, _)| status == 200)
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { address, admin, log, _process: process })
    }

    fn wake(&self) -> io::Result<Wake> {
        self.until_asleep()?;
        let before = fs::metadata(&self.log)?.len();
        let mut client = TcpStream::connect(self.address)?;
        client.set_read_timeout(Some(WAKE_LIMIT))?;
        let sent = now();
        client.write_all(
            format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut first = [0; 12];
        client.read_exact(&mut first)?;
        let answered = now();
        if &first != b"HTTP/1.1 200" {
            return Err(io::Error::other(format!(
                "answered {:?}",
                String::from_utf8_lossy(&first)
            )));
        }
        // A line may come a moment after what it tells.
        thread::sleep(Duration::from_millis(200));
        let log = fs::read_to_string(&self.log)?;
        let log = log.get(usize::try_from(before).unwrap_or(0)..).unwrap_or_default();
        let since = |at: u64| (at as f64 - sent as f64) / 1e3;
        let steps = STEPS.map(|(words, _)| logged_at(log, words).map_or(f64::NAN, since));
        Ok(Wake { steps, answered: since(answered) })
    }

    /// Scaled to zero, and the old pod gone: its end would disturb the next start.
    fn until_asleep(&self) -> io::Result<()> {
        let deadline = Instant::now() + SLEEP_LIMIT;
        loop {
            let (_, services) =
                fetch(self.admin, "localhost", "/services", Duration::from_secs(5))?;
            let pods = Command::new("kubectl")
                .args(["get", "pods", "-l", "app=bench", "-o", "name"])
                .output()?;
            if services.contains("\"asleep\"") && pods.stdout.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the Deployment was not put to sleep"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

// === impl Wake ===

impl Wake {
    fn step(&self, words: &str) -> f64 {
        STEPS.iter().position(|(known, _)| *known == words).map_or(f64::NAN, |at| self.steps[at])
    }

    /// From the request's arrival to the API server's answer to the write.
    fn to_write(&self) -> f64 {
        self.step("scaled")
    }

    /// From the moment that agimo knew that an endpoint is ready to the request written to it.
    fn to_forward(&self) -> f64 {
        // Whichever was not seen is not a number, and `min` takes the other.
        self.step("forwarded") - self.step("pod ready").min(self.step("slice ready"))
    }

    fn of_cluster(&self) -> f64 {
        self.answered - self.to_write() - self.to_forward()
    }
}

// === impl Plan ===

impl Plan {
    pub(crate) const FULL: Self = Self { wakes: 20 };
    pub(crate) const QUICK: Self = Self { wakes: 5 };
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |at| at.as_micros() as u64)
}

/// When the first line with these words was logged: a line begins with its time (RFC 3339).
fn logged_at(log: &str, words: &str) -> Option<u64> {
    let line = log.lines().find(|line| {
        let told = line.split_once(": ").map_or("", |(_, told)| told);
        told.starts_with(words)
    })?;
    let at = humantime::parse_rfc3339(line.split_whitespace().next()?).ok()?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_timed_by_the_line_that_tells_it() {
        let log = "1970-01-01T00:00:01.000002Z  INFO agimo::x: not scaled\n\
            1970-01-01T00:00:02.000003Z  INFO agimo::x: scaled workload=\"a\"\n";
        assert_eq!(logged_at(log, "scaled"), Some(2_000_003));
        assert_eq!(logged_at(log, "pod ready"), None);
    }

    #[test]
    fn readiness_counts_from_whichever_was_seen_first() {
        let mut wake = Wake { steps: [f64::NAN; STEPS.len()], answered: 10.0 };
        wake.steps[3] = 8.0;
        wake.steps[7] = 9.0;
        assert_eq!(wake.to_forward(), 1.0);
        wake.steps[4] = 7.5;
        assert_eq!(wake.to_forward(), 1.5);
    }
}
