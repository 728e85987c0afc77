//! A file that the configuration names.

use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::path::PathBuf;

/// The path of a file, and where the configuration names it. Two are equal if their paths are.
#[derive(Clone, Debug)]
pub struct FilePath {
    /// Relative to the working directory of agimo.
    pub path: PathBuf,
    /// The place of the value in the text of the configuration.
    pub span: Range<usize>,
}

// === impl FilePath ===

impl PartialEq for FilePath {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for FilePath {}

impl Hash for FilePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}
