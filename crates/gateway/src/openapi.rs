//! The API's description as OpenAPI 3.1, made from the table of routes and the types that they answer with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use api::{Code, Problem};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::routes::{
    self,
    table::{Answer, Body, Param, ParamForm, Place, Route},
};

/// The description; made once, because it never changes while a process lives.
static TEXT: LazyLock<String> = LazyLock::new(text);

/// What every request may meet, whatever it asks for.
const ANYWHERE: &[Code] = &[
    Code::BadRequest,
    Code::BadId,
    Code::MethodNotAllowed,
    Code::TooManyRequests,
    Code::RateLimited,
    Code::Overloaded,
    Code::Stopping,
    Code::Timeout,
    Code::Internal,
];
/// What requests with a body may meet besides.
const WITH_BODY: &[Code] = &[
    Code::TooLarge,
    Code::MediaType,
    Code::IdempotencyReused,
    Code::IdempotencyRunning,
];

pub(crate) async fn route() -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    std::future::ready((media_type, TEXT.as_str()).into_response()).await
}

/// Returns the description as it is served and committed: JSON, keys sorted, one newline at the end.
pub fn text() -> String {
    let mut document = document();
    // Whichever order the JSON library keeps: a part of it that others switch on.
    document.sort_all_objects();
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_serialize()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes::all() {
        let operation = operation(&route, &mut generator);
        paths
            .entry(route.path)
            .or_default()
            .insert(route.verb.word().to_owned(), operation);
    }
    let mut schemas = Value::Object(generator.take_definitions(true));
    plain_words(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tradewind",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The public API of a Tradewind gateway. Reading needs no key; what changes the ledger is a \
                signed transaction. Every error is a problem of RFC 9457 with a stable `code`. Addresses have a rate: \
                see `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` of every answer, and `Retry-After`.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {
                "RequestId": {
                    "description": "The request's own `X-Request-Id`, or a new one; it is in the node's log as well",
                    "schema": { "type": "string" },
                },
            },
            "responses": {
                "Problem": {
                    "description": "Why not, and what to do next",
                    "headers": { "X-Request-Id": { "$ref": "#/components/headers/RequestId" } },
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for answer in &route.answers {
        add_answer(&mut responses, answer, generator);
    }
    let with_body = if route.body.is_some() { WITH_BODY } else { &[] };
    let codes = [route.refuses, with_body, ANYWHERE].concat();
    let statuses: BTreeSet<u16> = codes.iter().map(|code| code.status()).collect();
    for status in statuses {
        let words: Vec<&str> = codes
            .iter()
            .filter(|code| code.status() == status)
            .map(|code| code.as_str())
            .collect();
        let response = json!({
            "$ref": "#/components/responses/Problem",
            "description": format!("`{}`", words.join("`, `")),
        });
        responses.insert(status.to_string(), response);
    }
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "tags": [tag(route.path)],
        "parameters": route.params.iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses,
    });
    if let (Some(body), Some(fields)) = (&route.body, operation.as_object_mut()) {
        fields.insert("requestBody".to_owned(), request_body(body));
    }
    operation
}

fn add_answer(
    responses: &mut Map<String, Value>,
    answer: &Answer,
    generator: &mut SchemaGenerator,
) {
    let response = responses
        .entry(answer.status.to_string())
        .or_insert_with(|| {
            json!({
                "description": answer.about,
                "headers": { "X-Request-Id": { "$ref": "#/components/headers/RequestId" } },
            })
        });
    let (Some(media_type), Some(fields)) = (answer.media_type, response.as_object_mut()) else {
        return;
    };
    let schema = match answer.schema {
        Some(schema) => schema(generator).to_value(),
        None if media_type == "application/octet-stream" => json!({}),
        None if media_type.ends_with("json") => json!({ "type": "object" }),
        None => json!({ "type": "string" }),
    };
    let content = fields.entry("content").or_insert_with(|| json!({}));
    if let Some(content) = content.as_object_mut() {
        content.insert(media_type.to_owned(), json!({ "schema": schema }));
    }
}

fn parameter(param: &Param) -> Value {
    let place = match param.place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    let schema = match param.form {
        ParamForm::Text(form) => form.schema(),
        ParamForm::Number => {
            Schema::try_from(json!({ "type": "integer", "minimum": 0 })).unwrap_or_default()
        }
        ParamForm::Flag => Schema::try_from(json!({ "type": "boolean" })).unwrap_or_default(),
    };
    json!({
        "in": place,
        "name": param.name,
        "required": param.place == Place::Path,
        "description": param.about,
        "schema": schema,
    })
}

fn request_body(body: &Body) -> Value {
    json!({
        "required": true,
        "description": format!("{}, at most {} bytes", body.about, body.bytes_max),
        "content": {
            "application/octet-stream": {},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": [body.field],
                    "properties": {
                        body.field: {
                            "type": "string",
                            "pattern": "^([0-9a-f]{2})*$",
                            "description": "The same bytes in lower-case hexadecimal",
                        },
                    },
                },
            },
        },
    })
}

/// Returns the noun of an address.
fn tag(path: &str) -> &str {
    match path.strip_prefix("/api/v1/") {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None => "node",
    }
}

/// Makes the types' own docs readable for people without Rust: links to other items become their names.
fn plain_words(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`");
                    }
                    other => plain_words(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_words),
        _ => {}
    }
}
