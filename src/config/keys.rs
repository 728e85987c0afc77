//! The keys of a configuration file: one table of every key. Parsing, the JSON Schema and `docs/configuration.md` are
//! derived from it.

use super::KubernetesKind;

pub mod table;

mod manual;
mod suggest;

use table::TABLE;

/// One key of the configuration file.
#[derive(Debug)]
pub struct Key {
    /// The documented name.
    pub name: &'static str,
    /// Other names that are accepted in a file.
    pub aliases: &'static [&'static str],
    pub place: Place,
    pub kind: ValueKind,
    pub default: KeyDefault,
    /// For the manual and the schema: what the key does, and what happens when its limit is exceeded.
    pub description: &'static str,
    /// One line of TOML that sets the key.
    pub example: &'static str,
}

/// Where a key is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the top of the file only.
    Top,
    /// In `[[tls]]` tables.
    Tls,
    /// In every service, and at the top of the file as the default for all services.
    TopAndServices,
    /// In services of `type = "deployment"` and `"statefulset"`, and at the top of the file as their default.
    TopAndKubernetes,
    /// In services of `type = "process"`, and at the top of the file as their default.
    TopAndProcesses,
    /// In every service.
    Services,
    /// In services of `type = "deployment"` and `"statefulset"`.
    Kubernetes,
    /// In services of `type = "process"`.
    Processes,
}

/// The type and range of a key's value. Ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A string such as `"1m30s"`. `off` and `zero` tell whether `"off"` and a zero duration are allowed.
    Duration {
        off: bool,
        zero: bool,
    },
    /// A number of bytes, or a string such as `"64KiB"`. `off` tells whether `"off"` is allowed.
    Size {
        least: u64,
        most: u64,
        off: bool,
    },
    Number {
        least: u64,
        most: u64,
    },
    /// A number from 1, or `"off"` for no limit.
    Count {
        most: u64,
    },
    /// `true` or `false`.
    Boolean,
    /// `"off"`, a duration, or a number from 1.
    KeepAlive,
    /// An array of networks in CIDR notation and of single addresses.
    Networks,
    Host,
    PathPrefix,
    /// One of [`TYPES`].
    Type,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A port of a Kubernetes Service, by number or by name (RFC 6335 section 5.1).
    ServicePort,
    /// A Kubernetes name of one label (RFC 1123 section 2.1), at most 63 characters.
    DnsLabel,
    /// A Kubernetes name of several labels, at most 253 characters.
    DnsName,
    /// A string without control characters.
    Text,
    Directory,
    File,
    /// A host name or an address.
    ServerName,
    /// A table of arrays of hosts, by namespace.
    HostsByNamespace,
    /// An array of schedules.
    Schedules,
    /// A program and its arguments.
    Command,
    /// A table of strings.
    Environment,
    /// `"tcp"` or an HTTP path.
    ReadinessCheck,
}

/// What applies when a key is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDefault {
    /// The key must be set.
    Required,
    /// There is no default value; the text says what happens instead.
    Described(&'static str),
    /// The default value, in a form that is both TOML and JSON.
    Value(&'static str),
}

/// A table of the file in which a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableScope {
    Top,
    /// A `[[tls]]` table.
    Tls,
    /// A `[[services]]` table. `None` while its `type` is missing or unknown: the keys of every type are then allowed.
    Service(Option<ServiceType>),
}

/// The meaning of a service's `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    Kubernetes(KubernetesKind),
    Process,
}

/// Every spelling of `type`.
pub const TYPES: &[(&str, ServiceType)] = &[
    ("deployment", ServiceType::Kubernetes(KubernetesKind::Deployment)),
    ("deploy", ServiceType::Kubernetes(KubernetesKind::Deployment)),
    ("statefulset", ServiceType::Kubernetes(KubernetesKind::StatefulSet)),
    ("sts", ServiceType::Kubernetes(KubernetesKind::StatefulSet)),
    ("process", ServiceType::Process),
];

/// The key with this name or alias that is allowed in `scope`.
pub fn find(name: &str, scope: TableScope) -> Option<&'static Key> {
    // From the end: while the type is unknown, `name` is read by the less strict rule for processes.
    TABLE.iter().rev().find(|key| key.has_name(name) && key.place.allows(scope))
}

