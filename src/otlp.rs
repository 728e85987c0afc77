//! Sends traces to a collector of OpenTelemetry: a trace for each cold start, and a span for each sampled request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::messages::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span,
};
use self::transport::{Rejected, Retry, SendResult, Transport};
use crate::backoff::Backoff;
use crate::ledger::record::Record;
use crate::pending_operation::{PendingOperation, result_of, sleep_until};
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
    /// How many spans are being sent, and what becomes of them.
    sending: Option<PendingOperation<(u64, SendResult)>>,
    flushes: Vec<oneshot::Sender<()>>,
    /// Ends the pause before the next attempt: agimo is about to end.
    hurry: Arc<Notify>,
    /// Spans were lost, which was logged.
    is_losing: bool,
}

/// So many spans are sent at once, and without waiting for more.
const BATCH: usize = 512;
const TOO_MANY: &str = "more spans than it takes";
/// Spans that may wait while the collector does not answer; later ones are lost.
const MOST_QUEUED: usize = 2048;
/// How long a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// Between attempts to send the same spans. Each pause varies at random by up to half, so that replicas do not retry at the same time.
const RETRY_DELAYS: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(8) };
/// Spans are lost when no attempt has succeeded in this time: later ones wait meanwhile.
const MOST_RETRYING: Duration = Duration::from_secs(30);

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
            hurry: Arc::default(),
            is_losing: false,
        }
    }

    /// Sends the traces of cold starts and the spans of requests until one of the two channels closes.
    pub async fn run(
        mut self,
        mut finished: broadcast::Receiver<Arc<Record>>,
        mut requests: mpsc::Receiver<Message>,
    ) {
        loop {
            tokio::select! {
                record = finished.recv() => match record {
                    Ok(record) => self.add_record(&record),
                    Err(RecvError::Lagged(lost)) => {
                        debug!(lost, "records of wakes and sleeps came too fast for their traces");
                    }
                    Err(RecvError::Closed) => return,
                },
                message = requests.recv() => match message {
                    Some(Message::Request(ended)) if self.has_room(1) => {
                        self.add(vec![request::span(&ended)]);
                    }
                    Some(Message::Request(_)) => self.note_lost(1, TOO_MANY),
                    Some(Message::Flush(done)) => {
                        while let Ok(record) = finished.try_recv() {
                            self.add_record(&record);
                        }
                        self.flushes.push(done);
                        self.hurry.notify_one();
                    }
                    None => return,
                },
                () = sleep_until(self.send_at), if self.sending.is_none() => self.send(),
                (count, result) = result_of(&mut self.sending) => self.note_sent(count, result),
            }
            if self.sending.is_none() && (self.queue.len() >= BATCH || !self.flushes.is_empty()) {
                self.send();
            }
        }
    }

    fn add_record(&mut self, record: &Record) {
        let spans = cold_start::spans(record, &mut random_id);
        if self.has_room(spans.len()) {
            self.add(spans);
        } else {
            self.note_lost(spans.len() as u64, TOO_MANY);
        }
    }

    fn has_room(&self, count: usize) -> bool {
        self.queue.len() + count <= MOST_QUEUED
    }

    fn add(&mut self, spans: Vec<Span>) {
        if !spans.is_empty() {
            self.send_at.get_or_insert_with(|| Instant::now() + DELAY);
            self.queue.extend(spans);
        }
    }

    /// Sends the oldest spans; tells those who wait for an empty queue that it is.
    fn send(&mut self) {
        self.send_at = None;
        if self.queue.is_empty() {
            for done in self.flushes.drain(..) {
                // Whoever waited has given up.
                let _ = done.send(());
            }
            return;
        }
        let spans: Vec<Span> = self.queue.drain(..self.queue.len().min(BATCH)).collect();
        let (count, message) = (spans.len() as u64, self.message(spans));
        let (transport, hurry) = (self.transport.clone(), self.hurry.clone());
        self.sending =
            Some(Box::pin(
                async move { (count, send_with_retries(transport, message, hurry).await) },
            ));
    }

    fn note_sent(&mut self, count: u64, result: SendResult) {
        if !self.queue.is_empty() {
            self.send_at.get_or_insert_with(Instant::now);
        }
        match result {
            Ok(Rejected { count: rejected, reason }) => {
                self.counters.add_sent(count.saturating_sub(rejected));
                if rejected > 0 {
                    self.note_lost(rejected.min(count), &reason);
                } else {
                    self.is_losing = false;
                    if !reason.is_empty() {
                        debug!(url = %self.transport.url(), reason, "a warning of the collector");
                    }
                }
            }
            Err(error) => self.note_lost(count, &error.reason),
        }
    }

    fn note_lost(&mut self, count: u64, reason: &str) {
        self.counters.add_lost(count);
        let url = self.transport.url();
        if self.is_losing {
            debug!(%url, count, reason, "spans are lost");
        } else {
            warn!(%url, count, reason, "spans are lost: the collector does not accept them");
        }
        self.is_losing = true;
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

/// Tries again while the collector may accept the spans. `hurry` ends a pause.
async fn send_with_retries(
    transport: Arc<Transport>,
    message: ExportTraceServiceRequest,
    hurry: Arc<Notify>,
) -> SendResult {
    let payload = transport.payload(message);
    let give_up = Instant::now() + MOST_RETRYING;
    let mut failures = 0;
    loop {
        let error = match transport.send(&payload).await {
            Ok(rejected) => return Ok(rejected),
            Err(error) => error,
        };
        failures += 1;
        let pause = jittered(RETRY_DELAYS.delay(failures), random_id());
        let pause = match error.retry {
            Retry::Never => return Err(error),
            Retry::Later => pause,
            Retry::After(least) => pause.max(least),
        };
        // A collector may ask for a pause of any length.
        if pause > give_up.saturating_duration_since(Instant::now()) {
            return Err(error);
        }
        debug!(url = %transport.url(), error.reason, failures, "spans are sent again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hurry.notified() => {}
        }
    }
}

/// From half of a pause to one and a half of it.
fn jittered(pause: Duration, random: u64) -> Duration {
    pause / 2 + pause.mul_f64(random as f64 / u64::MAX as f64)
}

/// A random number that is not 0.
fn random_id() -> u64 {
    u64::from_be_bytes(random_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_between_replicas() {
        let pause = Duration::from_secs(2);
        assert_eq!(jittered(pause, 0), Duration::from_secs(1));
        assert_eq!(jittered(pause, u64::MAX), Duration::from_secs(3));
    }
}
