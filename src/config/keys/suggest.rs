//! Finds the name closest to a misspelt one, for "did you mean" in error messages.

/// In bytes. A longer name is not a typing error, and the cost of a comparison grows with the length.
const LONGEST_NAME: usize = 40;

/// The candidate with the smallest edit distance to `written` (the first of equals), if it is close enough. Case, `-`
/// and `_` are ignored.
pub(super) fn nearest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = normalized(written);
    if written.is_empty() || written.len() > LONGEST_NAME {
        return None;
    }
    candidates
        .map(|candidate| (strsim::osa_distance(&written, &normalized(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters and digits in lower case, without separators.
fn normalized(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_have_a_suggestion() {
        let names = ["host", "timeout", "sleep_after", "port"];
        for (written, meant) in [
            ("hots", Some("host")),
            ("Host", Some("host")),
            ("timout", Some("timeout")),
            ("sleepAfter", Some("sleep_after")),
            ("sleep-affter", Some("sleep_after")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names.into_iter()), meant, "{written}");
        }
    }
}
