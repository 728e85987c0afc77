//! Guesses what was meant by a misspelt name. It knows no key.

/// Longer names are no slip of the pen, and comparing them would take long.
const LONGEST_NAME: usize = 40;

/// The candidate that looks most like `written`, if one looks like it at all. Case, `-` and `_` do not matter.
pub(super) fn nearest<'a>(
    written: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = letters(written);
    if written.is_empty() || written.len() > LONGEST_NAME {
        return None;
    }
    candidates
        .map(|candidate| (distance(&written, &letters(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn letters(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect()
}

/// How many letters are missing, too many, wrong, or swapped with their neighbour: the optimal string alignment
/// distance (Boytsov, "Indexing methods for approximate dictionary searching", 2011, section 2.1).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut rows =
        [vec![0; other.len() + 1], (0..=other.len()).collect(), vec![0; other.len() + 1]];
    for (i, a) in one.iter().enumerate() {
        let [before_last, last, row] = &mut rows;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let swapped = i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b;
            let swap = if swapped { before_last[j - 1] + 1 } else { usize::MAX };
            let change = last[j] + usize::from(a != b);
            row[j + 1] = change.min(last[j + 1] + 1).min(row[j] + 1).min(swap);
        }
        rows.rotate_left(1);
    }
    rows[1][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slips_of_the_pen_are_understood() {
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

    proptest! {
        #[test]
        fn distance_is_a_measure(a in "[a-c]{0,8}", b in "[a-c]{0,8}") {
            let (a, b) = (letters(&a), letters(&b));
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }
}
