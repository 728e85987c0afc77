//! The benchmark compares agimo with HAProxy, nginx and direct requests, on loopback. A missed target is printed and does
//! not change the exit code.

use std::fs;
use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::environment::Environment;
use crate::origin::OriginOptions;
use crate::report::Report;

mod clients;
mod cluster;
mod cold;
mod collector;
mod configuration;
mod constant_rate;
mod environment;
mod events;
mod http;
mod kubernetes;
mod launch;
mod load;
mod machine;
mod memory;
mod origin;
mod peers;
mod process_stats;
mod protocols;
mod report;
mod rounds;
mod servers;
mod two_parts;
mod warm;
mod web_sockets;

/// Measures agimo, HAProxy, nginx and direct requests to the application, on loopback only.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    helper: Option<HelperProcess>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// The agimo binary (a release build); without it, agimo is not measured
    #[arg(long, value_name = "PATH")]
    agimo: Option<PathBuf>,
    /// Number of counted rounds with warm requests (default 21; 3 with --quick) and with other protocols (7; 1)
    #[arg(long)]
    rounds: Option<NonZeroU16>,
    /// Duration of one round with warm requests, in seconds (default 1; 0.5 with --quick)
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Run for less than a minute: fewer and shorter rounds, the results are only indicative
    #[arg(long)]
    quick: bool,
    /// Run only this section; `cluster` and `peers` need a cluster, use `cargo xtask bench --cluster` or `--peers` for them
    #[arg(long)]
    only: Option<Section>,
    #[command(flatten)]
    peers: peers::Binaries,
    /// Also write the results and the description of the machine to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Warm,
    Protocols,
    Memory,
    Cold,
    Cluster,
    Peers,
}

/// Helper processes that the benchmark starts from its own binary.
#[derive(Subcommand)]
enum HelperProcess {
    /// Run the application behind the proxies
    Origin(OriginOptions),
    /// Replace this process with another program, pinned to a core and stopped when the benchmark ends
    #[command(hide = true)]
    Launch(launch::LaunchOptions),
    /// Remove a directory when standard input is closed
    #[command(hide = true)]
    Sweep { directory: PathBuf },
}

fn main() -> ExitCode {
    let CommandLine { helper, options } = CommandLine::parse();
    let outcome = match helper {
        Some(HelperProcess::Origin(origin)) => origin::serve(&origin),
        Some(HelperProcess::Launch(command)) => launch::exec_program(&command),
        Some(HelperProcess::Sweep { directory }) => {
            environment::remove_directory_at_exit(&directory)
        }
        None => measure(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> io::Result<()> {
    let environment = Environment::prepare(options.agimo.as_deref())?;
    let mut report = Report::new(machine::describe(&environment));
    let selected = |section| options.only.is_none_or(|only| only == section);
    // Only on request: the other sections must run on a machine without other load.
    if options.only == Some(Section::Cluster) {
        let plan = if options.quick { cluster::Plan::QUICK } else { cluster::Plan::FULL };
        cluster::measure(&environment, &plan, &mut report)?;
    }

    if options.only == Some(Section::Peers) {
        let plan = if options.quick { peers::Plan::QUICK } else { peers::Plan::FULL };
        peers::measure(&environment, &options.peers, &plan, &mut report)?;
    }

    if selected(Section::Warm) {
        // Many short rounds: other load on the machine then affects all servers equally.
        let rounds = if options.quick { 3 } else { 21 };
        let duration = Duration::from_millis(if options.quick { 500 } else { 1_000 });
        let plan = warm::Plan {
            rounds: options.rounds.map_or(rounds, NonZeroU16::get),
            duration: options.seconds.unwrap_or(duration),
        };
        warm::measure(&environment, &plan, &mut report)?;
        two_parts::measure(&environment, &plan, &mut report)?;
    }
    if selected(Section::Protocols) {
        let usual = if options.quick { 1 } else { 7 };
        let rounds = options.rounds.map_or(usual, |rounds| usize::from(rounds.get()));
        protocols::measure(&environment, rounds, &mut report)?;
        let duration = Duration::from_millis(if options.quick { 300 } else { 1_000 });
        constant_rate::measure(&environment, rounds, duration, &mut report)?;
        web_sockets::measure(&environment, rounds, duration, &mut report)?;
    }
    if selected(Section::Memory) {
        memory::measure(&environment, &mut report)?;
    }
    if selected(Section::Cold) {
        let plan = if options.quick { cold::Plan::QUICK } else { cold::Plan::FULL };
        cold::measure(&environment, &plan, &mut report)?;
    }

    report.print_targets();
    if let Some(file) = &options.markdown {
        fs::write(file, report.markdown())?;
        println!("written to {}", file.display());
    }
    Ok(())
}

/// Parses the duration of a round. The maximum is one minute, so that the load stays bounded.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=60.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be from 0.1 to 60".to_owned())
    }
}
