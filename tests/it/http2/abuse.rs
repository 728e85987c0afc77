//! Clients that try to make agimo keep memory or work for nothing, frame by frame. Each test measures the memory that one
//! connection costs, and that others are served meanwhile.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{HI, never_ready, with_http2_application};
use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::{eventually, within};

/// Bytes of the settings of agimo.
const SETTINGS_LENGTH: u8 = 24;

// Types and flags of frames (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// SETTINGS_INITIAL_WINDOW_SIZE 0: the client takes no data.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` to `a.test`, encoded with the static table (RFC 7541 appendix A).
const GET: &[u8] = b"\x82\x84\x86\x41\x06a.test";
const POST: &[u8] = b"\x83\x84\x86\x41\x06a.test";

/// How long agimo may leave a frame unread before the flood is over: it reads no further while its answers wait.
const PATIENCE: Duration = Duration::from_millis(500);

const HELD: &str = "agimo_held_requests{host=\"a.test\"}";

/// `GET` of this path.
fn get(path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [b"\x82\x86\x41\x06a.test\x04", &[length][..], path.as_bytes()].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection that has exchanged settings; these are the client's.
async fn connect(agimo: &Agimo, settings: &[u8]) -> TcpStream {
    let mut stream = within("a connection", TcpStream::connect(agimo.address)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
    let mut received = [0; 9];
    within("the settings of agimo", stream.read_exact(&mut received)).await.unwrap();
    assert_eq!(received[2..4], [SETTINGS_LENGTH, SETTINGS]);
    stream.write_all(&frame(SETTINGS, ACK, 0, b"")).await.unwrap();
    stream
}

/// Sends frames until all are sent, agimo has closed the connection, or reads no more.
async fn flood(stream: &mut TcpStream, frames: impl IntoIterator<Item = Vec<u8>>) {
    let mut batch = Vec::new();
    for frame in frames {
        batch.extend(frame);
        if batch.len() > 64 * 1024
            && !matches!(timeout(PATIENCE, stream.write_all(&batch)).await, Ok(Ok(())))
        {
            return;
        }
        if batch.len() > 64 * 1024 {
            batch.clear();
        }
    }
    let _ = timeout(PATIENCE, stream.write_all(&batch)).await;
}

/// The error code of the GOAWAY that ends the connection.
async fn goaway(stream: &mut TcpStream) -> Option<u32> {
    let mut received = Vec::new();
    // A reset may overtake it.
    let _ = within("the connection to be closed", stream.read_to_end(&mut received)).await;
    // The rest of the settings comes first.
    let mut rest = received.get(usize::from(SETTINGS_LENGTH)..)?;
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == GOAWAY {
            return Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = rest.get(9 + length..)?;
    }
    None
}

async fn memory(agimo: &Agimo) -> f64 {
    agimo.metric("process_resident_memory_bytes").await.unwrap()
}

/// The memory once it has stopped to grow.
async fn settled_memory(agimo: &Agimo) -> f64 {
    let mut same = 0;
    let mut last = memory(agimo).await;
    while same < 20 {
        let now = memory(agimo).await;
        same = if now > last { 0 } else { same + 1 };
        last = last.max(now);
    }
    last
}

/// Runs an attack on an application that answers, and asserts that it costs at most this many MiB and no other client
/// notices it.
async fn bounded_by(mebibytes: f64, attack: impl AsyncFnOnce(&Agimo) -> TcpStream) -> TcpStream {
    let server = ScriptedServer::answering(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let before = memory(&agimo).await;
    let stream = attack(&agimo).await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let grown = (memory(&agimo).await - before) / f64::from(1 << 20);
    assert!(grown <= mebibytes, "{grown:.1} MiB");
    stream
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let mut stream = bounded_by(4.0, async |agimo| {
        let mut stream = connect(agimo, b"").await;
        let pairs = (0..20_000_u32).map(|number| {
            let id = 2 * number + 1;
            [
                frame(HEADERS, END_STREAM | END_HEADERS, id, GET),
                frame(RST_STREAM, 0, id, &[0, 0, 0, 8]),
            ]
            .concat()
        });
        flood(&mut stream, pairs).await;
        stream
    })
    .await;
    // ENHANCE_YOUR_CALM
    assert!(matches!(goaway(&mut stream).await, Some(11) | None));
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let mut stream = bounded_by(4.0, async |agimo| {
        let mut stream = connect(agimo, b"").await;
        let field = [&b"\x00\x01x\x7f\x81\x07"[..], &[b'a'; 1024]].concat();
        flood(&mut stream, [frame(HEADERS, 0, 1, GET)]).await;
        flood(&mut stream, (0..20_000).map(|_| frame(CONTINUATION, 0, 1, &field))).await;
        stream
    })
    .await;
    assert!(goaway(&mut stream).await != Some(0));
}

#[tokio::test]
async fn a_head_that_grows_when_decoded_costs_bounded_memory() {
    bounded_by(4.0, async |agimo| {
        let mut stream = connect(agimo, b"").await;
        // One field of almost the whole dynamic table, and references to it: 15,000 x 4,000 bytes.
        let field = [&b"\x40\x01x\x7f\xa1\x1e"[..], &[b'a'; 4000]].concat();
        for number in 0..20 {
            let block = [GET, &field, &[0xbe; 12_000]].concat();
            flood(&mut stream, [frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &block)])
                .await;
        }
        stream
    })
    .await;
}

#[tokio::test]
async fn floods_of_settings_pings_and_priorities_cost_bounded_memory() {
    let kinds = [(SETTINGS, 0, vec![]), (PING, 0, vec![0; 8]), (PRIORITY, 1, vec![0, 0, 0, 0, 9])];
    for (kind, stream_id, payload) in kinds {
        bounded_by(4.0, async |agimo| {
            let mut stream = connect(agimo, b"").await;
            // Nothing of what agimo answers is read.
            flood(&mut stream, (0..200_000).map(|_| frame(kind, 0, stream_id, &payload))).await;
            stream
        })
        .await;
    }
}

#[tokio::test]
async fn a_flood_of_empty_data_costs_bounded_memory() {
    bounded_by(4.0, async |agimo| {
        let mut stream = connect(agimo, b"").await;
        flood(&mut stream, [frame(HEADERS, END_HEADERS, 1, POST)]).await;
        flood(&mut stream, (0..200_000).map(|_| frame(DATA, 0, 1, b""))).await;
        stream
    })
    .await;
}

/// A client that opens every stream it may, for a response that it never reads.
#[tokio::test]
async fn responses_that_the_client_does_not_read_wait_in_the_application() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        let response = ["HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n", &"x".repeat(4 << 20)];
        // It fails when the client has given up.
        let _ = client.stream.write_all(response.concat().as_bytes()).await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let before = memory(&agimo).await;
    let mut stream = connect(&agimo, &NO_WINDOW).await;
    let heads =
        (0..100).map(|number| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, GET));
    flood(&mut stream, heads).await;
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 100.0).await;
    let grown = (settled_memory(&agimo).await - before) / f64::from(1 << 20);
    assert!(grown <= 16.0, "{grown:.1} MiB of 400");
    drop(stream);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}

