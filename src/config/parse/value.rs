//! Checks one TOML value by the kind of its key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::names::{self, InvalidValue};
use crate::config::keys::{self, Key, TYPES, ValueKind};
use crate::config::report::Problem;
use crate::config::{KeepAlive, MOST_IDLE, Masked, ReadinessCheck, ServicePort};
use crate::schedule::Schedule;

mod quantity;

/// A valid value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `None` means "off".
    Duration(Option<Duration>),
    /// In bytes; `None` means "off".
    Size(Option<u64>),
    Boolean(bool),
    Number(u64),
    /// `None` means "off".
    Count(Option<u64>),
    KeepAlive(KeepAlive),
    Text(String),
    Texts(Vec<String>),
    Environment(BTreeMap<String, Masked>),
    Networks(Vec<IpNet>),
    HostsByNamespace(BTreeMap<String, Vec<String>>),
    ReadinessCheck(ReadinessCheck),
    Schedules(Vec<Schedule>),
    ServicePort(ServicePort),
}

/// Maximum length of a quotation from the file in a message, in characters.
const MAX_QUOTE_LENGTH: usize = 60;

/// Reads the value of `key`.
pub(super) fn read(key: &Key, written: &Spanned<DeValue<'_>>) -> Result<Value, Vec<Problem>> {
    let span = written.span();
    let one = |problem| vec![problem];
    match (key.kind, written.get_ref()) {
        (ValueKind::Duration { off, zero }, value) => {
            quantity::duration(key, value, span, off, zero).map(Value::Duration).map_err(one)
        }
        (ValueKind::Size { least, most, off }, value) => {
            quantity::size(key, value, span, off, least..=most).map(Value::Size).map_err(one)
        }
        (ValueKind::Number { least, most }, value) => {
            quantity::number(key, value, span, least..=most).map(Value::Number).map_err(one)
        }
        (ValueKind::Count { .. } | ValueKind::KeepAlive, DeValue::String(text))
            if text == "off" =>
        {
            Ok(match key.kind {
                ValueKind::KeepAlive => Value::KeepAlive(KeepAlive::OFF),
                _ => Value::Count(None),
            })
        }
        (ValueKind::Boolean, DeValue::Boolean(value)) => Ok(Value::Boolean(*value)),
        (ValueKind::Count { most }, value @ DeValue::Integer(_)) => {
            let number = quantity::number(key, value, span, 1..=most);
            number.map(|number| Value::Count(Some(number))).map_err(one)
        }
        (ValueKind::KeepAlive, value @ DeValue::Integer(_)) => {
            let number = quantity::number(key, value, span, 1..=MOST_IDLE);
            number.map(|most| Value::KeepAlive(KeepAlive::at_most(most as u32))).map_err(one)
        }
        (ValueKind::KeepAlive, value) => quantity::duration(key, value, span, true, false)
            .map(|idle| Value::KeepAlive(idle.map_or(KeepAlive::OFF, KeepAlive::lasting)))
            .map_err(one),
        (ValueKind::ServicePort, value @ DeValue::Integer(_)) => {
            let number = quantity::number(key, value, span, 1..=u64::from(u16::MAX));
            let number = number.map(|number| ServicePort::Number(number as u16));
            number.map(Value::ServicePort).map_err(one)
        }
        (ValueKind::Networks, DeValue::Array(elements)) => {
            collect(elements.iter().map(|element| network(key, element))).map(Value::Networks)
        }
        (ValueKind::HostsByNamespace, DeValue::Table(table)) => {
            collect(table.iter().map(|(namespace, hosts)| hosts_of(key, namespace, hosts)))
                .map(|hosts| Value::HostsByNamespace(hosts.into_iter().collect()))
        }
        (ValueKind::Schedules, DeValue::Array(elements)) => {
            collect(elements.iter().map(|element| schedule(key, element))).map(Value::Schedules)
        }
        (ValueKind::Command, DeValue::Array(elements)) => command(key, elements, span),
        (ValueKind::Environment, DeValue::Table(table)) => {
            collect(table.iter().map(|(name, value)| variable(name, value)))
                .map(|variables| Value::Environment(variables.into_iter().collect()))
        }
        (_, DeValue::String(text)) => self::text(key, text, span).map_err(one),
        (_, other) => Err(one(wrong_type(key, other, span))),
    }
}

