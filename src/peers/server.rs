//! Sends what this replica reports to the others that ask for it, as long as they stay.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::frame::{Changes, Frame};
use super::{API, Answers, PATH};
use crate::control_port::pages::PageQueue;
use crate::control_port::tokens::{Tokens, bearer};
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

/// What is served to the other replicas.
#[derive(Clone)]
pub struct Served {
    pub tokens: Tokens,
    pub coordination: Coordination,
    pub answers: Answers,
    pub calls: Answers,
    pub pages: PageQueue,
}

/// Serves until agimo is aborted.
pub async fn run(listener: TcpListener, served: Served, shutdown: Shutdown) {
    let port = ControlPort {
        listener,
        name: "exchange",
        protocol: Protocol::Http1 { head_timeout: HEAD_TIMEOUT },
        most_connections: MOST_CONNECTIONS,
        tls: None,
        shutdown,
    };
    port.serve(service_fn(move |request| {
        let served = served.clone();
        async move { Ok::<_, Infallible>(served.respond(&request).await) }
    }))
    .await;
}

// === impl Served ===

impl Served {
    async fn respond(&self, request: &Request<Incoming>) -> Response<ServerBody> {
        let is_trusted = bearer(request.headers()).is_some_and(|token| self.tokens.accept(token));
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let body = match (request.method(), path.strip_prefix(API)) {
            (&Method::GET | &Method::POST, _) if !is_trusted => Err(StatusCode::UNAUTHORIZED),
            (&Method::GET, None) if path == PATH => {
                Ok(LineSender::new(self.coordination.clone()).into_body())
            }
            (&Method::GET, Some(path)) => match self.answer(path, query).await {
                Some(answer) => Ok(Either::Left(Full::from(answer))),
                None => Err(StatusCode::NOT_FOUND),
            },
            (&Method::POST, Some(path)) => match (self.calls)(path, query) {
                Some(answer) => Ok(Either::Left(Full::from(answer))),
                None => Err(StatusCode::NOT_FOUND),
            },
            _ => Err(StatusCode::NOT_FOUND),
        };
        let (status, body) = match body {
            Ok(body) => (StatusCode::OK, body),
            Err(status) => (status, Either::Left(Full::default())),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    }

    async fn answer(&self, path: &str, query: &str) -> Option<String> {
        let (answers, path, query) = (self.answers.clone(), path.to_owned(), query.to_owned());
        self.pages.make(move || answers(&path, &query)).await.flatten()
    }
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
