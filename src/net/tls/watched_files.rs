//! A value that is read from files, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tracing::{error, info};

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
    version: FileVersion,
    value: Arc<T>,
}

/// When each file was last modified.
type FileVersion = Vec<Option<SystemTime>>;

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
        let loaded = Loaded { version: version(&paths), value: load(&paths, parse)? };
        Ok(Self { paths, parse, loaded: Mutex::new(loaded) })
    }

    /// The newest value that could be read. It reads files, which may be on a slow volume.
    pub fn newest(&self) -> Arc<T> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(&self.paths);
        if version != loaded.version {
            match load(&self.paths, self.parse) {
                Ok(value) => {
                    loaded.value = value;
                    info!(file = %self.shown(0), "a changed file is in use");
                }
                Err(InvalidFile { index, problem }) => {
                    error!("{}: {problem}; what was read before stays in use", self.shown(index))
                }
            }
            loaded.version = version;
        }
        loaded.value.clone()
    }

    fn shown(&self, index: usize) -> std::path::Display<'_> {
        self.paths.get(index).map_or(Path::new(""), PathBuf::as_path).display()
    }
}

fn version(paths: &[PathBuf]) -> FileVersion {
    paths
        .iter()
        .map(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok())
        .collect()
}

fn load<T>(paths: &[PathBuf], parse: Parse<T>) -> Result<Arc<T>, InvalidFile> {
    let read = |(index, path): (usize, &PathBuf)| {
        std::fs::read(path).map_err(|error| InvalidFile { index, problem: error.to_string() })
    };
    let contents: Result<Vec<_>, _> = paths.iter().enumerate().map(read).collect();
    parse(&contents?).map(Arc::new)
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
        let mut time = SystemTime::UNIX_EPOCH;
        let mut write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            time += std::time::Duration::from_secs(1);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        write("1");
        let files = WatchedFiles::new(vec![path.clone()], number).unwrap();
        assert_eq!(*files.newest(), 1);
        write("two");
        assert_eq!(*files.newest(), 1);
        write("3");
        assert_eq!(*files.newest(), 3);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*files.newest(), 3);
        let missing = WatchedFiles::new(vec![path], number).err().unwrap();
        assert!(missing.index == 0 && missing.problem.contains("No such file"), "{missing:?}");
    }
}
