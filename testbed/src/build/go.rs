//! Calls the Go compiler. It builds what `go.mod` and `go.sum` pin and never changes them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::recipe::Recipe;
use crate::files;

/// How often a long build says that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How much of a failed build's log is shown.
const LAST_LINES: usize = 20;

const MISSING: &str = "there is no `go` in PATH: the test bed is built from source; install Go 1.26.6 or later from \
    https://go.dev/dl or your distribution, or leave the cluster tests out with `cargo xtask test --no-cluster`";

/// The compiler that will build, as it names itself.
pub(super) fn version() -> Result<String, String> {
    if !subprocess::succeeds(Command::new("go").arg("version")) {
        return Err(MISSING.to_owned());
    }
    Ok(subprocess::capture(Command::new("go").args(["env", "GOVERSION"]))?.trim().to_owned())
}

/// Builds a recipe's binaries into a folder.
pub(super) fn build(recipe: &Recipe, into: &Path, log: &Path) -> Result<(), String> {
    // A compiler that outlived us would write beside the next one.
    let mut go = Command::new("setpriv");
    go.args(["--pdeathsig", "TERM", "go"]);
    pinned(&mut go, recipe);
    go.args(["build", "-trimpath"]).arg(format!("-ldflags={}", recipe.linker_flags()?));
    if !recipe.tags.is_empty() {
        go.args(["-tags", recipe.tags]);
    }
    // The trailing slash: several binaries, each by its name, even when the folder were missing.
    go.arg("-o").arg(into.join("")).arg(recipe.package);
    watched(&mut go, recipe.name, log)
}

/// Where the compiler keeps a module's sources.
pub(super) fn module_folder(recipe: &Recipe, module: &str) -> Result<PathBuf, String> {
    let mut go = Command::new("go");
    pinned(&mut go, recipe);
    let folder = subprocess::capture(go.args(["list", "-m", "-f", "{{.Dir}}", module]))?;
    Ok(PathBuf::from(folder.trim()))
}

/// In the module's folder, with its pins as they are.
fn pinned(command: &mut Command, recipe: &Recipe) {
    command.current_dir(recipe.sources());
    // Static, so that an image needs nothing but the binary.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false");
    command.env("GOWORK", "off");
}

/// Runs with its output in a file, saying now and then that it still runs.
fn watched(command: &mut Command, what: &str, log: &Path) -> Result<(), String> {
    let output = File::create(log).map_err(files::naming(log))?;
    let errors = output.try_clone().map_err(files::naming(log))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let mut child = subprocess::spawn(command)?;
    let started = Instant::now();
    let mut said = started;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let text = files::read(log)?;
                let lines: Vec<&str> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
                return Err(format!(
                    "building {what} ended with {status}; the whole log is {}; it ends with:\n  {last}",
                    log.display()
                ));
            }
            Ok(None) => {}
            Err(error) => return Err(format!("building {what}: {error}")),
        }
        if said.elapsed() > HEARTBEAT {
            said = Instant::now();
            println!("  {what}: still building, {:.0} s", started.elapsed().as_secs_f64());
        }
        thread::sleep(Duration::from_millis(100));
    }
}
