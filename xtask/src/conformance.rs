//! Tests of agimo by programs that know a protocol and nothing of agimo. They are built with Go.

use std::path::PathBuf;

use crate::workspace;

/// h2spec tries every rule of HTTP/2 and HPACK that a server can break (https://github.com/summerwind/h2spec).
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec";
const H2SPEC_VERSION: &str = "2.2.1";

/// Runs the tests that need these programs, after building what is missing.
pub(crate) fn check(filters: &[String]) -> Result<(), String> {
    let h2spec = install_h2spec()?;
    let mut command =
        workspace::cargo(&["test", "--quiet", "--locked", "--package", "agimo", "--test", "it"]);
    command.args(["--", "--ignored"]).args(filters).env("H2SPEC", h2spec);
    subprocess::run(&mut command)
}

/// The path of h2spec.
fn install_h2spec() -> Result<PathBuf, String> {
    workspace::install_tool(&format!("h2spec-{H2SPEC_VERSION}"), "h2spec", |folder| {
        let mut command = workspace::program("go");
        let package = format!("{H2SPEC}@v{H2SPEC_VERSION}+incompatible");
        command.args(["install", &package]).env("GOBIN", folder).env("GOFLAGS", "-mod=mod");
        command
    })
}
