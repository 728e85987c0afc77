//! Warm load: a fixed number of keep-alive connections, each with one request under way, on one thread. It never opens
//! more connections and never sends faster than it is answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::exchange::{answer, exchange};

/// Without any answer for this long a round has failed.
const SILENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Open connections that take turns at being answered.
pub(crate) struct Load {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    request: Vec<u8>,
}

/// What one round gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    partial: Vec<u8>,
}

// === impl Load ===

impl Load {
    /// Opens the connections and has one request answered on each, which also wakes a sleeping service.
    pub(crate) fn open(address: SocketAddr, count: u32, request: Vec<u8>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..count {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            expect_success(exchange(&mut stream, &request)?.status)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                &stream,
                epoll::EventData::new_u64(u64::from(index)),
                epoll::EventFlags::IN,
            )?;
            connections.push(Connection { stream, sent: Instant::now(), partial: Vec::new() });
        }
        Ok(Self { epoll, connections, request })
    }

    /// Keeps every connection busy for `length`, then waits for the answers still under way; they count too.
    pub(crate) fn run(&mut self, length: Duration) -> io::Result<Round> {
        let begun = Instant::now();
        let end = begun + length;
        for connection in &mut self.connections {
            connection.send(&self.request)?;
        }
        let mut under_way = self.connections.len();
        let mut latencies: Vec<u32> = Vec::with_capacity(1 << 17);
        let mut events = Vec::with_capacity(self.connections.len());
        let mut buffer = vec![0; 16 * 1024];
        while under_way > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&SILENCE))?;
            if events.is_empty() {
                return Err(io::Error::other(format!(
                    "{under_way} requests without an answer for 10 s"
                )));
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let connection = &mut self.connections[index];
                if !connection.on_readable(&mut buffer)? {
                    continue;
                }
                let now = Instant::now();
                latencies
                    .push(u32::try_from((now - connection.sent).as_nanos()).unwrap_or(u32::MAX));
                if now < end {
                    connection.send(&self.request)?;
                } else {
                    under_way -= 1;
                }
            }
        }
        let elapsed = begun.elapsed();
        latencies.sort_unstable();
        Ok(Round {
            requests: latencies.len() as u64,
            elapsed,
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
        })
    }
}

// === impl Round ===

impl Round {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

// === impl Connection ===

impl Connection {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sent = Instant::now();
        // A small request on a connection with nothing under way always fits the socket's buffer.
        self.stream.write_all(request)
    }

    /// Reads once; true when the answer is whole.
    fn on_readable(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err(io::Error::other("the proxy closed a busy connection")),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let complete = if self.partial.is_empty() {
            answer(&buffer[..count])?
        } else {
            self.partial.extend_from_slice(&buffer[..count]);
            answer(&self.partial)?
        };
        match complete {
            Some(answer) => {
                self.partial.clear();
                expect_success(answer.status)?;
                Ok(true)
            }
            None => {
                if self.partial.is_empty() {
                    self.partial.extend_from_slice(&buffer[..count]);
                }
                Ok(false)
            }
        }
    }
}

pub(crate) fn expect_success(status: u16) -> io::Result<()> {
    if status == 200 {
        Ok(())
    } else {
        Err(io::Error::other(format!("answered {status} instead of 200")))
    }
}

/// The value below which `percent` of the sorted latencies (nanoseconds) lie.
fn percentile(sorted: &[u32], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    Duration::from_nanos(sorted.get(index).copied().unwrap_or(0).into())
}
