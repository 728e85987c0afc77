//! Checks licences, duplicate versions and sources of the dependencies with cargo-deny and `deny.toml`. The check runs
//! offline; only missing crates and a missing cargo-deny are fetched.

use std::path::PathBuf;

use crate::workspace;

const VERSION: &str = "0.20.2";
/// The target that `deny.toml` names; its crates must be present for the offline check.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Checks the whole workspace, after installing cargo-deny if it is missing.
pub(crate) fn check() -> Result<(), String> {
    let tool = install_if_missing()?;
    subprocess::run(&mut workspace::cargo(&[
        "fetch", "--quiet", "--locked", "--target", PLATFORM,
    ]))?;
    // No `deny` as first argument: cargo-deny expects it only when cargo starts it.
    let mut command = workspace::program(&tool.to_string_lossy());
    command.args(["--workspace", "--locked", "--offline", "--log-level", "warn"]);
    command.args(["check", "licenses", "bans", "sources"]);
    subprocess::run(&mut command)
}

/// The path of the tool.
fn install_if_missing() -> Result<PathBuf, String> {
    workspace::install_tool(&format!("cargo-deny-{VERSION}"), "bin/cargo-deny", |folder| {
        let package = format!("cargo-deny@{VERSION}");
        let mut command =
            workspace::cargo(&["install", "--quiet", "--locked", "--debug", &package, "--root"]);
        // Its release profile uses link-time optimisation, which takes long. A debug build takes a minute on two cores,
        // and its check a second.
        command.arg(folder).env("CARGO_PROFILE_DEV_DEBUG", "0");
        // Without this variable cargo install builds in a temporary folder.
        command.env_remove("CARGO_TARGET_DIR");
        command
    })
}
