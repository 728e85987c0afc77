//! Passes on the commit that is built, as `AGIMO_COMMIT`: from the variable of that name, or from git.

use std::path::Path;
use std::process::Command;

const VARIABLE: &str = "AGIMO_COMMIT";
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    // Each commit builds agimo anew. That is not worth it while it is being developed.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = std::env::var(VARIABLE).ok().filter(|commit| !commit.is_empty());
    let commit = commit.or_else(|| is_release.then(head).flatten());
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    let end = commit.char_indices().nth(DIGITS).map_or(commit.len(), |(at, _)| at);
    println!("cargo::rustc-env={VARIABLE}={}", &commit[..end]);
}

/// The commit of the checkout. It changes with the log of its HEAD.
fn head() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "HEAD"])
}
