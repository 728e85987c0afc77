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
