//! Finds the line of a malformed head, for the log and for whoever sent it.

use crate::http::codec::Malformation;
use crate::http::message::HeadError;

impl Malformation {
    /// The rule that `error` names, and the first line of `head` with which `is_rejected` is true.
    pub(super) fn find(error: HeadError, head: &[u8], is_rejected: impl Fn(&[u8]) -> bool) -> Self {
        let ends = (0..head.len()).filter(|at| head[*at] == b'\n');
        let line = match error {
            HeadError::Malformed(_) => {
                ends.enumerate().find(|(_, end)| is_rejected(&head[..=*end])).map(|(at, _)| at + 1)
            }
            _ => None,
        };
        Self { rule: error, line }
    }
}
