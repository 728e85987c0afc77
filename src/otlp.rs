//! Sends traces to a collector of OpenTelemetry: a trace for each cold start, and a span for each sampled request.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::messages::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span,
};
use self::transport::{SendResult, Transport};
use crate::backoff::Backoff;
use crate::ledger::record::Record;
use crate::request_spans::{Message, SpanCounters, random_bytes};
use crate::version;

pub mod cold_start;
pub mod messages;
pub mod request;
pub mod transport;

/// Collects spans and sends them.
pub struct Exporter {
    transport: Arc<Transport>,
    /// Names this replica.
    instance: String,
    counters: SpanCounters,
    queue: Vec<Span>,
    /// When the oldest span of the queue is sent, if the queue is not full before.
    send_at: Option<Instant>,
    sending: Option<Sending>,
    flushes: Vec<oneshot::Sender<()>>,
    is_failing: bool,
}

/// Spans that are being sent.
struct Sending {
    count: u64,
    result: Pin<Box<dyn Future<Output = SendResult> + Send>>,
}

/// So many spans are sent without waiting for more.
const BATCH: usize = 512;
/// Spans that may wait while the collector does not answer; later ones are lost.
const MOST_QUEUED: usize = 2048;
/// How long a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// Between attempts to send the same spans.
const RETRY_DELAYS: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(8) };
const MOST_ATTEMPTS: u32 = 5;

// === impl Exporter ===

impl Exporter {
    /// `instance` names this replica of agimo.
    pub fn new(transport: Transport, instance: String, counters: SpanCounters) -> Self {
        Self {
            transport: transport.into(),
            instance,
            counters,
            queue: Vec::new(),
            send_at: None,
            sending: None,
            flushes: Vec::new(),
            is_failing: false,
        }
    }

    /// Sends the traces of cold starts and the spans of requests until neither can come any more.
    pub async fn run(
        mut self,
        mut finished: broadcast::Receiver<Arc<Record>>,
        mut requests: mpsc::Receiver<Message>,
    ) {
        loop {
            tokio::select! {
                record = finished.recv() => match record {
                    Ok(record) => self.add(cold_start::spans(&record, &mut random_id)),
                    Err(RecvError::Lagged(lost)) => {
                        warn!(lost, "traces of cold starts are lost: too many at once");
                        self.counters.add_lost(lost);
                    }
                    Err(RecvError::Closed) => return,
                },
                message = requests.recv() => match message {
                    Some(Message::Request(ended)) => self.add(vec![request::span(&ended)]),
                    Some(Message::Flush(done)) => {
                        while let Ok(record) = finished.try_recv() {
                            self.add(cold_start::spans(&record, &mut random_id));
                        }
                        self.flushes.push(done);
                    }
                    None => return,
                },
                () = sleep_until(self.send_at), if self.sending.is_none() => self.send(),
                result = result_of(&mut self.sending) => self.note_sent(result),
            }
            if self.sending.is_none() && (self.queue.len() >= BATCH || !self.flushes.is_empty()) {
                self.send();
            }
        }
    }

    fn add(&mut self, spans: Vec<Span>) {
        if self.queue.len() + spans.len() > MOST_QUEUED {
            self.counters.add_lost(spans.len() as u64);
            return;
        }
        if !spans.is_empty() {
            self.send_at.get_or_insert_with(|| Instant::now() + DELAY);
            self.queue.extend(spans);
        }
    }

    /// Sends what is queued; tells those who wait for an empty queue that it is.
    fn send(&mut self) {
        self.send_at = None;
        if self.queue.is_empty() {
            for done in self.flushes.drain(..) {
                // Whoever waited has given up.
                let _ = done.send(());
            }
            return;
        }
        let spans = std::mem::take(&mut self.queue);
        let (count, message) = (spans.len() as u64, self.message(spans));
        let result = Box::pin(send_with_retries(self.transport.clone(), message));
        self.sending = Some(Sending { count, result });
    }

    fn note_sent(&mut self, result: SendResult) {
        let count = self.sending.take().map_or(0, |sending| sending.count);
        if !self.queue.is_empty() {
            self.send_at.get_or_insert_with(Instant::now);
        }
        let (rejected, reason) = match result {
            Ok(rejected) => (rejected.count.min(count), rejected.reason),
            Err(error) => (count, error.reason),
        };
        self.counters.add_sent(count - rejected);
        self.counters.add_lost(rejected);
        let (url, was_failing) = (self.transport.url(), self.is_failing);
        self.is_failing = rejected > 0;
        match (self.is_failing, was_failing) {
            (false, _) => {}
            (true, true) => debug!(%url, rejected, reason, "spans are lost"),
            (true, false) => {
                warn!(%url, rejected, reason, "spans are lost: the collector does not accept them");
            }
        }
    }

    fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            KeyValue::new("service.name", "agimo"),
            KeyValue::new("service.version", version::VERSION),
            KeyValue::new("service.instance.id", &*self.instance),
        ];
        let scope =
            InstrumentationScope { name: "agimo".to_owned(), version: version::VERSION.to_owned() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Some(Resource { attributes });
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
    }
}

async fn send_with_retries(
    transport: Arc<Transport>,
    message: ExportTraceServiceRequest,
) -> SendResult {
    let mut failures = 0;
    loop {
        match transport.send(message.clone()).await {
            Err(error) if error.is_retryable && failures + 1 < MOST_ATTEMPTS => {
                failures += 1;
                debug!(url = %transport.url(), error.reason, failures, "spans are sent again");
                tokio::time::sleep(RETRY_DELAYS.delay(failures)).await;
            }
            result => return result,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

async fn result_of(sending: &mut Option<Sending>) -> SendResult {
    match sending {
        Some(sending) => sending.result.as_mut().await,
        None => pending().await,
    }
}

/// A random number that is not 0.
fn random_id() -> u64 {
    u64::from_be_bytes(random_bytes())
}
