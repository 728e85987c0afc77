//! Parses the text of a configuration file into a checked configuration, or into all of its problems at once.

use std::sync::Arc;

use toml::de::{DeArray, DeTable, DeValue};

use super::annotations::AnnotationsConfig;
use super::keys;
use super::keys::TableScope;
use super::report::Problem;
use super::scaling::Scaler;
use super::{ClientLimits, Config, ServiceConfig};
use conflicts::EarlierServices;
use section::{Layers, Section};

pub mod annotations;
mod conflicts;
mod names;
mod section;
mod service;
mod syntax;
#[cfg(test)]
mod tests;
mod tls;
mod value;

/// The keys that apply to an annotated workload besides its annotations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceDefaults {
    /// Of the top of the file.
    top: Section,
    defaults: Section,
}

/// Parses a configuration.
///
/// # Errors
/// Every problem, in the order of the file; at least one.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut problems = Vec::new();
    let config = config(text, document.get_ref(), &mut problems);
    if !errors.is_empty() {
        problems = syntax::with_errors(text, &errors, problems);
    }
    problems.sort_by_key(|problem| problem.span.start);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ if problems.is_empty() => Err(vec![incomplete_configuration()]),
        _ => Err(problems),
    }
}

fn config(text: &str, document: &DeTable<'_>, problems: &mut Vec<Problem>) -> Option<Config> {
    let defaults = Section::defaults();
    let top = Section::read(text, document, 0..0, TableScope::Top, problems);
    let layers = Layers { own: &top, outer: None, defaults: &defaults };
    let client = client_limits(&layers, problems);
    let tls = tls::client_tls(text, document, &layers, problems);
    let annotations = annotations(&layers, &top, &defaults)?;
    let is_optional = annotations.is_some();
    let services = services(text, document, &top, &defaults, is_optional, problems);
    Some(Config {
        annotations,
        max_held_total: layers.number("max_held_total")?,
        trusted_proxies: layers.networks("trusted_proxies")?,
        max_idle_upstream: layers.number("max_idle_upstream")?,
        client: client?,
        tls: tls?,
        proxy_protocol: layers.networks("proxy_protocol")?,
        record_requests: layers.boolean("record_requests")?,
        services: services?,
    })
}

/// What the file says about annotated workloads; the inner `None` where it does not turn them on.
fn annotations(
    layers: &Layers<'_>,
    top: &Section,
    defaults: &Section,
) -> Option<Option<AnnotationsConfig>> {
    if !layers.boolean("annotations")? {
        return Some(None);
    }
    let scaler = keys::find("scaler", TableScope::Top)?;
    let auto = format!("\"{}\"", Scaler::Auto.as_str());
    let defaults =
        ServiceDefaults { top: top.clone(), defaults: defaults.clone().with(scaler, &auto) };
    Some(Some(AnnotationsConfig {
        managed_by: layers.text("managed_by"),
        allowed_hosts: layers.hosts_by_namespace("allowed_hosts"),
        defaults: Arc::new(defaults),
    }))
}

fn client_limits(layers: &Layers<'_>, problems: &mut Vec<Problem>) -> Option<ClientLimits> {
    let limits = ClientLimits {
        max_head: usize::try_from(layers.size("max_head")??).ok()?,
        max_uri: usize::try_from(layers.size("max_uri")??).ok()?,
        max_headers: layers.number("max_headers")?,
        head_timeout: layers.duration("head_timeout")??,
        keep_alive_timeout: layers.duration("keep_alive_timeout")??,
        max_head_memory: usize::try_from(layers.size("max_head_memory")??).ok()?,
        max_connections: layers.count("max_connections")?,
        max_connections_per_address: layers.count("max_connections_per_address")?,
    };
    if limits.max_uri >= limits.max_head {
        let (head, uri) = (layers.own.span_of("max_head"), layers.own.span_of("max_uri"));
        problems.push(Problem {
            span: uri.clone().or(head.clone()).unwrap_or_default(),
            message: format!(
                "`max_uri` ({} bytes) is not smaller than `max_head` ({} bytes), which includes it",
                limits.max_uri, limits.max_head
            ),
            help: format!("write max_uri = {} or a larger `max_head`", limits.max_head / 2),
            related: uri.and(head).map(|head| (head, "`max_head` is set here".to_owned())),
        });
    }
    Some(limits)
}

fn services(
    text: &str,
    document: &DeTable<'_>,
    top: &Section,
    defaults: &Section,
    is_optional: bool,
    problems: &mut Vec<Problem>,
) -> Option<Vec<ServiceConfig>> {
    if is_optional && document.get("services").is_none() {
        return Some(Vec::new());
    }
    let mut earlier = EarlierServices::default();
    let mut services = Vec::new();
    for element in service_tables(document, problems)? {
        let DeValue::Table(table) = element.get_ref() else {
            problems.push(Problem {
                span: element.span(),
                message: format!(
                    "a service must be a table, not {}",
                    value::type_of(element.get_ref())
                ),
                help: "begin each service with a line [[services]]".to_owned(),
                related: None,
            });
            continue;
        };
        let parsed = service::parse(text, table, element.span(), top, defaults, problems);
        problems.extend(earlier.conflicts(text, &parsed));
        services.push(parsed.config);
    }
    services.into_iter().collect()
}

/// The elements of `services`; there must be at least one.
fn service_tables<'a, 'i>(
    document: &'a DeTable<'i>,
    problems: &mut Vec<Problem>,
) -> Option<&'a DeArray<'i>> {
    let help =
        "write [[services]], and below it `host`, `type` and the keys that the type requires";
    let (span, message, help) =
        match document.get("services").map(|found| (found.span(), found.get_ref())) {
            Some((_, DeValue::Array(elements))) if !elements.is_empty() => return Some(elements),
            Some((span, DeValue::Table(_))) => (
                span,
                "`services` is one table, not an array of tables".to_owned(),
                "write [[services]], with two brackets",
            ),
            Some((span, DeValue::Array(_))) => (span, "there is no service".to_owned(), help),
            Some((span, other)) => (
                span,
                format!("`services` must be an array of tables, not {}", value::type_of(other)),
                help,
            ),
            None => (0..0, "there is no service: [[services]] is missing".to_owned(), help),
        };
    problems.push(Problem { span, message, help: help.to_owned(), related: None });
    None
}

/// The problem reported when the configuration is incomplete and no check has said why.
fn incomplete_configuration() -> Problem {
    Problem {
        span: 0..0,
        message: "the configuration is incomplete".to_owned(),
        help: "compare it with docs/configuration.md".to_owned(),
        related: None,
    }
}
