//! Measures agimo with many workloads in a cluster: memory, the time to start, and the time from a changed annotation to its route.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::ScalingAgimo;
use crate::environment::Environment;
use crate::http::fetch;
use crate::kubernetes::api_proxy::ApiProxy;
use crate::kubernetes::kubectl;
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

/// Deletes the Deployments of this section, which would make every later list longer.
struct Sweep;

pub(super) fn measure(environment: &Environment, report: &mut Report) -> io::Result<()> {
    let Some(binary) = environment.agimo.clone() else { return Ok(()) };
    let proxy = ApiProxy::start()?;
    let _sweep = Sweep;
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
                    changes.push(annotation_to_route(&proxy, &agimo, change)?);
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

/// Gives a Deployment a new host, and waits until agimo has a route for it.
fn annotation_to_route(api: &ApiProxy, agimo: &ScalingAgimo, change: usize) -> io::Result<f64> {
    let host = format!("changed-{change}.example");
    let body = format!(
        "{{\"metadata\":{{\"annotations\":{{\"agimo.onichandame.com/host\":\"{host}\"}}}}}}"
    );
    let number = change % COUNTS[0];
    api.patch(&format!("/apis/apps/v1/namespaces/default/deployments/many-{number}"), &body)?;
    let written = Instant::now();
    while fetch(agimo.address, &host, "/", Duration::from_secs(1))?.0 == 404 {
        if written.elapsed() > ROUTE_TIMEOUT {
            return Err(io::Error::other(format!("there is no route for {host}")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(written.elapsed().as_secs_f64() * 1e3)
}

// === impl Sweep ===

impl Drop for Sweep {
    fn drop(&mut self) {
        let _ = kubectl(&["delete", "deployments", "--selector", LABEL, "--wait=false"]);
    }
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