/// What to write instead of a key that is unknown or not allowed in `scope`: a clause that begins in lower case.
pub fn fix_for_unknown_key(name: &str, scope: TableScope) -> String {
    if let Some(misplaced) = TABLE.iter().find(|key| key.has_name(name)) {
        return match misplaced.place {
            Place::Tls => {
                format!("`{name}` belongs to a certificate: write it below a [[tls]] line")
            }
            Place::Top | Place::TopAndServices => {
                format!("`{name}` applies to the whole file: write it above the first [[services]]")
            }
            _ if scope == TableScope::Top => {
                format!("`{name}` belongs to a service: write it below a [[services]] line")
            }
            Place::Kubernetes | Place::TopAndKubernetes => {
                format!("`{name}` is only for type = \"deployment\" and \"statefulset\": remove it")
            }
            _ => format!("`{name}` is only for type = \"process\": remove it"),
        };
    }
    let allowed_here = || TABLE.iter().filter(|key| key.place.allows(scope)).map(|key| key.name);
    let tables = if scope == TableScope::Top { &["services", "tls"][..] } else { &[] };
    // The first of equally close names wins, so the names that are allowed here come first.
    let names_here = TABLE.iter().filter(|key| key.place.allows(scope)).flat_map(Key::names);
    let candidates =
        names_here.chain(tables.iter().copied()).chain(TABLE.iter().flat_map(Key::names));
    match suggest::nearest(name, candidates) {
        Some(table @ ("services" | "tls")) => format!("did you mean [[{table}]]?"),
        Some(nearest) => match find(nearest, scope) {
            Some(key) => format!("did you mean `{}`?", key.name),
            None => format!("did you mean `{nearest}`? {}", fix_for_unknown_key(nearest, scope)),
        },
        None => {
            let keys = comma_separated(allowed_here());
            format!("remove it; the keys {} are {keys}", scope.description())
        }
    }
}

/// What to write instead of an unknown `type`.
pub fn fix_for_unknown_type(written: &str) -> String {
    let spellings = || TYPES.iter().map(|(spelling, _)| *spelling);
    match suggest::nearest(written, spellings()) {
        Some(nearest) => format!("write type = \"{nearest}\""),
        None => format!("write one of {}", comma_separated(spellings())),
    }
}

/// The text of `docs/configuration.md`.
pub fn markdown() -> String {
    manual::write()
}

fn comma_separated(names: impl Iterator<Item = &'static str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    names.join(", ")
}

// === impl Key ===

impl Key {
    /// The documented name, then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// The description, followed by the aliases.
    pub fn full_description(&self) -> String {
        let aliases: Vec<String> = self.aliases.iter().map(|alias| format!("`{alias}`")).collect();
        if aliases.is_empty() {
            return self.description.to_owned();
        }
        format!("{} Also written {}.", self.description, aliases.join(" or "))
    }

    fn has_name(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }
}

// === impl Place ===

impl Place {
    /// Whether a key with this place is allowed in `scope`.
    pub fn allows(self, scope: TableScope) -> bool {
        match (self, scope) {
            (Self::Top, scope) => scope == TableScope::Top,
            (Self::Tls, scope) => scope == TableScope::Tls,
            (_, TableScope::Tls) => false,
            (
                Self::TopAndServices | Self::TopAndKubernetes | Self::TopAndProcesses,
                TableScope::Top,
            ) => true,
            (_, TableScope::Top) => false,
            (Self::TopAndServices | Self::Services, _) => true,
            (Self::TopAndKubernetes | Self::Kubernetes, TableScope::Service(found)) => {
                found != Some(ServiceType::Process)
            }
            (Self::TopAndProcesses | Self::Processes, TableScope::Service(found)) => {
                matches!(found, None | Some(ServiceType::Process))
            }
        }
    }
}

// === impl ValueKind ===

