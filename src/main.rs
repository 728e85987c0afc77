//! The agimo program: parses the command line and calls the library. It holds no logic.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use agimo::activation::events::EventBus;
use agimo::app::cluster::ClusterSettings;
use agimo::app::{self, AppSettings, Listeners};
use agimo::cli::{Cli, Command, Serve};
use agimo::config::{Config, keys, schema};
use agimo::process::exec;
use agimo::reload::{self, LoadError};
use agimo::{demo, telemetry};
use clap::{CommandFactory, Parser};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some((first, program)) = arguments.split_first()
        && first == exec::SUBCOMMAND
    {
        // Before the command line is read: a child's environment is not for agimo.
        eprintln!("agimo: {}", exec::become_program(program));
        return ExitCode::from(exec::NOT_STARTED);
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => serve(cli.serve),
        Some(Command::Check) => check(&cli.serve.conf),
        Some(Command::Demo(options)) => demo::run(&options),
        Some(Command::Schema { markdown }) => print(if markdown {
            keys::markdown()
        } else {
            format!("{:#}\n", schema::json_schema())
        }),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "agimo", &mut script);
            print(script)
        }
        Some(Command::Version) => print(format!("agimo {}\n", env!("CARGO_PKG_VERSION"))),
        Some(Command::DemoApplication { port, sleep_after }) => {
            demo::run_application(port, sleep_after)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agimo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Serve) -> anyhow::Result<()> {
    let watched = reload::Watched::new(options.conf.clone());
    let config = load(&options.conf)?;
    telemetry::start_log(options.log.format, options.log.level);
    let cores = options.threads.unwrap_or_else(app::usable_cores);
    let listeners =
        Listeners::bind(options.bind, options.port, options.prometheus_exporter_port, cores)?;
    let settings = AppSettings {
        config,
        file: Some(watched),
        access_log: options.access_log,
        drain_timeout: options.drain_timeout,
        cluster: Some(ClusterSettings {
            readiness: options.readiness,
            prometheus_address: options.prometheus_address,
            kube_context: options.kube_context,
            watch_namespaces: options.watch_namespaces,
            peer_service: options.peer_service,
        }),
        events: EventBus::default(),
    };
    app::run(settings, listeners)
}

fn check(file: &Path) -> anyhow::Result<()> {
    let config = load(file)?;
    print(format!("{}: {} services, no problems\n", file.display(), config.services.len()))
}

/// Loads the configuration; its problems are shown with the lines they are in.
fn load(file: &Path) -> anyhow::Result<Config> {
    reload::load(file, std::io::stderr().is_terminal()).map_err(|error| match error {
        LoadError::Invalid { found, lines, report } => {
            eprintln!("{report}");
            let problems = if found == 1 { "problem" } else { "problems" };
            let shown = if lines.len() < found { ", the first of them above" } else { "" };
            anyhow::anyhow!("{found} {problems} in {}{shown}", file.display())
        }
        unreadable @ LoadError::Unreadable { .. } => unreadable.into(),
    })
}

/// Standard output may be a pipe that has been closed, which is no panic.
fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_ref())?)
}
