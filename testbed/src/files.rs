//! Reads and writes files with errors that name the file. It never overwrites half a file.

use std::fs;
use std::io;
use std::path::Path;

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(naming(path))
}

pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(naming(path))
}

/// Writes a file as a whole: a reader sees what was there before or all of this.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, content).map_err(naming(&new))?;
    fs::rename(&new, path).map_err(naming(path))
}

/// The folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(naming(path))
}

pub(crate) fn link(original: &Path, link: &Path) -> Result<(), String> {
    std::os::unix::fs::symlink(original, link).map_err(naming(link))
}

/// Copies a folder with all that is in it; links are followed, and everything becomes writable for its owner.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<(), String> {
    create_folder(to)?;
    for entry in fs::read_dir(from).map_err(naming(from))? {
        let entry = entry.map_err(naming(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
        } else if source.is_file() {
            write(&target, read_bytes(&source)?)?;
        }
    }
    Ok(())
}

/// Turns an error into a sentence that begins with the path.
pub(crate) fn naming(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