/// The TOML type of a value, with its article.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A quotation from the file on one line, shortened if it is long.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let mut shown: String =
        text.chars().take(MAX_QUOTE_LENGTH).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_QUOTE_LENGTH).is_some() {
        shown.push_str("...");
    }
    format!("{quote}{shown}{quote}")
}

/// A value that is written as a string.
fn text(key: &Key, written: &str, span: Range<usize>) -> Result<Value, Problem> {
    let report = |invalid: InvalidValue| {
        let message = format!("`{}`: {} {}", key.name, quoted(written, '"'), invalid.problem);
        problem(span.clone(), message, invalid.fix)
    };
    let read = match key.kind {
        ValueKind::Host => names::host(written),
        ValueKind::PathPrefix => names::path_prefix(written),
        ValueKind::DnsLabel => names::dns_label(written),
        ValueKind::DnsName => names::dns_name(written),
        // The name of a Service's port is a DNS label (Kubernetes API, core/v1 ServicePort).
        ValueKind::ServicePort if written.parse::<u16>().is_ok() => Err(InvalidValue {
            problem: "is a number between quotes",
            fix: format!("write {} = {written}", key.name),
        }),
        ValueKind::ServicePort => {
            return names::dns_label(written)
                .map(|name| Value::ServicePort(ServicePort::Name(name)))
                .map_err(report);
        }
        ValueKind::OneOf(allowed) if allowed.contains(&written) => Ok(written.to_owned()),
        ValueKind::OneOf(_) => Err(InvalidValue {
            problem: "is not an allowed value",
            fix: format!("write {}", key.kind.description()),
        }),
        ValueKind::ReadinessCheck if written == "tcp" => {
            return Ok(Value::ReadinessCheck(ReadinessCheck::Tcp));
        }
        ValueKind::ReadinessCheck if written.contains("://") => {
            let (_, rest) = written.split_once("://").unwrap_or_default();
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            Err(InvalidValue {
                problem: "is a URL",
                fix: format!("write only the path: \"{path}\"; agimo knows the host and the port"),
            })
        }
        ValueKind::ReadinessCheck => {
            return names::path(written)
                .map(|path| Value::ReadinessCheck(ReadinessCheck::Http(path.to_owned())))
                .map_err(|invalid| InvalidValue {
                    fix: format!("{}, or \"tcp\"", invalid.fix),
                    ..invalid
                })
                .map_err(report);
        }
        ValueKind::Type if TYPES.iter().any(|(spelling, _)| *spelling == written) => {
            Ok(written.to_owned())
        }
        ValueKind::Type => Err(InvalidValue {
            problem: "is not a type of service",
            fix: keys::fix_for_unknown_type(written),
        }),
        ValueKind::Text | ValueKind::Directory | ValueKind::File
            if written.is_empty() || written.contains(char::is_control) =>
        {
            Err(InvalidValue {
                problem: "is empty or contains control characters",
                fix: format!("write {}", key.example),
            })
        }
        ValueKind::Text | ValueKind::Directory | ValueKind::File => Ok(written.to_owned()),
        ValueKind::ServerName => names::server_name(written),
        ValueKind::Command => {
            let words: Vec<String> =
                written.split_whitespace().map(|word| quoted(word, '"')).collect();
            let message = "`command` must be an array of strings, not a string".to_owned();
            return Err(problem(span, message, format!("write command = [{}]", words.join(", "))));
        }
        _ => return Err(wrong_type(key, &DeValue::String(written.into()), span)),
    };
    read.map(Value::Text).map_err(report)
}

fn network(key: &Key, element: &Spanned<DeValue<'_>>) -> Result<IpNet, Problem> {
    let DeValue::String(written) = element.get_ref() else {
        return Err(wrong_type(key, element.get_ref(), element.span()));
    };
    let address = || written.parse::<IpAddr>().map(IpNet::from);
    written.parse::<IpNet>().or_else(|_| address()).map(|network| network.trunc()).map_err(|_| {
        let message =
            format!("`{}`: {} is neither a network nor an address", key.name, quoted(written, '"'));
        problem(
            element.span(),
            message,
            "write \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"".to_owned(),
        )
    })
}

