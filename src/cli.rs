//! The definition of the command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::telemetry::LogFormat;

use self::asking::{StatusOptions, WhyOptions};

pub mod asking;

/// A proxy that scales HTTP services to zero and wakes them on the first request.
///
/// Without a subcommand agimo runs the proxy.
#[derive(Debug, Parser)]
#[command(name = "agimo", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub serve: ServeOptions,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The options of the proxy.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "AGIMO_CONF",
        value_name = "FILE",
        default_value = "./config.toml"
    )]
    pub conf: PathBuf,
    /// Address of the Prometheus that knows the ready replicas, such as http://prometheus:9090
    #[arg(long, env = "AGIMO_PROMETHEUS_ADDRESS", value_name = "URL", value_parser = http_url)]
    pub prometheus_address: Option<String>,
    /// Source of the readiness of workloads in Kubernetes: its API, or Prometheus with kube-state-metrics
    ///
    /// `auto` uses the Kubernetes API if a cluster is configured (KUBECONFIG, the service account of the pod,
    /// ~/.kube/config), otherwise Prometheus.
    #[arg(
        long,
        visible_alias = "readiness",
        env = READINESS_SOURCE_VARIABLE,
        value_name = "SOURCE",
        value_enum,
        default_value_t = ReadinessSource::Auto
    )]
    pub readiness_source: ReadinessSource,
    /// Context of the kubeconfig; by default its current context
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
    /// Namespaces to watch, if agimo is not allowed to watch the whole cluster
    #[arg(long, env = "AGIMO_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Service of agimo's own replicas, with the port of their exchange; without --peer-tokens and with several of them, agimo
    /// does not scale workloads to zero
    #[arg(long, env = "AGIMO_PEER_SERVICE", value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub peer_service: Option<(String, String)>,
    /// File with a secret token, or folder of such files, by which the replicas of agimo trust each other
    #[arg(long, env = "AGIMO_PEER_TOKENS", value_name = "PATH", requires = "peer_service")]
    pub peer_tokens: Option<PathBuf>,
    /// Port of the exchange between the replicas of agimo
    #[arg(long, default_value_t = 9091, value_name = "PORT")]
    pub peer_port: u16,
    /// Lease by which the replicas of agimo choose the one that scales workloads to zero; without it each of them does
    #[arg(long, env = "AGIMO_LEASE", value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub lease: Option<(String, String)>,
    /// Port for KEDA (external-push); without it agimo answers KEDA through Prometheus only
    #[arg(long, env = "AGIMO_KEDA_PORT", value_name = "PORT")]
    pub keda_port: Option<u16>,
    /// Folder with tls.crt and tls.key for the port for KEDA; without it the port is not encrypted
    #[arg(long, env = "AGIMO_KEDA_TLS", value_name = "FOLDER", requires = "keda_port")]
    pub keda_tls: Option<PathBuf>,
    /// Port for HorizontalPodAutoscalers (external.metrics.k8s.io), which read the metrics of agimo without Prometheus
    #[arg(
        long,
        env = "AGIMO_EXTERNAL_METRICS_PORT",
        value_name = "PORT",
        requires = "external_metrics_service",
        requires = "external_metrics_certificate"
    )]
    pub external_metrics_port: Option<u16>,
    /// Service that leads to the port for external metrics: the APIService names it
    #[arg(long, env = "AGIMO_EXTERNAL_METRICS_SERVICE", value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub external_metrics_service: Option<(String, String)>,
    /// Secret in which agimo keeps the certificate that it makes for the port for external metrics
    #[arg(
        long,
        env = "AGIMO_EXTERNAL_METRICS_SECRET",
        value_name = "NAMESPACE/NAME",
        value_parser = namespaced,
        group = "external_metrics_certificate"
    )]
    pub external_metrics_secret: Option<(String, String)>,
    /// Folder with tls.crt and tls.key for the port for external metrics, which somebody else renews
    #[arg(
        long,
        env = "AGIMO_EXTERNAL_METRICS_TLS",
        value_name = "FOLDER",
        group = "external_metrics_certificate"
    )]
    pub external_metrics_tls: Option<PathBuf>,
    /// ConfigMap that stores the replicas that sleeping workloads had; without it a restart of agimo forgets them
    #[arg(long, env = "AGIMO_REPLICA_STORE", value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub replica_store: Option<(String, String)>,
    /// Port of the proxy for clients over TLS, with the certificates of [[tls]]; without it they are not served
    #[arg(long, env = "AGIMO_TLS_PORT", value_name = "PORT")]
    pub tls_port: Option<u16>,
    /// Port of the proxy
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Admin port: metrics, health, the state of the services and the configuration in use
    #[arg(
        long,
        visible_alias = "prometheus-exporter-port",
        default_value_t = 9090,
        value_name = "PORT"
    )]
    pub admin_port: u16,
    /// Address of the proxy
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Address of the admin port; by default that of the proxy
    #[arg(long, value_name = "ADDRESS")]
    pub admin_bind: Option<IpAddr>,
    /// Number of proxy threads; by default the number of cores that CPU affinity and cgroup quota allow
    #[arg(long, value_name = "NUMBER", value_parser = threads)]
    pub threads: Option<usize>,
    /// Log format and level: text or json, and error, warn, info, debug or trace; json,debug sets both
    ///
    /// By default the format is text on a terminal and JSON otherwise, and the level is info.
    #[arg(
        long,
        global = true,
        default_value = "info",
        hide_default_value = true,
        value_name = "FORMAT,LEVEL"
    )]
    pub log: LogOptions,
    /// Log one line per request, with the times it was held, connecting and waiting for the response
    #[arg(long)]
    pub access_log: bool,
    /// Maximum time for requests and tunnels to finish after SIGTERM
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
}

