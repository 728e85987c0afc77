//! Options of the proxy.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tracing::level_filters::LevelFilter;

use super::http_url;
use crate::telemetry::LogFormat;

/// The configuration file, unless another is named.
pub const DEFAULT_CONF: &str = "./config.toml";

/// The options of the proxy.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// The configuration file
    #[arg(
        long,
        global = true,
        env = "AGIMO_CONF",
        value_name = "FILE",
        default_value = DEFAULT_CONF
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
    /// Service that selects the replicas of agimo itself and has the port of their exchange; if there are several replicas and
    /// --peer-tokens is not set, agimo does not scale workloads to zero
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
    /// Folder with tls.crt and tls.key for the port for external metrics, if another tool such as cert-manager renews them
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
    /// File with a secret token, or folder of such files: whoever sends one may wake workloads, put them to sleep and pin them
    /// through the admin port
    #[arg(long, env = "AGIMO_ADMIN_TOKENS", value_name = "PATH")]
    pub admin_tokens: Option<PathBuf>,
    /// Let users of the cluster wake, pin and put to sleep the workloads that they may scale, with their own tokens (TokenReview)
    #[arg(long, env = "AGIMO_ADMIN_TOKEN_REVIEW")]
    pub admin_token_review: bool,
    /// Collector of OpenTelemetry that receives the trace of each cold start, such as http://collector:4318; the variable
    /// AGIMO_OTLP_HEADERS may contain headers for it, such as authorization=Bearer%20…
    #[arg(long, env = "AGIMO_OTLP_ENDPOINT", value_name = "URL", value_parser = http_url)]
    pub otlp_endpoint: Option<String>,
    /// Protocol of the collector: OTLP over HTTP (usually port 4318) or over gRPC (usually port 4317)
    #[arg(
        long,
        env = "AGIMO_OTLP_PROTOCOL",
        value_name = "PROTOCOL",
        value_enum,
        default_value_t = OtlpProtocol::Http,
        requires = "otlp_endpoint"
    )]
    pub otlp_protocol: OtlpProtocol,
    /// Share of all requests that also have a span, from 0 to 1; with a share above 0, a request with a `traceparent` has one if its
    /// caller records it
    #[arg(
        long,
        env = "AGIMO_OTLP_SAMPLE_RATIO",
        value_name = "RATIO",
        value_parser = ratio,
        default_value_t = 0.0,
        requires = "otlp_endpoint"
    )]
    pub otlp_sample_ratio: f64,
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

/// How spans reach a collector (OpenTelemetry, `OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OtlpProtocol {
    /// Protocol Buffers over HTTP/1.1.
    #[value(name = "http/protobuf", alias = "http")]
    Http,
    Grpc,
}

/// The format and level of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// By default text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
    pub level: LevelFilter,
}

pub(super) const READINESS_SOURCE_VARIABLE: &str = "AGIMO_READINESS_SOURCE";

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

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("write a number from 0 to 1, such as 0.01".to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_format_and_a_level() {
        let log: LogOptions = "json,debug".parse().unwrap();
        assert_eq!(log, LogOptions { format: Some(LogFormat::Json), level: LevelFilter::DEBUG });
        assert_eq!("warn".parse::<LogOptions>().unwrap().format, None);
    }
}
