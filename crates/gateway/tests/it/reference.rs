//! The reference that is made from the code: complete, true, and as committed. `DOCS_WRITE=1` writes it anew.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::{curl::Curl, world::World};

/// Where the documents lie.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

fn description() -> Value {
    serde_json::from_str(&gateway::openapi()).unwrap()
}

/// Compares a committed file with what it should be, or writes it.
fn committed(name: &str, text: &str) {
    let path = Path::new(DOCS).join(name);
    if std::env::var_os("DOCS_WRITE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == text,
        "{name} is stale; `cargo xtask openapi` writes it anew"
    );
}

#[test]
fn the_committed_reference_is_what_the_code_says() {
    committed("reference/openapi.json", &gateway::openapi());
    committed("src/reference/metrics.md", &gateway::metrics_page());
}

/// Calls `look` with each operation: path, method, description.
fn operations(document: &Value, mut look: impl FnMut(&str, &str, &Value)) {
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            look(path, method, operation);
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                found.insert(to.clone());
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_description_refers_to_nothing_that_is_not_there() {
    let document = description();
    assert_eq!(document["openapi"], "3.1.0");
    let mut all = BTreeSet::new();
    references(&document, &mut all);
    assert!(all.len() > 20, "{all:?}");
    for to in all {
        let at = to.strip_prefix('#').unwrap();
        assert!(document.pointer(at).is_some(), "{to}");
    }
    let mut names = BTreeSet::new();
    operations(&document, |path, method, operation| {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} twice");
        let of_path = operation["parameters"].as_array().unwrap();
        let of_path = of_path.iter().filter(|param| param["in"] == "path");
        assert_eq!(
            of_path.count(),
            path.matches('{').count(),
            "{method} {path}"
        );
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
    });
}

/// Returns a text of a parameter's form.
fn sample(param: &Value) -> String {
    let schema = &param["schema"];
    if let Some(word) = schema["enum"][0].as_str() {
        return word.to_owned();
    }
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    match (pattern.split_once("_[0-9a-z]{"), schema["type"].as_str()) {
        (Some((prefix, length)), _) => {
            let length = length.trim_end_matches("}$").parse().unwrap();
            format!("{}_{}", prefix.trim_start_matches('^'), "0".repeat(length))
        }
        (None, Some("boolean")) => "false".to_owned(),
        _ => "1".to_owned(),
    }
}

/// One operation with samples for its parameters.
struct Ask {
    method: String,
    target: String,
    queries: Vec<String>,
    /// Ends a query so that the answer ends too.
    end: &'static str,
}

fn ask_for(path: &str, method: &str, operation: &Value) -> Ask {
    let params = operation["parameters"].as_array().unwrap();
    let of = |place: &'static str| {
        let all = params.iter().filter(move |param| param["in"] == place);
        all.map(|param| (param["name"].as_str().unwrap(), sample(param)))
    };
    let target = of("path").fold(path.to_owned(), |target, (name, value)| {
        target.replace(&format!("{{{name}}}"), &value)
    });
    let streams = path.ends_with("/events");
    let queries = of("query").filter(|(name, _)| *name != "follow");
    Ask {
        method: method.to_ascii_uppercase(),
        target,
        queries: queries
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        end: if streams { "&follow=false" } else { "" },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_is_served_with_its_parameters_and_no_others() {
    let Some(curl) =
        Curl::find("every_described_route_is_served_with_its_parameters_and_no_others")
    else {
        return;
    };
    let world = World::start().await;
    let at = format!("http://{}", world.address());
    let mut asks = Vec::new();
    operations(&description(), |path, method, operation| {
        asks.push(ask_for(path, method, operation));
    });
    assert!(asks.len() > 25);
    for ask in asks {
        let Ask {
            method,
            target,
            queries,
            end,
        } = ask;
        for query in queries {
            let url = format!("{at}{target}?{query}{end}");
            let reply = curl.ask(&["-X", &method, &url]).await;
            assert!(
                !reply.body.contains("is not a parameter"),
                "{url}: {reply:?}"
            );
        }
        let url = format!("{at}{target}?colour=red{end}");
        let reply = curl.ask(&["-X", &method, &url]).await;
        assert_ne!(reply.status, 405, "{method} {url}");
        assert!(!reply.body.contains("nothing at this address"), "{url}");
        let fixed = target.ends_with("openapi.json") || target.contains("/schema/");
        if target.starts_with("/api/v1") && !fixed {
            assert!(
                reply.body.contains("is not a parameter"),
                "{url}: {reply:?}"
            );
        }
    }
    let served = curl.ask(&[&format!("{at}/api/v1/openapi.json")]).await;
    assert_eq!(served.body, gateway::openapi());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_counted_and_all_of_ours_are_on_the_page() {
    let Some(curl) = Curl::find("metrics_are_counted_and_all_of_ours_are_on_the_page") else {
        return;
    };
    let world = World::start().await;
    let at = format!("http://{}", world.address());
    for path in ["/api/v1/status", "/api/v1/status", "/nowhere"] {
        curl.ask(&[&format!("{at}{path}")]).await;
    }
    let reply = curl.ask(&[&format!("{at}/metrics")]).await;
    assert!(
        reply
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    assert_eq!(reply.body.matches("# EOF").count(), 1, "{}", reply.body);
    assert!(reply.body.ends_with("# EOF\n"));
    for line in [
        r#"tradewind_gateway_requests_total{method="GET",route="/api/v1/status",status="200"} 2"#,
        r#"tradewind_gateway_requests_total{method="GET",route="none",status="404"} 1"#,
        "tradewind_node_validators 1",
        "tradewind_gateway_manifests_stored 0",
    ] {
        assert!(reply.body.contains(line), "{line}\n{}", reply.body);
    }
    let page = gateway::metrics_page();
    let ours = reply
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP tradewind_"));
    for name in ours.filter_map(|rest| rest.split(' ').next()) {
        assert!(page.contains(&format!("`tradewind_{name}")), "{name}");
    }
    world.stop().await;
}
