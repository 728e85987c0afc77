//! The sample application of the demo: a small web server in its own process, which agimo starts and stops.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::process;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, interval, sleep};

mod clock;

/// Simulated start-up time before it listens. The real one is a few milliseconds, too short to see that the request was
/// held.
const LOADING_TIME: Duration = Duration::from_millis(400);

/// Interval of the WebSocket messages and of the server-sent events.
const SEND_INTERVAL: Duration = Duration::from_secs(1);

/// Default delay of `/slow`.
const SLOW_DEFAULT: Duration = Duration::from_secs(2);

/// Maximum delay of `/slow`, so that a client cannot keep requests open for hours.
const SLOW_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed accept, to avoid a busy loop when no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The placeholder in the page for the facts about the process.
const FACTS_PLACEHOLDER: &str = "{\"FACTS\":0}";

const PAGE: &str = include_str!("page.html");
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

type AppResponse = Response<Either<Full<Bytes>, Events>>;

/// What the application reports about itself.
#[derive(Clone, Copy)]
struct Facts {
    process: u32,
    started: Instant,
    /// Time from the start of the process until it listened.
    loading: Duration,
    /// Idle time after which agimo stops the process; the page shows it.
    sleep_after: Duration,
}

/// A response body of server-sent events, without end.
struct Events {
    interval: Interval,
    sent: u64,
    facts: Facts,
}

/// Waits for the simulated start-up time, then serves on `127.0.0.1:port` until a signal ends the process. `sleep_after`
/// is only shown.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(port: u16, sleep_after: Duration) -> io::Result<()> {
    let started = Instant::now();
    sleep(LOADING_TIME).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let facts = Facts { process: process::id(), started, loading: started.elapsed(), sleep_after };
    serve(listener, facts).await
}

/// Accepts connections until the process ends. There is no drain: connections that are still open are cut.
async fn serve(listener: TcpListener, facts: Facts) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                tokio::spawn(connection(socket, facts));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(socket: TcpStream, facts: Facts) {
    // Each tick is one small write that has to be sent at once.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service =
        service_fn(
            move |request| async move { Ok::<_, Infallible>(respond(request, facts).await) },
        );
    let served =
        http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection failed");
    }
}

