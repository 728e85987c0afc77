//! Options of the commands that ask a running agimo.

use clap::Args;

use super::http_url;

/// Which agimo is asked.
#[derive(Clone, Debug, Args)]
pub struct AdminOptions {
    /// Admin port of a running agimo
    #[arg(
        long,
        env = "AGIMO_ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090",
        value_parser = http_url
    )]
    pub admin: String,
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
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub number: u16,
    /// What to print: text, or the answer of the admin port
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    Table,
    Wide,
    Json,
}
