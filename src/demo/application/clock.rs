//! The WebSocket of the sample application: sends a tick at a fixed interval, and echoes text messages.

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

/// Maximum size of a message that is echoed, in bytes.
const MAX_MESSAGE_SIZE: usize = 64 * 1024;

/// Answers the opening handshake (RFC 6455 section 4.2) and starts a task that sends the ticks until the socket closes.
/// `tick` returns the message for each tick, which are numbered from 1.
///
/// # Errors
/// When the request is not a valid handshake.
pub(super) fn open<B: Default>(
    mut request: Request<Incoming>,
    period: Duration,
    tick: impl Fn(u64) -> String + Send + 'static,
) -> Result<Response<B>, Error> {
    let switching = create_response_with_body(&request, B::default)?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(run(upgrade, period, tick));
    Ok(switching)
}

async fn run(upgrade: OnUpgrade, period: Duration, tick: impl Fn(u64) -> String) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "WebSocket upgrade failed");
            return;
        }
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_SIZE))
        .max_frame_size(Some(MAX_MESSAGE_SIZE));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    if let Err(error) = tick_and_echo(socket, period, tick).await {
        tracing::debug!(%error, "WebSocket failed");
    }
}

/// Returns when the client has closed the socket.
async fn tick_and_echo(
    mut socket: WebSocketStream<TokioIo<Upgraded>>,
    period: Duration,
    tick: impl Fn(u64) -> String,
) -> Result<(), Error> {
    let mut interval = interval(period);
    let mut number = 0_u64;
    loop {
        tokio::select! {
            _ = interval.tick() => {
                number += 1;
                socket.send(Message::text(tick(number))).await?;
            }
            message = socket.next() => match message.transpose()? {
                Some(Message::Text(text)) => socket.send(Message::Text(text)).await?,
                // tungstenite answers pings and the closing handshake during the next read.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}
