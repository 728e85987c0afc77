//! One TOML value against what its key wants: the value, or what is wrong with it. It knows no other key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeValue;

use super::names::{self, Complaint};
use crate::config::keys::{self, Key, Kind, TYPES};
use crate::config::report::Problem;
use crate::config::{Masked, Readiness, ServicePort};

mod quantity;

/// A value that is what its key wants.
pub(super) enum Value {
    /// `None` is "off".
    Duration(Option<Duration>),
    /// Bytes; `None` is "off".
    Size(Option<u64>),
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    Environment(BTreeMap<String, Masked>),
    Networks(Vec<IpNet>),
    Readiness(Readiness),
    ServicePort(ServicePort),
}

/// Longest piece of the file that a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// Reads the value of `key`.
pub(super) fn read(key: &Key, written: &Spanned<DeValue<'_>>) -> Result<Value, Vec<Problem>> {
    let span = written.span();
    let one = |problem| vec![problem];
    match (key.kind, written.get_ref()) {
        (Kind::Duration { off, zero }, value) => {
            quantity::duration(key, value, span, off, zero).map(Value::Duration).map_err(one)
        }
        (Kind::Size { least, most, off }, value) => {
            quantity::size(key, value, span, off, least..=most).map(Value::Size).map_err(one)
        }
        (Kind::Number { least, most }, value) => {
            quantity::number(key, value, span, least..=most).map(Value::Number).map_err(one)
        }
        (Kind::ServicePort, value @ DeValue::Integer(_)) => {
            let number = quantity::number(key, value, span, 1..=u64::from(u16::MAX));
            let number = number.map(|number| ServicePort::Number(number as u16));
            number.map(Value::ServicePort).map_err(one)
        }
        (Kind::Networks, DeValue::Array(elements)) => {
            collect(elements.iter().map(|element| network(key, element))).map(Value::Networks)
        }
        (Kind::Command, DeValue::Array(elements)) => command(key, elements, span),
        (Kind::Environment, DeValue::Table(table)) => {
            collect(table.iter().map(|(name, value)| variable(name, value)))
                .map(|variables| Value::Environment(variables.into_iter().collect()))
        }
        (_, DeValue::String(text)) => self::text(key, text, span).map_err(one),
        (_, other) => Err(one(wrong_type(key, other, span))),
    }
}

/// A value's TOML type with its article.
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

/// A piece of the file on one line, cut where it is long.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let mut shown: String = text.chars().take(LONGEST_QUOTE).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        shown.push_str("...");
    }
    format!("{quote}{shown}{quote}")
}

/// Values that are one string, and the one that should have been an array.
fn text(key: &Key, written: &str, span: Range<usize>) -> Result<Value, Problem> {
    let complain = |complaint: Complaint| {
        let message = format!("`{}`: {} {}", key.name, quoted(written, '"'), complaint.wrong);
        problem(span.clone(), message, complaint.cure)
    };
    let read = match key.kind {
        Kind::Host => names::host(written),
        Kind::PathPrefix => names::path_prefix(written),
        Kind::DnsLabel => names::dns_label(written),
        Kind::DnsName => names::dns_name(written),
        // Names of a Service's ports are labels (core/v1 ServicePort).
        Kind::ServicePort if written.parse::<u16>().is_ok() => Err(Complaint {
            wrong: "is a number between quotes",
            cure: format!("write {} = {written}", key.name),
        }),
        Kind::ServicePort => {
            return names::dns_label(written)
                .map(|name| Value::ServicePort(ServicePort::Name(name)))
                .map_err(complain);
        }
        Kind::OneOf(words) if words.contains(&written) => Ok(written.to_owned()),
        Kind::OneOf(_) => Err(Complaint {
            wrong: "is not one of its words",
            cure: format!("write {}", key.kind.words()),
        }),
        Kind::Readiness if written == "tcp" => return Ok(Value::Readiness(Readiness::Tcp)),
        Kind::Readiness => {
            return names::path(written)
                .map(|path| Value::Readiness(Readiness::Http(path.to_owned())))
                .map_err(|complaint| Complaint {
                    cure: format!("{}, or \"tcp\"", complaint.cure),
                    ..complaint
                })
                .map_err(complain);
        }
        Kind::Type if TYPES.iter().any(|(spelling, _)| *spelling == written) => {
            Ok(written.to_owned())
        }
        Kind::Type => {
            Err(Complaint { wrong: "is no type of service", cure: keys::cure_of_type(written) })
        }
        Kind::Text | Kind::Folder if written.is_empty() || written.contains(char::is_control) => {
            Err(Complaint {
                wrong: "is empty or has control characters",
                cure: format!("write {}", key.example),
            })
        }
        Kind::Text | Kind::Folder => Ok(written.to_owned()),
        Kind::Command => {
            let words: Vec<String> =
                written.split_whitespace().map(|word| quoted(word, '"')).collect();
            let message = "`command` must be an array of strings, not a string".to_owned();
            return Err(problem(span, message, format!("write command = [{}]", words.join(", "))));
        }
        _ => return Err(wrong_type(key, &DeValue::String(written.into()), span)),
    };
    read.map(Value::Text).map_err(complain)
}

fn network(key: &Key, element: &Spanned<DeValue<'_>>) -> Result<IpNet, Problem> {
    let DeValue::String(written) = element.get_ref() else {
        return Err(wrong_type(key, element.get_ref(), element.span()));
    };
    let address = || written.parse::<IpAddr>().map(IpNet::from);
    written.parse::<IpNet>().or_else(|_| address()).map(|network| network.trunc()).map_err(|_| {
        let message =
            format!("`{}`: {} is no network and no address", key.name, quoted(written, '"'));
        problem(
            element.span(),
            message,
            "write \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"".to_owned(),
        )
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
            let message = "`command`: an argument cannot have a NUL character".to_owned();
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

/// No message repeats the value: it may be a secret.
fn variable(
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<(String, Masked), Problem> {
    let shown = quoted(name.get_ref(), '`');
    if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) {
        let message = format!("`env`: {shown} is no name of a variable");
        return Err(problem(name.span(), message, "write a name without = and NUL".to_owned()));
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
            let message = format!("`env`: {shown} cannot have a NUL character");
            Err(problem(value.span(), message, "remove \\u0000".to_owned()))
        }
        other => {
            let message = format!("`env`: {shown} must be a string, not {}", type_of(other));
            Err(problem(value.span(), message, "put the value between quotes".to_owned()))
        }
    }
}

/// All values, or all problems.
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
    let message = format!("`{}` must be {}, not {}", key.name, key.kind.words(), type_of(found));
    problem(span, message, format!("write, for example, {}", key.example))
}

fn problem(span: Range<usize>, message: String, help: String) -> Problem {
    Problem { span, message, help, related: None }
}
