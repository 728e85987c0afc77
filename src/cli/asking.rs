//! Options of the commands that ask a running agimo.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::http_url;

/// Which agimo is asked. Without any of them, the one of this machine.
#[derive(Clone, Debug, Args)]
pub struct AdminOptions {
    /// Admin port of a running agimo; by default http://127.0.0.1:9090
    #[arg(
        long,
        env = "AGIMO_ADMIN",
        value_name = "URL",
        value_parser = http_url
    )]
    pub admin: Option<String>,
    /// Namespace of an agimo in the cluster of the kubeconfig; the command opens a port-forward to it; takes precedence over
    /// --admin
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig, with --namespace; by default its current context
    #[arg(long, value_name = "NAME", requires = "namespace")]
    pub kube_context: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct CheckOptions {
    /// Also check the cluster: agimo and its permissions, and for each service its workload, Service, scalers, readiness probe and
    /// images
    #[arg(long)]
    pub cluster: bool,
    /// Namespace of agimo, with --cluster; by default it is searched for in all namespaces
    #[arg(short, long, value_name = "NAME", requires = "cluster")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig, with --cluster; by default its current context
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub kube_context: Option<String>,
    /// What to print of the cluster: text, or JSON
    #[arg(short, long, value_name = "FORMAT", default_value = "table", requires = "cluster")]
    pub output: OutputFormat,
}

#[derive(Clone, Debug, Args)]
pub struct StatusOptions {
    #[command(flatten)]
    pub admin: AdminOptions,
    /// What to print: a table, one with more columns, or the answer of the admin port
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
    /// Look again every two seconds
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Clone, Debug, Args)]
pub struct WhyOptions {
    /// Host of a service, with a path where several services share the host
    #[arg(value_name = "HOST[/PATH]")]
    pub host: String,
    #[command(flatten)]
    pub admin: AdminOptions,
    /// How many records to show, the newest first
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub number: u16,
    /// What to print: text, or the answer of the admin port
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Clone, Debug, Args)]
pub struct ExplainOptions {
    /// Host and path of a request
    #[arg(value_name = "HOST[/PATH]")]
    pub request: String,
    #[command(flatten)]
    pub admin: AdminOptions,
    /// What to print: text, or the answer of the admin port
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Clone, Debug, Args)]
pub struct SavingsOptions {
    /// Host of a service, with a path where several services share the host; all without it
    #[arg(value_name = "HOST[/PATH]")]
    pub host: Option<String>,
    #[command(flatten)]
    pub admin: AdminOptions,
    /// What to print: a table, or the answer of the admin port
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Clone, Debug, Args)]
pub struct TapOptions {
    /// Host of a service, with a path where several services share the host; all without it
    #[arg(value_name = "HOST[/PATH]")]
    pub host: Option<String>,
    #[command(flatten)]
    pub admin: AdminOptions,
    #[command(flatten)]
    pub token: TokenOptions,
    /// Only responses with this status, such as 404 or 5xx
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub status: Option<String>,
    /// Exit after this number of requests
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub number: Option<u64>,
    /// What to print: a line for each request, or its JSON
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Clone, Debug, Args)]
pub struct BugReportOptions {
    #[command(flatten)]
    pub admin: AdminOptions,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "agimo-bug-report.json")]
    pub output: PathBuf,
}

/// Which workload is changed, and with which right.
#[derive(Clone, Debug, Args)]
pub struct ChangeOptions {
    /// Host of a service, with a path where several services share the host
    #[arg(value_name = "HOST[/PATH]")]
    pub host: String,
    #[command(flatten)]
    pub admin: AdminOptions,
    #[command(flatten)]
    pub token: TokenOptions,
}

/// Who asks.
#[derive(Clone, Debug, Args)]
pub struct TokenOptions {
    /// File with a token that may change workloads: one of --admin-tokens, or one of the cluster (kubectl create token)
    #[arg(long, env = "AGIMO_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct WakeOptions {
    #[command(flatten)]
    pub change: ChangeOptions,
    /// Wait until the workload is in its new state, for this time at most
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        default_missing_value = "1m",
        require_equals = true,
        value_parser = humantime::parse_duration
    )]
    pub wait: Option<Duration>,
}

#[derive(Clone, Debug, Args)]
pub struct PinOptions {
    #[command(flatten)]
    pub change: ChangeOptions,
    /// How long the pin lasts; without this option, until it is removed
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub lifetime: Option<Duration>,
    /// Keep the workload asleep, and reject its requests, instead of keeping it awake
    #[arg(long)]
    pub asleep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    Table,
    Wide,
    Json,
}

/// A status code in which `x` stands for any digit.
fn status(text: &str) -> Result<String, String> {
    let text = text.to_lowercase();
    let is_valid = text.len() == 3 && text.chars().all(|c| c.is_ascii_digit() || c == 'x');
    if is_valid { Ok(text) } else { Err("write a status such as 404 or 5xx".to_owned()) }
}
