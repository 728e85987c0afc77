//! Starts other programs in the root of the clone and says in words how they failed. It never goes through a shell.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command ends with: nothing to say, or the one line that says why it failed.
pub(crate) type Outcome = Result<(), String>;

/// Where Debian puts servers; absent from the `PATH` of ordinary users.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// The program or test of this name that a `cargo build` or `cargo test --no-run` makes, wherever it puts it.
pub(crate) fn built(command: &mut Command, name: &str) -> Result<PathBuf, String> {
    // Warnings and errors still reach the terminal, rendered.
    let messages = capture(command.args(["--message-format", "json-render-diagnostics"]))?;
    executable(&messages, name).ok_or_else(|| format!("`{}` made no `{name}`", typed(command)))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// `cargo` with these arguments, in the root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program("cargo");
    command.args(arguments);
    command
}

/// A program that runs in the root and also finds what lies in the system folders.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).env("PATH", search_path());
    command
}

/// Runs to the end with our own output; a failure names the command as it could be typed.
pub(crate) fn run(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", typed(command))),
        Err(error) => Err(format!("`{}` did not start: {error}", typed(command))),
    }
}

/// Runs to the end and returns what it wrote to its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("`{}` did not start: {error}", typed(command)))?;
    if !output.status.success() {
        return Err(format!("`{}` ended with {}", typed(command), output.status));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("`{}` wrote something that is not UTF-8", typed(command)))
}

/// Whether it starts and succeeds; its output is of no interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a program of this name is in `PATH` or the system folders.
pub(crate) fn is_installed(name: &str) -> bool {
    env::split_paths(&search_path()).any(|folder| folder.join(name).is_file())
}

/// The command as one would type it, without its environment.
pub(crate) fn typed(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Reads cargo's messages, one JSON object a line, without a parser: a path with quotes or backslashes in it is not found.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let artifacts = messages.lines().filter(|line| line.contains("compiler-artifact"));
    let mut paths = artifacts.filter_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(PathBuf::from(rest.split('"').next()?))
    });
    paths.find(|path| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        // Tests have a hash behind their name.
        let unhashed = file.rsplit_once('-').map_or(file, |(name, _)| name);
        file == name || unhashed == name
    })
}

fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    // Joining fails only for a folder with a colon in it, which cannot have come out of the split.
    env::join_paths(folders).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_status() {
        let error = run(program("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error, "`sh -c exit 3` ended with exit status: 3");
        let error = run(&mut program("no-such-program")).unwrap_err();
        assert!(error.starts_with("`no-such-program` did not start"), "{error}");
    }

    #[test]
    fn what_cargo_made_is_found_by_its_name() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/agimo\",\"fresh\":true}\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/deps/cluster-0f\"}\n";
        assert_eq!(executable(messages, "agimo"), Some(PathBuf::from("/t/debug/agimo")));
        assert_eq!(
            executable(messages, "cluster"),
            Some(PathBuf::from("/t/debug/deps/cluster-0f"))
        );
        assert_eq!(executable(messages, "bench"), None);
    }

    #[test]
    fn the_root_is_where_the_workspace_is() {
        assert!(root().join("xtask/Cargo.toml").is_file());
        assert_eq!(capture(&mut program("pwd")).unwrap().trim(), root().to_string_lossy());
    }
}
