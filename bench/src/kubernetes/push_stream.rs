//! A client of an external scaler for KEDA, which asks as KEDA does (KEDA, "External Scalers": StreamIsActive).

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::wait_until;
use crate::clients::unix_micros;

/// How long a message may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What the scaler sends about one workload; dropping it ends the stream.
pub(crate) struct PushStream {
    /// When each message came, in microseconds since the Unix epoch, and whether it says that the workload is active.
    received: Arc<Mutex<Vec<(u64, bool)>>>,
    client: Child,
}

// === impl PushStream ===

impl PushStream {
    /// `scaled_object` is a ScaledObjectRef in Protocol Buffers.
    pub(crate) fn open(scaler: SocketAddr, scaled_object: &[u8]) -> io::Result<Self> {
        // A message of gRPC: not compressed, its length, its bytes.
        let mut body = vec![0];
        body.extend(u32::try_from(scaled_object.len()).unwrap_or_default().to_be_bytes());
        body.extend(scaled_object);
        let url = format!("http://{scaler}/externalscaler.ExternalScaler/StreamIsActive");
        let mut client = Command::new("curl")
            .args(["--silent", "--no-buffer", "--http2-prior-knowledge", "--data-binary", "@-"])
            .args(["--header", "content-type: application/grpc", "--header", "te: trailers", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = client.stdin.take() {
            input.write_all(&body)?;
        }
        let mut output = client.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let received = Arc::<Mutex<Vec<_>>>::default();
        let sink = received.clone();
        thread::spawn(move || {
            let mut head = [0; 5];
            while output.read_exact(&mut head).is_ok() {
                let time = unix_micros();
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
                let mut message = vec![0; length as usize];
                if output.read_exact(&mut message).is_err() {
                    return;
                }
                // A field that is false is left out.
                let is_active = !message.is_empty();
                sink.lock().unwrap_or_else(PoisonError::into_inner).push((time, is_active));
            }
        });
        Ok(Self { received, client })
    }

    /// Sends a request as soon as the workload is inactive. Returns when it was sent, as `send` says, and when the message came
    /// that it is active.
    pub(crate) fn arrival_and_push(
        &self,
        send: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<(u64, u64)> {
        wait_until("the workload stays active", LIMIT, || {
            Ok(self.lock().last().is_some_and(|(_, is_active)| !is_active))
        })?;
        self.lock().clear();
        let sent = send()?;
        let active = || self.lock().iter().find(|(_, is_active)| *is_active).copied();
        wait_until("no push came", LIMIT, || Ok(active().is_some()))?;
        Ok((sent, active().map_or(sent, |(time, _)| time)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, bool)>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PushStream {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
