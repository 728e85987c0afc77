//! Durations as people read them, and times as programs do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In milliseconds, to the microsecond.
pub fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

/// The time since 1970; a clock that is set before it counts as 1970.
pub fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// With two or three digits below a minute, then in the two largest units: `4.1 ms`, `412 ms`, `2.31 s`, `1m 5s`.
pub fn short(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    match millis {
        millis if millis < 10.0 => format!("{millis:.1} ms"),
        millis if millis < 1_000.0 => format!("{millis:.0} ms"),
        millis if millis < 60_000.0 => format!("{:.2} s", millis / 1e3),
        _ => whole(duration),
    }
}

/// In whole seconds and the two largest units: `5m`, `2h 3m`.
pub fn whole(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_few_digits() {
        let shown = [3_250, 412_300, 2_310_000, 65_000_000, 7_384_000_000]
            .map(|micros| short(Duration::from_micros(micros)));
        assert_eq!(shown, ["3.2 ms", "412 ms", "2.31 s", "1m 5s", "2h 3m"]);
        assert_eq!(whole(Duration::from_millis(900)), "0s");
    }
}
