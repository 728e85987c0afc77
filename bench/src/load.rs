//! A load generator with a fixed number of keep-alive connections on one thread, each with at most one request in flight: in a
//! closed loop, or at a constant rate.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::http::{parse_response, send_request};

/// A round fails if no response arrives for this long.
const RESPONSE_TIMEOUT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// The open connections and the request that they send.
pub(crate) struct LoadGenerator {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    request: Vec<u8>,
}

/// The result of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundResult {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

struct Connection {
    stream: TcpStream,
    sent_at: Instant,
    /// The received part of an incomplete response.
    partial: Vec<u8>,
}

// === impl LoadGenerator ===

impl LoadGenerator {
    /// Opens the connections and completes one request on each, which also wakes the service if it is asleep.
    pub(crate) fn open(address: SocketAddr, count: u32, request: Vec<u8>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for index in 0..count {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            expect_success(send_request(&mut stream, &request)?.status)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                &stream,
                epoll::EventData::new_u64(u64::from(index)),
                epoll::EventFlags::IN,
            )?;
            connections.push(Connection { stream, sent_at: Instant::now(), partial: Vec::new() });
        }
        Ok(Self { epoll, connections, request })
    }

    /// Sends requests on every connection for `duration`, then waits for the responses in flight, which count too.
    pub(crate) fn run(&mut self, duration: Duration) -> io::Result<RoundResult> {
        let start = Instant::now();
        let end = start + duration;
        for connection in &mut self.connections {
            connection.send(&self.request)?;
        }
        let mut in_flight = self.connections.len();
        let mut latencies: Vec<u32> = Vec::with_capacity(1 << 17);
        let mut events = Vec::with_capacity(self.connections.len());
        let mut buffer = vec![0; 16 * 1024];
        while in_flight > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&RESPONSE_TIMEOUT))?;
            if events.is_empty() {
                return Err(io::Error::other(format!(
                    "no response for 10 s with {in_flight} requests in flight"
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
                    .push(u32::try_from((now - connection.sent_at).as_nanos()).unwrap_or(u32::MAX));
                if now < end {
                    connection.send(&self.request)?;
                } else {
                    in_flight -= 1;
                }
            }
        }
        Ok(RoundResult::new(latencies, start.elapsed()))
    }

    /// Sends this many requests per second for `duration`. A request is late from the moment when it was due, also where it waits
    /// for a free connection.
    pub(crate) fn run_at_rate(&mut self, rate: f64, duration: Duration) -> io::Result<RoundResult> {
        let start = Instant::now();
        let count = (rate * duration.as_secs_f64()) as u64;
        let due = |number: u64| start + Duration::from_secs_f64(number as f64 / rate);
        let mut free: Vec<usize> = (0..self.connections.len()).collect();
        let (mut sent, mut latencies) = (0, Vec::with_capacity(count as usize));
        let mut events = Vec::with_capacity(self.connections.len());
        let mut buffer = vec![0; 16 * 1024];
        while latencies.len() < count as usize {
            while sent < count && Instant::now() >= due(sent) {
                let Some(index) = free.pop() else { break };
                let connection = &mut self.connections[index];
                connection.send(&self.request)?;
                connection.sent_at = due(sent);
                sent += 1;
            }
            let wait = match free.is_empty() || sent == count {
                true => RESPONSE_TIMEOUT,
                false => timespec(due(sent).saturating_duration_since(Instant::now())),
            };
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            if events.is_empty() && wait == RESPONSE_TIMEOUT {
                return Err(io::Error::other("no response for 10 s"));
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let connection = &mut self.connections[index];
                if connection.on_readable(&mut buffer)? {
                    let latency = connection.sent_at.elapsed().as_nanos();
                    latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
                    free.push(index);
                }
            }
        }
        Ok(RoundResult::new(latencies, start.elapsed()))
    }
}

fn timespec(duration: Duration) -> Timespec {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    Timespec { tv_sec: seconds.cast_signed(), tv_nsec: nanoseconds.into() }
}

// === impl RoundResult ===

impl RoundResult {
    /// Of latencies in nanoseconds.
    fn new(mut latencies: Vec<u32>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            requests: latencies.len() as u64,
            elapsed,
            p50: percentile(&latencies, 500),
            p99: percentile(&latencies, 990),
            p999: percentile(&latencies, 999),
        }
    }

    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

// === impl Connection ===

impl Connection {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sent_at = Instant::now();
        // A small request on an idle connection always fits into the socket buffer.
        self.stream.write_all(request)
    }

    /// Reads once; true if the response is complete.
    fn on_readable(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => {
                return Err(io::Error::other(
                    "the proxy closed a connection with a request in flight",
                ));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let complete = if self.partial.is_empty() {
            parse_response(&buffer[..count])?
        } else {
            self.partial.extend_from_slice(&buffer[..count]);
            parse_response(&self.partial)?
        };
        match complete {
            Some(response) => {
                self.partial.clear();
                expect_success(response.status)?;
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
        Err(io::Error::other(format!("expected status 200, received {status}")))
    }
}

/// The latency below which so many of a thousand are; they are sorted and in nanoseconds.
fn percentile(sorted: &[u32], per_mille: usize) -> Duration {
    let index = (sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1));
    Duration::from_nanos(sorted.get(index).copied().unwrap_or(0).into())
}
