//! What the sections share that need a cluster of the test bed.

use std::env;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) mod api_proxy;
pub(crate) mod push_stream;

/// Fails outside a cluster of the test bed, whose objects may be created and deleted at will. `option` is that of `cargo xtask
/// bench` for the section.
pub(crate) fn require_test_bed(option: &str) -> io::Result<()> {
    if env::var_os("AGIMO_TESTBED").is_some() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "this section creates and deletes thousands of objects: run `cargo xtask bench --{option}`, which starts a cluster"
    )))
}

/// Creates or changes the objects of a manifest.
pub(crate) fn apply(manifest: &str) -> io::Result<()> {
    let mut kubectl = Command::new("kubectl")
        .args(["apply", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut input) = kubectl.stdin.take() {
        input.write_all(manifest.as_bytes())?;
    }
    if kubectl.wait()?.success() { Ok(()) } else { Err(io::Error::other("kubectl apply failed")) }
}

/// Runs `kubectl` and returns its standard output.
pub(crate) fn kubectl(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("kubectl").args(arguments).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn wait_until(
    problem: &str,
    limit: Duration,
    mut condition: impl FnMut() -> io::Result<bool>,
) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(io::Error::other(problem.to_owned()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
