//! The JSON Schema of the configuration file, derived from the table of keys, for editors. Rules between two keys are
//! checked by `parse` only.

use serde_json::{Map, Value, json};

use super::MOST_IDLE;
use super::keys::table::TABLE;
use super::keys::{Key, KeyDefault, Place, ServiceType, TYPES, TableScope, ValueKind};

/// The schema of a configuration file (JSON Schema draft 2020-12).
pub fn json_schema() -> Value {
    let mut properties = properties(|key| key.place.allows(TableScope::Top));
    properties.insert(
        "services".to_owned(),
        json!({
            "description": "The services: each is a host (and path prefix) with the workload behind it.",
            "type": "array",
            "minItems": 1,
            "items": { "$ref": "#/$defs/service" },
        }),
    );
    properties.insert(
        "tls".to_owned(),
        json!({
            "description": "The certificates with which agimo serves clients over TLS.",
            "type": "array",
            "items": { "$ref": "#/$defs/tls" },
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of agimo",
        "type": "object",
        "properties": properties,
        "required": ["services"],
        "additionalProperties": false,
        "allOf": one_name_each(TableScope::Top),
        "$defs": { "service": service(), "tls": certificate() },
    })
}

fn certificate() -> Value {
    json!({
        "type": "object",
        "properties": properties(|key| key.place == Place::Tls),
        "required": required(Place::Tls),
        "additionalProperties": false,
    })
}

fn service() -> Value {
    let kubernetes: Vec<&str> = spellings(|service_type| service_type != ServiceType::Process);
    let process: Vec<&str> = spellings(|service_type| service_type == ServiceType::Process);
    let mut all_of = vec![
        for_types(&kubernetes, Place::Kubernetes, &[Place::Processes, Place::TopAndProcesses]),
        for_types(&process, Place::Processes, &[Place::Kubernetes, Place::TopAndKubernetes]),
    ];
    all_of.extend(one_name_each(TableScope::Service(None)));
    json!({
        "type": "object",
        "properties": properties(|key| key.place.allows(TableScope::Service(None)) && key.name != "name")
            .into_iter()
            .chain([("name".to_owned(), json!({ "type": "string", "description": descriptions("name") }))])
            .collect::<Map<_, _>>(),
        "required": required(Place::Services),
        "additionalProperties": false,
        "allOf": all_of,
    })
}

/// The keys that services of these types require, and those that they do not allow.
fn for_types(spellings: &[&str], own: Place, foreign: &[Place]) -> Value {
    let mut rules = properties(|key| key.place == own && key.name == "name");
    for name in TABLE.iter().filter(|key| foreign.contains(&key.place)).flat_map(Key::names) {
        rules.entry(name).or_insert(Value::Bool(false));
    }
    json!({
        "if": { "properties": { "type": { "enum": spellings } }, "required": ["type"] },
        "then": { "properties": rules, "required": required(own) },
    })
}

fn properties(include: impl Fn(&Key) -> bool) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in TABLE.iter().filter(|key| include(key)) {
        properties.insert(key.name.to_owned(), property(key));
        for alias in key.aliases {
            let mut rules = value_rules(key.kind);
            rules.insert("description".to_owned(), json!(format!("Same as `{}`.", key.name)));
            properties.insert((*alias).to_owned(), Value::Object(rules));
        }
    }
    properties
}

/// A table may set each key under one of its names only.
fn one_name_each(scope: TableScope) -> Vec<Value> {
    let keys = TABLE.iter().filter(|key| key.place.allows(scope));
    let pairs = keys.flat_map(|key| key.aliases.iter().map(|alias| (key.name, *alias)));
    pairs.map(|(name, alias)| json!({ "not": { "required": [name, alias] } })).collect()
}

fn property(key: &Key) -> Value {
    let mut property = Map::new();
    property.insert("description".to_owned(), json!(key.full_description()));
    property.extend(value_rules(key.kind));
    if let KeyDefault::Value(value) = key.default
        && let Ok(value) = serde_json::from_str(value)
    {
        property.insert("default".to_owned(), value);
    }
    Value::Object(property)
}

