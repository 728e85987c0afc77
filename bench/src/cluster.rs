//! Measures each phase of a cold start in a Kubernetes cluster and splits the time between agimo and the cluster. Runs inside
//! a cluster of the test bed.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::clients::unix_micros;
use crate::configuration::{path_text, strings};
use crate::environment::Environment;
use crate::events::Events;
use crate::http::fetch;
use crate::kubernetes::{apply, kubectl, require_test_bed, wait_until};
use crate::launch::RunningProgram;
use crate::report::{Report, Table, Target, median};

mod annotated;
mod pods;

/// The host of the sample application.
const HOST: &str = "bench.local";
/// A Deployment at zero replicas with a readiness probe every second, and its Service.
const MANIFEST: &str = include_str!("cluster/manifest.yaml");
const CONFIGURATION: &str = include_str!("cluster/config.toml");

/// A wake usually takes less than a second; in one of ten wakes, one second more.
const WAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the old pod to be deleted: its process exits at once, the API object follows later.
const SLEEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The phases of a cold start: the lifecycle event that ends it, and the row in the table.
const PHASES: [(&str, &str); 9] = [
    ("scale_written", "scale write accepted"),
    ("pod_scheduled", "pod scheduled"),
    ("container_started", "container started"),
    ("pod_ready_early", "readiness probe passed for agimo"),
    ("pod_ready", "pod ready"),
    ("endpoint_slice_ready", "EndpointSlice seen by agimo"),
    ("ready", "request released"),
    ("connected", "connected to the pod"),
    ("forwarded", "request forwarded"),
];

/// How often to measure.
pub(crate) struct Plan {
    wakes: u32,
}

/// The times of one cold start, in milliseconds since its request was sent. NaN if agimo did not publish the event, for example
/// because the pod was ready before its EndpointSlice.
struct ColdStart {
    phases: [f64; PHASES.len()],
    first_byte: f64,
}

/// An agimo process that scales one Deployment, and its events.
struct ScalingAgimo {
    address: SocketAddr,
    admin: SocketAddr,
    events: Events,
    process: RunningProgram,
}

/// Measures all cold starts and adds the table and its targets.
pub(crate) fn measure(
    environment: &Environment,
    plan: &Plan,
    report: &mut Report,
) -> io::Result<()> {
    let Some(binary) = &environment.agimo else {
        add_targets(None, report);
        return Ok(());
    };
    require_test_bed("cluster")?;
    apply(MANIFEST)?;
    let measure = |keys: &str| {
        let configuration = format!("{CONFIGURATION}\n{keys}");
        let agimo = ScalingAgimo::start(environment, binary, &configuration)?;
        (0..plan.wakes).map(|_| agimo.measure_cold_start()).collect::<io::Result<Vec<ColdStart>>>()
    };
    let starts = measure("")?;
    let early = measure("early_ready = true\n")?;
    let columns = |starts: &[ColdStart], time: &dyn Fn(&ColdStart) -> f64| {
        let mut times: Vec<f64> = starts.iter().map(time).filter(|time| !time.is_nan()).collect();
        times.sort_by(f64::total_cmp);
        let format = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.2}"));
        [
            times.len().to_string(),
            format(times.first().copied()),
            format((!times.is_empty()).then(|| median(times.iter().copied()))),
            format(times.last().copied()),
        ]
    };
    let row = |name: &str, time: &dyn Fn(&ColdStart) -> f64| {
        let mut row = vec![name.to_owned()];
        row.extend(columns(&starts, time));
        row.extend(columns(&early, time));
        row
    };
    let mut rows: Vec<_> = PHASES
        .iter()
        .enumerate()
        .map(|(index, (_, name))| row(name, &move |start: &ColdStart| start.phases[index]))
        .collect();
    rows.push(row("first byte of the response", &|start| start.first_byte));
    rows.push(row("agimo: arrival to scale write", &ColdStart::arrival_to_scale_write));
    rows.push(row("agimo: readiness seen to request forwarded", &ColdStart::ready_to_forwarded));
    rows.push(row("cluster: the rest", &ColdStart::cluster_time));
    report.add(Table {
        title: "Cold start in a cluster: milliseconds since the request was sent".to_owned(),
        columns: [
            "",
            "wakes",
            "min",
            "median",
            "max",
            "early: wakes",
            "early: min",
            "early: median",
            "early: max",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
        notes: vec![
            "A Deployment at zero replicas on one node, with a readiness probe every second. Kubernetes 1.37, agimo and the \
             load generator share the same two cores. The scale write includes the response time of the API server."
                .to_owned(),
            "The times are those of the lifecycle events of agimo. The first byte of the response includes the response \
             time of the application."
                .to_owned(),
            "`early` is with `early_ready = true`: agimo runs the readiness probe of the pod itself, every 10 ms."
                .to_owned(),
            "The Ready condition of the pod or the EndpointSlice releases the request, whichever agimo sees first; \
             `readiness seen` is the first of the two. An EndpointSlice that is second is counted only if agimo still \
             watches it for this wake."
                .to_owned(),
        ],
    });
    add_targets(Some(&starts), report);
    pods::measure(environment, plan, report)?;
    annotated::measure(environment, report)
}

