//! Applications behind agimo. `ScriptedServer` writes exactly the bytes that the test wants, which a real server would
//! not; the process that agimo starts for it is only a `sleep`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::client::{Client, Request};

/// A server in the test whose connections are handled by a function of the test.
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

// === impl ScriptedServer ===

impl ScriptedServer {
    /// Calls `handle` with every connection that carries a request, and with its number, counted from 0.
    ///
    /// Connections that close without a byte are not counted: agimo's readiness check opens such ones.
    pub(crate) async fn serve<F, Fut>(handle: F) -> Self
    where
        F: Fn(Client, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve_on(listener, handle)
    }

    /// As `serve`, on a listener of the test, for example on an address that was in use before.
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
                    if receives_a_byte(&stream).await {
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        handle(Client { stream, received: Vec::new() }, number).await;
                    }
                });
            }
        });
        Self { address, connections, task }
    }

    /// Answers every request with what `respond` returns, and keeps the connection open.
    pub(crate) async fn responding<F>(respond: F) -> Self
    where
        F: Fn(Request) -> String + Send + Sync + 'static,
    {
        let respond = Arc::new(respond);
        Self::serve(move |mut client, _| {
            let respond = respond.clone();
            async move {
                while let Some(request) = client.request().await {
                    client.send(respond(request)).await;
                }
            }
        })
        .await
    }

    /// Answers every head with `response` and records the bytes received on all connections.
    pub(crate) async fn recording(response: &'static str) -> (Self, Arc<Mutex<Vec<u8>>>) {
        let record = Arc::new(Mutex::new(Vec::new()));
        let recorder = record.clone();
        let server = Self::serve(move |mut client, _| {
            let recorder = recorder.clone();
            async move {
                while client.read().await {
                    recorder.lock().unwrap().extend_from_slice(&client.received);
                    if client.received.ends_with(b"\r\n\r\n") {
                        client.send(response).await;
                    }
                    client.received.clear();
                }
            }
        })
        .await;
        (server, record)
    }

    /// Answers every request with `response` and keeps the connection open.
    pub(crate) async fn answering(response: &'static str) -> Self {
        Self::serve(move |mut client, _| async move {
            while client.read().await {
                if client.received.ends_with(b"\r\n\r\n") {
                    client.received.clear();
                    client.send(response).await;
                }
            }
        })
        .await
    }

    /// The number of connections that have carried a request so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The configuration of a service with this server as its application; `more` are further keys.
    pub(crate) fn service(&self, host: &str, more: &str) -> String {
        service_at(self.address, host, more)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The configuration of a service whose application listens on this address; `more` are further keys.
pub(crate) fn service_at(address: SocketAddr, host: &str, more: &str) -> String {
    let port = address.port();
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\nport = {port}\n{more}\n"
    )
}

/// Bound sockets on one address, for listeners that follow one another. While none of them listens, the address refuses
/// connections, and no other program can bind it.
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

/// Whether the peer sends a byte before it closes the connection.
async fn receives_a_byte(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]).await, Ok(1..))
}
