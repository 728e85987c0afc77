//! The definition of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::asking::{
    BugReportOptions, ChangeOptions, CheckOptions, ExplainOptions, PinOptions, SavingsOptions,
    StatusOptions, TapOptions, WakeOptions, WhyOptions,
};
use self::serving::{READINESS_SOURCE_VARIABLE, ServeOptions};

pub mod asking;
pub mod manual;
pub mod serving;

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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the configuration, and with --cluster the cluster, and report every problem; exits with status 1 if there is one
    Check(CheckOptions),
    /// Run agimo with a sample application on this machine: it starts when you open it in a browser
    Demo(DemoOptions),
    /// Replay a trace of requests through the scaler, and print what it would have done
    Simulate(SimulateOptions),
    /// Show every service of a running agimo: its state, its requests, and what woke it last
    Status(StatusOptions),
    /// Show what woke the workload of a host and put it to sleep, with the time of each phase
    Why(WhyOptions),
    /// Show which service a request would reach, why its workload is awake or asleep, and what would happen to the request
    Explain(ExplainOptions),
    /// Show the pod resource requests that scaling to zero has saved: replica-hours, CPU and memory
    Savings(SavingsOptions),
    /// Wake the workload of a service
    Wake(WakeOptions),
    /// Put the workload of a service to sleep without waiting for its idle time; open requests are not cut
    Sleep(WakeOptions),
    /// Keep the workload of a service awake, whatever its demand
    Pin(PinOptions),
    /// Remove the pin of a workload
    Unpin(ChangeOptions),
    /// Show requests as they end, at one replica of agimo
    Tap(TapOptions),
    /// Write what a maintainer needs to know of a running agimo into one file
    #[command(name = "bugreport")]
    BugReport(BugReportOptions),
    /// Print the JSON Schema of the configuration
    Schema {
        /// Print the manual of the configuration keys instead (docs/configuration.md)
        #[arg(long)]
        markdown: bool,
        /// Print the manual of the commands instead (docs/commands.md)
        #[arg(long, conflicts_with = "markdown")]
        commands: bool,
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

    /// Parses the arguments of an agimo that runs elsewhere, with the variables of its environment: those of this process do not
    /// count.
    ///
    /// # Errors
    /// Arguments that this version does not know.
    pub fn try_parse_elsewhere<'a>(
        words: impl IntoIterator<Item = &'a str>,
        variables: &[(String, String)],
    ) -> Result<Self, clap::Error> {
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let command = Self::command();
        for option in command.get_arguments() {
            let Some((name, long)) = option.get_env().zip(option.get_long()) else { continue };
            let Some((_, value)) = variables.iter().find(|(variable, _)| name == variable.as_str())
            else {
                continue;
            };
            let flag = format!("--{long}");
            let is_set = |word: &String| *word == flag || word.starts_with(&format!("{flag}="));
            if words.iter().any(is_set) {
                continue;
            }
            match option.get_action().takes_values() {
                true => words.push(format!("{flag}={value}")),
                // As clap reads a variable of a flag.
                false
                    if !matches!(value.as_str(), "" | "0" | "f" | "false" | "n" | "no" | "off") =>
                {
                    words.push(flag);
                }
                false => {}
            }
        }
        let command = command.mut_args(|option| option.env(None));
        Self::from_arg_matches(&command.try_get_matches_from(words)?)
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
    use super::serving::ReadinessSource;
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
    fn the_environment_of_an_agimo_elsewhere_counts_where_it_has_no_argument() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = [
            variable("AGIMO_WATCH_NAMESPACES", "shop,blog"),
            variable("AGIMO_LEASE", "other/lease"),
            variable("AGIMO_ADMIN_TOKEN_REVIEW", "true"),
            variable("PATH", "/bin"),
        ];
        let words = ["agimo", "--lease=agimo/agimo"];
        let serve = Cli::try_parse_elsewhere(words, &variables).unwrap().serve;
        assert_eq!(serve.watch_namespaces, ["shop", "blog"]);
        assert_eq!(serve.lease, Some(("agimo".to_owned(), "agimo".to_owned())));
        assert!(serve.admin_token_review);
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
}
