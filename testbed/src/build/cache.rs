//! The cache of built programs and images, outside the clone, keyed by a hash of everything that determines an entry. An
//! entry is either complete or absent.

use std::env;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::files;

/// An entry that was not used for this long is removed when another entry of the same name is created.
const UNUSED_ENTRY_LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The cache in `$XDG_CACHE_HOME/agimo/testbed`, by default `~/.cache/agimo/testbed` (XDG Base Directory Specification).
pub(crate) struct Cache {
    folder: PathBuf,
}

/// A lock on the cache, released when the value is dropped or the process ends.
pub(crate) struct CacheLock {
    _file: File,
}

// === impl Cache ===

impl Cache {
    pub(crate) fn open() -> Result<Cache, String> {
        let base = match env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
            Some(folder) if folder.is_absolute() => folder,
            _ => match env::var_os("HOME") {
                Some(home) => PathBuf::from(home).join(".cache"),
                None => return Err("neither HOME nor XDG_CACHE_HOME is set".to_owned()),
            },
        };
        Cache::at(base.join("agimo/testbed"))
    }

    fn at(folder: PathBuf) -> Result<Cache, String> {
        files::create_folder(&folder.join("log"))?;
        Ok(Cache { folder })
    }

    /// Waits until no other process holds the lock of this name. Whoever creates entries holds a lock.
    pub(crate) fn lock(&self, name: &str) -> Result<CacheLock, String> {
        let path = self.folder.join(format!("{name}.lock"));
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(files::with_path(&path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            println!("another process writes to {}; waiting for it", self.folder.display());
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(CacheLock { _file: file })
    }

    /// The folder of an entry, whether it exists or not.
    pub(crate) fn entry(&self, name: &str, key: &str) -> PathBuf {
        self.folder.join(format!("{name}-{key}"))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("log").join(format!("{name}.log"))
    }

    /// Writes the entry to a temporary folder and renames that when it is complete.
    pub(crate) fn create_entry(
        &self,
        entry: &Path,
        write: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let unfinished = entry.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(files::with_path(&unfinished))?;
        }
        files::create_folder(&unfinished)?;
        write(&unfinished)?;
        self.remove_unused(entry)?;
        fs::rename(&unfinished, entry).map_err(files::with_path(entry))
    }

    /// Records the time of use, which postpones the removal of the entry.
    pub(crate) fn mark_used(&self, entry: &Path) -> Result<(), String> {
        let now = FileTimes::new().set_modified(SystemTime::now());
        File::open(entry).and_then(|folder| folder.set_times(now)).map_err(files::with_path(entry))
    }

    /// Removes entries of the same name with another key that were not used for a long time.
    fn remove_unused(&self, entry: &Path) -> Result<(), String> {
        let name_of = |path: &Path| {
            let whole = path.file_name()?.to_str()?;
            whole.rsplit_once('-').map(|(name, _)| name.to_owned())
        };
        for other in fs::read_dir(&self.folder).map_err(files::with_path(&self.folder))? {
            let other = other.map_err(files::with_path(&self.folder))?;
            let age = other.metadata().ok().and_then(|data| data.modified().ok()?.elapsed().ok());
            let is_old = age.is_some_and(|age| age > UNUSED_ENTRY_LIFETIME);
            if is_old && name_of(&other.path()) == name_of(entry) && other.path().is_dir() {
                fs::remove_dir_all(other.path()).map_err(files::with_path(&other.path()))?;
            }
        }
        Ok(())
    }
}

/// The first 64 bits, in hexadecimal digits, of a SHA-256 over names and contents, each preceded by its length.
pub(crate) fn hash<'a>(named: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut digest = Sha256::new();
    for (name, content) in named {
        for bytes in [name.as_bytes(), content] {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_the_boundaries_between_names_and_contents() {
        let one = hash([("a", b"bc".as_slice())]);
        assert_eq!(one.len(), 16);
        assert_eq!(one, hash([("a", b"bc".as_slice())]));
        assert_ne!(one, hash([("ab", b"c".as_slice())]));
        assert_ne!(
            hash([("a", b"".as_slice()), ("b", b"".as_slice())]),
            hash([("a", b"b".as_slice())])
        );
    }

    #[test]
    fn a_failed_entry_is_absent() {
        let folder = env::temp_dir().join(format!("agimo-cache-test-{}", std::process::id()));
        let cache = Cache::at(folder.clone()).unwrap();
        let entry = cache.entry("recipe", "0123");
        let failed = cache.create_entry(&entry, |folder| {
            files::write(&folder.join("half"), "half")?;
            Err("no compiler".to_owned())
        });
        assert_eq!(failed, Err("no compiler".to_owned()));
        assert!(!entry.exists());
        cache.create_entry(&entry, |folder| files::write(&folder.join("whole"), "whole")).unwrap();
        assert!(entry.join("whole").is_file() && !entry.join("half").exists());
        cache.mark_used(&entry).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