/// Source of the readiness of workloads in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadinessSource {
    Kubernetes,
    Prometheus,
    Auto,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration and report every problem; exits with status 1 if there is one
    Check {
        /// Also ask the cluster who serves the API for external metrics
        #[arg(long)]
        cluster: bool,
    },
    /// Run agimo with a sample application on this machine: it starts when you open it in a browser
    Demo(DemoOptions),
    /// Replay a trace of requests through the scaler, and print what it would have done
    Simulate(SimulateOptions),
    /// Show every service of a running agimo: its state, its requests, and what woke it last
    Status(StatusOptions),
    /// Show what woke the workload of a host and put it to sleep, with the time of each phase
    Why(WhyOptions),
    /// Print the JSON Schema of the configuration
    Schema {
        /// Print the manual of the configuration keys instead (docs/configuration.md)
        #[arg(long)]
        markdown: bool,
    },
    /// Print the completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the version
    Version,
    #[command(hide = true)]
    DemoApplication {
        #[arg(long, env = "PORT")]
        port: u16,
        #[arg(long, value_parser = humantime::parse_duration)]
        sleep_after: Duration,
    },
}

#[derive(Clone, Debug, Args)]
pub struct SimulateOptions {
    /// CSV with the columns seconds,requests, or the answer of Prometheus to a range query of a rate
    #[arg(long, value_name = "FILE")]
    pub trace: PathBuf,
    /// Host of the service in the configuration (--conf) whose keys apply; needed where it has several services
    #[arg(long)]
    pub host: Option<String>,
    /// Time from the decision to start a replica until it is ready
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub cold_start: Duration,
    /// How long a request takes
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    #[arg(long, default_value = "text")]
    pub format: SimulationFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SimulationFormat {
    Text,
    Json,
    Svg,
}

#[derive(Clone, Debug, Args)]
pub struct DemoOptions {
    /// Port to open in a browser; if it is in use, a free port is chosen
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Idle time after which the application is stopped
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    pub sleep_after: Duration,
}

/// The format and level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// By default text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    pub level: LevelFilter,
}

const READINESS_SOURCE_VARIABLE: &str = "AGIMO_READINESS_SOURCE";
/// The name of this variable in earlier versions, which is still accepted.
const OLD_READINESS_SOURCE_VARIABLE: &str = "AGIMO_READINESS";

// === impl Cli ===

impl Cli {
    /// Parses the command line and the environment of this process.
    ///
    /// # Errors
    /// Invalid options; also `--help` and `--version`, whose text is the error.
    pub fn from_process() -> Result<Self, clap::Error> {
        let command = Self::with_old_variables(|name| std::env::var_os(name).is_some());
        Self::from_arg_matches(&command.try_get_matches()?)
    }

