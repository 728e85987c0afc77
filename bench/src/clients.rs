//! Many client connections that mostly wait: held requests, idle keep-alive connections, open tunnels.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::http::send_request;

/// Longest wait for one response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Client connections to one server, in the order in which they were opened.
pub(crate) struct Clients {
    address: SocketAddr,
    streams: Vec<TcpStream>,
}

// === impl Clients ===

impl Clients {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, streams: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Opens `count` more connections and sends `request` on each without waiting for a response.
    pub(crate) fn send(&mut self, count: usize, request: &[u8]) -> io::Result<()> {
        for _ in 0..count {
            let mut stream = self.connect()?;
            stream.write_all(request)?;
            self.streams.push(stream);
        }
        Ok(())
    }

    /// Opens `count` more connections and sends `request` on each, one after the other; each response must have `status`.
    pub(crate) fn send_and_expect(
        &mut self,
        count: usize,
        request: &[u8],
        status: u16,
    ) -> io::Result<()> {
        for _ in 0..count {
            let mut stream = self.connect()?;
            let response = send_request(&mut stream, request)?;
            if response.status != status {
                return Err(io::Error::other(format!(
                    "expected status {status}, received {}",
                    response.status
                )));
            }
            self.streams.push(stream);
        }
        Ok(())
    }

    /// Sends a few bytes through every tunnel and checks that they come back.
    pub(crate) fn check_tunnels(&mut self) -> io::Result<()> {
        for stream in &mut self.streams {
            stream.write_all(b"tick")?;
            let mut echo = [0; 4];
            stream.read_exact(&mut echo)?;
            if &echo != b"tick" {
                return Err(io::Error::other("a tunnel changed the bytes sent through it"));
            }
        }
        Ok(())
    }

    /// Sends `message` through every tunnel, then waits until it has come back through each.
    pub(crate) fn echo(&mut self, message: &[u8]) -> io::Result<()> {
        for stream in &mut self.streams {
            stream.write_all(message)?;
        }
        let mut received = vec![0; message.len()];
        for stream in &mut self.streams {
            stream.read_exact(&mut received)?;
        }
        Ok(())
    }

    /// Calls `release`, then waits for the first byte of every response. Returns the arrival times in microseconds since
    /// the Unix epoch.
    pub(crate) fn first_byte_times(
        &mut self,
        release: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Vec<u64>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, stream) in self.streams.iter().enumerate() {
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                stream,
                epoll::EventData::new_u64(index as u64),
                epoll::EventFlags::IN,
            )?;
        }
        release()?;
        let limit = Timespec { tv_sec: RESPONSE_TIMEOUT.as_secs().cast_signed(), tv_nsec: 0 };
        let mut arrivals = Vec::with_capacity(self.streams.len());
        let mut events = Vec::with_capacity(256);
        let mut buffer = [0; 4096];
        while arrivals.len() < self.streams.len() {
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), Some(&limit))?;
            if events.is_empty() {
                let missing = self.streams.len() - arrivals.len();
                return Err(io::Error::other(format!("{missing} held requests got no response")));
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let stream = &mut self.streams[index];
                let count = stream.read(&mut buffer)?;
                arrivals.push(unix_micros());
                if !buffer[..count].starts_with(b"HTTP/1.1 200 ") {
                    let response = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    return Err(io::Error::other(format!(
                        "expected status 200, received {response}"
                    )));
                }
                epoll::delete(&epoll, &*stream)?;
            }
        }
        Ok(arrivals)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, RESPONSE_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        Ok(stream)
    }
}

/// Microseconds since the Unix epoch.
pub(crate) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
