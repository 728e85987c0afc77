//! Logs the responses that agimo sends itself, and responses that an application broke off: the first of each kind and
//! service with its particulars, and then at most one in each interval. A client cannot fill the log.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::access_log::LoggedRequest;

/// What has been logged by one core.
#[derive(Default)]
pub struct ErrorLog {
    kinds: RefCell<HashMap<ErrorKind, Logged>>,
}

/// The slot of the route, absent where none matches, and the reason.
type ErrorKind = (Option<usize>, &'static str);

struct Logged {
    at: Instant,
    /// Errors of this kind since then.
    suppressed: u64,
}

/// Between two lines about the same service and reason.
const INTERVAL: Duration = Duration::from_secs(10);

// === impl ErrorLog ===

impl ErrorLog {
    /// Counts an error; returns how many of its kind were not logged before it, if it is to be logged.
    pub fn admit(&self, slot: Option<usize>, reason: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.borrow_mut();
        let Some(known) = kinds.get_mut(&(slot, reason)) else {
            kinds.insert((slot, reason), Logged { at: now, suppressed: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(known.at) < INTERVAL {
            known.suppressed += 1;
            return None;
        }
        known.at = now;
        Some(std::mem::take(&mut known.suppressed))
    }
}

/// Logs a request that got no complete response of its application.
pub fn log(request: &LoggedRequest, status: u16, reason: &str, detail: &str, suppressed: u64) {
    let LoggedRequest { client, method, host, uri, service } = request;
    warn!(
        service,
        status,
        reason,
        detail,
        method,
        host,
        uri,
        client = &**client,
        suppressed,
        "request failed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_in_each_interval_and_the_others_are_counted() {
        let log = ErrorLog::default();
        let now = Instant::now();
        assert_eq!(log.admit(Some(1), "hold-full", now), Some(0));
        for _ in 0..3 {
            assert_eq!(log.admit(Some(1), "hold-full", now + INTERVAL / 2), None);
        }
        assert_eq!(log.admit(Some(2), "hold-full", now), Some(0), "another service");
        assert_eq!(log.admit(Some(1), "hold-timeout", now), Some(0), "another reason");
        assert_eq!(log.admit(Some(1), "hold-full", now + INTERVAL), Some(3));
    }
}
