//! Rounds in rotated order, so that other load on the machine affects all servers equally.

use std::io;

/// Runs so many rounds of each of `count` servers, after one warm-up round that is not counted. Returns the results of each.
pub(crate) fn rotated<T>(
    rounds: usize,
    count: usize,
    mut run: impl FnMut(usize) -> io::Result<T>,
) -> io::Result<Vec<Vec<T>>> {
    let mut results: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for offset in 0..count {
            let at = (round + offset) % count;
            let result = run(at)?;
            if round > 0 {
                results[at].push(result);
            }
        }
    }
    Ok(results)
}
