//! The application behind the proxies: a minimal HTTP/1.1 server that does as little work per request as possible. It does
//! not validate requests.

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

/// The response to every GET except for the special paths.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nhello, world!\n";

/// The path whose response is written in two parts, without TCP_NODELAY.
pub(crate) const TWO_PARTS_PATH: &str = "/two-parts";
const BODY_LENGTH: usize = b"hello, world!\n".len();

/// The accept value for the key of RFC 6455 section 1.3, the only key that the benchmark sends.
const SWITCHING_PROTOCOLS: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// All held requests can arrive at the same time. With a shorter backlog, some would wait a second for a SYN retransmission.
const BACKLOG: i32 = 4096;

/// Interval at which the origin checks that its parent process still runs.
const PARENT_CHECK_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Interval at which the origin checks for the file of `--ready-at`.
const READY_FILE_CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Options of `bench origin`.
#[derive(Args)]
pub(crate) struct OriginOptions {
    /// Address on which to listen
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    address: Ipv4Addr,
    /// Port on which to listen
    #[arg(long, env = "PORT")]
    port: u16,
    /// Pin the process to this core
    #[arg(long)]
    core: Option<usize>,
    /// Start to listen when this file exists
    #[arg(long, value_name = "FILE")]
    ready_at: Option<PathBuf>,
}

struct Connection {
    stream: TcpStream,
    state: State,
}

enum State {
    /// Reading a request head; holds the received part, empty between requests.
    ReadingHead(Vec<u8>),
    /// Sends all received bytes back.
    Tunnel,
    /// Sends no response to the request.
    NoResponse,
}

struct Origin {
    epoll: OwnedFd,
    listener: TcpListener,
    /// Indexed by file descriptor, which is also the data of the epoll event.
    connections: Vec<Option<Connection>>,
}

/// Serves until the parent process exits.
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
            thread::sleep(READY_FILE_CHECK_INTERVAL);
        }
    }
    let mut origin = Origin::listen(SocketAddrV4::new(options.address, options.port))?;
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 16 * 1024];
    while getppid() == parent {
        events.clear();
        epoll::wait(&origin.epoll, spare_capacity(&mut events), Some(&PARENT_CHECK_INTERVAL))?;
        for event in &events {
            // The event data are file descriptors, which are small numbers.
            let tag = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            origin.on_readable(tag, &mut buffer)?;
        }
    }
    Ok(())
}

// === impl Origin ===

impl Origin {
    fn listen(address: SocketAddrV4) -> io::Result<Self> {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        bind(&listener, &address)?;
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
                // The client closed the connection before it was accepted.
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
            self.connections[tag] =
                Some(Connection { stream, state: State::ReadingHead(Vec::new()) });
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Reads once and sends the response; false if the connection is closed.
    fn on_readable(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let count = match self.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        let received = &buffer[..count];
        match &mut self.state {
            State::NoResponse => {}
            State::Tunnel => self.stream.write_all(received)?,
            State::ReadingHead(partial) => {
                // In the usual case one read returns the complete head, and no copy is needed.
                if !partial.is_empty() || !received.ends_with(b"\r\n\r\n") {
                    partial.extend_from_slice(received);
                    if !partial.ends_with(b"\r\n\r\n") {
                        return Ok(true);
                    }
                    let head = std::mem::take(partial);
                    self.respond(&head)?;
                } else {
                    self.respond(received)?;
                }
            }
        }
        Ok(true)
    }

    fn respond(&mut self, head: &[u8]) -> io::Result<()> {
        if head.starts_with(b"GET /socket ") {
            self.state = State::Tunnel;
            self.stream.write_all(SWITCHING_PROTOCOLS)
        } else if head.starts_with(b"GET /never ") {
            self.state = State::NoResponse;
            Ok(())
        } else if head.starts_with(b"GET /two-parts ") {
            self.stream.set_nodelay(false)?;
            let (head, body) = RESPONSE.split_at(RESPONSE.len() - BODY_LENGTH);
            self.stream.write_all(head)?;
            self.stream.write_all(body)
        } else {
            self.stream.write_all(RESPONSE)
        }
    }
}
