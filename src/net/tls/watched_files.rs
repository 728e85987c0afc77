//! A value that is read from files, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};

use crate::file_version::FileVersion;

/// A value and the files that it comes from, such as those of a mounted Secret.
pub struct WatchedFiles<T> {
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    loaded: Mutex<Loaded<T>>,
}

/// Makes the value from the contents of the files, in their order.
pub type Parse<T> = fn(&[Vec<u8>]) -> Result<T, InvalidFile>;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidFile {
    /// Which one of the files.
    pub index: usize,
    pub problem: String,
}

struct Loaded<T> {
    version: FileVersions,
    value: Arc<T>,
    /// What the log has been told, which is not repeated.
    told: Option<InvalidFile>,
}

type FileVersions = Vec<Option<FileVersion>>;

// === impl InvalidFile ===

impl InvalidFile {
    /// Not as many files as the value needs.
    pub fn incomplete() -> Self {
        Self { index: 0, problem: "a file is missing".to_owned() }
    }
}

// === impl WatchedFiles ===

impl<T> WatchedFiles<T> {
    /// Reads the files.
    ///
    /// # Errors
    /// The file that cannot be used.
    pub fn new(paths: Vec<PathBuf>, parse: Parse<T>) -> Result<Self, InvalidFile> {
        let version = versions(&paths);
        let value = Arc::new(parse(&read(&paths)?)?);
        Ok(Self { paths, parse, loaded: Mutex::new(Loaded { version, value, told: None }) })
    }

    /// The newest value that could be read. It reads files, which may be on a slow volume.
    pub fn newest(&self) -> Arc<T> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let version = versions(&self.paths);
        if version != loaded.version {
            // A file that cannot be read now is tried again.
            let outcome = read(&self.paths).and_then(|contents| {
                loaded.version = version;
                (self.parse)(&contents)
            });
            match outcome {
                Ok(value) => {
                    loaded.value = Arc::new(value);
                    loaded.told = None;
                    info!(file = %self.shown(0), "a changed file is in use");
                }
                Err(invalid) if loaded.told.as_ref() != Some(&invalid) => {
                    let InvalidFile { index, problem } = &invalid;
                    error!("{}: {problem}; what was read before stays in use", self.shown(*index));
                    loaded.told = Some(invalid);
                }
                Err(_) => {}
            }
        }
        loaded.value.clone()
    }

    /// The files, in the order in which they are parsed.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    fn shown(&self, index: usize) -> std::path::Display<'_> {
        self.paths.get(index).map_or(Path::new(""), PathBuf::as_path).display()
    }
}

fn versions(paths: &[PathBuf]) -> FileVersions {
    paths.iter().map(|path| FileVersion::of(path)).collect()
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, InvalidFile> {
    let read = |(index, path): (usize, &PathBuf)| {
        std::fs::read(path).map_err(|error| InvalidFile { index, problem: error.to_string() })
    };
    paths.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(files: &[Vec<u8>]) -> Result<u32, InvalidFile> {
        let text = String::from_utf8_lossy(&files[0]);
        text.parse().map_err(|_| InvalidFile { index: 0, problem: "no number".to_owned() })
    }

    #[test]
    fn a_changed_file_is_read_again_and_an_invalid_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        // As a new file in place of the old one: both may be written within one tick of the clock.
        let write = |text: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        write("1");
        let files = WatchedFiles::new(vec![path.clone()], number).unwrap();
        assert_eq!(*files.newest(), 1);
        write("two");
        assert_eq!(*files.newest(), 1);
        write("333");
        assert_eq!(*files.newest(), 333);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*files.newest(), 333);
        write("444");
        assert_eq!(*files.newest(), 444);
        std::fs::remove_file(&path).unwrap();
        let missing = WatchedFiles::new(vec![path], number).err().unwrap();
        assert!(missing.index == 0 && missing.problem.contains("No such file"), "{missing:?}");
    }
}
