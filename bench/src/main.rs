//! The benchmark: agimo beside HAProxy, nginx and no proxy at all, on loopback. It never judges by its exit code; the
//! bars it prints do.

use std::fs;
use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::origin::OriginOptions;
use crate::scene::Scene;
use crate::table::Report;

mod cluster;
mod cold;
mod configuration;
mod contestants;
mod crowd;
mod exchange;
mod launch;
mod load;
mod machine;
mod memory;
mod meter;
mod origin;
mod scene;
mod table;
mod warm;

/// Measures agimo beside HAProxy, nginx and no proxy, on loopback only.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    options: Options,
}

#[derive(Args)]
struct Options {
    /// The agimo binary (a release build); without it agimo's columns stay empty
    #[arg(long, value_name = "PATH")]
    agimo: Option<PathBuf>,
    /// Counted rounds of the warm table (default 21; 3 with --quick)
    #[arg(long)]
    rounds: Option<NonZeroU16>,
    /// Length of one warm round in seconds (default 1; 0.5 with --quick)
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// A look in under a minute: fewer and shorter rounds, the figures are only indicative
    #[arg(long)]
    quick: bool,
    /// Only one section; `cluster` only where one is around, as `cargo xtask bench --cluster` has it
    #[arg(long)]
    only: Option<Section>,
    /// Also write the tables and the machine's description to this file
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Warm,
    Memory,
    Cold,
    Cluster,
}

/// What the benchmark starts of itself.
#[derive(Subcommand)]
enum Role {
    /// The application behind the proxies
    Origin(OriginOptions),
    /// Become another program, pinned to a core and ended when the benchmark ends
    #[command(hide = true)]
    Launch(launch::LaunchOptions),
    /// Remove a folder once standard input ends
    #[command(hide = true)]
    Sweep { folder: PathBuf },
}

fn main() -> ExitCode {
    let CommandLine { role, options } = CommandLine::parse();
    let outcome = match role {
        Some(Role::Origin(origin)) => origin::serve(&origin),
        Some(Role::Launch(command)) => launch::become_program(&command),
        Some(Role::Sweep { folder }) => scene::sweep(&folder),
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
    let scene = Scene::open(options.agimo.as_deref())?;
    let mut report = Report::new(machine::describe(&scene));
    let wanted = |section| options.only.is_none_or(|only| only == section);
    // Only where it is asked for: the others measure on loopback, beside nothing else.
    if options.only == Some(Section::Cluster) {
        let plan = if options.quick { cluster::Plan::QUICK } else { cluster::Plan::FULL };
        cluster::measure(&scene, &plan, &mut report)?;
    }

    if wanted(Section::Warm) {
        // Many short rounds: the machine's own unrest then falls on every contestant alike.
        let rounds = if options.quick { 3 } else { 21 };
        let length = Duration::from_millis(if options.quick { 500 } else { 1_000 });
        let plan = warm::Plan {
            rounds: options.rounds.map_or(rounds, NonZeroU16::get),
            length: options.seconds.unwrap_or(length),
        };
        warm::measure(&scene, &plan, &mut report)?;
    }
    if wanted(Section::Memory) {
        memory::measure(&scene, &mut report)?;
    }
    if wanted(Section::Cold) {
        let plan = if options.quick { cold::Plan::QUICK } else { cold::Plan::FULL };
        cold::measure(&scene, &plan, &mut report)?;
    }

    report.print_bars();
    if let Some(file) = &options.markdown {
        fs::write(file, report.markdown())?;
        println!("written to {}", file.display());
    }
    Ok(())
}

/// Parses a round's length; a minute is the most, so that every load stays bounded.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.1..=60.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be from 0.1 to 60".to_owned())
    }
}