    /// An option of clap reads one variable, so the old one is read only where the new one is not set.
    fn with_old_variables(is_set: impl Fn(&str) -> bool) -> clap::Command {
        let command = Self::command();
        if is_set(READINESS_SOURCE_VARIABLE) || !is_set(OLD_READINESS_SOURCE_VARIABLE) {
            return command;
        }
        command.mut_arg("readiness_source", |option| option.env(OLD_READINESS_SOURCE_VARIABLE))
    }
}

// === impl LogOptions ===

impl FromStr for LogOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut log = Self { format: None, level: LevelFilter::INFO };
        for word in text.split(',').map(str::trim) {
            match word {
                "text" => log.format = Some(LogFormat::Text),
                "json" => log.format = Some(LogFormat::Json),
                "error" => log.level = LevelFilter::ERROR,
                "warn" => log.level = LevelFilter::WARN,
                "info" => log.level = LevelFilter::INFO,
                "debug" => log.level = LevelFilter::DEBUG,
                "trace" => log.level = LevelFilter::TRACE,
                _ => {
                    return Err(format!(
                        "`{word}` is neither a format (text, json) nor a level (error, warn, info, debug, trace)"
                    ));
                }
            }
        }
        Ok(log)
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("write a number from 1 to 1024".to_owned()),
    }
}

fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write namespace/name, such as default/agimo".to_owned()),
    }
}

/// An absolute http or https URL.
fn http_url(text: &str) -> Result<String, String> {
    let fix = "write an address like http://prometheus:9090";
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}; {fix}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(fix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_first_documented_command_line_runs_the_proxy() {
        let words =
            ["agimo", "--prometheus-address", "http://prometheus", "--conf", "./config.toml"];
        let cli = Cli::try_parse_from(words).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.prometheus_address.as_deref(), Some("http://prometheus"));
        assert_eq!(cli.serve.conf, PathBuf::from("./config.toml"));
        assert_eq!((cli.serve.port, cli.serve.admin_port), (8080, 9090));
        assert_eq!(cli.serve.bind.to_string(), "0.0.0.0");
    }

    #[test]
    fn flags_have_the_same_meaning_under_their_old_names() {
        let parse = |words: [&str; 3]| Cli::try_parse_from(words).unwrap().serve;
        for flag in ["--admin-port", "--prometheus-exporter-port"] {
            assert_eq!(parse(["agimo", flag, "1234"]).admin_port, 1234, "{flag}");
        }
        for flag in ["--readiness-source", "--readiness"] {
            let source = parse(["agimo", flag, "prometheus"]).readiness_source;
            assert_eq!(source, ReadinessSource::Prometheus, "{flag}");
        }
    }

    #[test]
    fn the_old_variable_is_read_only_if_the_new_one_is_not_set() {
        for (set, read) in [
            (&[][..], READINESS_SOURCE_VARIABLE),
            (&[READINESS_SOURCE_VARIABLE], READINESS_SOURCE_VARIABLE),
            (&[OLD_READINESS_SOURCE_VARIABLE], OLD_READINESS_SOURCE_VARIABLE),
            (
                &[OLD_READINESS_SOURCE_VARIABLE, READINESS_SOURCE_VARIABLE],
                READINESS_SOURCE_VARIABLE,
            ),
        ] {
            let command = Cli::with_old_variables(|name| set.contains(&name));
            let option =
                command.get_arguments().find(|option| option.get_id() == "readiness_source");
            assert_eq!(option.unwrap().get_env(), Some(read.as_ref()), "{set:?}");
        }
    }

    #[test]
    fn invalid_values_are_rejected() {
        for words in [
            ["agimo", "--prometheus-address", "prometheus"],
            ["agimo", "--prometheus-address", "ftp://prometheus"],
            ["agimo", "--threads", "0"],
            ["agimo", "--log", "loud"],
        ] {
            assert!(Cli::try_parse_from(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_log_has_a_format_and_a_level() {
        let log: LogOptions = "json,debug".parse().unwrap();
        assert_eq!(log, LogOptions { format: Some(LogFormat::Json), level: LevelFilter::DEBUG });
        assert_eq!("warn".parse::<LogOptions>().unwrap().format, None);
    }
}
