//! What may stand in a configuration file: one table of every key, from which the checks, the JSON Schema and
//! `docs/configuration.md` are made. It reads no file and holds no value of a configuration.

use super::KubernetesKind;

pub mod table;

mod manual;
mod suggest;

use table::TABLE;

/// One key, wherever it may stand.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub place: Place,
    pub kind: Kind,
    pub fallback: Fallback,
    /// For the manual and the schema: what it does and what happens beyond it.
    pub meaning: &'static str,
    /// A line of TOML as it would stand in a file.
    pub example: &'static str,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// For the whole file only.
    Top,
    /// In every service; at the top it is the default of all services.
    TopAndServices,
    /// In services of `type = "deployment"` and `"statefulset"`; at the top the default of them all.
    TopAndKubernetes,
    /// In services of `type = "process"`; at the top it is the default of them all.
    TopAndProcesses,
    /// In every service.
    Services,
    /// In services of `type = "deployment"` and `"statefulset"`.
    Kubernetes,
    /// In services of `type = "process"`.
    Processes,
}

/// What a key's value must be. Ranges include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `"1m30s"`; `"off"` and zero only where allowed.
    Duration {
        off: bool,
        zero: bool,
    },
    /// Bytes, as a number or as `"64KiB"`; `"off"` only where allowed.
    Size {
        least: u64,
        most: u64,
        off: bool,
    },
    Number {
        least: u64,
        most: u64,
    },
    /// CIDR networks and single addresses.
    Networks,
    Host,
    PathPrefix,
    /// One of [`TYPES`].
    Type,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A port of a Service: its number, or its name (RFC 6335 section 5.1).
    ServicePort,
    /// A Kubernetes name of one label (RFC 1123 section 2.1), at most 63 characters.
    DnsLabel,
    /// A Kubernetes name of several labels, at most 253 characters.
    DnsName,
    /// Text that is shown: no control characters.
    Text,
    Folder,
    /// Program and arguments.
    Command,
    /// A table of strings.
    Environment,
    /// `"tcp"` or an HTTP path.
    Readiness,
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Its absence is an error.
    Required,
    /// No value; these words say what happens instead.
    Absent(&'static str),
    /// A value as it would be written; also valid JSON.
    Value(&'static str),
}

/// Which table of the file is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Top,
    /// `None` where its `type` is missing or unknown: then the keys of every type are taken.
    Service(Option<ServiceType>),
}

/// What the `type` key says.
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

/// The key of this name that may stand in `scope`.
pub fn find(name: &str, scope: Scope) -> Option<&'static Key> {
    // From the end: while the type is unknown, `name` has the freer meaning of a process.
    TABLE.iter().rev().find(|key| key.name == name && key.place.allows(scope))
}

/// What to write instead of a name that may not stand in `scope`: a sentence that begins in lower case.
pub fn cure_of_unknown(name: &str, scope: Scope) -> String {
    if let Some(misplaced) = TABLE.iter().find(|key| key.name == name) {
        return match misplaced.place {
            Place::Top | Place::TopAndServices => {
                format!("`{name}` is for the whole file: write it above the first [[services]]")
            }
            _ if scope == Scope::Top => {
                format!("`{name}` belongs to a service: write it below a [[services]] line")
            }
            Place::Kubernetes | Place::TopAndKubernetes => {
                format!("`{name}` is for type = \"deployment\" and \"statefulset\": remove it")
            }
            _ => format!("`{name}` is for type = \"process\": remove it"),
        };
    }
    let here = || TABLE.iter().filter(|key| key.place.allows(scope)).map(|key| key.name);
    let services = (scope == Scope::Top).then_some("services");
    // The first of equals wins, so those that may stand here come first.
    let candidates = here().chain(services).chain(TABLE.iter().map(|key| key.name));
    match suggest::nearest(name, candidates) {
        Some("services") => "did you mean [[services]]?".to_owned(),
        Some(nearest) if find(nearest, scope).is_some() => format!("did you mean `{nearest}`?"),
        Some(elsewhere) => {
            format!("did you mean `{elsewhere}`? {}", cure_of_unknown(elsewhere, scope))
        }
        None => format!("remove it; {} takes {}", scope.words(), listed(here())),
    }
}

/// What to write instead of an unknown `type`.
pub fn cure_of_type(written: &str) -> String {
    let spellings = || TYPES.iter().map(|(spelling, _)| *spelling);
    match suggest::nearest(written, spellings()) {
        Some(nearest) => format!("write type = \"{nearest}\""),
        None => format!("write one of {}", listed(spellings())),
    }
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    manual::write()
}

fn listed(names: impl Iterator<Item = &'static str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    names.join(", ")
}

