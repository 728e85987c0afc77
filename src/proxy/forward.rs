//! Takes a request to an endpoint and its response back. It chooses no endpoint.

use tokio::time::Instant;

use crate::demand::Retry;
use crate::net::stream::Stream;

use super::client::Client;
use super::core::Flight;
use super::exchange::{Begun, Ended, Exchange};
use super::request::{After, Failed, Open, Request};
use super::upstream::{self, ConnectError, Upstream};

/// The application has answered.
pub enum Answered {
    Response(After),
    Switched(Stream, Flight),
}

/// Sends the request to the flight's endpoint and its response to the client; on an idle connection
/// only where `reuse` allows it.
pub async fn forward(
    client: &mut Client,
    request: &Request,
    flight: Flight,
    open: &mut Open,
    reuse: bool,
) -> Result<Answered, Failed> {
    let max_body = open.route().config().max_body;
    let upstream = connection(client, request, &flight, open, reuse).await?;
    // The clock is read for the access log only.
    let sent = client.core.access_log.then(Instant::now);
    let mut exchange = Exchange::new(client, request, upstream, max_body);
    let begun = exchange.response(open).await;
    if let Some(sent) = sent {
        open.waiting_since(sent);
    }
    let response = match begun {
        Ok(Begun::Response(response)) => response,
        Ok(Begun::Switched) => return Ok(Answered::Switched(exchange.into_upstream(), flight)),
        Err(failed) => return Err(failed),
    };
    Ok(Answered::Response(match exchange.finish(response, open).await {
        Ended::Broken => After::Drop,
        Ended::Whole { upstream, keep_client } => {
            if let Some(wire) = upstream {
                flight.endpoint().keep_idle(wire, Instant::now());
            }
            if keep_client { After::KeepAlive } else { After::Close }
        }
    }))
}

/// An idle connection to the flight's endpoint, or a new one.
async fn connection(
    client: &mut Client,
    request: &Request,
    flight: &Flight,
    open: &mut Open,
    reuse: bool,
) -> Result<Upstream, Failed> {
    let endpoint = flight.endpoint();
    let idle = reuse.then(|| upstream::idle(endpoint, request.is_repeatable())).flatten();
    if let Some(upstream) = idle {
        return Ok(upstream);
    }
    let limit = open.route().config().connect_timeout;
    let began = Instant::now();
    let connected = Box::pin(upstream::connect(client, endpoint, limit)).await;
    open.connecting_since(began);
    connected.map_err(|error| match error {
        ConnectError::ClientGone => Failed::ClientGone,
        ConnectError::Refused => {
            endpoint.gone();
            Failed::Again(Retry::Connect)
        }
    })
}