/// The rules for a value of this kind.
fn value_rules(kind: ValueKind) -> Map<String, Value> {
    const DURATION: &str = "^([0-9]+ *[A-Za-z]+ *)+$|^0$";
    const SIZE: &str = "^[0-9]+ *(B|[kKMG]B|[KMG]iB)$";
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let or_off = |pattern: &str| format!("{pattern}|^off$");
    let rules = match kind {
        ValueKind::Duration { off: true, .. } => text(&or_off(DURATION)),
        ValueKind::Duration { .. } => text(DURATION),
        ValueKind::Size { least, off, .. } => {
            let pattern = if off { or_off(SIZE) } else { SIZE.to_owned() };
            json!({ "type": ["integer", "string"], "minimum": least, "pattern": pattern })
        }
        ValueKind::Number { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        ValueKind::Count { most } => json!({
            "type": ["integer", "string"], "minimum": 1, "maximum": most, "pattern": "^off$",
        }),
        ValueKind::Boolean => json!({ "type": "boolean" }),
        ValueKind::KeepAlive => json!({
            "type": ["integer", "string"], "minimum": 1, "maximum": MOST_IDLE, "pattern": or_off(DURATION),
        }),
        ValueKind::HostsByNamespace => json!({
            "type": "object",
            "additionalProperties": { "type": "array", "items": { "type": "string", "minLength": 1 } },
        }),
        ValueKind::Schedules => json!({
            "type": "array",
            "items": { "type": "string", "pattern": "^[A-Za-z,-]+ +[0-9]+:[0-9]{2}-[0-9]+:[0-9]{2} +[A-Za-z0-9_+/-]+$" },
        }),
        ValueKind::Networks => json!({ "type": "array", "items": { "type": "string" } }),
        ValueKind::Host => json!({ "type": "string", "minLength": 1 }),
        ValueKind::PathPrefix => text("^/[^?#]*$"),
        ValueKind::Type => json!({ "enum": spellings(|_| true) }),
        ValueKind::OneOf(allowed) => json!({ "enum": allowed }),
        ValueKind::ServicePort => json!({
            "type": ["integer", "string"], "minimum": 1, "maximum": 65535,
            "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        }),
        ValueKind::DnsLabel => text("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
        ValueKind::DnsName => text("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"),
        ValueKind::Text | ValueKind::Directory | ValueKind::File | ValueKind::ServerName => {
            json!({ "type": "string", "minLength": 1 })
        }
        ValueKind::Command => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 })
        }
        ValueKind::Environment => json!({
            "type": "object",
            "propertyNames": { "not": { "const": "PORT" } },
            "additionalProperties": { "type": "string" },
        }),
        ValueKind::ReadinessCheck => text("^tcp$|^/"),
    };
    match rules {
        Value::Object(rules) => rules,
        _ => Map::new(),
    }
}

fn required(place: Place) -> Vec<&'static str> {
    let required =
        TABLE.iter().filter(|key| key.place == place && key.default == KeyDefault::Required);
    required.map(|key| key.name).collect()
}

fn spellings(include: impl Fn(ServiceType) -> bool) -> Vec<&'static str> {
    TYPES
        .iter()
        .filter(|(_, service_type)| include(*service_type))
        .map(|(spelling, _)| *spelling)
        .collect()
}

/// The descriptions of a name that has one key for Kubernetes and another for processes.
fn descriptions(name: &str) -> String {
    let descriptions: Vec<&str> =
        TABLE.iter().filter(|key| key.name == name).map(|key| key.description).collect();
    descriptions.join(" For processes: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_current() {
        let committed =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.schema.json"));
        assert!(
            committed == format!("{:#}\n", json_schema()),
            "run `cargo run -- schema > docs/configuration.schema.json`"
        );
    }

    #[test]
    fn an_alias_has_the_rules_of_its_key_and_excludes_the_documented_name() {
        let schema = json_schema();
        for table in [&schema, &schema["$defs"]["service"]] {
            let (name, alias) =
                (&table["properties"]["hold_timeout"], &table["properties"]["timeout"]);
            assert_eq!(name["pattern"], alias["pattern"]);
            assert!(name["description"].as_str().unwrap().ends_with("Also written `timeout`."));
            let rule = json!({ "not": { "required": ["hold_timeout", "timeout"] } });
            assert!(table["allOf"].as_array().unwrap().contains(&rule));
        }
    }

    #[test]
    fn every_key_is_in_the_schema_with_its_description() {
        let schema = json_schema();
        for key in TABLE {
            let service = &schema["$defs"]["service"]["properties"][key.name];
            let top = &schema["properties"][key.name];
            let certificate = &schema["$defs"]["tls"]["properties"][key.name];
            assert_eq!(certificate.is_object(), key.place == Place::Tls, "{}", key.name);
            assert_eq!(top.is_object(), key.place.allows(TableScope::Top), "{}", key.name);
            assert_eq!(
                service.is_object(),
                key.place.allows(TableScope::Service(None)),
                "{}",
                key.name
            );
            let tables = [top, service, certificate];
            let shown = tables.into_iter().find(|table| table.is_object()).unwrap();
            assert!(
                shown["description"].as_str().unwrap().contains(key.description),
                "{}",
                key.name
            );
        }
        assert_eq!(schema["properties"]["hold_timeout"]["default"], "30s");
        assert_eq!(
            schema["$defs"]["service"]["allOf"][1]["then"]["properties"]["namespace"],
            false
        );
    }
}
