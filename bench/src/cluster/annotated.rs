//! Measures agimo with many workloads in a cluster: memory, the time to start, and the time from a changed annotation to its route.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{ScalingAgimo, kubectl};
use crate::environment::Environment;
use crate::http::fetch;
use crate::process_stats::ProcessStats;
use crate::report::{Report, Table, median};

/// The workloads of each row.
const COUNTS: [usize; 2] = [10, 10_000];
/// Objects that one `kubectl create` creates, and how many run at once.
const BATCH: usize = 500;
const PARALLEL: usize = 4;
/// How often an annotation is changed.
const CHANGES: usize = 20;
/// Of every Deployment that this section creates.
const LABEL: &str = "bench=many";
const ROUTE_TIMEOUT: Duration = Duration::from_secs(30);

/// What was measured with one configuration.
struct Measured {
    start: f64,
    resident: f64,
    /// Milliseconds from the response of the API server to the first request that finds the route.
    changes: Vec<f64>,
}

/// A `kubectl proxy`, so that a change costs one request and not the start of a program.
struct ApiProxy {
    process: Child,
    address: SocketAddr,
}

pub(super) fn measure(environment: &Environment, report: &mut Report) -> io::Result<()> {
    let Some(binary) = environment.agimo.clone() else { return Ok(()) };
    let proxy = ApiProxy::start()?;
    let mut rows = Vec::new();
    let mut created = 0;
    for count in COUNTS {
        create(environment, created, count)?;
        created = count;
        let mut configured = String::from("timeout = \"30s\"\n");
        (0..count).for_each(|number| configured.push_str(&service(number)));
        for (kind, configuration) in
            [("annotated", "annotations = true\n"), ("configured", configured.as_str())]
        {
            let began = Instant::now();
            let agimo = ScalingAgimo::start(environment, &binary, configuration)?;
            let start = began.elapsed().as_secs_f64() * 1e3;
            let mut changes = Vec::new();
            for change in 0..CHANGES {
                if kind == "annotated" {
                    changes.push(proxy.annotation_to_route(&agimo, change)?);
                }
            }
            let memory = ProcessStats::of_process(agimo.process.pid()).memory()?;
            let measured = Measured { start, resident: memory.rss as f64 / 1e6, changes };
            rows.push(measured.row(&format!("{count} {kind} workloads")));
        }
    }
    report.add(Table {
        title: "Many workloads in a cluster".to_owned(),
        columns: [
            "",
            "start to ready, ms",
            "RSS MB",
            "annotation to route, median ms",
            "annotation to route, max ms",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows,
        notes: vec![
            "Deployments at zero replicas. Ready is after the first list of every watch, when the routes are there."
                .to_owned(),
            "The time of a change is from the response of the API server to the first request that finds the new host; requests \
             are repeated each millisecond."
                .to_owned(),
        ],
    });
    Ok(())
}

/// Creates the Deployments with the numbers from `from` to `to`.
fn create(environment: &Environment, from: usize, to: usize) -> io::Result<()> {
    let directory = environment.new_directory("deployments")?;
    let numbers: Vec<usize> = (from..to).collect();
    for batches in numbers.chunks(BATCH * PARALLEL) {
        let mut creates = Vec::new();
        for batch in batches.chunks(BATCH) {
            let file = directory.join(format!("{}.yaml", batch[0]));
            fs::write(&file, batch.iter().map(|number| deployment(*number)).collect::<String>())?;
            let mut create = Command::new("kubectl");
            create.args(["create", "--filename"]).arg(&file).stdout(Stdio::null());
            creates.push(create.spawn()?);
        }
        for mut create in creates {
            if !create.wait()?.success() {
                return Err(io::Error::other("kubectl create failed"));
            }
        }
    }
    Ok(())
}

/// Paused, so that no ReplicaSet is created. Pinned asleep, so that a request is rejected at once where there is a route.
fn deployment(number: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: many-{number}\n  namespace: default\n  labels: {{bench: many}}\n  annotations:\n    \
         agimo.onichandame.com/host: many-{number}.example\n    agimo.onichandame.com/service: bench\n    \
         agimo.onichandame.com/pin: asleep\nspec:\n  replicas: 0\n  paused: true\n  selector: {{matchLabels: {{app: \
         many-{number}}}}}\n  template:\n    metadata: {{labels: {{app: many-{number}}}}}\n    spec: {{containers: [{{name: a, \
         image: 'agimo.test/sample:1'}}]}}\n---\n"
    )
}

fn service(number: usize) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "[[services]]\nhost = \"many-{number}.example\"\ntype = \"deployment\"\nnamespace = \"default\"\n\
         name = \"many-{number}\"\nservice_name = \"bench\"\nservice_port = 80\nscaler = \"auto\"\n"
    );
    text
}

// === impl Measured ===

impl Measured {
    fn row(&self, name: &str) -> Vec<String> {
        let most = self.changes.iter().copied().fold(f64::MIN, f64::max);
        let time = |time: f64| {
            if self.changes.is_empty() { "-".to_owned() } else { format!("{time:.1}") }
        };
        vec![
            name.to_owned(),
            format!("{:.0}", self.start),
            format!("{:.1}", self.resident),
            time(median(self.changes.iter().copied())),
            time(most),
        ]
    }
}

// === impl ApiProxy ===

impl ApiProxy {
    fn start() -> io::Result<Self> {
        let mut process =
            Command::new("kubectl").args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        // Starting to serve on 127.0.0.1:12345
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        let address =
            address.parse().map_err(|_| io::Error::other(format!("kubectl proxy: {line}")))?;
        Ok(Self { process, address })
    }

    /// Gives a Deployment a new host, and waits until agimo has a route for it.
    fn annotation_to_route(&self, agimo: &ScalingAgimo, change: usize) -> io::Result<f64> {
        let host = format!("changed-{change}.example");
        let body = format!(
            "{{\"metadata\":{{\"annotations\":{{\"agimo.onichandame.com/host\":\"{host}\"}}}}}}"
        );
        let mut client = TcpStream::connect(self.address)?;
        client.write_all(
            format!(
                "PATCH /apis/apps/v1/namespaces/default/deployments/many-{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n\r\n{body}",
                change % COUNTS[0],
                body.len()
            )
            .as_bytes(),
        )?;
        let mut status_line = [0; 12];
        client.read_exact(&mut status_line)?;
        let written = Instant::now();
        if &status_line != b"HTTP/1.1 200" {
            let line = String::from_utf8_lossy(&status_line).into_owned();
            return Err(io::Error::other(format!("the annotation was not changed: {line}")));
        }
        while fetch(agimo.address, &host, "/", Duration::from_secs(1))?.0 == 404 {
            if written.elapsed() > ROUTE_TIMEOUT {
                return Err(io::Error::other(format!("there is no route for {host}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(written.elapsed().as_secs_f64() * 1e3)
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // The Deployments of this section would make every later list longer.
        let _ = kubectl(&["delete", "deployments", "--selector", LABEL, "--wait=false"]);
    }
}
