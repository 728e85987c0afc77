//! Applications behind agimo. `Script` is a fake: a socket of the test's own that says exactly what the
//! test wants on the wire, which no real server would; agimo starts a `sleep` in its place.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::client::{Client, Request};

/// A server whose connections are handled by a function of the test's.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

// === impl Script ===

impl Script {
    /// Calls `handle` with every connection that carries a request, and its number counted from 0.
    ///
    /// agimo's readiness check connects too, and closes without a byte: that is not a connection here.
    pub(crate) async fn serve<F, Fut>(handle: F) -> Self
    where
        F: Fn(Client, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve_on(listener, handle)
    }

    /// The same on a listener of the test's own, such as one on an address that was in use before.
    pub(crate) fn serve_on<F, Fut>(listener: TcpListener, handle: F) -> Self
    where
        F: Fn(Client, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let handle = Arc::new(handle);
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (handle, count) = (handle.clone(), count.clone());
                tokio::spawn(async move {
                    if begins(&stream).await {
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        handle(Client { stream, received: Vec::new() }, number).await;
                    }
                });
            }
        });
        Self { address, connections, task }
    }

    /// Answers every request with what `answer` makes of it, and keeps the connection.
    pub(crate) async fn replying<F>(answer: F) -> Self
    where
        F: Fn(Request) -> String + Send + Sync + 'static,
    {
        let answer = Arc::new(answer);
        Self::serve(move |mut client, _| {
            let answer = answer.clone();
            async move {
                while let Some(request) = client.request().await {
                    client.send(answer(request)).await;
                }
            }
        })
        .await
    }

    /// Answers every head with `response` and records all bytes that come, on whatever connection.
    pub(crate) async fn recording(response: &'static str) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let record = Arc::new(Mutex::new(Vec::new()));
        let keep = record.clone();
        let script = Self::serve(move |mut client, _| {
            let keep = keep.clone();
            async move {
                while client.read().await {
                    keep.lock().unwrap().extend_from_slice(&client.received);
                    if client.received.ends_with(b"\r\n\r\n") {
                        client.send(response).await;
                    }
                    client.received.clear();
                }
            }
        })
        .await;
        (script, record)
    }

    /// Answers every request with `response` and keeps the connection.
    pub(crate) async fn answering(response: &'static str) -> Self {
        Self::serve(move |mut client, _| async move {
            while client.read().await {
                let ended = client.received.ends_with(b"\r\n\r\n");
                if ended {
                    client.received.clear();
                    client.send(response).await;
                }
            }
        })
        .await
    }

    /// Connections that carried a request so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A service for it, to stand in a configuration; `more` are further keys.
    pub(crate) fn service(&self, host: &str, more: &str) -> String {
        service_at(self.address, host, more)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A service on this address, to stand in a configuration; `more` are further keys.
pub(crate) fn service_at(address: SocketAddr, host: &str, more: &str) -> String {
    let port = address.port();
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\nport = {port}\n{more}\n"
    )
}

/// Sockets on one address, as many as there will be listeners on it, one after the other. Before the
/// first listens and after each has been closed it refuses connections, and nobody else can take it.
pub(crate) fn reserve(listeners: usize) -> (SocketAddr, Vec<TcpSocket>) {
    let mut address: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut sockets = Vec::new();
    for _ in 0..listeners {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        address = socket.local_addr().unwrap();
        sockets.push(socket);
    }
    (address, sockets)
}

/// Whether a byte comes at all.
async fn begins(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1..))
}
