//! Samples requests, each of which becomes a span of a distributed trace when its response has ended.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::api::requests::EndedRequest;
use crate::http::trace_context::TraceParent;
use crate::telemetry::{Exposition, Labels, MetricKind};
use crate::workload::WorkloadId;

/// Where the spans of requests go; clones share the queue.
#[derive(Clone, Debug)]
pub struct RequestSpans {
    /// The share of requests without a caller's decision that is sampled, of `u64::MAX`; absent for no request at all.
    threshold: Option<u64>,
    queue: mpsc::Sender<Message>,
    counters: SpanCounters,
}

/// Spans by what has become of them; clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct SpanCounters {
    sent: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

/// What the exporter receives.
#[derive(Debug)]
pub enum Message {
    Request(Box<RequestSpan>),
    /// Everything that was queued before is to be sent now; then the sender is told.
    Flush(oneshot::Sender<()>),
}

/// A sampled request whose response has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestSpan {
    pub context: SpanContext,
    pub request: EndedRequest,
    /// When its response ended.
    pub ended: SystemTime,
    /// From its arrival.
    pub total: Duration,
    pub held: Duration,
    pub workload: Arc<WorkloadId>,
    /// Of the route.
    pub path_prefix: String,
    /// The client used TLS, to agimo or to the trusted proxy before it.
    pub is_tls: bool,
    /// agimo's own responses to a gRPC call have the status 200.
    pub is_grpc: bool,
    pub connecting: Duration,
    /// From the request that was sent to the head of the response.
    pub waiting: Duration,
}

/// Identifies the span of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// The span of the caller, where there is one.
    pub parent_id: Option<[u8; 8]>,
}

/// Decides for the requests of one core.
#[derive(Debug)]
pub struct Sampler {
    threshold: u64,
    /// State of a splitmix64 generator.
    random: Cell<u64>,
    queue: mpsc::Sender<Message>,
    counters: SpanCounters,
}

/// Spans that may wait for the exporter.
const CAPACITY: usize = 2048;
/// How long the end of agimo waits for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

// === impl RequestSpans ===

impl RequestSpans {
    /// `ratio`: the share of requests to sample, from 0 (none, whatever their callers decide) to 1.
    pub fn new(ratio: f64, counters: SpanCounters) -> (Self, mpsc::Receiver<Message>) {
        let (queue, received) = mpsc::channel(CAPACITY);
        let threshold = (ratio > 0.0).then_some((ratio * u64::MAX as f64) as u64);
        (Self { threshold, queue, counters }, received)
    }

    /// For one core; absent where no request is sampled.
    pub fn sampler(&self) -> Option<Sampler> {
        let threshold = self.threshold?;
        let seed = u64::from_be_bytes(random_bytes());
        let (queue, counters) = (self.queue.clone(), self.counters.clone());
        Some(Sampler { threshold, random: Cell::new(seed), queue, counters })
    }

    /// Waits until everything that was queued is sent or lost, or for two seconds.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flush).await.is_err() {
            warn!("spans are lost: the collector has not accepted them before the end");
        }
    }
}

// === impl Sampler ===

impl Sampler {
    /// The span of a request with this value of `traceparent`, if it is sampled. The caller's decision counts; without a valid
    /// value, chance decides (OpenTelemetry, "Sampling", ParentBased with TraceIdRatioBased).
    pub fn sample(&self, trace_parent: Option<&[u8]>) -> Option<SpanContext> {
        match trace_parent.and_then(TraceParent::parse) {
            Some(parent) => parent.is_sampled.then(|| SpanContext {
                trace_id: parent.trace_id,
                span_id: random_bytes(),
                parent_id: Some(parent.span_id),
            }),
            None => (self.next_random() <= self.threshold).then(|| SpanContext {
                trace_id: random_bytes(),
                span_id: random_bytes(),
                parent_id: None,
            }),
        }
    }

    /// Hands over a span; it is lost where the exporter is behind.
    pub fn finish(&self, span: RequestSpan) {
        if self.queue.try_send(Message::Request(Box::new(span))).is_err() {
            self.counters.add_lost(1);
        }
    }

    /// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
    fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

// === impl SpanCounters ===

impl SpanCounters {
    pub fn add_sent(&self, count: u64) {
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    pub fn add_lost(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    /// Writes the metric.
    pub fn collect(&self, page: &mut Exposition) {
        page.family(
            "agimo_spans_total",
            MetricKind::Counter,
            "Spans for the collector of traces, by result: sent, or lost because it did not accept them or was too slow.",
        );
        for (result, count) in [("sent", &self.sent), ("lost", &self.lost)] {
            page.sample(&Labels::default().with("result", result), count.load(Ordering::Relaxed));
        }
    }
}

// === impl SpanContext ===

impl SpanContext {
    /// For the next hop: this span is its parent.
    pub fn trace_parent(&self) -> TraceParent {
        TraceParent { trace_id: self.trace_id, span_id: self.span_id, is_sampled: true }
    }
}

/// Random bytes that are not all 0, which identifies no trace and no span.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness the trace is still one.
    let _ = SystemRandom::new().fill(&mut bytes);
    if bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn sampler(ratio: f64) -> Option<Sampler> {
        RequestSpans::new(ratio, SpanCounters::default()).0.sampler()
    }

    #[test]
    fn the_decision_of_the_caller_counts_and_chance_decides_without_one() {
        assert!(sampler(0.0).is_none());
        let (rare, always) = (sampler(1e-12).unwrap(), sampler(1.0).unwrap());
        let span = rare.sample(Some(SAMPLED)).unwrap();
        assert_eq!((span.trace_id[0], span.parent_id.unwrap()[1]), (0x4b, 0xf0));
        assert_ne!(Some(span.span_id), span.parent_id);
        assert_eq!(always.sample(Some(UNSAMPLED)), None);
        assert_eq!(rare.sample(None), None);
        for trace_parent in [None, Some(&b"invalid"[..])] {
            let span = always.sample(trace_parent).unwrap();
            assert_eq!(span.parent_id, None);
            assert_ne!(span.trace_id, always.sample(trace_parent).unwrap().trace_id);
        }
    }

    #[test]
    fn the_share_of_sampled_requests_is_the_ratio() {
        let sampler = sampler(0.25).unwrap();
        let sampled = (0..20_000).filter(|_| sampler.next_random() <= sampler.threshold).count();
        assert!((4_500..5_500).contains(&sampled), "{sampled}");
    }
}
