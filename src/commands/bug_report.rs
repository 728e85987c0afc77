//! `agimo bugreport`: what a maintainer needs to know of a running agimo, in one file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::cli::asking::BugReportOptions;
use crate::version;

use super::client::AdminClient;
use super::run;

/// What is asked, below the root of the admin port.
const PAGES: [&str; 7] = [
    "/api/v1/peers",
    "/api/v1/services",
    "/api/v1/wakes?limit=1000",
    "/api/v1/savings",
    "/api/v1/config",
    "/readyz",
    "/metrics",
];

/// Writes the report. What does not answer is in it with the reason.
pub fn bug_report(options: &BugReportOptions) -> anyhow::Result<()> {
    let pages = run(async {
        let client = AdminClient::new(&options.admin).await?;
        let mut pages = Map::new();
        let mut answered = 0;
        for path in PAGES {
            let answer = client.get_page(path).await;
            answered += usize::from(answer.is_ok());
            pages.insert(path.to_owned(), shown(answer));
        }
        anyhow::ensure!(
            answered > 0,
            "{}",
            pages[PAGES[0]]["problem"].as_str().unwrap_or_default()
        );
        Ok(pages)
    })?;
    let report = json!({ "command_version": version::TEXT, "pages": pages });
    let file = &options.output;
    let text = serde_json::to_vec_pretty(&report)?;
    // For its owner alone.
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    let written = written.and_then(|mut file| file.write_all(&text));
    written.with_context(|| format!("cannot write {}", file.display()))?;
    let notice = format!(
        "wrote {}: it contains the hosts and workloads of the configuration, without the values of environment variables and \
         arguments, the paths and client networks of requests that woke workloads, the names of users who changed something, and \
         the last output of failed applications. Look at it before you send it.\n",
        file.display()
    );
    Ok(std::io::stdout().lock().write_all(notice.as_bytes())?)
}

/// JSON as it is, other pages as text.
fn shown(answer: anyhow::Result<Bytes>) -> Value {
    match answer {
        Ok(page) => serde_json::from_slice(&page)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&page).into_owned())),
        Err(problem) => json!({ "problem": format!("{problem:#}") }),
    }
}
