//! The log, and the Prometheus text format of the metrics page.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub mod counters;
pub mod durations;
pub mod panics;
pub mod printable;
pub mod process;

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A page of metrics in the Prometheus text exposition format, version 0.0.4.
///
/// Metric families are written one after the other, each with all of its samples. prometheus-client writes OpenMetrics
/// only, which readers of this format do not accept, and nothing uses exemplars yet.
#[derive(Debug, Default)]
pub struct Exposition {
    page: String,
    family: String,
}

/// The type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// A set of labels, already escaped: `host="a",code="2xx"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(String);

/// The media type of a metrics page.
pub const EXPOSITION_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Starts the log on standard error. Without a `format` it is text on a terminal and JSON otherwise.
pub fn start_log(format: Option<LogFormat>, level: LevelFilter) {
    panics::observe();
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
    match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => builder.with_ansi(terminal).finish().with(filter(level)).init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter(level)).init(),
    }
}

/// agimo logs at `level`, its libraries only warnings and errors, unless the level is `trace`. Warnings of the
/// Kubernetes client are left out: it repeats at each retry what agimo logs once.
fn filter(level: LevelFilter) -> Targets {
    let (libraries, client) = match level {
        LevelFilter::TRACE => (level, level),
        level => (level.min(LevelFilter::WARN), level.min(LevelFilter::ERROR)),
    };
    let clients = ["kube_client", "kube_runtime"].map(|target| (target, client));
    // agimo itself, the access log, and the output of processes.
    let own = ["agimo", "access", "output"].map(|target| (target, level));
    Targets::new().with_default(libraries).with_targets(clients).with_targets(own)
}

// === impl Exposition ===

impl Exposition {
    /// Starts a metric family; the samples that follow belong to it.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.family = name.to_owned();
        let _ = writeln!(self.page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub fn sample(&mut self, labels: &Labels, value: impl std::fmt::Display) {
        self.line("", &labels.0, value);
    }

    /// The samples of a histogram. `counts` has one more entry than `bounds`, for values above the last bound. An empty
    /// histogram is left out: with thousands of services, empty histograms would be most of the page.
    pub fn histogram(&mut self, labels: &Labels, bounds: &[f64], counts: &[u64], sum: f64) {
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        let mut total = 0;
        for (index, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.line("_bucket", &labels.clone().with("le", &bound).0, total);
        }
        self.line("_sum", &labels.0, sum);
        self.line("_count", &labels.0, total);
    }

    pub fn into_page(self) -> String {
        self.page
    }

    fn line(&mut self, suffix: &str, labels: &str, value: impl std::fmt::Display) {
        let family = &self.family;
        let _ = if labels.is_empty() {
            writeln!(self.page, "{family}{suffix} {value}")
        } else {
            writeln!(self.page, "{family}{suffix}{{{labels}}} {value}")
        };
    }
}

// === impl Labels ===

impl Labels {
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        self.0.push('"');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_log_only_warnings_and_errors() {
        use tracing::Level;
        let info = filter(LevelFilter::INFO);
        assert!(info.would_enable("agimo::activation", &Level::INFO));
        assert!(info.would_enable("access", &Level::INFO));
        assert!(info.would_enable("output", &Level::INFO));
        assert!(!info.would_enable("agimo::activation", &Level::DEBUG));
        assert!(!info.would_enable("hyper_util::client", &Level::INFO));
        assert!(info.would_enable("hyper_util::client", &Level::WARN));
        assert!(!info.would_enable("kube_runtime::watcher", &Level::WARN));
        assert!(!filter(LevelFilter::DEBUG).would_enable("rustls::client", &Level::DEBUG));
        assert!(filter(LevelFilter::TRACE).would_enable("kube_client", &Level::TRACE));
        assert!(!filter(LevelFilter::ERROR).would_enable("hyper_util", &Level::WARN));
    }

    #[test]
    fn a_page_is_in_the_prometheus_text_format() {
        let mut page = Exposition::default();
        let labels = Labels::default().with("host", "a\"b\\c\nd");
        page.family("x_total", MetricKind::Counter, "Things.");
        page.sample(&labels, 3);
        page.family("y_seconds", MetricKind::Histogram, "Time.");
        page.histogram(&Labels::default(), &[0.1, 1.0], &[1, 2, 3], 4.5);
        let expected = "# HELP x_total Things.\n# TYPE x_total counter\nx_total{host=\"a\\\"b\\\\c\\nd\"} 3\n\
            # HELP y_seconds Time.\n# TYPE y_seconds histogram\ny_seconds_bucket{le=\"0.1\"} 1\n\
            y_seconds_bucket{le=\"1\"} 3\ny_seconds_bucket{le=\"+Inf\"} 6\ny_seconds_sum 4.5\ny_seconds_count 6\n";
        assert_eq!(page.into_page(), expected);
    }
}
