//! The metrics of requests, by route.

use std::sync::Arc;

use super::{CLASSES, RETRIES, RouteCounters};
use crate::telemetry::{Exposition, Labels, MetricKind};

/// Writes the metric families of all routes.
pub fn collect(page: &mut Exposition, routes: &[(Labels, Arc<RouteCounters>)]) {
    page.family("agimo_requests_total", MetricKind::Counter, "Requests that have arrived.");
    for (labels, counters) in routes {
        page.sample(labels, counters.arrivals());
    }
    page.family(
        "agimo_active_requests",
        MetricKind::Gauge,
        "Requests, streams and tunnels from arrival to end, held time included.",
    );
    for (labels, counters) in routes {
        page.sample(labels, counters.in_flight());
    }
    page.family(
        "agimo_open_tunnels",
        MetricKind::Gauge,
        "WebSockets and other upgraded connections that are open; they are active requests, too.",
    );
    for (labels, counters) in routes {
        page.sample(labels, counters.tunnels());
    }
    page.family(
        "agimo_held_requests",
        MetricKind::Gauge,
        "Requests that are held until an endpoint is ready.",
    );
    for (labels, counters) in routes {
        page.sample(labels, counters.held());
    }
    page.family("agimo_responses_total", MetricKind::Counter, "Responses by class of status code.");
    for (labels, counters) in routes {
        for (at, class) in CLASSES.iter().enumerate() {
            let count = counters.sum(|core| core.responses[at].get());
            page.sample(&labels.clone().with("class", class), count);
        }
    }
    page.family(
        "agimo_request_duration_seconds",
        MetricKind::Histogram,
        "Time from a request's arrival to the end of its response, held time included.",
    );
    for (labels, counters) in routes {
        let mut cores = counters.cores.iter().map(|core| core.durations.snapshot());
        if let Some(mut all) = cores.next() {
            cores.for_each(|core| all.add(&core));
            page.histogram(labels, all.bounds, &all.counts, all.sum);
        }
    }
    page.family(
        "agimo_upstream_retries_total",
        MetricKind::Counter,
        "Requests sent to an endpoint again, by the reason.",
    );
    for (labels, counters) in routes {
        for (at, (_, reason)) in RETRIES.iter().enumerate() {
            let count = counters.sum(|core| core.retries[at].get());
            page.sample(&labels.clone().with("reason", reason), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::Retry;
    use super::*;

    #[test]
    fn the_metrics_page_lists_every_route_from_the_start() {
        let counters = Arc::new(RouteCounters::new(1));
        let core = counters.core(0);
        core.count_arrival(Instant::now());
        core.count_response(204);
        core.count_response(999);
        core.count_retry(Retry::Idle);
        let mut page = Exposition::default();
        let idle = (Labels::default().with("host", "b"), Arc::new(RouteCounters::new(1)));
        collect(&mut page, &[(Labels::default().with("host", "a"), counters), idle]);
        let page = page.into_page();
        for line in [
            "agimo_requests_total{host=\"a\"} 1",
            "agimo_requests_total{host=\"b\"} 0",
            "agimo_active_requests{host=\"a\"} 1",
            "agimo_active_requests{host=\"b\"} 0",
            "agimo_open_tunnels{host=\"a\"} 0",
            "agimo_responses_total{host=\"a\",class=\"2xx\"} 1",
            "agimo_upstream_retries_total{host=\"a\",reason=\"idle\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
