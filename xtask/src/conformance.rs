//! Tests of agimo by programs that know a protocol and nothing of agimo: h2spec, the interoperability tests of gRPC, the Autobahn
//! test suite for WebSockets. The first two are built with Go, the others are Python packages.

use std::path::PathBuf;

use crate::workspace;

/// h2spec tries every rule of HTTP/2 and HPACK that a server can break (https://github.com/summerwind/h2spec).
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec";
const H2SPEC_VERSION: &str = "2.2.1";

/// Client and server of the interoperability tests (gRPC, "Interoperability Test Case Descriptions").
const GRPC_INTEROP: [&str; 2] =
    ["google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server"];
const GRPC_VERSION: &str = "1.85.0";

/// The Autobahn test suite on Python 3, and gRPC with health checks and reflection, and the messages of OpenTelemetry.
const PYTHON_CLIENTS: [&str; 7] = [
    "kosoku==0.1.0",
    "grpcio==1.85.3",
    "grpcio-health-checking==1.85.1",
    "grpcio-reflection==1.85.1",
    "opentelemetry-proto==1.45.2",
    "protobuf==7.36.2",
    "typing_extensions==4.16.0",
];
/// Counts the versions of this list.
const PYTHON_CLIENTS_VERSION: u32 = 2;

/// Runs the tests that need these programs, after installing what is missing.
pub(crate) fn check(filters: &[String]) -> Result<(), String> {
    let (h2spec, interop) = (install_h2spec()?, install_grpc_interop()?);
    let python = install_python_clients()?;
    let mut command =
        workspace::cargo(&["test", "--quiet", "--locked", "--package", "agimo", "--test", "it"]);
    command
        .args(["--", "--ignored"])
        .args(filters)
        .env("H2SPEC", h2spec)
        .env("GRPC_INTEROP", interop)
        .env("PYTHON_CLIENTS", python);
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

/// The folder with `client` and `server` of the interoperability tests.
fn install_grpc_interop() -> Result<PathBuf, String> {
    let server =
        workspace::install_tool(&format!("grpc-interop-{GRPC_VERSION}"), "server", |folder| {
            let mut command = workspace::program("go");
            let packages = GRPC_INTEROP.map(|package| format!("{package}@v{GRPC_VERSION}"));
            command.arg("install").args(packages).env("GOBIN", folder).env("GOFLAGS", "-mod=mod");
            command
        })?;
    Ok(folder_of(server))
}

/// The folder with the Python packages.
fn install_python_clients() -> Result<PathBuf, String> {
    let name = format!("python-clients-{PYTHON_CLIENTS_VERSION}");
    // pip moves the packages into the folder when it has all of them.
    let marker = "typing_extensions.py";
    let installed = workspace::install_tool(&name, marker, |folder| {
        let mut command = workspace::program("python3");
        command.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ]);
        command.arg("--target").arg(folder).args(PYTHON_CLIENTS);
        command
    })?;
    Ok(folder_of(installed))
}

fn folder_of(mut path: PathBuf) -> PathBuf {
    path.pop();
    path
}
