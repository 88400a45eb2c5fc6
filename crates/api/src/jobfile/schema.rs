//! The JSON Schema of job files, from the table of keys.

use serde_json::{Map, Value, json};

use super::{FIELDS, Field, Kind, fields::SECTIONS};

/// Returns the JSON Schema, as it is published in `docs/reference/job.schema.json` and served at
/// `/api/v1/schema/job`; one newline at the end.
pub fn schema() -> String {
    let mut properties = keys("");
    for (section, about) in SECTIONS {
        let section = (*section, keys(section));
        properties.insert(
            section.0.to_owned(),
            json!({
                "type": "object",
                "description": about,
                "additionalProperties": false,
                "properties": section.1,
            }),
        );
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tradewind job",
        "description": "What to run, on what, for how much. Every key has its counterpart on the command line of tradewind run.",
        "type": "object",
        "additionalProperties": false,
        "required": ["image"],
        "properties": properties,
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("a value has no keys but texts");
    text.push('\n');
    text
}

fn keys(section: &str) -> Map<String, Value> {
    let here = FIELDS.iter().filter(|field| field.section == section);
    here.map(|field| (field.name.to_owned(), property(field)))
        .collect()
}

fn property(field: &Field) -> Value {
    let mut value = kind(field.kind);
    value["description"] = json!(field.about);
    if !field.default.is_empty() {
        value["default"] = plain(field.kind, field.default);
    }
    value
}

/// Returns a value of the table as JSON has it.
fn plain(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Count { .. } | Kind::Truth => text.parse().expect("numbers and truths are JSON"),
        _ => json!(text),
    }
}

fn kind(kind: Kind) -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Name => {
            json!({ "type": "string", "minLength": 1, "maxLength": market::Name::LEN_MAX })
        }
        Kind::Words => {
            json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } }] })
        }
        Kind::Map => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        Kind::Variables => texts,
        Kind::Names => json!({ "anyOf": [{ "type": "string", "minLength": 1 }, texts] }),
        Kind::Gpu => json!({ "type": ["string", "number"], "pattern": "^[^:]+(:[0-9]{1,3})?$" }),
        Kind::Size => {
            json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,3})?[kKmMgGtT]([iI]?[bB])?$" })
        }
        Kind::Cores => {
            json!({ "type": ["string", "number"], "pattern": "^[0-9]+(\\.[0-9]{1,3})?$" })
        }
        Kind::Dollars => {
            json!({ "type": ["string", "number"], "pattern": "^\\$?[0-9]+(\\.[0-9]{1,6})?$" })
        }
        Kind::Duration => json!({ "type": "string", "pattern": "^([0-9]+(ms|[dhms]))+$" }),
        Kind::Pause { otherwise } => {
            json!({ "type": "string", "pattern": format!("^({otherwise}|pause:([0-9]+(ms|[dhms]))+)$") })
        }
        Kind::Count { max } => json!({ "type": "integer", "minimum": 1, "maximum": max }),
        Kind::Percent => {
            json!({ "type": ["string", "number"], "pattern": "^(>= *)?[0-9]+(\\.[0-9]{1,2})? *%?$" })
        }
        Kind::Truth => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
    }
}
