//! One table of the file against the table of keys: its values, each checked by itself, and where a value comes from
//! when it is not there. It knows no rule that joins two keys.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::value::{self, Value};
use crate::config::keys::table::TABLE;
use crate::config::keys::{self, Fallback, Scope};
use crate::config::report::Problem;
use crate::config::{Masked, Readiness, ServicePort};

/// The keys of one table that may stand there.
pub(super) struct Section {
    pub(super) span: Range<usize>,
    found: HashMap<&'static str, Found>,
}

struct Found {
    /// Absent where it was not what it must be; the problem has been noted.
    value: Option<Value>,
    span: Range<usize>,
}

/// Where a value is looked for: in the service, at the top, in the table of keys.
pub(super) struct Layers<'a> {
    pub(super) own: &'a Section,
    pub(super) outer: Option<&'a Section>,
    pub(super) defaults: &'a Section,
}

// === impl Section ===

impl Section {
    /// Reads a table of the file; `services` itself is left to the caller.
    pub(super) fn read(
        table: &DeTable<'_>,
        span: Range<usize>,
        scope: Scope,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut found = HashMap::new();
        for (name, written) in table.iter() {
            if scope == Scope::Top && name.get_ref() == "services" {
                continue;
            }
            let Some(key) = keys::find(name.get_ref(), scope) else {
                problems.push(Problem {
                    span: name.span(),
                    message: format!("unknown key {}", value::quoted(name.get_ref(), '`')),
                    help: keys::cure_of_unknown(name.get_ref(), scope),
                    related: None,
                });
                continue;
            };
            let value = match value::read(key, written) {
                Ok(value) => Some(value),
                Err(wrong) => {
                    problems.extend(wrong);
                    None
                }
            };
            found.insert(key.name, Found { value, span: written.span() });
        }
        Self { span, found }
    }

    /// The defaults that the table of keys gives, as if they were written in a file.
    pub(super) fn defaults() -> Self {
        let mut found = HashMap::new();
        for key in TABLE {
            if let Fallback::Value(written) = key.fallback
                && let Ok(written) = DeValue::parse(written)
            {
                let value = value::read(key, &written).ok();
                found.insert(key.name, Found { value, span: 0..0 });
            }
        }
        Self { span: 0..0, found }
    }

    /// Whether the key is written here, be it wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }

    /// Where the key's value is written here.
    pub(super) fn span_of(&self, name: &str) -> Option<Range<usize>> {
        self.found.get(name).map(|found| found.span.clone())
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.found.get(name)?.value.as_ref()
    }
}

// === impl Layers ===

/// Each answers `None` where the value is absent without a default or wrong.
impl Layers<'_> {
    /// The inner `None` is "off".
    pub(super) fn duration(&self, name: &str) -> Option<Option<Duration>> {
        match self.value(name)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    /// In bytes. The inner `None` is "off".
    pub(super) fn size(&self, name: &str) -> Option<Option<u64>> {
        match self.value(name)? {
            Value::Size(size) => Some(*size),
            _ => None,
        }
    }

    /// The table of keys keeps each number within its type's range.
    pub(super) fn number<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        match self.value(name)? {
            Value::Number(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
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

    pub(super) fn readiness(&self, name: &str) -> Option<Readiness> {
        match self.value(name)? {
            Value::Readiness(readiness) => Some(readiness.clone()),
            _ => None,
        }
    }

    pub(super) fn service_port(&self, name: &str) -> Option<ServicePort> {
        match self.value(name)? {
            Value::ServicePort(port) => Some(port.clone()),
            _ => None,
        }
    }

    /// Where the value that holds is written; a default is nowhere.
    pub(super) fn span_of(&self, name: &str) -> Option<Range<usize>> {
        self.own.span_of(name).or_else(|| self.outer?.span_of(name))
    }

    /// Whether the value that holds is written and not what it must be.
    pub(super) fn is_wrong(&self, name: &str) -> bool {
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
