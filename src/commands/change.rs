//! `agimo wake`, `agimo sleep`, `agimo pin`, `agimo unpin`: changes that need a token.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::api::{Changed, Service, Services};
use crate::cli::asking::{ChangeOptions, PinOptions, WakeOptions};

use super::client::{AdminClient, with_parameters};
use super::{run, shown, token};

/// Between two looks with `--wait`.
const INTERVAL: Duration = Duration::from_millis(200);

pub fn wake(options: &WakeOptions) -> anyhow::Result<()> {
    change_and_wait(options, "wake", "awake")
}

pub fn sleep(options: &WakeOptions) -> anyhow::Result<()> {
    change_and_wait(options, "sleep", "asleep")
}

pub fn pin(options: &PinOptions) -> anyhow::Result<()> {
    let state = if options.asleep { "asleep" } else { "awake" };
    let lifetime = options.lifetime.map(|time| humantime::format_duration(time).to_string());
    let mut parameters = vec![("state", state)];
    parameters.extend(lifetime.as_deref().map(|lifetime| ("for", lifetime)));
    run(change(&options.change, "pin", &parameters))
}

pub fn unpin(options: &ChangeOptions) -> anyhow::Result<()> {
    run(change(options, "unpin", &[]))
}

fn change_and_wait(options: &WakeOptions, path: &str, state: &str) -> anyhow::Result<()> {
    run(async {
        change(&options.change, path, &[]).await?;
        match options.wait {
            Some(limit) => wait(&options.change, state, limit).await,
            None => Ok(()),
        }
    })
}

async fn change(
    options: &ChangeOptions,
    path: &str,
    parameters: &[(&str, &str)],
) -> anyhow::Result<()> {
    let token = token(&options.token)?;
    let client = AdminClient::new(&options.admin).await?;
    let all = [&[("host", options.host.as_str())], parameters].concat();
    let changed: Changed = client.post(&with_parameters(path, &all), token.as_deref()).await?;
    print(&format!("{}: {}", changed.workload, changed.detail))?;
    for problem in &changed.unreachable {
        eprintln!("agimo: another replica of agimo was not told: {}", shown::clean(problem));
    }
    Ok(())
}

/// Waits until the workload is in this state.
async fn wait(options: &ChangeOptions, state: &str, limit: Duration) -> anyhow::Result<()> {
    let client = AdminClient::new(&options.admin).await?;
    let path = with_parameters("services", &[("host", &options.host)]);
    let end = Instant::now().checked_add(limit);
    loop {
        let answer: Services = client.get(&path).await?;
        let Some(service) = answer.services.first() else { bail!("the service is gone") };
        if service.state == state {
            return print(&format!("{}: {state}", service.workload));
        }
        if service.state == "failing" || end.is_some_and(|end| Instant::now() >= end) {
            bail!("{} is {}, not {state}{}", service.workload, service.state, problem(service));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn problem(service: &Service) -> String {
    let problem = service.last_failure.as_ref().or(service.not_ready.as_ref());
    problem.map_or(String::new(), |problem| {
        format!(": {}: {}", problem.reason, shown::clean(&problem.detail))
    })
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{}", shown::clean(line))?)
}
