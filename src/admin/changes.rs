//! `/api/v1/services/changes`: the services, then each one again when it has changed, as server-sent events (WHATWG HTML,
//! section 9.2).

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::v1::{self, Own};
use crate::activation::events::LifecycleEvent;
use crate::api::Service;
use crate::control_port::pages::PageQueue;
use crate::telemetry::durations::since_1970;

/// Makes the messages of one client.
pub struct Changes {
    own: OwnSource,
    pages: PageQueue,
    /// After an event, the services are looked at at once.
    events: Receiver<LifecycleEvent>,
    /// The client keeps it until it leaves.
    _place: OwnedSemaphorePermit,
    /// Absent until everything has been sent. Whoever makes a message has it.
    sent: Arc<Mutex<Option<Sent>>>,
    /// The next look, which events bring forward, though not before `earliest`.
    next: Instant,
    earliest: Instant,
}

/// What this replica knows now.
pub type OwnSource = Arc<dyn Fn() -> Own + Send + Sync>;

/// One message. Where nothing has changed, it shows that the stream is alive.
#[derive(Clone, Default, Serialize)]
struct Message<'a> {
    /// The clock of this replica, in seconds since 1970.
    now_unix: f64,
    /// These are all services.
    is_complete: bool,
    /// Those that are new or have changed.
    services: Vec<&'a Service>,
    /// Those that are gone: host and path prefix.
    removed: Vec<String>,
}

/// A fingerprint of each service as it was sent last, by its host and path prefix.
type Sent = HashMap<String, u64>;

/// How often to look for changes that are no event, such as counts.
const INTERVAL: Duration = Duration::from_secs(1);
/// Several events often come together.
const AFTER_EVENT: Duration = Duration::from_millis(50);
/// With many services a look costs much. It takes no more than this part of the time.
const LARGEST_SHARE: u32 = 10;

// === impl Changes ===

impl Changes {
    pub fn new(
        own: OwnSource,
        pages: PageQueue,
        events: Receiver<LifecycleEvent>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (sent, now) = (Arc::default(), Instant::now());
        Self { own, pages, events, _place: place, sent, next: now, earliest: now }
    }

    /// The frames of a response without end.
    pub fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
        stream::unfold(self, |mut changes| async move {
            let message = changes.message().await?;
            Some((Ok(Frame::data(message)), changes))
        })
    }

    /// The next message; `None` when agimo ends.
    async fn message(&mut self) -> Option<Bytes> {
        self.wait().await?;
        let began = Instant::now();
        let (own, sent) = (self.own.clone(), self.sent.clone());
        let made = self.pages.make(move || {
            message(&own(), &mut sent.lock().unwrap_or_else(PoisonError::into_inner))
        });
        // Where too many pages are asked for, there is another look later.
        let message = made.await.flatten().unwrap_or_else(|| as_event(&Message::default()));
        let now = Instant::now();
        self.earliest = now + began.elapsed() * LARGEST_SHARE;
        self.next = self.earliest.max(now + INTERVAL);
        Some(message.into())
    }

    /// Waits until it is time for the next look.
    async fn wait(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.next) => return Some(()),
                event = self.events.recv() => match event {
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        let soon = self.earliest.max(Instant::now() + AFTER_EVENT);
                        self.next = self.next.min(soon);
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }
}

/// What has changed since `sent`, which is brought up to date.
fn message(own: &Own, sent: &mut Option<Sent>) -> Option<String> {
    let services = v1::services(&own.snapshot.routes, own).services;
    let is_first = sent.is_none();
    let mut before = sent.take().unwrap_or_default();
    let mut now = Sent::with_capacity(services.len());
    let mut changed = Vec::new();
    for service in &services {
        let name = format!("{}{}", service.host, service.path_prefix);
        let fingerprint = fingerprint(service);
        if before.remove(&name) != Some(fingerprint) {
            changed.push(service);
        }
        now.insert(name, fingerprint);
    }
    *sent = Some(now);
    let removed: Vec<_> = before.into_keys().collect();
    if changed.is_empty() && removed.is_empty() && !is_first {
        return None;
    }
    let message =
        Message { is_complete: is_first, services: changed, removed, ..Message::default() };
    Some(as_event(&message))
}

/// On one line: JSON without indentation has no line break.
fn as_event(message: &Message<'_>) -> String {
    let now_unix = since_1970(SystemTime::now()).as_secs_f64();
    // The types of the API have no keys that are no strings.
    let text = serde_json::to_string(&Message { now_unix, ..message.clone() }).unwrap_or_default();
    format!("data: {text}\n\n")
}

fn fingerprint(service: &Service) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(service).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
