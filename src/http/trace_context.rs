//! The field `traceparent` of requests (W3C Trace Context, section 3.2). agimo changes it only for requests that have a span of its
//! own.

use std::fmt;

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: [u8; 16],
    /// The span of the caller.
    pub span_id: [u8; 8],
    /// The caller may have recorded its span.
    pub is_sampled: bool,
}

/// Of version 00; later versions may append something after a further `-`.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

// === impl TraceParent ===

impl TraceParent {
    /// `None` where the value is none of this or a later version.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, more) = value.split_at_checked(LENGTH)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let [version] = hex(parts.next()?)?;
        let trace_id: [u8; 16] = hex(parts.next()?)?;
        let span_id: [u8; 8] = hex(parts.next()?)?;
        let [flags] = hex(parts.next()?)?;
        let is_complete = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with(b"-"),
        };
        let is_valid = is_complete && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, is_sampled: flags & SAMPLED != 0 })
    }
}

impl fmt::Display for TraceParent {
    /// The value of the field, in version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if self.is_sampled { "-01" } else { "-00" })
    }
}

/// Lower-case hexadecimal digits, exactly as many as fit.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let parent = TraceParent::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(parent.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(parent.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.is_sampled);
        assert_eq!(parent.to_string(), EXAMPLE);
        let unsampled = EXAMPLE.replace("-01", "-02");
        assert!(!TraceParent::parse(unsampled.as_bytes()).unwrap().is_sampled);
        let later = EXAMPLE.replace("00-4b", "cc-4b") + "-what-the-future-will-be-like";
        assert!(TraceParent::parse(later.as_bytes()).is_some());
    }

    #[test]
    fn what_the_specification_forbids_is_not_read() {
        for wrong in [
            String::new(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replace("00-4b", "ff-4b"),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("{EXAMPLE}-more"),
            EXAMPLE.replace("00-4b", "01-4b") + "x",
            EXAMPLE[..54].to_owned(),
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in prop::collection::vec(any::<u8>(), 0..80)) {
            TraceParent::parse(&value);
        }
    }
}