#[tokio::test]
async fn streams_that_stay_open_are_bounded_in_number_and_memory() {
    let agimo = never_ready("").await;
    // One before: the memory of the program itself, of which it uses more with each new thing that it does, does not count.
    let mut first = connect(&agimo, b"").await;
    flood(&mut first, [frame(HEADERS, END_HEADERS, 1, POST)]).await;
    agimo.until_metric(HELD, 1.0).await;
    drop(first);
    agimo.until_metric(HELD, 0.0).await;
    let before = memory(&agimo).await;
    let mut stream = connect(&agimo, b"").await;
    flood(&mut stream, (0..300).map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, POST)))
        .await;
    agimo.until_metric(HELD, 100.0).await;
    let mut received = Vec::new();
    // RST_STREAM with REFUSED_STREAM
    while !received.windows(4).any(|code| code == [0, 0, 0, 7]) {
        within("streams to be refused", stream.read_buf(&mut received)).await.unwrap();
    }
    let grown = (memory(&agimo).await - before) / f64::from(1 << 20);
    assert!(grown <= 2.0, "{grown:.1} MiB");
    assert_eq!(agimo.metric(HELD).await, Some(100.0));
}

/// Bodies that are sent to a sleeping application wait in the window of the connection: 12.5 MiB.
#[tokio::test]
async fn bodies_of_held_requests_are_bounded() {
    let agimo = never_ready("").await;
    let before = memory(&agimo).await;
    let mut stream = connect(&agimo, b"").await;
    flood(&mut stream, (0..100).map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, POST)))
        .await;
    let data = (0..800).map(|at| frame(DATA, 0, 2 * (at % 100) + 1, &[0; 16 * 1024]));
    flood(&mut stream, data).await;
    agimo.until_metric(HELD, 100.0).await;
    let grown = (settled_memory(&agimo).await - before) / f64::from(1 << 20);
    assert!(grown <= 24.0, "{grown:.1} MiB");
}

