//! Checks durations, sizes and numbers.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeInteger, DeValue};

use super::{problem, quoted, wrong_type};
use crate::config::keys::Key;
use crate::config::report::Problem;

/// Longer than any useful value, and short enough to be added to an `Instant` without overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The units of a size, in bytes.
const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// `None` means "off".
pub(super) fn duration(
    key: &Key,
    value: &DeValue<'_>,
    span: Range<usize>,
    off: bool,
    zero: bool,
) -> Result<Option<Duration>, Problem> {
    let name = key.name;
    let written = match value {
        DeValue::String(written) if off && written == "off" => return Ok(None),
        DeValue::String(written) => written,
        DeValue::Integer(number) if off && integer(number) == Some(0) => {
            let message = format!("`{name}` = 0 is no duration");
            return Err(problem(span, message, "write \"off\" for no limit".to_owned()));
        }
        DeValue::Integer(number) => {
            let message = format!("`{name}` = {number} has no unit");
            let fix = format!("write \"{number}s\" for seconds, \"{number}ms\" for milliseconds");
            return Err(problem(span, message, fix));
        }
        other => return Err(wrong_type(key, other, span)),
    };
    let shown = quoted(written, '"');
    let (reason, fix) = match humantime::parse_duration(written) {
        Ok(duration) if duration.is_zero() && !zero => ("is zero", "a longer time, such as \"5s\""),
        Ok(duration) if duration > MAX_DURATION => ("is more than a year", "at most \"1year\""),
        Ok(duration) => return Ok(Some(duration)),
        Err(_) => {
            ("is not a duration", "a number and a unit, such as \"5s\", \"500ms\" or \"1m30s\"")
        }
    };
    Err(problem(span, format!("`{name}`: {shown} {reason}"), write(fix, off)))
}

/// In bytes; `None` means "off".
pub(super) fn size(
    key: &Key,
    value: &DeValue<'_>,
    span: Range<usize>,
    off: bool,
    range: RangeInclusive<u64>,
) -> Result<Option<u64>, Problem> {
    let (size, shown) = match value {
        DeValue::String(written) if off && written == "off" => return Ok(None),
        DeValue::String(written) => (bytes(written), quoted(written, '"')),
        // A number that does not fit u64 is above every range.
        DeValue::Integer(number) => (Some(integer(number).unwrap_or(u64::MAX)), number.to_string()),
        other => return Err(wrong_type(key, other, span)),
    };
    let (reason, fix) = match size {
        Some(size) if range.contains(&size) => return Ok(Some(size)),
        Some(_) if off => ("is out of range", format!("at least {} byte", range.start())),
        Some(_) => {
            ("is out of range", format!("a size from {} to {} bytes", range.start(), range.end()))
        }
        None => {
            let fix = "a whole number and a unit, such as \"64KiB\", \"1MiB\" or \"10MB\"";
            ("is not a size", fix.to_owned())
        }
    };
    Err(problem(span, format!("`{}`: {shown} {reason}", key.name), write(&fix, off)))
}

pub(super) fn number(
    key: &Key,
    value: &DeValue<'_>,
    span: Range<usize>,
    range: RangeInclusive<u64>,
) -> Result<u64, Problem> {
    let DeValue::Integer(written) = value else {
        return Err(wrong_type(key, value, span));
    };
    integer(written).filter(|number| range.contains(number)).ok_or_else(|| {
        let message = format!("`{}` = {written} is out of range", key.name);
        problem(span, message, format!("write a number from {} to {}", range.start(), range.end()))
    })
}

fn write(value: &str, off: bool) -> String {
    format!("write {value}{}", if off { ", or \"off\"" } else { "" })
}

/// The number of bytes in a size such as `"64KiB"`.
fn bytes(written: &str) -> Option<u64> {
    let digits = written.find(|c: char| !c.is_ascii_digit()).unwrap_or(written.len());
    let (number, unit) = written.split_at(digits);
    let unit = unit.trim_start_matches(' ');
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// `None` if the number is negative or does not fit u64.
fn integer(written: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(written.as_str(), written.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_unit() {
        for (written, expected) in [
            ("1B", Some(1)),
            ("64KiB", Some(65536)),
            ("2 MiB", Some(2 << 20)),
            ("1GiB", Some(1 << 30)),
            ("10MB", Some(10_000_000)),
            ("1kB", Some(1000)),
            ("64", None),
            ("KiB", None),
            ("1.5MB", None),
            ("-1B", None),
            ("64kib", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(bytes(written), expected, "{written}");
        }
    }
}
