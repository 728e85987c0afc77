//! Runs the Go compiler. It never changes the versions that `go.mod` and `go.sum` pin.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::recipe::Recipe;
use crate::files;

/// How often a running build prints a line.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// How many lines of a failed build's log the error shows.
const LOG_LINES_IN_ERROR: usize = 20;

const GO_NOT_FOUND: &str = "there is no `go` in PATH: the test bed is built from source; install Go 1.26.6 or later from \
    https://go.dev/dl or your distribution, or run `cargo xtask test --no-cluster`, which skips the cluster tests";

/// The version of the Go compiler in `PATH`, such as `go1.26.6`.
pub(super) fn version() -> Result<String, String> {
    if !subprocess::succeeds(Command::new("go").arg("version")) {
        return Err(GO_NOT_FOUND.to_owned());
    }
    Ok(subprocess::capture(Command::new("go").args(["env", "GOVERSION"]))?.trim().to_owned())
}

/// Builds a recipe's binaries into a folder.
pub(super) fn build(recipe: &Recipe, target: &Path, log: &Path) -> Result<(), String> {
    // A compiler that outlives this process would write to the same folder as the next one.
    let mut go = Command::new("setpriv");
    go.args(["--pdeathsig", "TERM", "go"]);
    set_module_environment(&mut go, recipe);
    go.args(["build", "-trimpath"]).arg(format!("-ldflags={}", recipe.linker_flags()?));
    if !recipe.tags.is_empty() {
        go.args(["-tags", recipe.tags]);
    }
    // The trailing slash makes go write one file per binary, even if the folder does not exist.
    go.arg("-o").arg(target.join("")).arg(recipe.package);
    run_with_progress(&mut go, recipe.name, log)
}

/// The folder in which Go keeps the sources of a module.
pub(super) fn module_folder(recipe: &Recipe, module: &str) -> Result<PathBuf, String> {
    let mut go = Command::new("go");
    set_module_environment(&mut go, recipe);
    let folder = subprocess::capture(go.args(["list", "-m", "-f", "{{.Dir}}", module]))?;
    Ok(PathBuf::from(folder.trim()))
}

/// Makes a Go command run in the recipe's module; `-mod=readonly` forbids changes to `go.mod` and `go.sum`.
fn set_module_environment(command: &mut Command, recipe: &Recipe) {
    command.current_dir(recipe.sources());
    // Statically linked, because an image contains only the binary.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false");
    command.env("GOWORK", "off");
}

/// Runs the command with its output in a log file and regularly prints that it is still running.
fn run_with_progress(command: &mut Command, recipe: &str, log: &Path) -> Result<(), String> {
    let output = File::create(log).map_err(files::with_path(log))?;
    let errors = output.try_clone().map_err(files::with_path(log))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = subprocess::spawn(command)?;
    let started = Instant::now();
    let mut last_report = started;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let text = files::read(log)?;
                let lines: Vec<&str> = text.lines().collect();
                let last_lines =
                    lines[lines.len().saturating_sub(LOG_LINES_IN_ERROR)..].join("\n  ");
                return Err(format!(
                    "building {recipe} ended with {status}; the full log is {}; its last lines are:\n  {last_lines}",
                    log.display()
                ));
            }
            Ok(None) => {}
            Err(error) => return Err(format!("building {recipe}: {error}")),
        }
        if last_report.elapsed() > PROGRESS_INTERVAL {
            last_report = Instant::now();
            println!("  {recipe}: still building, {:.0} s", started.elapsed().as_secs_f64());
        }
        thread::sleep(Duration::from_millis(100));
    }
}
