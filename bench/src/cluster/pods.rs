//! Measures agimo as the chart installs it, with several replicas: how soon each of them writes the scale, and how soon KEDA is
//! told of a request that another replica holds.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::{HOST, Plan, WAKE_TIMEOUT, wait_until_asleep};
use crate::clients::unix_micros;
use crate::environment::Environment;
use crate::events::Events;
use crate::kubernetes::push_stream::PushStream;
use crate::kubernetes::{kubectl, wait_until};
use crate::report::{Report, Table, Target, median};

/// A pod of agimo.
struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    events: Events,
}

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/agimo");
const VALUES: &str = include_str!("values.yaml");
const REPLICAS: usize = 3;
/// The host of a Deployment at zero that nobody wakes.
const PUSHED_HOST: &str = "pushed.local";
/// A ScaledObjectRef in Protocol Buffers: the workload is `deployment/pushed`, and inactive one second after its last request.
const SCALED_OBJECT: [&[u8]; 4] = [
    b"\x0a\x06pushed\x12\x07default",
    b"\x1a\x1d\x0a\x08workload\x12\x11deployment/pushed",
    b"\x1a\x0f\x0a\x09activeFor\x12\x021s",
    b"\x1a\x0b\x0a\x06target\x12\x011",
];

/// Installs the chart, and measures.
pub(super) fn measure(
    environment: &Environment,
    plan: &Plan,
    report: &mut Report,
) -> io::Result<()> {
    let directory = environment.new_directory("chart")?;
    let values = directory.join("values.yaml");
    fs::write(&values, VALUES)?;
    let install = Command::new("helm")
        .args(["install", "agimo", CHART, "--namespace", "agimo", "--create-namespace", "--wait"])
        .arg("--values")
        .arg(&values)
        .stdout(Stdio::null())
        .status()?;
    if !install.success() {
        return Err(io::Error::other("helm install failed"));
    }
    let pods = "jsonpath={.items[*].status.podIP}";
    let pods = kubectl(&["--namespace", "agimo", "get", "pods", "-o", pods])?;
    let replicas = pods.split_whitespace().map(Replica::follow).collect::<io::Result<Vec<_>>>()?;
    if replicas.len() != REPLICAS {
        return Err(io::Error::other(format!("expected {REPLICAS} pods of agimo: {pods}")));
    }

    let admins: Vec<_> = replicas.iter().map(|replica| replica.admin).collect();
    let mut writes = Vec::new();
    for wake in 0..plan.wakes as usize {
        wait_until_asleep(&admins)?;
        writes.push(arrival_to_scale_write(&replicas, wake % REPLICAS)?);
    }
    let port_for_keda = SocketAddr::new(replicas[0].address.ip(), 9092);
    let stream = PushStream::open(port_for_keda, &SCALED_OBJECT.concat())?;
    let mut pushes = [Vec::new(), Vec::new()];
    for request in 0..plan.wakes as usize {
        let holder = request % REPLICAS;
        let mut client = None;
        let (sent, pushed) = stream.arrival_and_push(|| {
            let (open, sent) = replicas[holder].send(PUSHED_HOST)?;
            client = Some(open);
            Ok(sent)
        })?;
        pushes[usize::from(holder != 0)].push(milliseconds(sent, pushed));
    }
    let [own, others] = pushes;
    let rows = [
        ("arrival to scale write, whichever replica holds the request", &writes),
        ("arrival to push, by the replica that holds the request", &own),
        ("arrival to push, by another replica", &others),
    ];
    report.add(Table {
        title: "Several replicas of agimo in a cluster: milliseconds since the request was sent"
            .to_owned(),
        columns: ["", "requests", "min", "median", "max"].map(str::to_owned).to_vec(),
        rows: rows.iter().map(|(name, times)| row(name, times)).collect(),
        notes: vec![
            "Three pods of agimo as the chart installs them; the requests go to one after the other. The scale write is the \
             lifecycle event of agimo."
                .to_owned(),
            "The push is the message `active` at a client of the port for KEDA (curl) that follows one replica. Nothing wakes \
             the workload; each request comes after the message `inactive`."
                .to_owned(),
        ],
    });
    for (name, times) in rows {
        report.add_target(Target {
            name: format!("Cluster, 3 replicas: {name}, p99"),
            // With fewer than 100 requests, the 99th percentile is the maximum.
            measured: Some(times.iter().copied().fold(f64::MIN, f64::max)),
            limit: 10.0,
            unit: "ms",
        });
    }
    Ok(())
}

fn row(name: &str, times: &[f64]) -> Vec<String> {
    let least = times.iter().copied().fold(f64::MAX, f64::min);
    let most = times.iter().copied().fold(f64::MIN, f64::max);
    let numbers = [least, median(times.iter().copied()), most];
    let mut row = vec![name.to_owned(), times.len().to_string()];
    row.extend(numbers.map(|time| format!("{time:.2}")));
    row
}

/// Wakes the workload by a request to one of the replicas. The leader may be the first to write, as it is told at once.
fn arrival_to_scale_write(replicas: &[Replica], holder: usize) -> io::Result<f64> {
    replicas.iter().for_each(|replica| replica.events.clear());
    let (mut client, sent) = replicas[holder].send(HOST)?;
    let mut status_line = [0; 12];
    client.read_exact(&mut status_line)?;
    if &status_line != b"HTTP/1.1 200" {
        let line = String::from_utf8_lossy(&status_line).into_owned();
        return Err(io::Error::other(format!("expected status 200, received {line:?}")));
    }
    let written = || replicas.iter().filter_map(|replica| replica.events.time_of("scale_written"));
    wait_until("no replica of agimo has written the scale", WAKE_TIMEOUT, || {
        Ok(written().next().is_some())
    })?;
    Ok(milliseconds(sent, written().min().unwrap_or(sent)))
}

// === impl Replica ===

impl Replica {
    fn follow(pod: &str) -> io::Result<Self> {
        let at = |port: u16| format!("{pod}:{port}").parse().map_err(io::Error::other);
        let (address, admin) = (at(8080)?, at(9090)?);
        Ok(Self { address, admin, events: Events::follow(admin)? })
    }

    /// Sends a request, and returns when its first byte was sent.
    fn send(&self, host: &str) -> io::Result<(TcpStream, u64)> {
        let mut client = TcpStream::connect(self.address)?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(WAKE_TIMEOUT))?;
        let sent = unix_micros();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes())?;
        Ok((client, sent))
    }
}

fn milliseconds(from: u64, to: u64) -> f64 {
    (to as f64 - from as f64) / 1e3
}
