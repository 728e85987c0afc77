//! File operations whose errors name the file.

use std::fs;
use std::io;
use std::path::Path;

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(with_path(path))
}

pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(with_path(path))
}

/// Writes a file atomically, by rename: a reader sees either the old or the new content.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, content).map_err(with_path(&new))?;
    fs::rename(&new, path).map_err(with_path(path))
}

/// Creates the folder and its missing parents.
pub(crate) fn create_folder(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(with_path(path))
}

/// Creates a symbolic link to `original`.
pub(crate) fn link(original: &Path, link: &Path) -> Result<(), String> {
    std::os::unix::fs::symlink(original, link).map_err(with_path(link))
}

/// Copies a folder recursively. Symbolic links are followed, and the copies are writable for their owner.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    create_folder(to)?;
    for entry in fs::read_dir(from).map_err(with_path(from))? {
        let entry = entry.map_err(with_path(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else if source.is_file() {
            write(&target, read_bytes(&source)?)?;
        }
    }
    Ok(())
}

/// Adds the path to an error: `path: error`.
pub(crate) fn with_path(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
