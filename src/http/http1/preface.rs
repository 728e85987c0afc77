//! Tells a connection that begins with the preface of HTTP/2 from one that speaks HTTP/1.

/// What a client of HTTP/2 with prior knowledge sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the first bytes of a connection are the preface of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preface {
    Absent,
    /// All that has arrived is its beginning.
    Incomplete,
    Complete,
}

// === impl Preface ===

impl Preface {
    /// Of a connection that has received these two parts.
    pub(super) fn of(before: &[u8], received: &[u8]) -> Self {
        let Some((known, rest)) = PREFACE.split_at_checked(before.len()) else {
            return Self::Absent;
        };
        let compared = rest.len().min(received.len());
        if known != before || rest[..compared] != received[..compared] {
            Self::Absent
        } else if compared == rest.len() {
            Self::Complete
        } else {
            Self::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_known_however_it_is_split() {
        let and_more = [PREFACE, b"frames"].concat();
        for at in 0..PREFACE.len() {
            let (before, received) = and_more.split_at(at);
            assert_eq!(Preface::of(before, received), Preface::Complete, "{at}");
            let part = &received[..PREFACE.len() - at - 1];
            assert_eq!(Preface::of(before, part), Preface::Incomplete, "{at}");
        }
        assert_eq!(Preface::of(b"", b"PUT / HTTP/1.1\r\n"), Preface::Absent);
        assert_eq!(Preface::of(b"P", b"OST / HTTP/1.1\r\n"), Preface::Absent);
        assert_eq!(Preface::of(&and_more, b"x"), Preface::Absent);
    }
}
