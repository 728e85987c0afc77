//! Tests of agimo by programs that know a protocol and nothing of agimo. They are built with Go.

use std::path::PathBuf;
use std::time::Instant;

use crate::workspace;

/// h2spec tries every rule of HTTP/2 and HPACK that a server can break (https://github.com/summerwind/h2spec).
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";
const H2SPEC_VERSION: &str = "2.2.1";

/// Runs the tests that need these programs, after building what is missing.
pub(crate) fn check(filters: &[String]) -> Result<(), String> {
    let h2spec = install_h2spec()?;
    let mut command =
        workspace::cargo(&["test", "--quiet", "--locked", "--package", "agimo", "--test", "it"]);
    command.args(["--", "--ignored"]).args(filters).env("H2SPEC", h2spec);
    subprocess::run(&mut command)
}

/// The path of h2spec, which is in a cache outside the clone, so that other clones use it too.
fn install_h2spec() -> Result<PathBuf, String> {
    let folder = workspace::tools_folder()?.join(format!("h2spec-{H2SPEC_VERSION}"));
    let tool = folder.join("h2spec");
    if tool.is_file() {
        return Ok(tool);
    }
    println!("building h2spec {H2SPEC_VERSION} into {} (once)", folder.display());
    let started = Instant::now();
    let mut command = workspace::program("go");
    command.args(["install", H2SPEC]).env("GOBIN", &folder).env("GOFLAGS", "-mod=mod");
    subprocess::run(&mut command)?;
    println!("built in {:.0} s", started.elapsed().as_secs_f64());
    Ok(tool)
}
