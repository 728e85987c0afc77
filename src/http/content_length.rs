//! The length of a body as `Content-Length` says it (RFC 9110 section 8.6).

use super::message::HeadError;

/// The largest length that every recipient can count: many use a signed 64-bit number.
pub(super) const MOST_BODY_BYTES: u64 = i64::MAX as u64;

/// The value of one `Content-Length`, in bytes.
pub(super) fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    // Digits only: `parse` alone would take a sign.
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|digits| digits.parse().ok())
        .filter(|length| *length <= MOST_BODY_BYTES)
        .ok_or(HeadError::Malformed("Content-Length is not a number below 2^63"))
}

/// The one value among these lines of a request; more than one is malformed.
pub(super) fn single_length<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<u64>, HeadError> {
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HeadError::Malformed("there is more than one Content-Length"));
    }
    parse_length(value).map(Some)
}
