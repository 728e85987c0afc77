//! Sends what this replica reports to the others that ask for it, as long as they stay.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::warn;

use super::frame::{Changes, Frame};
use super::{PATH, Tokens};
use crate::coordination::Coordination;
use crate::shutdown::Shutdown;

type Lines = StreamBody<BoxStream<'static, Result<BodyFrame<Bytes>, Infallible>>>;
type ServerBody = Either<Full<Bytes>, Lines>;

/// Between two lines, unless something is urgent.
const INTERVAL: Duration = Duration::from_millis(500);
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// More connections than agimo ever has replicas.
const MOST_CONNECTIONS: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until agimo is aborted.
pub async fn run(
    listener: TcpListener,
    tokens: Tokens,
    coordination: Coordination,
    shutdown: Shutdown,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.aborted() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (tokens, coordination) = (tokens.clone(), coordination.clone());
                    connections.spawn(async move {
                        let _ = stream.set_nodelay(true);
                        let respond = service_fn(|request| {
                            let response = respond(&request, &tokens, &coordination);
                            async move { Ok::<_, Infallible>(response) }
                        });
                        // What goes wrong here is the other replica's connection.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIMEOUT)
                            .serve_connection(TokioIo::new(stream), respond)
                            .await;
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection of another replica");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn respond(
    request: &Request<Incoming>,
    tokens: &Tokens,
    coordination: &Coordination,
) -> Response<ServerBody> {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let (status, body) = if request.method() != Method::GET || request.uri().path() != PATH {
        (StatusCode::NOT_FOUND, Either::Left(Full::default()))
    } else if token.is_some_and(|token| tokens.accept(token)) {
        (StatusCode::OK, Either::Right(StreamBody::new(lines(coordination.clone()))))
    } else {
        (StatusCode::UNAUTHORIZED, Either::Left(Full::default()))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// The lines of one connection.
fn lines(coordination: Coordination) -> BoxStream<'static, Result<BodyFrame<Bytes>, Infallible>> {
    let urgent = coordination.urgent();
    let start = (coordination, urgent, Changes::default(), true);
    let next = |(coordination, mut urgent, mut changes, is_first): (
        Coordination,
        tokio::sync::watch::Receiver<u64>,
        Changes,
        bool,
    )| async move {
        if !is_first {
            // The sender is as old as the coordination, which this task holds.
            let _ = tokio::time::timeout(INTERVAL, urgent.changed()).await;
        }
        urgent.mark_unchanged();
        let reports = changes.next(coordination.reports());
        let frame = Frame { instance: coordination.instance(), reports };
        let mut line = serde_json::to_vec(&frame).unwrap_or_default();
        line.push(b'\n');
        Some((Ok(BodyFrame::data(line.into())), (coordination, urgent, changes, false)))
    };
    Box::pin(futures_util::stream::unfold(start, next))
}
