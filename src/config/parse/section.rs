//! Reads one table of the file by the table of keys, each value by itself, and finds the value that applies: the
//! service's, the top-level one, or the default.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::value::{self, Value};
use crate::config::file_path::FilePath;
use crate::config::keys::table::TABLE;
use crate::config::keys::{self, Key, KeyDefault, TableScope};
use crate::config::report::{Problem, line_column};
use crate::config::{KeepAlive, Masked, ReadinessCheck, ServicePort};
use crate::schedule::Schedule;

/// The keys of one table of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    pub(super) span: Range<usize>,
    entries: HashMap<&'static str, Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// The name or alias under which the key is set, and its place.
    name: &'static str,
    name_span: Range<usize>,
    /// `None` if the value is invalid; the problem has been recorded.
    value: Option<Value>,
    span: Range<usize>,
}

/// Keys at the top of the file that are no values.
const ARRAYS_OF_TABLES: [&str; 2] = ["services", "tls"];

/// Where a value is looked up, in this order: in the service, at the top of the file, in the table of keys.
pub(super) struct Layers<'a> {
    pub(super) own: &'a Section,
    pub(super) outer: Option<&'a Section>,
    pub(super) defaults: &'a Section,
}

// === impl Section ===

impl Section {
    /// Reads a table of the file `text`, without the arrays of tables.
    pub(super) fn read(
        text: &str,
        table: &DeTable<'_>,
        span: Range<usize>,
        scope: TableScope,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut entries: HashMap<&'static str, Entry> = HashMap::new();
        for (name, written) in table.iter() {
            if scope == TableScope::Top && ARRAYS_OF_TABLES.contains(&name.get_ref().as_ref()) {
                continue;
            }
            let Some(key) = keys::find(name.get_ref(), scope) else {
                problems.push(Problem {
                    span: name.span(),
                    message: format!("unknown key {}", value::quoted(name.get_ref(), '`')),
                    help: keys::fix_for_unknown_key(name.get_ref(), scope),
                    related: None,
                });
                continue;
            };
            let written_name = key.names().find(|own| own == name.get_ref()).unwrap_or(key.name);
            // Messages use the name that is written in the file.
            let value = match value::read(&Key { name: written_name, ..*key }, written) {
                Ok(value) => Some(value),
                Err(invalid) => {
                    problems.extend(invalid);
                    None
                }
            };
            let (name, name_span) = (written_name, name.span());
            let entry = Entry { name, name_span, value, span: written.span() };
            if let Some(other) = entries.get(key.name) {
                problems.push(set_twice(text, other, &entry));
            }
            entries.insert(key.name, entry);
        }
        Self { span, entries }
    }

    /// The default values of the table of keys, read as if they were in a file.
    pub(super) fn defaults() -> Self {
        let values = TABLE.iter().filter_map(|key| match key.default {
            KeyDefault::Value(written) => Some((key, written.to_owned())),
            KeyDefault::Required | KeyDefault::Described(_) => None,
        });
        // A test reads them all.
        Self::of_values(values, &mut Vec::new())
    }