/// The hosts that a namespace may claim.
fn hosts_of(
    key: &Key,
    namespace: &Spanned<std::borrow::Cow<'_, str>>,
    hosts: &Spanned<DeValue<'_>>,
) -> Result<(String, Vec<String>), Problem> {
    let name = namespace.get_ref();
    if name != "*" && names::dns_label(name).is_err() {
        let message = format!("`{}`: {} is no namespace", key.name, quoted(name, '"'));
        return Err(problem(
            namespace.span(),
            message,
            format!("write, for example, {}", key.example),
        ));
    }
    let DeValue::Array(elements) = hosts.get_ref() else {
        return Err(wrong_type(key, hosts.get_ref(), hosts.span()));
    };
    let hosts = elements.iter().map(|element| match element.get_ref() {
        DeValue::String(written) => names::host(written).map_err(|invalid| {
            let message = format!("`{}`: {} {}", key.name, quoted(written, '"'), invalid.problem);
            problem(element.span(), message, invalid.fix)
        }),
        other => Err(wrong_type(key, other, element.span())),
    });
    Ok((name.to_string(), hosts.collect::<Result<_, _>>()?))
}

fn schedule(key: &Key, element: &Spanned<DeValue<'_>>) -> Result<Schedule, Problem> {
    let DeValue::String(written) = element.get_ref() else {
        return Err(wrong_type(key, element.get_ref(), element.span()));
    };
    Schedule::parse(written).map_err(|fix| {
        let message = format!("`{}`: {} is no schedule", key.name, quoted(written, '"'));
        problem(element.span(), message, fix)
    })
}

fn command(
    key: &Key,
    elements: &[Spanned<DeValue<'_>>],
    span: Range<usize>,
) -> Result<Value, Vec<Problem>> {
    let words = collect(elements.iter().map(|element| match element.get_ref() {
        DeValue::String(word) if !word.contains('\0') => Ok(word.to_string()),
        DeValue::String(_) => {
            let message = "`command`: an argument cannot contain a NUL character".to_owned();
            Err(problem(element.span(), message, "remove \\u0000".to_owned()))
        }
        other => {
            let message =
                format!("`command`: an argument must be a string, not {}", type_of(other));
            Err(problem(element.span(), message, "put it between quotes".to_owned()))
        }
    }))?;
    if words.first().is_none_or(String::is_empty) {
        let message = "`command` names no program".to_owned();
        return Err(vec![problem(span, message, format!("write, for example, {}", key.example))]);
    }
    Ok(Value::Texts(words))
}

/// An environment variable. No message contains its value, which may be a secret.
fn variable(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(String, Masked), Problem> {
    let shown = quoted(name.get_ref(), '`');
    if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) {
        let message = format!("`env`: {shown} is not the name of a variable");
        return Err(problem(name.span(), message, "write a name without `=` and NUL".to_owned()));
    }
    if name.get_ref() == "PORT" {
        let message = "`env`: `PORT` is set by agimo".to_owned();
        return Err(problem(
            name.span(),
            message,
            "remove it; a fixed port is the key `port`".to_owned(),
        ));
    }
    match value.get_ref() {
        DeValue::String(text) if !text.contains('\0') => {
            Ok((name.get_ref().to_string(), Masked(text.to_string())))
        }
        DeValue::String(_) => {
            let message = format!("`env`: {shown} cannot contain a NUL character");
            Err(problem(value.span(), message, "remove \\u0000".to_owned()))
        }
        other => {
            let message = format!("`env`: {shown} must be a string, not {}", type_of(other));
            Err(problem(value.span(), message, "put the value between quotes".to_owned()))
        }
    }
}

/// All values if every result is `Ok`, otherwise all problems.
fn collect<T>(results: impl Iterator<Item = Result<T, Problem>>) -> Result<Vec<T>, Vec<Problem>> {
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

fn wrong_type(key: &Key, found: &DeValue<'_>, span: Range<usize>) -> Problem {
    let message =
        format!("`{}` must be {}, not {}", key.name, key.kind.description(), type_of(found));
    problem(span, message, format!("write, for example, {}", key.example))
}

fn problem(span: Range<usize>, message: String, help: String) -> Problem {
    Problem { span, message, help, related: None }
}