/// A frame of one byte costs far more than the byte that flow control counts.
#[tokio::test]
async fn a_flood_of_small_data_costs_bounded_memory() {
    let agimo = never_ready("").await;
    let before = memory(&agimo).await;
    let mut stream = connect(&agimo, b"").await;
    flood(&mut stream, [frame(HEADERS, END_HEADERS, 1, POST)]).await;
    flood(&mut stream, (0..200_000).map(|_| frame(DATA, 0, 1, b"x"))).await;
    let grown = (settled_memory(&agimo).await - before) / f64::from(1 << 20);
    assert!(grown <= 16.0, "{grown:.1} MiB");
    assert!(matches!(goaway(&mut stream).await, Some(11) | None));
}

/// The application streams small messages to a client that does not read, on a connection that others share.
#[tokio::test]
async fn small_messages_that_wait_for_a_client_do_not_break_the_connection_to_the_application() {
    let agimo = with_http2_application("").await;
    let mut stream = connect(&agimo, &NO_WINDOW).await;
    let heads = [get("/messages"), get("/never")];
    for (at, head) in (0..).zip(&heads) {
        flood(&mut stream, [frame(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, head)]).await;
    }
    let active = "agimo_active_requests{host=\"a.test\"}";
    agimo.until_metric(active, 2.0).await;
    eventually("the messages to be sent", || async {
        (agimo.get("a.test", "/sent").await.text() == "4000").then_some(())
    })
    .await;
    // The last of the requests above may be counted a moment longer than its response takes.
    agimo.until_metric(active, 2.0).await;
    assert_eq!(
        agimo.metric("agimo_responses_total{host=\"a.test\",code=\"5xx\"}").await.unwrap_or(0.0),
        0.0
    );
}

#[tokio::test]
async fn responses_that_are_not_read_hold_up_no_other() {
    let agimo = with_http2_application("").await;
    let mut stream = connect(&agimo, &NO_WINDOW).await;
    let head = get("/big");
    let heads =
        (0..20).map(|number| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head));
    flood(&mut stream, heads).await;
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 20.0).await;
    settled_memory(&agimo).await;
    let last = 39;
    let room = (1_u32 << 20).to_be_bytes();
    flood(&mut stream, [frame(WINDOW_UPDATE, 0, 0, &room), frame(WINDOW_UPDATE, 0, last, &room)])
        .await;
    let mut received = Vec::new();
    while received.len() < 300_000 {
        within("the response with room", stream.read_buf(&mut received)).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_waits_only_briefly_for_a_client_that_does_not_answer() {
    let mut agimo = with_http2_application("").await;
    let _idle = connect(&agimo, b"").await;
    agimo.signal(rustix::process::Signal::TERM);
    let status = agimo.wait_for_exit().await;
    assert!(status.success());
}
