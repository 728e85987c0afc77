//! Commands that ask a running agimo through its admin port, and show the answer to people or programs.

pub mod bug_report;
pub mod change;
pub mod client;
pub mod completion;
pub mod explain;
pub mod port_forward;
pub mod savings;
pub mod shown;
pub mod status;
pub mod table;
pub mod tap;
pub mod why;

use std::future::Future;

/// Runs a command to its end.
fn run<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
