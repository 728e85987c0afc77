//! agimo between programs that test a protocol and know nothing of agimo. `cargo xtask test` installs them and runs these tests,
//! which are ignored otherwise.

use std::path::PathBuf;

mod grpc;
mod h2spec;
mod traces;
mod web_socket;

/// A program or a folder that `cargo xtask test` has installed.
fn installed(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: run cargo xtask test")).into()
}
