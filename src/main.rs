//! The agimo program: parses the command line and calls the library.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use agimo::activation::events::EventBus;
use agimo::app::changes::ChangeSettings;
use agimo::app::cluster::ClusterSettings;
use agimo::app::ports::{ControlPorts, ExternalMetricsSettings, KedaSettings, PeerSettings};
use agimo::app::records::OtlpSettings;
use agimo::app::{self, AppSettings, Listeners, cluster_check};
use agimo::certificates;
use agimo::cli::asking::{CheckOptions, OutputFormat};
use agimo::cli::serving::{DEFAULT_CONF, ServeOptions};
use agimo::cli::{Cli, Command, SimulateOptions, SimulationFormat, manual};
use agimo::commands;
use agimo::config::report::Problem;
use agimo::config::{Config, ServiceConfig, WorkloadConfig, keys, schema};
use agimo::config_file::{self, LoadError, WatchedFile};
use agimo::process::advice::advice;
use agimo::process::{exec, keeper};
use agimo::simulation::{self, Model, trace::Trace};
use agimo::{demo, telemetry, version};
use anyhow::Context;
use clap_complete::CompleteEnv;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Before the command line is parsed: the environment of a child process does not configure agimo.
    if let Some((first, rest)) = arguments.split_first() {
        if first == exec::SUBCOMMAND {
            eprintln!("agimo: {}", exec::exec_program(rest));
            return ExitCode::from(exec::NOT_STARTED);
        }
        if first == keeper::SUBCOMMAND {
            return match keeper::run(rest) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("agimo: cannot keep the process: {error}");
                    ExitCode::FAILURE
                }
            };
        }
    }
    // Where the script of a shell asks for completions, it prints them and exits.
    CompleteEnv::with_factory(commands::completion::command).complete();
    let cli = Cli::from_process().unwrap_or_else(|error| error.exit());
    let outcome = match cli.command {
        None => serve(cli.serve),
        Some(Command::Check(options)) => check(&cli.serve, &options),
        Some(Command::Demo(options)) => demo::run(&options),
        Some(Command::Simulate(options)) => simulate(&cli.serve.conf, &options),
        Some(Command::Status(options)) => commands::status::status(&options),
        Some(Command::Why(options)) => commands::why::why(&options),
        Some(Command::Explain(options)) => commands::explain::explain(&options),
        Some(Command::Tap(options)) => commands::tap::tap(&options),
        Some(Command::BugReport(options)) => commands::bug_report::bug_report(&options),
        Some(Command::Savings(options)) => commands::savings::savings(&options),
        Some(Command::Wake(options)) => commands::change::wake(&options),
        Some(Command::Sleep(options)) => commands::change::sleep(&options),
        Some(Command::Pin(options)) => commands::change::pin(&options),
        Some(Command::Unpin(options)) => commands::change::unpin(&options),
        Some(Command::Schema { commands: true, .. }) => print(manual::markdown()),
        Some(Command::Schema { markdown, .. }) => print(if markdown {
            keys::markdown()
        } else {
            format!("{:#}\n", schema::json_schema())
        }),
        Some(Command::Completions { shell }) => commands::completion::script(shell).and_then(print),
        Some(Command::Version) => print(format!("agimo {}\n", version::TEXT)),
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

fn serve(options: ServeOptions) -> anyhow::Result<()> {
    let serves_tls = options.tls_port.is_some();
    let file = WatchedFile::new(options.conf.clone(), serves_tls);
    let config = load(&options.conf, |config| certificates::check_with_port(config, serves_tls))?;
    telemetry::start_log(options.log.format, options.log.level);
    let cores = options.threads.unwrap_or_else(app::usable_cores);
    let proxy = SocketAddr::new(options.bind, options.port);
    let admin = SocketAddr::new(options.admin_bind.unwrap_or(options.bind), options.admin_port);
    let tls = options.tls_port.map(|port| SocketAddr::new(options.bind, port));
    let listeners = Listeners::bind(proxy, tls, admin, cores)?;
    let peers = match &options.peer_tokens {
        Some(tokens) => {
            Some(PeerSettings::bind(tokens, SocketAddr::new(options.bind, options.peer_port))?)
        }
        None => None,
    };
    let keda = match options.keda_port {
        Some(port) => {
            let address = SocketAddr::new(options.bind, port);
            Some(KedaSettings::bind(address, options.keda_tls.as_deref())?)
        }
        None => None,
    };
    let external_metrics = match (options.external_metrics_port, options.external_metrics_service) {
        (Some(port), Some(service)) => {
            let address = SocketAddr::new(options.bind, port);
            let tls = options.external_metrics_tls.as_deref();
            let secret = options.external_metrics_secret;
            Some(ExternalMetricsSettings::bind(address, service, tls, secret)?)
        }
        _ => None,
    };
    let changes = ChangeSettings::new(options.admin_tokens.as_deref(), options.admin_token_review)?;
    let settings = AppSettings {
        config,
        file: Some(file),
        access_log: options.access_log,
        drain_timeout: options.drain_timeout,
        cluster: Some(ClusterSettings {
            readiness: options.readiness_source,
            prometheus_address: options.prometheus_address,
            kube_context: options.kube_context,
            watch_namespaces: options.watch_namespaces,
            peer_service: options.peer_service,
            lease: options.lease,
            replica_store: options.replica_store,
        }),
        control_ports: ControlPorts { peers, keda, external_metrics },
        changes,
        otlp: options.otlp_endpoint.map(|endpoint| OtlpSettings {
            protocol: options.otlp_protocol,
            endpoint,
            headers: std::env::var("AGIMO_OTLP_HEADERS").unwrap_or_default(),
            sample_ratio: options.otlp_sample_ratio,
        }),
        events: EventBus::default(),
    };
    app::run(settings, listeners)
}

fn check(options: &ServeOptions, check: &CheckOptions) -> anyhow::Result<()> {
    let file = &options.conf;
    // Where only annotated workloads are services, there is no file.
    if check.cluster && !file.exists() && file == Path::new(DEFAULT_CONF) {
        return cluster_check::run(check, options.kube_context.as_deref(), None);
    }
    let config = load(file, certificates::check)?;
    let search_path = std::env::var("PATH").unwrap_or_default();
    for service in &config.services {
        if let WorkloadConfig::Process(process) = &service.workload {
            for line in advice(process, &search_path) {
                eprintln!("{}: warning: service {}: {line}", file.display(), service.name());
            }
        }
    }
    let summary = format!("{}: {} services, no problems\n", file.display(), config.services.len());
    if !check.cluster {
        return print(summary);
    }
    if check.output != OutputFormat::Json {
        print(summary)?;
    }
    cluster_check::run(check, options.kube_context.as_deref(), Some(&config))
}

fn simulate(file: &Path, options: &SimulateOptions) -> anyhow::Result<()> {
    let config = load(file, |_| Vec::new())?;
    let is_meant = |service: &&ServiceConfig| {
        options.host.as_ref().is_none_or(|host| service.host == host.to_lowercase())
    };
    let mut services = config.services.iter().filter(is_meant);
    let (Some(service), None) = (services.next(), services.next()) else {
        let hosts: Vec<_> = config.services.iter().map(|service| service.host.as_str()).collect();
        anyhow::bail!("--host must name one service of {}: {}", file.display(), hosts.join(", "));
    };
    let autoscaling = match &service.workload {
        WorkloadConfig::Kubernetes(workload) => Some(workload.autoscaling),
        WorkloadConfig::Process(_) => None,
    };
    let model = Model {
        sleep_after: service.sleep_after,
        autoscaling: autoscaling.filter(|config| config.has_target()),
        cold_start: options.cold_start,
    };
    let text = std::fs::read_to_string(&options.trace)
        .with_context(|| format!("cannot read {}", options.trace.display()))?;
    let trace = Trace::read(&text, options.duration)
        .with_context(|| options.trace.display().to_string())?;
    let run = simulation::run(&trace, &model);
    print(match options.format {
        SimulationFormat::Text => simulation::report::text(&run),
        SimulationFormat::Json => format!("{:#}\n", simulation::report::json(&run)),
        SimulationFormat::Svg => simulation::svg::svg(&run),
    })
}

/// Loads the configuration, and prints its problems with their lines of the file.
fn load(file: &Path, check: impl FnOnce(&Config) -> Vec<Problem>) -> anyhow::Result<Config> {
    config_file::load(file, std::io::stderr().is_terminal(), check).map_err(|error| match error {
        LoadError::Invalid { count, lines, report } => {
            eprintln!("{report}");
            let problems = if count == 1 { "problem" } else { "problems" };
            let rest = if lines.len() < count {
                format!(", only the first {} are shown", lines.len())
            } else {
                String::new()
            };
            anyhow::anyhow!("{count} {problems} in {}{rest}", file.display())
        }
        unreadable @ LoadError::Unreadable { .. } => unreadable.into(),
    })
}

/// Unlike `print!`, returns an error instead of panicking when standard output is a closed pipe.
fn print(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_ref())?)
}
