//! The demo's application: a small web server in a process of its own, for agimo to wake and to stop. It never knows that agimo stands before it.

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

/// What it pretends to load before it listens. A process this small starts in a few
/// milliseconds: too short for a person to notice that the request was held.
const LOADING: Duration = Duration::from_millis(400);

/// Between two ticks of the clock and two events of the stream.
const BEAT: Duration = Duration::from_secs(1);

/// How long `/slow` waits when the client does not say.
const SLOW_DEFAULT: Duration = Duration::from_secs(2);

/// The longest that `/slow` waits, so that no client can park requests here for hours.
const SLOW_MAX: Duration = Duration::from_secs(10);

/// After a failed accept, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the facts about the process are put into the page.
const FACTS_MARK: &str = "{\"FACTS\":0}";

const PAGE: &str = include_str!("page.html");
const PLAIN: &str = "text/plain; charset=utf-8";

type Answer = Response<Either<Full<Bytes>, Events>>;

/// What the application tells of itself.
#[derive(Clone, Copy)]
struct Facts {
    process: u32,
    started: Instant,
    /// From the start of the process until it listened.
    loading: Duration,
    /// Idle time after which whoever started it stops it; only shown.
    sleep_after: Duration,
}

/// A server-sent event each beat, without end.
struct Events {
    beat: Interval,
    sent: u64,
    facts: Facts,
}

/// Loads for a moment, then serves on `127.0.0.1:port` until the process is stopped by a signal.
/// `sleep_after` is the idle time that the page tells its reader.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(port: u16, sleep_after: Duration) -> io::Result<()> {
    let started = Instant::now();
    sleep(LOADING).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let facts = Facts { process: process::id(), started, loading: started.elapsed(), sleep_after };
    serve(listener, facts).await
}

/// Connections end with their clients; all end with the process, which drains nothing.
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
    // A tick is one small write that nothing follows: Nagle's delay would hold it back.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service =
        service_fn(move |request| async move { Ok::<_, Infallible>(answer(request, facts).await) });
    let served =
        http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
}

async fn answer(request: Request<Incoming>, facts: Facts) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    match request.uri().path() {
        "/" => page(facts),
        "/hello" => text(StatusCode::OK, facts.hello()),
        "/slow" => slow(request.uri().query()).await,
        "/events" => events(facts),
        "/clock" => clock(request, facts),
        _ => text(StatusCode::NOT_FOUND, "nothing here\n"),
    }
}

fn page(facts: Facts) -> Answer {
    let html = PAGE.replace(FACTS_MARK, &facts.json());
    let body = Either::Left(Full::from(html));
    typed(StatusCode::OK, "text/html; charset=utf-8", body)
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Answer {
    typed(status, PLAIN, Either::Left(Full::new(words.into())))
}

/// No answer may be stored: each shows which process gave it, and when.
fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: Either<Full<Bytes>, Events>,
) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn slow(query: Option<&str>) -> Answer {
    let Some(wait) = slow_wait(query) else {
        let words = "ms must be a whole number of milliseconds, as in /slow?ms=2000\n";
        return text(StatusCode::BAD_REQUEST, words);
    };
    sleep(wait).await;
    let words = format!("answered after {} ms\n", wait.as_millis());
    text(StatusCode::OK, words)
}

/// `None` where `ms` is no number; the last `ms` counts.
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

fn events(facts: Facts) -> Answer {
    let stream = Events { beat: interval(BEAT), sent: 0, facts };
    typed(StatusCode::OK, "text/event-stream", Either::Right(stream))
}

fn clock(request: Request<Incoming>, facts: Facts) -> Answer {
    match clock::open(request, BEAT, move |number| facts.tick(number)) {
        Ok(switching) => switching.map(Either::Left),
        Err(error) => {
            let words = format!("this is a WebSocket: {error}\n");
            text(StatusCode::BAD_REQUEST, words)
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

    /// Durations in milliseconds.
    fn json(&self) -> String {
        json!({
            "process": self.process,
            "up": milliseconds(self.started.elapsed()),
            "loading": milliseconds(self.loading),
            "sleepAfter": milliseconds(self.sleep_after),
        })
        .to_string()
    }

    /// `time` in milliseconds since 1970, as browsers count.
    fn tick(&self, tick: u64) -> String {
        // A clock set before 1970 shows 1970.
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
        ready!(self.beat.poll_tick(cx));
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
            loading: LOADING,
            sleep_after: Duration::from_secs(15),
        };
        tokio::spawn(serve(listener, facts));
        TcpStream::connect(address).await.unwrap()
    }

    async fn exchange(request_line: &str) -> String {
        let mut socket = connect().await;
        let head = format!("{request_line}\r\nhost: demo\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn slow_waits_as_told_within_its_bound() {
        assert_eq!(slow_wait(None), Some(SLOW_DEFAULT));
        assert_eq!(slow_wait(Some("a=b")), Some(SLOW_DEFAULT));
        assert_eq!(slow_wait(Some("a=b&ms=5")), Some(Duration::from_millis(5)));
        assert_eq!(slow_wait(Some("ms=99999999")), Some(SLOW_MAX));
        assert_eq!(slow_wait(Some("ms=-1")), None);
        assert_eq!(slow_wait(Some("ms=")), None);
    }

    #[tokio::test]
    async fn page_carries_the_facts() {
        let answer = exchange("GET / HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(r#"{"process":4711,"up":"#), "{answer}");
        assert!(answer.contains(r#""sleepAfter":15000}"#), "{answer}");
        assert!(!answer.contains(FACTS_MARK));
    }

    #[tokio::test]
    async fn hello_names_the_process() {
        let answer = exchange("GET /hello HTTP/1.1").await;
        assert!(answer.contains("\r\n\r\nhello from process 4711, up for "));
    }

    #[tokio::test]
    async fn what_it_does_not_serve_is_refused() {
        for (request_line, status) in [
            ("GET /nowhere HTTP/1.1", "404"),
            ("DELETE / HTTP/1.1", "405"),
            ("GET /slow?ms=soon HTTP/1.1", "400"),
            ("GET /clock HTTP/1.1", "400"),
        ] {
            let answer = exchange(request_line).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&expected), "{request_line}: {answer}");
        }
    }

    #[tokio::test]
    async fn events_come_one_by_one() {
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
    async fn clock_ticks_and_echoes() {
        let (mut socket, _) = client_async("ws://demo/clock", connect().await).await.unwrap();
        socket.send(Message::text("as it came")).await.unwrap();
        let mut echoes = 0;
        let mut ticks = Vec::new();
        while ticks.len() < 2 || echoes < 1 {
            let message = socket.next().await.unwrap().unwrap();
            let words = message.to_text().unwrap();
            if words == "as it came" {
                echoes += 1;
            } else {
                let tick: serde_json::Value = serde_json::from_str(words).unwrap();
                assert_eq!(tick["process"], 4711);
                ticks.push(tick["tick"].as_u64().unwrap());
            }
        }
        assert_eq!((ticks.as_slice(), echoes), (&[1, 2][..], 1));
        socket.close(None).await.unwrap();
        // The close is answered, so the stream ends without an error.
        while let Some(message) = socket.next().await {
            message.unwrap();
        }
    }
}
