//! Commands that ask a running agimo through its admin port, and show the answer to people or programs.

pub mod bug_report;
pub mod change;
pub mod check;
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
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use serde::de::DeserializeOwned;

use self::client::AdminClient;
use crate::cli::asking::{AdminOptions, OutputFormat, TokenOptions};

/// Prints the answer to one question, as it was sent for programs, or as `report` shows it to people.
fn ask_and_print<T: DeserializeOwned>(
    admin: &AdminOptions,
    path: &str,
    output: OutputFormat,
    report: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = run(async {
        let client = AdminClient::new(admin).await?;
        match output {
            OutputFormat::Json => Ok(client.get_text(path).await?.into()),
            OutputFormat::Table | OutputFormat::Wide => {
                Ok(report(&client.get(path).await?).into_bytes())
            }
        }
    })?;
    Ok(std::io::stdout().lock().write_all(&text)?)
}

/// The token that a person has named, if any.
fn token(options: &TokenOptions) -> anyhow::Result<Option<String>> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the token in {}", file.display()))
    };
    options.token_file.as_ref().map(read).transpose()
}

/// Runs a command to its end.
fn run<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
