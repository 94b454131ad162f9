//! The key table as a JSON Schema (draft 2020-12), for editors that complete and check TOML.

use crate::keys::{Family, Key, Kind, SCENARIO, Section};
use crate::known::Known;
use crate::tree::{Value, parse_value};
use serde_json::{Map, Value as Json, json};

/// The schema as indented JSON; names of modes, schedulers, profiles and metrics become enums.
pub fn schema(known: &Known) -> String {
    let mut root = section(&SCENARIO, known);
    let head = root.as_object_mut().expect("a section is an object");
    head.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    head.insert("title".into(), json!("windtunnel scenario"));
    let mut text = serde_json::to_string_pretty(&root).expect("a schema has text keys");
    text.push('\n');
    text
}

fn section(section: &Section, known: &Known) -> Json {
    let properties: Map<String, Json> =
        section.keys.iter().map(|key| (key.name.to_owned(), property(key, known))).collect();
    let required: Vec<&str> = section.keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    let mut object = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

fn property(key: &Key, known: &Known) -> Json {
    let mut property = kind(&key.kind, known);
    property["description"] = json!(key.doc);
    if let Some(default) = key.default {
        let value =
            parse_value(0, default).unwrap_or_else(|| panic!("default of {}: {default}", key.name)).value;
        property["default"] = plain(&value);
    }
    property
}

fn kind(kind: &Kind, known: &Known) -> Json {
    let names = |family: Family| known.names(family).iter().map(|n| n.name.clone()).collect::<Vec<_>>();
    let pattern = |p: &str| json!({ "type": "string", "pattern": p });
    match kind {
        Kind::Text | Kind::Cidr | Kind::Address => json!({ "type": "string" }),
        Kind::Integer { min, max, .. } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Span { .. } => pattern(r"^[0-9][0-9_]*(\.[0-9]+)? ?(ns|us|µs|ms|s|m|h)$"),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Ratio => json!({ "anyOf": [
            { "type": "number", "minimum": 0, "maximum": 1 }, pattern(r"^[0-9][0-9_]*(\.[0-9]+)? ?%$")
        ] }),
        Kind::PodShare => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, pattern(r"^[0-9]+ ?%$")] })
        }
        Kind::Nodes => json!({ "anyOf": [
            { "const": "all" }, { "type": "array", "minItems": 1, "items": { "type": ["integer", "string"] } }
        ] }),
        Kind::Quantity => json!({ "type": ["number", "string"] }),
        Kind::Tolerance => pattern(r"^(exact|[0-9][0-9_]*(\.[0-9]+)? ?%|factor [0-9]+(\.[0-9]+)?)$"),
        Kind::Rate { per_node: true, .. } => pattern(r"^[0-9][0-9_]*(\.[0-9]+)? ?/(s|m|h) per node$"),
        Kind::Rate { per_node: false, .. } => pattern(r"^[0-9][0-9_]*(\.[0-9]+)? ?/(s|m|h)$"),
        Kind::Version => pattern(r"^v?1\.[0-9]+(\.[0-9]+)?$"),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Name(family) => json!({ "enum": names(*family) }),
        Kind::Names(family) => {
            json!({ "type": "array", "items": { "enum": names(*family) }, "minItems": 1, "uniqueItems": true })
        }
        Kind::Endpoints => json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "const": "clusterloader2" },
            { "type": "object", "additionalProperties": {
                "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "number" }], "minItems": 2, "maxItems": 2
            } }
        ] }),
        Kind::Targets | Kind::Cidrs | Kind::NodePortAddresses => {
            json!({ "type": "array", "items": { "type": "string" } })
        }
        Kind::Table(inner) | Kind::Action(inner) => section(inner, known),
        Kind::Tables(inner) => json!({ "type": "array", "items": section(inner, known) }),
        Kind::Sweep | Kind::Set => json!({ "type": "object" }),
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Text(text) | Value::Date(text) => json!(text),
        Value::Integer(n) => json!(i64::try_from(*n).expect("defaults are small")),
        Value::Float(x) => json!(x),
        Value::Bool(b) => json!(b),
        Value::Array(items) => items.iter().map(|n| plain(&n.value)).collect(),
        Value::Table(table) => table.entries.iter().map(|e| (e.key.clone(), plain(&e.node.value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_key_with_its_default_and_its_names() {
        let text = schema(&crate::tests::known());
        let root: Json = serde_json::from_str(&text).unwrap();
        let at = |path: &str| root.pointer(path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(*at("/properties/duration/default"), json!("10s"));
        assert_eq!(*at("/properties/cluster/properties/nodes/maximum"), json!(5_000));
        assert_eq!(*at("/properties/proxy/properties/modes/items/enum/1"), json!("ipvs"));
        assert_eq!(*at("/properties/traffic/items/required/0"), json!("rate"));
        assert_eq!(*at("/additionalProperties"), json!(false));
    }
}
