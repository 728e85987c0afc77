//! The release of a crowd of held requests to a fresh endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::agimo::Agimo;
use crate::support::python::python_service;
use crate::support::within;

/// The README's own example: `python3 -m http.server`, whose queue takes five connections.
const HTTP_SERVER: &str = r#"
import http.server, os, time
time.sleep(1)
http.server.SimpleHTTPRequestHandler.log_message = lambda *a: None
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ["PORT"]), bind="127.0.0.1")
"#;

async fn crowd(agimo: Agimo, size: usize) -> (Vec<u16>, Duration) {
    let agimo = Arc::new(agimo);
    let mut requests = JoinSet::new();
    for _ in 0..size {
        let agimo = agimo.clone();
        requests.spawn(async move { agimo.get("a.test", "/").await.status });
    }
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", size as f64).await;
    agimo.until_event("ready").await;
    let released = Instant::now();
    let statuses = within("all responses", requests.join_all()).await;
    (statuses, released.elapsed())
}

#[tokio::test]
async fn nothing_is_lost_when_a_crowd_is_released_on_a_server_with_a_short_queue() {
    let agimo = Agimo::with(python_service("a.test", "", HTTP_SERVER)).start().await;
    let (statuses, took) = crowd(agimo, 300).await;
    let lost = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(lost, 0, "of {} requests, after {took:?}", statuses.len());
}

#[tokio::test]
async fn requests_that_the_application_lets_wait_do_not_block_those_behind_them() {
    // Each request waits for all of them.
    let program = r#"
import asyncio, os
waiting, everybody = [], asyncio.Event()
async def serve(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return writer.close()
    waiting.append(writer)
    if len(waiting) == 100: everybody.set()
    await everybody.wait()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()
async def main():
    await asyncio.sleep(1)
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1000)
    await server.serve_forever()
asyncio.run(main())
"#;
    let agimo = Agimo::with(python_service("a.test", "", program)).start().await;
    let (statuses, _) = crowd(agimo, 100).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}