// === impl Place ===

impl Place {
    /// Whether a key of this place may stand in `scope`.
    pub fn allows(self, scope: Scope) -> bool {
        match (self, scope) {
            (Self::Top, scope) => scope == Scope::Top,
            (Self::TopAndServices | Self::TopAndKubernetes | Self::TopAndProcesses, Scope::Top) => {
                true
            }
            (_, Scope::Top) => false,
            (Self::TopAndServices | Self::Services, _) => true,
            (Self::TopAndKubernetes | Self::Kubernetes, Scope::Service(found)) => {
                found != Some(ServiceType::Process)
            }
            (Self::TopAndProcesses | Self::Processes, Scope::Service(found)) => {
                matches!(found, None | Some(ServiceType::Process))
            }
        }
    }
}

// === impl Kind ===

impl Kind {
    /// What to write, in words: stands after "must be".
    pub fn words(self) -> String {
        let or_off = |words: &str, off| format!("{words}{}", if off { " or \"off\"" } else { "" });
        match self {
            Self::Duration { off, .. } => {
                or_off("a duration such as \"5s\", \"500ms\" or \"1m30s\"", off)
            }
            Self::Size { off, .. } => or_off("a size such as 65536, \"64KiB\" or \"10MB\"", off),
            Self::Number { least, most } => format!("a number from {least} to {most}"),
            Self::Networks => "an array of networks and addresses".to_owned(),
            Self::Host => {
                "a host name, a wildcard such as \"*.example.com\", or an address".to_owned()
            }
            Self::PathPrefix => "a path that begins with \"/\"".to_owned(),
            Self::Type => format!("one of {}", listed(TYPES.iter().map(|(spelling, _)| *spelling))),
            Self::OneOf(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                words.join(" or ")
            }
            Self::ServicePort => "a number from 1 to 65535, or the port's name".to_owned(),
            Self::DnsLabel => {
                "a name of at most 63 letters, digits and \"-\" in lower case".to_owned()
            }
            Self::DnsName => {
                "a name of at most 253 letters, digits, \"-\" and \".\" in lower case".to_owned()
            }
            Self::Text => "a text".to_owned(),
            Self::Folder => "the path of a folder".to_owned(),
            Self::Command => "an array of strings: the program and its arguments".to_owned(),
            Self::Environment => "a table of strings".to_owned(),
            Self::Readiness => "\"tcp\" or a path that begins with \"/\"".to_owned(),
        }
    }
}

// === impl Scope ===

impl Scope {
    fn words(self) -> &'static str {
        match self {
            Self::Top => "the top of the file",
            Self::Service(_) => "this service",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: Scope = Scope::Service(Some(ServiceType::Process));
    const KUBERNETES: Scope =
        Scope::Service(Some(ServiceType::Kubernetes(KubernetesKind::Deployment)));

    #[test]
    fn a_name_has_one_key_in_every_scope() {
        for scope in [Scope::Top, PROCESS, KUBERNETES] {
            let mut names: Vec<_> =
                TABLE.iter().filter(|key| key.place.allows(scope)).map(|key| key.name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{scope:?}");
            assert!(all > 5);
        }
    }

    #[test]
    fn defaults_are_json_and_examples_name_their_key() {
        for key in TABLE {
            if let Fallback::Value(value) = key.fallback {
                assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{}", key.name);
            }
            assert!(key.example.starts_with(key.name), "{}", key.example);
            assert!(key.meaning.ends_with('.'), "{}", key.meaning);
        }
    }

    #[test]
    fn unknown_keys_have_a_cure() {
        assert_eq!(cure_of_unknown("hots", PROCESS), "did you mean `host`?");
        assert_eq!(cure_of_unknown("sleep-after", Scope::Top), "did you mean `sleep_after`?");
        assert_eq!(cure_of_unknown("service", Scope::Top), "did you mean [[services]]?");
        assert!(cure_of_unknown("max_head", PROCESS).contains("above the first [[services]]"));
        assert!(cure_of_unknown("host", Scope::Top).contains("below a [[services]]"));
        assert!(cure_of_unknown("command", KUBERNETES).contains("type = \"process\""));
        assert!(cure_of_unknown("namespace", PROCESS).contains("type = \"deployment\""));
        assert!(cure_of_unknown("max_heads", PROCESS).contains("above the first"));
        assert!(
            cure_of_unknown("colour", Scope::Top)
                .starts_with("remove it; the top of the file takes max_")
        );
        assert_eq!(cure_of_type("Deploymnet"), "write type = \"deployment\"");
        assert!(cure_of_type("lambda").starts_with("write one of deployment, deploy,"));
    }
}
