//! The WebSocket of the demo's application: a tick each beat, and each text message back as it came. It never decides what a tick says.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::interval;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Largest message that is echoed, in bytes.
const ECHO_MAX: usize = 64 * 1024;

/// Answers the handshake of RFC 6455 section 4.2. The clock then runs in a task that ends with the
/// socket; `tick` is given the number of each tick, from 1, and says what to send.
///
/// # Errors
/// When the request is no such handshake.
pub(super) fn open<B: Default>(
    mut request: Request<Incoming>,
    beat: Duration,
    tick: impl Fn(u64) -> String + Send + 'static,
) -> Result<Response<B>, Error> {
    let switching = create_response_with_body(&request, B::default)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(run(upgrade, beat, tick));
    Ok(switching)
}

async fn run(upgrade: OnUpgrade, beat: Duration, tick: impl Fn(u64) -> String) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "a WebSocket was not opened");
            return;
        }
    };
    let config =
        WebSocketConfig::default().max_message_size(Some(ECHO_MAX)).max_frame_size(Some(ECHO_MAX));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    if let Err(error) = tick_and_echo(socket, beat, tick).await {
        tracing::debug!(%error, "a WebSocket broke");
    }
}

/// Until the client closes.
async fn tick_and_echo(
    mut socket: WebSocketStream<TokioIo<Upgraded>>,
    beat: Duration,
    tick: impl Fn(u64) -> String,
) -> Result<(), Error> {
    let mut beat = interval(beat);
    let mut number = 0_u64;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                number += 1;
                socket.send(Message::text(tick(number))).await?;
            }
            message = socket.next() => match message.transpose()? {
                Some(Message::Text(words)) => socket.send(Message::Text(words)).await?,
                // Pings and the closing handshake are answered by the next read.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}
