//! `agimo tap`: requests as they end.

use std::io::Write as _;

use crate::api::requests::EndedRequest;
use crate::cli::asking::{OutputFormat, TapOptions};

use super::client::{AdminClient, with_parameters};
use super::{run, shown, token};

/// Prints requests until it is interrupted, or until as many as were asked for.
pub fn tap(options: &TapOptions) -> anyhow::Result<()> {
    let path = match &options.host {
        Some(host) => with_parameters("requests", &[("host", host)]),
        None => "requests".to_owned(),
    };
    let token = token(&options.token)?;
    let mut left = options.number;
    run(async {
        let client = AdminClient::new(&options.admin).await?;
        client
            .follow(&path, token.as_deref(), |data| {
                let request: EndedRequest = serde_json::from_str(data)?;
                if !options.status.as_deref().is_none_or(|wanted| has_status(&request, wanted)) {
                    return Ok(true);
                }
                let mut output = std::io::stdout().lock();
                match options.output {
                    OutputFormat::Json => writeln!(output, "{data}")?,
                    OutputFormat::Table | OutputFormat::Wide => {
                        writeln!(output, "{}", line(&request))?
                    }
                }
                output.flush()?;
                left = left.map(|left| left.saturating_sub(1));
                Ok(left != Some(0))
            })
            .await
    })
}

/// Whether a request has this status, such as 404 or 5xx.
fn has_status(request: &EndedRequest, wanted: &str) -> bool {
    let status = request.status.to_string();
    let same = |(have, want): (char, char)| want == 'x' || have == want;
    status.len() == wanted.len() && status.chars().zip(wanted.chars()).all(same)
}

fn line(request: &EndedRequest) -> String {
    let EndedRequest { method, host, path, status, .. } = request;
    let mut line = format!(
        "{}  {status}  {:>9}  {method} {host}{path}",
        shown::time(request.at_unix),
        shown::milliseconds(request.total_ms),
    );
    if request.held_ms > 0.0 {
        line.push_str(&format!("  held {}", shown::milliseconds(request.held_ms)));
    }
    let end = Some(request.end.as_str()).filter(|end| *end != "complete");
    for part in [request.reason.as_deref(), end].into_iter().flatten() {
        line.push_str(&format!("  {part}"));
    }
    let network = request.network.as_deref().unwrap_or("an unknown network");
    shown::clean(&format!("{line}  from {network} ({})", request.client_kind))
}