impl ValueKind {
    /// A description of the accepted values; completes "must be ...".
    pub fn description(self) -> String {
        let or_off = |text: &str, off| format!("{text}{}", if off { " or \"off\"" } else { "" });
        match self {
            Self::Duration { off, .. } => {
                or_off("a duration such as \"5s\", \"500ms\" or \"1m30s\"", off)
            }
            Self::Size { off, .. } => or_off("a size such as 65536, \"64KiB\" or \"10MB\"", off),
            Self::Number { least, most } => format!("a number from {least} to {most}"),
            Self::Count { most } => format!("a number from 1 to {most} or \"off\""),
            Self::Boolean => "true or false".to_owned(),
            Self::KeepAlive => {
                "a duration such as \"30s\", a number of connections, or \"off\"".to_owned()
            }
            Self::Networks => "an array of networks and addresses".to_owned(),
            Self::Host => {
                "a host name, a wildcard such as \"*.example.com\", or an address".to_owned()
            }
            Self::PathPrefix => "a path that begins with \"/\"".to_owned(),
            Self::Type => {
                format!("one of {}", comma_separated(TYPES.iter().map(|(spelling, _)| *spelling)))
            }
            Self::OneOf(allowed) => {
                let quoted: Vec<String> =
                    allowed.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Self::ServicePort => "a number from 1 to 65535, or the port's name".to_owned(),
            Self::DnsLabel => {
                "a name of at most 63 letters, digits and \"-\" in lower case".to_owned()
            }
            Self::DnsName => {
                "a name of at most 253 letters, digits, \"-\" and \".\" in lower case".to_owned()
            }
            Self::Text => "a string".to_owned(),
            Self::Directory => "the path of a directory".to_owned(),
            Self::File => "the path of a file".to_owned(),
            Self::ServerName => "a host name or an address".to_owned(),
            Self::HostsByNamespace => "a table of arrays of hosts, by namespace".to_owned(),
            Self::Schedules => {
                "an array of schedules such as \"Mon-Fri 08:00-18:00 Europe/Berlin\"".to_owned()
            }
            Self::Command => "an array of strings: the program and its arguments".to_owned(),
            Self::Environment => "a table of strings".to_owned(),
            Self::ReadinessCheck => "\"tcp\" or a path that begins with \"/\"".to_owned(),
        }
    }
}

// === impl TableScope ===

impl TableScope {
    /// What a table of this scope is about.
    pub fn subject(self) -> &'static str {
        match self {
            Self::Top => "file",
            Self::Tls => "certificate",
            Self::Service(_) => "service",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Top => "at the top of the file",
            Self::Tls => "of a certificate",
            Self::Service(_) => "of this service",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: TableScope = TableScope::Service(Some(ServiceType::Process));
    const KUBERNETES: TableScope =
        TableScope::Service(Some(ServiceType::Kubernetes(KubernetesKind::Deployment)));

    #[test]
    fn key_names_are_unique_in_every_scope() {
        for scope in [TableScope::Top, PROCESS, KUBERNETES] {
            let keys = TABLE.iter().filter(|key| key.place.allows(scope));
            let mut names: Vec<_> = keys.flat_map(Key::names).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{scope:?}");
            assert!(all > 5);
        }
    }

    #[test]
    fn default_values_are_json_and_examples_set_their_key() {
        for key in TABLE {
            if let KeyDefault::Value(value) = key.default {
                assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{}", key.name);
            }
            assert!(key.example.starts_with(key.name), "{}", key.example);
            assert!(key.description.ends_with('.'), "{}", key.description);
        }
    }

    #[test]
    fn an_alias_finds_the_key_with_the_documented_name() {
        for scope in [TableScope::Top, PROCESS, KUBERNETES, TableScope::Service(None)] {
            assert_eq!(find("timeout", scope).unwrap().name, "hold_timeout");
            assert_eq!(find("hold_timeout", scope).unwrap().aliases, ["timeout"]);
        }
        assert_eq!(fix_for_unknown_key("timout", PROCESS), "did you mean `hold_timeout`?");
        assert_eq!(fix_for_unknown_key("hold-timeout", PROCESS), "did you mean `hold_timeout`?");
    }

    #[test]
    fn unknown_keys_have_a_fix() {
        assert_eq!(fix_for_unknown_key("hots", PROCESS), "did you mean `host`?");
        assert_eq!(
            fix_for_unknown_key("sleep-after", TableScope::Top),
            "did you mean `sleep_after`?"
        );
        assert_eq!(fix_for_unknown_key("service", TableScope::Top), "did you mean [[services]]?");
        assert!(fix_for_unknown_key("max_head", PROCESS).contains("above the first [[services]]"));
        assert!(fix_for_unknown_key("host", TableScope::Top).contains("below a [[services]]"));
        assert!(fix_for_unknown_key("command", KUBERNETES).contains("type = \"process\""));
        assert!(fix_for_unknown_key("namespace", PROCESS).contains("type = \"deployment\""));
        assert!(fix_for_unknown_key("max_heads", PROCESS).contains("above the first"));
        assert!(
            fix_for_unknown_key("colour", TableScope::Top)
                .starts_with("remove it; the keys at the top of the file are max_")
        );
        assert_eq!(fix_for_unknown_type("Deploymnet"), "write type = \"deployment\"");
        assert!(fix_for_unknown_type("lambda").starts_with("write one of deployment, deploy,"));
    }
}
