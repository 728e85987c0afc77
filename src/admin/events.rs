//! `/events`: lifecycle events as they happen, as server-sent events (WHATWG HTML, section 9.2).

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::activation::events::LifecycleEvent;

use super::services;

/// Sent at once, so that a client sees that it is subscribed. A line that begins with a colon is a comment.
const GREETING: &[u8] = b": lifecycle events of workloads\n\n";

/// The frames of a response without end, which keeps its place until it is dropped: one `data:` line of JSON for each event.
pub fn frames(
    events: Receiver<LifecycleEvent>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    let greeting = stream::iter([Bytes::from_static(GREETING)]);
    let events = stream::unfold((events, place), |(mut events, place)| async move {
        let text = match events.recv().await {
            Ok(event) => format!("data: {}\n\n", services::event(&event)),
            Err(RecvError::Lagged(lost)) => {
                format!(": {lost} events were lost: the client is too slow\n\n")
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Bytes::from(text), (events, place)))
    });
    greeting.chain(events).map(|text| Ok(Frame::data(text)))
}
