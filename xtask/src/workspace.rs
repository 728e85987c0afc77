//! The root of the clone, and commands that run in it: cargo, and programs in `PATH` or the system folders.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The folders of system programs and servers on Debian; not in the `PATH` of ordinary users.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Runs a `cargo build` or `cargo test --no-run` and returns the path of the program or test of this name.
pub(crate) fn build_executable(command: &mut Command, name: &str) -> Result<PathBuf, String> {
    // Cargo writes rendered warnings and errors to standard error: they still reach the terminal.
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let messages = subprocess::capture(command)?;
    executable_path(&messages, name)
        .ok_or_else(|| format!("`{}` built no `{name}`", subprocess::command_line(command)))
}

/// Cargo's target folder.
pub(crate) fn target_folder() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The folder of installed tools (XDG Base Directory Specification).
fn tools_folder() -> Result<PathBuf, String> {
    let base = match env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        Some(folder) if folder.is_absolute() => folder,
        _ => match env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => return Err("neither HOME nor XDG_CACHE_HOME is set".to_owned()),
        },
    };
    Ok(base.join("agimo/tools"))
}

/// The path of a program of a tool that the tests need. It is in a cache outside the clone, so that other clones use it
/// too; where `program` is missing there, the command builds it.
pub(crate) fn install_tool(
    name_and_version: &str,
    program: &str,
    build: impl FnOnce(&Path) -> Command,
) -> Result<PathBuf, String> {
    let folder = tools_folder()?.join(name_and_version);
    let program = folder.join(program);
    if !program.is_file() {
        println!("building {name_and_version} into {} (once; up to 2 minutes)", folder.display());
        let started = Instant::now();
        subprocess::run(&mut build(&folder))?;
        println!("built in {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(program)
}

/// `cargo` with these arguments; it runs in the root. Without incremental compilation: a run of every test would fill
/// several gigabytes with its files.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program("cargo");
    command.args(arguments).env("CARGO_INCREMENTAL", "0");
    command
}

/// A command that runs in the root and is also looked up in the system folders.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).env("PATH", search_path());
    command
}

/// Whether a program of this name is in `PATH` or the system folders.
pub(crate) fn is_installed(name: &str) -> bool {
    env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

/// Searches cargo's messages, one JSON object per line. Without a JSON parser, paths that contain quotes or backslashes
/// are not found.
fn executable_path(messages: &str, name: &str) -> Option<PathBuf> {
    let artifacts = messages.lines().filter(|line| line.contains("compiler-artifact"));
    let mut paths = artifacts.filter_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split('"').next()?))
    });
    paths.find(|path| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        // The file name of a test ends with a hash.
        let unhashed = file.rsplit_once('-').map_or(file, |(name, _)| name);
        file == name || unhashed == name
    })
}

fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    // Joining fails only for a folder with a colon in its name, which splitting cannot produce.
    env::join_paths(folders).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_by_name() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/agimo\",\"fresh\":true}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/deps/cluster-0f\"}\n";
        assert_eq!(executable_path(messages, "agimo"), Some(PathBuf::from("/t/debug/agimo")));
        assert_eq!(
            executable_path(messages, "cluster"),
            Some(PathBuf::from("/t/debug/deps/cluster-0f"))
        );
        assert_eq!(executable_path(messages, "bench"), None);
    }

    #[test]
    fn commands_run_in_the_root_of_the_workspace() {
        assert!(root().join("xtask/Cargo.toml").is_file());
        assert_eq!(
            subprocess::capture(&mut program("pwd")).unwrap().trim(),
            root().to_string_lossy()
        );
    }
}
