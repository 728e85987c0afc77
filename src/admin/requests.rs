//! `/api/v1/requests`: requests as they end, as server-sent events (WHATWG HTML, section 9.2).

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use hyper::StatusCode;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use super::parameters::Parameters;
use super::response::Refusal;
use super::v1::Own;
use crate::tap::{Tap, Watcher};
use crate::workload::WorkloadId;

/// The services whose requests are shown; all where it is absent.
pub type Services = Option<HashSet<String>>;

/// What a query asks for.
pub struct Wanted {
    pub services: Services,
    /// The workloads of those services; absent for all.
    pub workloads: Option<BTreeSet<WorkloadId>>,
}

/// Sent at once, so that a client sees that it is subscribed. A line that begins with a colon is a comment.
const GREETING: &[u8] = b": requests as they end\n\n";
/// A client that has left is noticed within this time.
const HEARTBEAT: Duration = Duration::from_secs(5);

// === impl Wanted ===

impl Wanted {
    /// # Errors
    /// When the query is wrong, no service is meant, or the configuration says that requests are not recorded.
    pub fn read(query: &str, own: &Own) -> Result<Self, Refusal> {
        let parameters = Parameters::read(query, &["host"])?;
        if !own.snapshot.config.record_requests {
            let error = "`record_requests = false` is configured: requests are shown to nobody";
            return Err((StatusCode::FORBIDDEN, error.to_owned()));
        }
        if parameters.get("host").is_none() {
            return Ok(Self { services: None, workloads: None });
        }
        let routes = parameters.routes(&own.snapshot)?;
        Ok(Self {
            services: Some(routes.iter().map(|route| route.config.name()).collect()),
            workloads: Some(routes.iter().map(|route| (*route.workload.id).clone()).collect()),
        })
    }
}

/// The frames of a response without end, which keeps its place until it is dropped.
pub fn frames(
    tap: &Tap,
    services: Services,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static {
    let greeting = stream::iter([Bytes::from_static(GREETING)]);
    let state = (tap.watch(), services, place);
    let requests = stream::unfold(state, |(mut watcher, services, place)| async move {
        let text = next(&mut watcher, &services).await;
        Some((Bytes::from(text), (watcher, services, place)))
    });
    greeting.chain(requests).map(|text| Ok(Frame::data(text)))
}

async fn next(watcher: &mut Watcher, services: &Services) -> String {
    let shown = async {
        loop {
            match watcher.next().await {
                Ok(request) => {
                    let is_wanted =
                        services.as_ref().is_none_or(|wanted| wanted.contains(&request.service));
                    if is_wanted {
                        // The type has no keys that are no strings.
                        let text = serde_json::to_string(&*request).unwrap_or_default();
                        return format!("data: {text}\n\n");
                    }
                }
                Err(lost) => {
                    return format!(": {lost} requests were lost: the client is too slow\n\n");
                }
            }
        }
    };
    tokio::time::timeout(HEARTBEAT, shown).await.unwrap_or_else(|_| ":\n\n".to_owned())
}
