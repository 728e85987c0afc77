//! When the scaler of each program learns of a first request.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::programs::{Application, Kind, Program, request};
use crate::clients::unix_micros;
use crate::configuration::{path_text, strings};
use crate::kubernetes::push_stream::PushStream;
use crate::kubernetes::wait_until;
use crate::launch::RunningProgram;

const LIMIT: Duration = Duration::from_secs(30);
/// The activator forgets a revision after so long without a request.
const FORGET_TIME: Duration = Duration::from_millis(2_500);
/// ScaledObjectRefs in Protocol Buffers, for agimo and for KEDA's scaler.
const SCALED_OBJECT: &[u8] =
    b"\x0a\x05peers\x12\x07default\x1a\x1c\x0a\x08workload\x12\x10deployment/peers\
    \x1a\x0f\x0a\x09activeFor\x12\x021s\x1a\x0b\x0a\x06target\x12\x011";
const SCALED_ROUTE: &[u8] =
    b"\x0a\x05peers\x12\x07default\x1a\x19\x0a\x10interceptorRoute\x12\x05peers";
const AUTOSCALER: &str = include_str!("autoscaler.js");

/// A stand-in for Knative's autoscaler; dropping it stops it.
pub(super) struct Autoscaler {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// Whoever is told.
enum Scaler {
    Push { stream: PushStream, _scaler: Option<RunningProgram> },
    Autoscaler,
}

/// Times from a first request to the scaler, in milliseconds. `None` if the scaler of this program is not known.
pub(super) fn measure(
    application: &Application<'_>,
    autoscaler: &Autoscaler,
    program: &Program,
    count: usize,
) -> io::Result<Option<Vec<f64>>> {
    application.settle(program.kind, false)?;
    let scaler = match program.kind {
        Kind::Agimo => {
            Scaler::Push { stream: PushStream::open(program.keda, SCALED_OBJECT)?, _scaler: None }
        }
        Kind::Interceptor => {
            let Some(scaler) = start_scaler(application)? else { return Ok(None) };
            let (address, process) = scaler;
            Scaler::Push {
                stream: PushStream::open(address, SCALED_ROUTE)?,
                _scaler: Some(process),
            }
        }
        Kind::Activator => Scaler::Autoscaler,
    };
    let mut times = Vec::new();
    for round in 0..=count {
        let mut client = None;
        let send = || {
            let mut open = TcpStream::connect(program.address)?;
            let sent = unix_micros();
            open.write_all(&request())?;
            client = Some(open);
            Ok(sent)
        };
        let (sent, told) = match &scaler {
            Scaler::Push { stream, .. } => stream.arrival_and_push(send)?,
            Scaler::Autoscaler => {
                thread::sleep(FORGET_TIME);
                autoscaler.arrival_and_message(send)?
            }
        };
        // The first one also pays for what is looked up once.
        if round > 0 {
            times.push((told as f64 - sent as f64) / 1e3);
        }
    }
    Ok(Some(times))
}

fn start_scaler(application: &Application<'_>) -> io::Result<Option<(SocketAddr, RunningProgram)>> {
    let Some(binary) = application.scaler() else { return Ok(None) };
    let environment = application.environment;
    let (port, metrics) = (environment.free_port()?, environment.free_port()?);
    let mut command = strings(&[
        "env",
        "KEDA_HTTP_SCALER_TARGET_ADMIN_NAMESPACE=default",
        "KEDA_HTTP_SCALER_TARGET_ADMIN_SERVICE=interceptor-admin",
        "KEDA_HTTP_SCALER_TARGET_ADMIN_DEPLOYMENT=interceptor",
        "KEDA_HTTP_SCALER_TARGET_ADMIN_PORT=9090",
    ]);
    command.push(format!("KEDA_HTTP_SCALER_PORT={port}"));
    command.push(format!("OTEL_PROM_EXPORTER_PORT={metrics}"));
    command.extend([path_text(binary)?, "--zap-log-level=error".to_owned()]);
    let log = environment.new_directory("scaler")?.join("output.log");
    let mut process = RunningProgram::start("scaler", None, &command, &log)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    process.wait_until("listening", LIMIT, || TcpStream::connect(address).is_ok())?;
    // It asks the interceptor twice a second.
    thread::sleep(Duration::from_secs(2));
    Ok(Some((address, process)))
}

// === impl Autoscaler ===

impl Autoscaler {
    pub(super) fn start(application: &Application<'_>) -> io::Result<Self> {
        let script = application.environment.new_directory("autoscaler")?.join("autoscaler.js");
        fs::write(&script, AUTOSCALER)?;
        let mut process = Command::new("node")
            .arg(&script)
            .arg(application.node.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let sink = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let autoscaler = Self { process, lines };
        wait_until("the autoscaler does not listen", LIMIT, || Ok(!autoscaler.lock().is_empty()))?;
        Ok(autoscaler)
    }

    /// When the request was sent and when the next message came, in microseconds since the Unix epoch.
    fn arrival_and_message(
        &self,
        send: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<(u64, u64)> {
        self.lock().clear();
        let sent = send()?;
        let message = || self.lock().iter().find_map(|line| line.parse::<u64>().ok());
        wait_until("the autoscaler was not told", LIMIT, || Ok(message().is_some()))?;
        Ok((sent, message().unwrap_or(sent)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Autoscaler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
