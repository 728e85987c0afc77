//! The command line, as people and manifests write it. It runs nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::telemetry::LogFormat;

/// Lets HTTP services sleep at zero replicas and wakes them on the first request.
///
/// Without a subcommand agimo serves.
#[derive(Debug, Parser)]
#[command(name = "agimo", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub serve: Serve,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What serving needs to know.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "AGIMO_CONF",
        value_name = "FILE",
        default_value = "./config.toml"
    )]
    pub conf: PathBuf,
    /// Where Prometheus is asked for ready replicas, such as http://prometheus:9090
    #[arg(long, env = "AGIMO_PROMETHEUS_ADDRESS", value_name = "URL", value_parser = http_url)]
    pub prometheus_address: Option<String>,
    /// What tells when a workload in Kubernetes is ready: its API, or Prometheus with kube-state-metrics
    ///
    /// By default the API where a cluster is found (KUBECONFIG, the pod's service account, ~/.kube/config),
    /// otherwise Prometheus.
    #[arg(long, env = "AGIMO_READINESS", value_enum, default_value_t = Readiness::Auto)]
    pub readiness: Readiness,
    /// The context of the kubeconfig; by default its current one
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
    /// The namespaces to watch, where agimo may not watch the whole cluster
    #[arg(long, env = "AGIMO_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The Service of agimo's own replicas: while it has several endpoints agimo puts nothing to sleep
    #[arg(long, env = "AGIMO_PEER_SERVICE", value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pub peer_service: Option<(String, String)>,
    /// The port of the proxy
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// The port of metrics, health and the effective configuration
    #[arg(long, default_value_t = 9090, value_name = "PORT")]
    pub prometheus_exporter_port: u16,
    /// The address of both ports
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Cores to serve on; by default those that this process may use, its cgroup's quota respected
    #[arg(long, value_name = "NUMBER", value_parser = threads)]
    pub threads: Option<usize>,
    /// Log form and level: text or json, and error, warn, info, debug or trace; json,debug for both
    ///
    /// By default text on a terminal, JSON otherwise, and info.
    #[arg(
        long,
        global = true,
        default_value = "info",
        hide_default_value = true,
        value_name = "FORM,LEVEL"
    )]
    pub log: Log,
    /// Log one line a request, with the times it was held, connecting and waiting
    #[arg(long)]
    pub access_log: bool,
    /// How long requests and tunnels may take to end after SIGTERM
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
}

/// What tells when a workload in Kubernetes is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Readiness {
    Kubernetes,
    Prometheus,
    Auto,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report every problem of the configuration; exits with 1 if there is one
    Check,
    /// Show it all on this machine: an application of agimo's own, asleep until you open it
    Demo(Demo),
    /// Print the JSON Schema of the configuration
    Schema {
        /// Print the description of every key instead, as docs/configuration.md has it
        #[arg(long)]
        markdown: bool,
    },
    /// Print the completions for a shell
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
pub struct Demo {
    /// The port to open in a browser; another one if it is taken
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// How long the application stays awake after its last connection
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    pub sleep_after: Duration,
}

/// The form and level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// By default text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    pub level: LevelFilter,
}

// === impl Log ===

impl FromStr for Log {
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
                        "`{word}` is neither a form (text, json) nor a level (error, warn, info, debug, trace)"
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
    let cure = "write an address like http://prometheus:9090";
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}; {cure}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err(cure.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_seeds_command_line_serves() {
        let words =
            ["agimo", "--prometheus-address", "http://prometheus", "--conf", "./config.toml"];
        let cli = Cli::try_parse_from(words).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.prometheus_address.as_deref(), Some("http://prometheus"));
        assert_eq!(cli.serve.conf, PathBuf::from("./config.toml"));
        assert_eq!((cli.serve.port, cli.serve.prometheus_exporter_port), (8080, 9090));
        assert_eq!(cli.serve.bind.to_string(), "0.0.0.0");
    }

    #[test]
    fn wrong_values_are_refused() {
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
    fn a_log_has_a_form_and_a_level() {
        let log: Log = "json,debug".parse().unwrap();
        assert_eq!(log, Log { format: Some(LogFormat::Json), level: LevelFilter::DEBUG });
        assert_eq!("warn".parse::<Log>().unwrap().format, None);
    }
}