    /// Keys with their values in TOML that are in no file.
    pub(super) fn of_values(
        values: impl IntoIterator<Item = (&'static Key, String)>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut entries = HashMap::new();
        for (key, written) in values {
            let read = match DeValue::parse(&written) {
                Ok(parsed) => value::read(key, &parsed),
                Err(error) => Err(vec![Problem {
                    span: 0..0,
                    message: format!("`{}`: {}", key.name, error.message()),
                    help: format!("write, for example, {}", key.example),
                    related: None,
                }]),
            };
            let value = read.map_err(|invalid| problems.extend(invalid)).ok();
            let entry = Entry { name: key.name, name_span: 0..0, value, span: 0..0 };
            entries.insert(key.name, entry);
        }
        Self { span: 0..0, entries }
    }

    /// The same keys, with this value of one of them, in TOML.
    pub(super) fn with(mut self, key: &'static Key, written: &str) -> Self {
        let other = Self::of_values([(key, written.to_owned())], &mut Vec::new());
        self.entries.extend(other.entries);
        self
    }

    /// Reports the keys that this table must have and has not.
    pub(super) fn report_missing_keys(&self, scope: TableScope, problems: &mut Vec<Problem>) {
        for key in TABLE {
            let required = key.default == KeyDefault::Required && key.place.allows(scope);
            // The keys that a service requires depend on its type.
            let known = scope != TableScope::Service(None) || matches!(key.name, "host" | "type");
            if required && known && !self.has(key.name) {
                problems.push(Problem {
                    span: self.span.clone(),
                    message: format!("this {} has no `{}`", scope.subject(), key.name),
                    help: format!("write, for example, {}", key.example),
                    related: None,
                });
            }
        }
    }

    /// Whether the key is set here, even to an invalid value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The place of the key's value in this table.
    pub(super) fn span_of(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(name).map(|entry| entry.span.clone())
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.entries.get(name)?.value.as_ref()
    }
}

/// A key that one table sets under two of its names.
fn set_twice(text: &str, one: &Entry, other: &Entry) -> Problem {
    // The parser does not keep the order of the file.
    let (first, second) =
        if one.name_span.start < other.name_span.start { (one, other) } else { (other, one) };
    let (line, _) = line_column(text, first.name_span.start);
    Problem {
        span: second.name_span.clone(),
        message: format!(
            "`{}` and `{}` are the same key, which is already set in line {line}",
            second.name, first.name
        ),
        help: "remove one of the two".to_owned(),
        related: Some((first.name_span.clone(), "first set here".to_owned())),
    }
}

// === impl Layers ===

/// Each getter returns `None` if the value is invalid, or absent without a default.
impl Layers<'_> {
    /// The inner `None` means "off".
    pub(super) fn duration(&self, name: &str) -> Option<Option<Duration>> {
        match self.value(name)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    /// In bytes. The inner `None` means "off".
    pub(super) fn size(&self, name: &str) -> Option<Option<u64>> {
        match self.value(name)? {
            Value::Size(size) => Some(*size),
            _ => None,
        }
    }

    /// `None` as well if the number does not fit `T`; the ranges in the table of keys exclude that.
    pub(super) fn number<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        match self.value(name)? {
            Value::Number(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The inner `None` means "off".
    pub(super) fn count<T: TryFrom<u64>>(&self, name: &str) -> Option<Option<T>> {
        match self.value(name)? {
            Value::Count(None) => Some(None),
            Value::Count(Some(count)) => T::try_from(*count).ok().map(Some),
            _ => None,
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn keep_alive(&self, name: &str) -> Option<KeepAlive> {
        match self.value(name)? {
            Value::KeepAlive(keep_alive) => Some(*keep_alive),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// The path of a file; `None` where the key is not set, too.
    pub(super) fn file(&self, name: &str) -> Option<FilePath> {
        let path = self.text(name)?.into();
        Some(FilePath { path, span: self.span_of(name).unwrap_or_default() })
    }

    pub(super) fn texts(&self, name: &str) -> Option<Vec<String>> {
        match self.value(name)? {
            Value::Texts(texts) => Some(texts.clone()),
            _ => None,
        }
    }

    pub(super) fn environment(&self, name: &str) -> Option<BTreeMap<String, Masked>> {
        match self.value(name)? {
            Value::Environment(environment) => Some(environment.clone()),
            _ => None,
        }
    }

    pub(super) fn networks(&self, name: &str) -> Option<Vec<IpNet>> {
        match self.value(name)? {
            Value::Networks(networks) => Some(networks.clone()),
            _ => None,
        }
    }

    pub(super) fn hosts_by_namespace(&self, name: &str) -> Option<BTreeMap<String, Vec<String>>> {
        match self.value(name)? {
            Value::HostsByNamespace(hosts) => Some(hosts.clone()),
            _ => None,
        }
    }

    pub(super) fn schedules(&self, name: &str) -> Option<Vec<Schedule>> {
        match self.value(name)? {
            Value::Schedules(schedules) => Some(schedules.clone()),
            _ => None,
        }
    }

    pub(super) fn readiness_check(&self, name: &str) -> Option<ReadinessCheck> {
        match self.value(name)? {
            Value::ReadinessCheck(check) => Some(check.clone()),
            _ => None,
        }
    }

    pub(super) fn service_port(&self, name: &str) -> Option<ServicePort> {
        match self.value(name)? {
            Value::ServicePort(port) => Some(port.clone()),
            _ => None,
        }
    }

    /// The place of the value that applies; `None` for a default.
    pub(super) fn span_of(&self, name: &str) -> Option<Range<usize>> {
        self.own.span_of(name).or_else(|| self.outer?.span_of(name))
    }

    /// Whether the value that applies is set and invalid.
    pub(super) fn is_invalid(&self, name: &str) -> bool {
        self.span_of(name).is_some() && self.value(name).is_none()
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let written = if self.own.has(name) {
            Some(self.own)
        } else {
            self.outer.filter(|outer| outer.has(name))
        };
        written.unwrap_or(self.defaults).value(name)
    }
}
