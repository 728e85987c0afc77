//! Sends what this replica reports to the others that ask for it, as long as they stay.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::frame::{Changes, Frame};
use super::{PATH, Tokens};
use crate::control_port::{ControlPort, Protocol};
use crate::coordination::Coordination;
use crate::shutdown::Shutdown;

type ServerBody =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<BodyFrame<Bytes>, Infallible>>>>;

/// Makes the lines of one connection.
struct LineSender {
    coordination: Coordination,
    urgent: watch::Receiver<u64>,
    changes: Changes,
    is_first: bool,
}

/// Between two lines, unless something is urgent.
const INTERVAL: Duration = Duration::from_millis(500);
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// More connections than agimo ever has replicas.
const MOST_CONNECTIONS: usize = 256;

/// Serves until agimo is aborted.
pub async fn run(
    listener: TcpListener,
    tokens: Tokens,
    coordination: Coordination,
    shutdown: Shutdown,
) {
    let port = ControlPort {
        listener,
        name: "exchange",
        protocol: Protocol::Http1 { head_timeout: HEAD_TIMEOUT },
        most_connections: MOST_CONNECTIONS,
        tls: None,
        shutdown,
    };
    port.serve(service_fn(move |request| {
        let response = respond(&request, &tokens, &coordination);
        async move { Ok::<_, Infallible>(response) }
    }))
    .await;
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
        (StatusCode::OK, LineSender::new(coordination.clone()).into_body())
    } else {
        (StatusCode::UNAUTHORIZED, Either::Left(Full::default()))
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

// === impl LineSender ===

impl LineSender {
    fn new(coordination: Coordination) -> Self {
        let urgent = coordination.urgent();
        Self { coordination, urgent, changes: Changes::default(), is_first: true }
    }

    /// The next line, as soon as it is due.
    async fn next(&mut self) -> Vec<u8> {
        if !std::mem::take(&mut self.is_first) {
            // The sender of the signal is as old as the coordination, which this holds.
            let _ = tokio::time::timeout(INTERVAL, self.urgent.changed()).await;
        }
        self.urgent.mark_unchanged();
        let reports = self.changes.next(self.coordination.reports());
        let frame = Frame { instance: self.coordination.instance(), reports };
        let mut line = serde_json::to_vec(&frame).unwrap_or_default();
        line.push(b'\n');
        line
    }

    fn into_body(self) -> ServerBody {
        let lines = futures_util::stream::unfold(self, |mut sender| async move {
            let line = sender.next().await;
            Some((Ok(BodyFrame::data(line.into())), sender))
        });
        Either::Right(StreamBody::new(Box::pin(lines)))
    }
}