async fn respond(request: Request<Incoming>, facts: Facts) -> AppResponse {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    match request.uri().path() {
        "/" => page(facts),
        "/hello" => text(StatusCode::OK, facts.hello()),
        "/slow" => slow(request.uri().query()).await,
        "/events" => events(facts),
        "/clock" => clock(request, facts),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn page(facts: Facts) -> AppResponse {
    let html = PAGE.replace(FACTS_PLACEHOLDER, &facts.json());
    let body = Either::Left(Full::from(html));
    typed(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> AppResponse {
    typed(status, PLAIN_TEXT, Either::Left(Full::new(body.into())))
}

/// No response may be cached: each shows which process sent it, and when.
fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: Either<Full<Bytes>, Events>,
) -> AppResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn slow(query: Option<&str>) -> AppResponse {
    let Some(wait) = slow_wait(query) else {
        let message = "ms must be a whole number of milliseconds, as in /slow?ms=2000\n";
        return text(StatusCode::BAD_REQUEST, message);
    };
    sleep(wait).await;
    text(StatusCode::OK, format!("answered after {} ms\n", wait.as_millis()))
}

/// The delay from the last `ms` of the query; `None` if it is not a number.
fn slow_wait(query: Option<&str>) -> Option<Duration> {
    let given = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("ms="))
        .next_back();
    match given {
        None => Some(SLOW_DEFAULT),
        Some(number) => {
            let wait = Duration::from_millis(number.parse().ok()?);
            Some(wait.min(SLOW_MAX))
        }
    }
}

fn events(facts: Facts) -> AppResponse {
    let stream = Events { interval: interval(SEND_INTERVAL), sent: 0, facts };
    typed(StatusCode::OK, "text/event-stream", Either::Right(stream))
}

fn clock(request: Request<Incoming>, facts: Facts) -> AppResponse {
    match clock::open(request, SEND_INTERVAL, move |number| facts.tick(number)) {
        Ok(switching) => switching.map(Either::Left),
        Err(error) => {
            let message = format!("only WebSocket requests are answered here: {error}\n");
            text(StatusCode::BAD_REQUEST, message)
        }
    }
}

// === impl Facts ===

impl Facts {
    fn hello(&self) -> String {
        format!(
            "hello from process {}, up for {} ms\n",
            self.process,
            self.started.elapsed().as_millis()
        )
    }

    /// The facts as JSON, durations in milliseconds.
    fn json(&self) -> String {
        json!({
            "process": self.process,
            "up": milliseconds(self.started.elapsed()),
            "loading": milliseconds(self.loading),
            "sleepAfter": milliseconds(self.sleep_after),
        })
        .to_string()
    }

    /// A tick as JSON, with the time in milliseconds since the Unix epoch.
    fn tick(&self, tick: u64) -> String {
        // A system clock before 1970 counts as 1970.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "tick": tick,
            "time": milliseconds(time),
            "process": self.process,
        })
        .to_string()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === impl Events ===

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.interval.poll_tick(cx));
        self.sent += 1;
        let event = format!("id: {}\ndata: {}\n\n", self.sent, self.facts.json());
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio_tungstenite::client_async;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    async fn connect() -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let facts = Facts {
            process: 4711,
            started: Instant::now(),
            loading: LOADING_TIME,
            sleep_after: Duration::from_secs(15),
        };
        tokio::spawn(serve(listener, facts));
        TcpStream::connect(address).await.unwrap()
    }

    async fn exchange(request_line: &str) -> String {
        let mut socket = connect().await;
        let head = format!("{request_line}\r\nhost: demo\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut response = String::new();
        socket.read_to_string(&mut response).await.unwrap();
        response
    }

    #[test]
    fn slow_waits_for_the_requested_time_up_to_the_maximum() {
        assert_eq!(slow_wait(None), Some(SLOW_DEFAULT));
        assert_eq!(slow_wait(Some("a=b")), Some(SLOW_DEFAULT));
        assert_eq!(slow_wait(Some("a=b&ms=5")), Some(Duration::from_millis(5)));
        assert_eq!(slow_wait(Some("ms=99999999")), Some(SLOW_MAX));
        assert_eq!(slow_wait(Some("ms=-1")), None);
        assert_eq!(slow_wait(Some("ms=")), None);
    }

    #[tokio::test]
    async fn the_page_contains_the_facts() {
        let response = exchange("GET / HTTP/1.1").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains(r#"{"process":4711,"up":"#), "{response}");
        assert!(response.contains(r#""sleepAfter":15000}"#), "{response}");
        assert!(!response.contains(FACTS_PLACEHOLDER));
    }

    #[tokio::test]
    async fn hello_shows_the_process_id() {
        let response = exchange("GET /hello HTTP/1.1").await;
        assert!(response.contains("\r\n\r\nhello from process 4711, up for "));
    }

    #[tokio::test]
    async fn other_requests_are_rejected() {
        for (request_line, status) in [
            ("GET /nowhere HTTP/1.1", "404"),
            ("DELETE / HTTP/1.1", "405"),
            ("GET /slow?ms=soon HTTP/1.1", "400"),
            ("GET /clock HTTP/1.1", "400"),
        ] {
            let response = exchange(request_line).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(response.starts_with(&expected), "{request_line}: {response}");
        }
    }

    #[tokio::test]
    async fn events_are_numbered_in_order() {
        let mut socket = BufReader::new(connect().await);
        let head = b"GET /events HTTP/1.1\r\nhost: demo\r\n\r\n";
        socket.write_all(head).await.unwrap();
        let mut ids = Vec::new();
        while ids.len() < 2 {
            let mut line = String::new();
            assert_ne!(socket.read_line(&mut line).await.unwrap(), 0, "ended");
            ids.extend(line.strip_prefix("id: ").map(|id| id.trim().to_owned()));
        }
        assert_eq!(ids, ["1", "2"]);
    }

    #[tokio::test]
    async fn the_clock_sends_ticks_and_echoes_messages() {
        let (mut socket, _) = client_async("ws://demo/clock", connect().await).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        let mut echoes = 0;
        let mut ticks = Vec::new();
        while ticks.len() < 2 || echoes < 1 {
            let message = socket.next().await.unwrap().unwrap();
            let text = message.to_text().unwrap();
            if text == "hello" {
                echoes += 1;
            } else {
                let tick: serde_json::Value = serde_json::from_str(text).unwrap();
                assert_eq!(tick["process"], 4711);
                ticks.push(tick["tick"].as_u64().unwrap());
            }
        }
        assert_eq!((ticks.as_slice(), echoes), (&[1, 2][..], 1));
        socket.close(None).await.unwrap();
        // The server answers the close, so the stream ends without an error.
        while let Some(message) = socket.next().await {
            message.unwrap();
        }
    }
}
