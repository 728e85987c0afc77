//! How times and requests are written for people.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::api::records::{Cause, LedgerRecord, Request, What};
use crate::ledger::summary;
use crate::telemetry::durations;
use crate::telemetry::printable::printable_whole;

/// A time of the API.
pub fn milliseconds(value: f64) -> String {
    durations::short(Duration::try_from_secs_f64(value / 1e3).unwrap_or_default())
}

/// How long ago, in the largest unit.
pub fn ago(at_unix: f64) -> String {
    let now = durations::since_1970(SystemTime::now());
    let since = Duration::try_from_secs_f64(now.as_secs_f64() - at_unix).unwrap_or_default();
    let text = durations::whole(since);
    format!("{} ago", text.split(' ').next().unwrap_or_default())
}

/// In UTC, to the second (RFC 3339).
pub fn time(at_unix: f64) -> String {
    let at = Timestamp::from_second(at_unix as i64);
    at.map_or_else(|_| at_unix.to_string(), |at| at.to_string())
}

/// On one line and without anything that a terminal would act on: it quotes what others wrote.
pub fn clean(text: &str) -> String {
    printable_whole(text.as_bytes())
}

/// Who caused a wake.
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Request { request: Some(request), .. } => self::request(request),
        Cause::Request { request: None, .. } => "a request".to_owned(),
        Cause::Directive { directive } if directive.starts_with("scheduled") => {
            "schedule".to_owned()
        }
        Cause::Directive { .. } => "pin".to_owned(),
        Cause::Operator { name } => clean(name),
        Cause::Elsewhere => "elsewhere".to_owned(),
    }
}

/// A request with what is known of its client.
pub fn request(request: &Request) -> String {
    let Request { method, path, network, client_kind } = request;
    summary::request(&clean(method), &clean(path), network.as_ref(), client_kind)
}

/// How long the wake took, up to the last phase that was reached.
pub fn wake_duration(record: &LedgerRecord) -> Option<String> {
    let What::Wake(wake) = &record.what else { return None };
    wake.phases.last().map(|phase| milliseconds(phase.after_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_api_are_written_for_people() {
        assert_eq!(
            (milliseconds(2_310.0), milliseconds(-1.0)),
            ("2.31 s".to_owned(), "0.0 ms".to_owned())
        );
        assert_eq!(time(1_795_721_107.9), "2026-11-26T19:25:07Z");
    }
}
