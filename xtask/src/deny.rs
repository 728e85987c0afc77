//! Licences, duplicate versions and sources of the dependencies, judged by cargo-deny against `deny.toml`. The check
//! itself calls nobody; only fetching what is missing does.

use std::env;
use std::path::PathBuf;
use std::time::Instant;

use crate::workspace;

const VERSION: &str = "0.20.2";
/// The platform that `deny.toml` judges; its crates must be at hand for the check to work offline.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Checks the whole workspace, after installing cargo-deny where it is missing.
pub(crate) fn check() -> Result<(), String> {
    let tool = installed()?;
    subprocess::run(&mut workspace::cargo(&[
        "fetch", "--quiet", "--locked", "--target", PLATFORM,
    ]))?;
    // cargo-deny takes the name of the cargo subcommand as its first argument only when cargo calls it.
    let mut command = workspace::program(&tool.to_string_lossy());
    command.args(["--workspace", "--locked", "--offline", "--log-level", "warn"]);
    command.args(["check", "licenses", "bans", "sources"]);
    subprocess::run(&mut command)
}

/// The path of the tool, kept outside the clone so that the next clone finds it.
fn installed() -> Result<PathBuf, String> {
    let folder = cache()?.join(format!("cargo-deny-{VERSION}"));
    let tool = folder.join("bin/cargo-deny");
    if tool.is_file() {
        return Ok(tool);
    }
    println!("building cargo-deny {VERSION} into {} (once; a minute or two)", folder.display());
    let started = Instant::now();
    let package = format!("cargo-deny@{VERSION}");
    let mut command =
        workspace::cargo(&["install", "--quiet", "--locked", "--debug", &package, "--root"]);
    // Its release profile optimises across all crates; unoptimised, a minute on two cores, and it still checks in a second.
    command.arg(&folder).env("CARGO_PROFILE_DEV_DEBUG", "0");
    // cargo install builds in a temporary folder unless told otherwise.
    command.env_remove("CARGO_TARGET_DIR");
    subprocess::run(&mut command)?;
    println!("built in {:.0} s", started.elapsed().as_secs_f64());
    Ok(tool)
}

/// Where tools are kept (XDG base directory specification).
fn cache() -> Result<PathBuf, String> {
    let base = match env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        Some(folder) if folder.is_absolute() => folder,
        _ => match env::var_os("HOME") {
            Some(home) => PathBuf::from(home).join(".cache"),
            None => return Err("neither HOME nor XDG_CACHE_HOME is set".to_owned()),
        },
    };
    Ok(base.join("agimo/tools"))
}
