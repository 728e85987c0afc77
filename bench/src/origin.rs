//! The application behind the proxies: as little work per request as HTTP/1.1 allows. It trusts what it reads.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use rustix::process::getppid;

use crate::launch::pin;

/// What every GET is answered with.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nhello, world!\n";

/// The accept value belongs to the key of RFC 6455 section 1.3, the only one that the benchmark sends.
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// All held requests may arrive at once; none may wait a second for a repeated SYN.
const BACKLOG: i32 = 4096;

/// How often an origin looks whether whoever started it is still there.
const ORPHAN_CHECK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How often a sleeping origin looks for the file that wakes it.
const READY_CHECK: Duration = Duration::from_millis(1);

/// `bench origin`: where to listen, and when.
#[derive(Args)]
pub(crate) struct OriginOptions {
    /// The port on 127.0.0.1
    #[arg(long, env = "PORT")]
    port: u16,
    /// The only core to use
    #[arg(long)]
    core: Option<usize>,
    /// Listen only once this file exists
    #[arg(long, value_name = "FILE")]
    ready_at: Option<PathBuf>,
}

struct Connection {
    stream: TcpStream,
    state: State,
}

enum State {
    /// Part of a request head, empty between requests.
    Head(Vec<u8>),
    /// Bytes go back as they came.
    Tunnel,
    /// A request that is never answered.
    Silent,
}

struct Origin {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By file descriptor, which is also the event's tag.
    connections: Vec<Option<Connection>>,
}

/// Serves until whoever started this process is gone.
pub(crate) fn serve(options: &OriginOptions) -> io::Result<()> {
    if let Some(core) = options.core {
        pin(core)?;
    }
    let parent = getppid();
    if let Some(file) = &options.ready_at {
        while !fs::exists(file)? {
            if getppid() != parent {
                return Ok(());
            }
            thread::sleep(READY_CHECK);
        }
    }
    let mut origin = Origin::listen(options.port)?;
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 16 * 1024];
    while getppid() == parent {
        events.clear();
        epoll::wait(&origin.epoll, spare_capacity(&mut events), Some(&ORPHAN_CHECK))?;
        for event in &events {
            // Tags are file descriptors, which are small.
            let tag = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            origin.on_readable(tag, &mut buffer)?;
        }
    }
    Ok(())
}

// === impl Origin ===

impl Origin {
    fn listen(port: u16) -> io::Result<Self> {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        listen(&listener, BACKLOG)?;
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let origin = Self { epoll, listener, connections: Vec::new() };
        origin.watch(&origin.listener)?;
        Ok(origin)
    }

    fn watch(&self, socket: &(impl AsRawFd + rustix::fd::AsFd)) -> io::Result<()> {
        let tag = epoll::EventData::new_u64(u64::from(socket.as_raw_fd().unsigned_abs()));
        Ok(epoll::add(&self.epoll, socket, tag, epoll::EventFlags::IN)?)
    }

    fn on_readable(&mut self, tag: usize, buffer: &mut [u8]) -> io::Result<()> {
        if tag == self.listener.as_raw_fd().unsigned_abs() as usize {
            return self.accept_all();
        }
        let Some(slot) = self.connections.get_mut(tag) else {
            return Ok(());
        };
        let keep =
            slot.as_mut().is_some_and(|connection| connection.on_readable(buffer).unwrap_or(false));
        if !keep {
            *slot = None;
        }
        Ok(())
    }

    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A client that left in between is no reason to stop.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.watch(&stream)?;
            let tag = stream.as_raw_fd().unsigned_abs() as usize;
            if self.connections.len() <= tag {
                self.connections.resize_with(tag + 1, || None);
            }
            self.connections[tag] = Some(Connection { stream, state: State::Head(Vec::new()) });
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Reads once and answers; false when the connection is over.
    fn on_readable(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let received = &buffer[..count];
        match &mut self.state {
            State::Silent => {}
            State::Tunnel => self.stream.write_all(received)?,
            State::Head(partial) => {
                // The usual case, a whole head in one read, is answered without a copy.
                if !partial.is_empty() || !received.ends_with(b"\r\n\r\n") {
                    partial.extend_from_slice(received);
                    if !partial.ends_with(b"\r\n\r\n") {
                        return Ok(true);
                    }
                    let whole = std::mem::take(partial);
                    self.reply(&whole)?;
                } else {
                    self.reply(received)?;
                }
            }
        }
        Ok(true)
    }

    fn reply(&mut self, head: &[u8]) -> io::Result<()> {
        if head.starts_with(b"GET /socket ") {
            self.state = State::Tunnel;
            self.stream.write_all(SWITCHING)
        } else if head.starts_with(b"GET /never ") {
            self.state = State::Silent;
            Ok(())
        } else {
            self.stream.write_all(RESPONSE)
        }
    }
}
