//! Tells whether a file has changed. Each look is one stat(2). It follows the symlinks that a mounted ConfigMap or Secret replaces,
//! and works on every file system; change notifications do not.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Device, inode, size and modification time: one of them changes when the file is written or replaced, or when a symlink on
/// its path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion(u64, u64, u64, i64, i64);

// === impl FileVersion ===

impl FileVersion {
    /// `None` if there is no regular file.
    pub fn of(file: &Path) -> Option<Self> {
        let found = std::fs::metadata(file).ok().filter(Metadata::is_file)?;
        Some(Self(found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    }
}
