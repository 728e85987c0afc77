//! What was built once, found again by the hash of its pins, outside the clone. An entry is there as a whole or not at
//! all, and only one process fills at a time.

use std::env;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::files;

/// Entries whose pins nobody has asked for during this time are removed when a new one of the same name is made.
const UNUSED: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// `~/.cache/agimo/testbed`, or where `XDG_CACHE_HOME` says.
pub(crate) struct Cache {
    folder: PathBuf,
}

/// Ends with its value, or with the process.
pub(crate) struct Lock {
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

    /// Waits until no other process fills the cache with this kind of thing.
    pub(crate) fn lock(&self, kind: &str) -> Result<Lock, String> {
        let path = self.folder.join(format!("{kind}.lock"));
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(files::naming(&path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            println!("another process fills {}; waiting for it", self.folder.display());
            flock(&file, FlockOperation::LockExclusive)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }

    pub(crate) fn entry(&self, name: &str, pins: &str) -> PathBuf {
        self.folder.join(format!("{name}-{pins}"))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("log").join(format!("{name}.log"))
    }

    /// Makes an entry in a folder beside it and gives it its name when it is complete.
    pub(crate) fn fill(
        &self,
        entry: &Path,
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<(), String> {
        let unfinished = entry.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(files::naming(&unfinished))?;
        }
        files::create_folder(&unfinished)?;
        make(&unfinished)?;
        self.remove_unused(entry)?;
        fs::rename(&unfinished, entry).map_err(files::naming(entry))
    }

    /// Notes that an entry is still wanted.
    pub(crate) fn used(&self, entry: &Path) -> Result<(), String> {
        let now = FileTimes::new().set_modified(SystemTime::now());
        File::open(entry).and_then(|folder| folder.set_times(now)).map_err(files::naming(entry))
    }

    /// Older entries of the same name, other pins.
    fn remove_unused(&self, entry: &Path) -> Result<(), String> {
        let name_of = |path: &Path| {
            let whole = path.file_name()?.to_str()?;
            whole.rsplit_once('-').map(|(name, _)| name.to_owned())
        };
        for other in fs::read_dir(&self.folder).map_err(files::naming(&self.folder))? {
            let other = other.map_err(files::naming(&self.folder))?;
            let age = other.metadata().ok().and_then(|data| data.modified().ok()?.elapsed().ok());
            let is_old = age.is_some_and(|age| age > UNUSED);
            if is_old && name_of(&other.path()) == name_of(entry) && other.path().is_dir() {
                fs::remove_dir_all(other.path()).map_err(files::naming(&other.path()))?;
            }
        }
        Ok(())
    }
}

/// Short enough for a folder's name, long enough to never meet its like: the first 64 bits of a SHA-256 over names and
/// contents, each with its length before it.
pub(crate) fn hash<'a>(named: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut digest = Sha256::new();
    for (name, content) in named {
        for part in [name.as_bytes(), content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_where_one_part_ends_and_the_next_begins() {
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
    fn an_entry_that_failed_is_not_there() {
        let folder = env::temp_dir().join(format!("agimo-cache-test-{}", std::process::id()));
        let cache = Cache::at(folder.clone()).unwrap();
        let entry = cache.entry("part", "0123");
        let failed = cache.fill(&entry, |folder| {
            files::write(&folder.join("half"), "half")?;
            Err("no compiler".to_owned())
        });
        assert_eq!(failed, Err("no compiler".to_owned()));
        assert!(!entry.exists());
        cache.fill(&entry, |folder| files::write(&folder.join("whole"), "whole")).unwrap();
        assert!(entry.join("whole").is_file() && !entry.join("half").exists());
        cache.used(&entry).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