fn add_targets(starts: Option<&[ColdStart]>, report: &mut Report) {
    // With fewer than 100 wakes, the 99th percentile is the maximum.
    let p99 = |time: fn(&ColdStart) -> f64| {
        starts.map(|starts| starts.iter().map(time).fold(f64::MIN, f64::max))
    };
    let p50 = |time: fn(&ColdStart) -> f64| starts.map(|starts| median(starts.iter().map(time)));
    let mut add = |name: &str, measured, limit| {
        report.add_target(Target { name: name.to_owned(), measured, limit, unit: "ms" });
    };
    add("Cluster: arrival to scale write, p99", p99(ColdStart::arrival_to_scale_write), 10.0);
    add(
        "Cluster: readiness seen to request forwarded, p50",
        p50(ColdStart::ready_to_forwarded),
        0.5,
    );
    add(
        "Cluster: readiness seen to request forwarded, p99",
        p99(ColdStart::ready_to_forwarded),
        2.0,
    );
}

/// Waits until every agimo knows that the Deployment is asleep, and the old pod is deleted, so that its termination does not
/// affect the next start.
fn wait_until_asleep(admins: &[SocketAddr]) -> io::Result<()> {
    wait_until("the Deployment was not scaled to zero", SLEEP_TIMEOUT, || {
        if !kubectl(&["get", "pods", "-l", "app=bench", "-o", "name"])?.is_empty() {
            return Ok(false);
        }
        for admin in admins {
            let page = fetch(*admin, "localhost", "/services", Duration::from_secs(5))?.1;
            let services: Vec<serde_json::Value> = serde_json::from_str(&page)?;
            let is_asleep = |service: &serde_json::Value| {
                service["host"] == HOST && service["state"] == "asleep"
            };
            if !services.iter().any(is_asleep) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

// === impl ScalingAgimo ===

impl ScalingAgimo {
    /// Returns when agimo is ready.
    fn start(environment: &Environment, binary: &Path, configuration: &str) -> io::Result<Self> {
        let directory = environment.new_directory("cluster")?;
        let (port, admin_port) = (environment.free_port()?, environment.free_port()?);
        let file = directory.join("config.toml");
        fs::write(&file, configuration)?;
        let command = strings(&[
            &path_text(binary)?,
            "--conf",
            &path_text(&file)?,
            "--port",
            &port.to_string(),
            "--admin-port",
            &admin_port.to_string(),
            "--bind",
            "127.0.0.1",
            "--threads",
            "1",
        ]);
        let log = directory.join("output.log");
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin_port));
        // Not pinned: the cluster needs both cores too.
        let mut process = RunningProgram::start("agimo", None, &command, &log)?;
        process.wait_until("ready", WAKE_TIMEOUT, || {
            fetch(admin, "localhost", "/readyz", Duration::from_secs(1))
                .is_ok_and(|(status, _)| status == 200)
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let events = Events::follow(admin)?;
        Ok(Self { address, admin, events, process })
    }

    fn measure_cold_start(&self) -> io::Result<ColdStart> {
        wait_until_asleep(&[self.admin])?;
        self.events.clear();
        let mut client = TcpStream::connect(self.address)?;
        client.set_read_timeout(Some(WAKE_TIMEOUT))?;
        let sent = unix_micros();
        client.write_all(
            format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        let mut status_line = [0; 12];
        client.read_exact(&mut status_line)?;
        let received = unix_micros();
        if &status_line != b"HTTP/1.1 200" {
            return Err(io::Error::other(format!(
                "expected status 200, received {:?}",
                String::from_utf8_lossy(&status_line)
            )));
        }
        // An EndpointSlice that is second may follow the response.
        thread::sleep(Duration::from_millis(200));
        let since_sent = |time: u64| (time as f64 - sent as f64) / 1e3;
        let phases =
            PHASES.map(|(event, _)| self.events.time_of(event).map_or(f64::NAN, since_sent));
        Ok(ColdStart { phases, first_byte: since_sent(received) })
    }
}

// === impl ColdStart ===

impl ColdStart {
    fn phase(&self, event: &str) -> f64 {
        PHASES
            .iter()
            .position(|(known, _)| *known == event)
            .map_or(f64::NAN, |index| self.phases[index])
    }

    /// From the arrival of the request to the response of the API server to the scale write.
    fn arrival_to_scale_write(&self) -> f64 {
        self.phase("scale_written")
    }

    /// From the moment that agimo sees a ready endpoint to the moment that the request is written to it.
    fn ready_to_forwarded(&self) -> f64 {
        // `f64::min` ignores NaN, so a phase without an event has no effect.
        let seen =
            ["pod_ready_early", "pod_ready", "endpoint_slice_ready"].map(|event| self.phase(event));
        self.phase("forwarded") - seen.into_iter().fold(f64::NAN, f64::min)
    }

    fn cluster_time(&self) -> f64 {
        self.first_byte - self.arrival_to_scale_write() - self.ready_to_forwarded()
    }
}

// === impl Plan ===

impl Plan {
    pub(crate) const FULL: Self = Self { wakes: 20 };
    pub(crate) const QUICK: Self = Self { wakes: 5 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_is_the_first_of_pod_and_slice() {
        let mut start = ColdStart { phases: [f64::NAN; PHASES.len()], first_byte: 10.0 };
        start.phases[4] = 8.0;
        start.phases[8] = 9.0;
        assert_eq!(start.ready_to_forwarded(), 1.0);
        start.phases[5] = 7.5;
        assert_eq!(start.ready_to_forwarded(), 1.5);
    }
}
