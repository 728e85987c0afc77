//! The JSON Schema of the configuration, made from the table of keys, for editors. What it cannot say (values that must
//! fit each other) is left to `parse`.

use serde_json::{Map, Value, json};

use super::keys::table::TABLE;
use super::keys::{Fallback, Key, Kind, Place, Scope, ServiceType, TYPES};

/// The schema of a configuration file (JSON Schema draft 2020-12).
pub fn json_schema() -> Value {
    let mut properties = properties(|key| key.place.allows(Scope::Top));
    properties.insert(
        "services".to_owned(),
        json!({
            "description": "The services, each a host (and path prefix) with the workload behind it.",
            "type": "array",
            "minItems": 1,
            "items": { "$ref": "#/$defs/service" },
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of agimo",
        "type": "object",
        "properties": properties,
        "required": ["services"],
        "additionalProperties": false,
        "$defs": { "service": service() },
    })
}

fn service() -> Value {
    let kubernetes: Vec<&str> = spellings(|found| found != ServiceType::Process);
    let process: Vec<&str> = spellings(|found| found == ServiceType::Process);
    json!({
        "type": "object",
        "properties": properties(|key| key.place.allows(Scope::Service(None)) && key.name != "name")
            .into_iter()
            .chain([("name".to_owned(), json!({ "type": "string", "description": meanings_of("name") }))])
            .collect::<Map<_, _>>(),
        "required": required(Place::Services),
        "additionalProperties": false,
        "allOf": [
            for_types(&kubernetes, Place::Kubernetes, &[Place::Processes, Place::TopAndProcesses]),
            for_types(&process, Place::Processes, &[Place::Kubernetes, Place::TopAndKubernetes]),
        ],
    })
}

/// What a service of these types needs, and what it cannot have.
fn for_types(spellings: &[&str], own: Place, foreign: &[Place]) -> Value {
    let mut rules = properties(|key| key.place == own && key.name == "name");
    for key in TABLE.iter().filter(|key| foreign.contains(&key.place)) {
        rules.entry(key.name).or_insert(Value::Bool(false));
    }
    json!({
        "if": { "properties": { "type": { "enum": spellings } }, "required": ["type"] },
        "then": { "properties": rules, "required": required(own) },
    })
}

fn properties(chosen: impl Fn(&Key) -> bool) -> Map<String, Value> {
    let chosen = TABLE.iter().filter(|key| chosen(key));
    chosen.map(|key| (key.name.to_owned(), property(key))).collect()
}

fn property(key: &Key) -> Value {
    let mut property = Map::new();
    property.insert("description".to_owned(), json!(key.meaning));
    property.extend(value_of(key.kind));
    if let Fallback::Value(value) = key.fallback
        && let Ok(value) = serde_json::from_str(value)
    {
        property.insert("default".to_owned(), value);
    }
    Value::Object(property)
}

/// The rules for the value alone.
fn value_of(kind: Kind) -> Map<String, Value> {
    const DURATION: &str = "^([0-9]+ *[A-Za-z]+ *)+$|^0$";
    const SIZE: &str = "^[0-9]+ *(B|[kKMG]B|[KMG]iB)$";
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let or_off = |pattern: &str| format!("{pattern}|^off$");
    let rules = match kind {
        Kind::Duration { off: true, .. } => text(&or_off(DURATION)),
        Kind::Duration { .. } => text(DURATION),
        Kind::Size { least, off, .. } => {
            let written = if off { or_off(SIZE) } else { SIZE.to_owned() };
            json!({ "type": ["integer", "string"], "minimum": least, "pattern": written })
        }
        Kind::Number { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Networks => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Host => json!({ "type": "string", "minLength": 1 }),
        Kind::PathPrefix => text("^/[^?#]*$"),
        Kind::Type => json!({ "enum": spellings(|_| true) }),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::ServicePort => json!({
            "type": ["integer", "string"], "minimum": 1, "maximum": 65535,
            "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        }),
        Kind::DnsLabel => text("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
        Kind::DnsName => text("^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"),
        Kind::Text | Kind::Folder => json!({ "type": "string", "minLength": 1 }),
        Kind::Command => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::Environment => json!({
            "type": "object",
            "propertyNames": { "not": { "const": "PORT" } },
            "additionalProperties": { "type": "string" },
        }),
        Kind::Readiness => text("^tcp$|^/"),
    };
    match rules {
        Value::Object(rules) => rules,
        _ => Map::new(),
    }
}

fn required(place: Place) -> Vec<&'static str> {
    let required =
        TABLE.iter().filter(|key| key.place == place && key.fallback == Fallback::Required);
    required.map(|key| key.name).collect()
}

fn spellings(chosen: impl Fn(ServiceType) -> bool) -> Vec<&'static str> {
    TYPES.iter().filter(|(_, found)| chosen(*found)).map(|(spelling, _)| *spelling).collect()
}

/// Of a key that means one thing here and another there.
fn meanings_of(name: &str) -> String {
    let meanings: Vec<&str> =
        TABLE.iter().filter(|key| key.name == name).map(|key| key.meaning).collect();
    meanings.join(" For processes: ")
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
    fn every_key_has_its_place_and_its_words() {
        let schema = json_schema();
        for key in TABLE {
            let service = &schema["$defs"]["service"]["properties"][key.name];
            let top = &schema["properties"][key.name];
            assert_eq!(top.is_object(), key.place.allows(Scope::Top), "{}", key.name);
            assert_eq!(service.is_object(), key.place.allows(Scope::Service(None)), "{}", key.name);
            let shown = if top.is_object() { top } else { service };
            assert!(shown["description"].as_str().unwrap().contains(key.meaning), "{}", key.name);
        }
        assert_eq!(schema["properties"]["timeout"]["default"], "30s");
        assert_eq!(
            schema["$defs"]["service"]["allOf"][1]["then"]["properties"]["namespace"],
            false
        );
    }
}
