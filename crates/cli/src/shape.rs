//! What is shown of a list: `--fields`, `--sort` and `--limit`, alike for tables and for JSON; and views as YAML and CSV.

use serde_json::{Map, Value};

use crate::error::{Failure, Result, nearest};

/// What is shown of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Columns, or keys of JSON; empty is all.
    pub(crate) fields: Vec<String>,
    /// The column, or the key, to sort by; with a dash before it the largest comes first.
    pub(crate) sort: Option<String>,
    /// Most rows.
    pub(crate) limit: Option<usize>,
}

impl Shape {
    /// Tells whether everything is shown as it comes.
    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what to sort by, and whether the largest comes first.
    pub(crate) fn order(&self) -> Option<(&str, bool)> {
        let sort = self.sort.as_deref()?;
        Some(match sort.strip_prefix('-') {
            Some(name) => (name, true),
            None => (sort, false),
        })
    }

    /// Applies the shape to JSON objects.
    pub(crate) fn apply(&self, items: &mut Vec<Value>) -> Result<()> {
        if let Some((name, descending)) = self.order() {
            require_key(items, name)?;
            items.sort_by_cached_key(|item| item.get(name).map(sort_key));
            if descending {
                items.reverse();
            }
        }
        if let Some(limit) = self.limit {
            items.truncate(limit);
        }
        for field in &self.fields {
            require_key(items, field)?;
        }
        if !self.fields.is_empty() {
            for item in items {
                let kept = self.fields.iter().filter_map(|field| {
                    let value = item.get(field)?.clone();
                    Some((field.clone(), value))
                });
                *item = Value::Object(kept.collect());
            }
        }
        Ok(())
    }
}

fn require_key(items: &[Value], name: &str) -> Result<()> {
    let Some(first) = items.first().and_then(Value::as_object) else {
        return Ok(());
    };
    let known = items.iter().any(|item| item.get(name).is_some());
    if known {
        return Ok(());
    }
    Err(unknown(name, first.keys().map(String::as_str)))
}

/// Returns the failure of a field that does not exist, with the one that may have been meant.
pub(crate) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let failure = Failure::new("no-field", format!("there is no field {name:?}"));
    let failure = match nearest(&name.to_lowercase(), known.clone()) {
        Some(near) => failure.hint(format!("did you mean: {near}")),
        None => failure,
    };
    let all: Vec<&str> = known.collect();
    failure.hint(format!("there are: {}", all.join(", ")))
}

/// Orders numbers before texts; an amount counts by its micros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SortKey {
    /// A number, in thousandths.
    Number(i128),
    /// Anything else.
    Text(String),
}

fn sort_key(value: &Value) -> SortKey {
    if let Some(micros) = value.get("micros").and_then(Value::as_str) {
        return SortKey::Number(micros.parse().unwrap_or(0) * 1000);
    }
    match value {
        Value::Number(number) => cell_key(&number.to_string()),
        Value::String(text) => SortKey::Text(text.clone()),
        other => SortKey::Text(other.to_string()),
    }
}

/// Returns by what a cell of numbers is sorted: `0.09`, `3/8`, `1 h 30 m`, `9.4 GiB`, `4m ago`.
pub(crate) fn cell_key(cell: &str) -> SortKey {
    let factor = |unit: &str| match unit {
        "ms" => 1_i128,
        "" | "s" | "MiB" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "GiB" => 1_024_000,
        _ => 0,
    };
    let mut sum: Option<i128> = None;
    let mut rest = cell.split('/').next().unwrap_or(cell).trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-')
            .unwrap_or(rest.len());
        if digits == 0 {
            break;
        }
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let Some(micros) = micros(number) else { break };
        let part = micros.saturating_mul(factor(unit));
        sum = Some(sum.unwrap_or(0).saturating_add(part));
        rest = after.trim_start();
    }
    sum.map_or_else(|| SortKey::Text(cell.to_owned()), SortKey::Number)
}

/// Reads a decimal number in millionths.
fn micros(text: &str) -> Option<i128> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction: String = format!("{fraction:0<6}").chars().take(6).collect();
    Some(sign * format!("{whole}{fraction}").parse::<i128>().ok()?)
}

/// Writes a value as YAML. Texts that YAML could take for something else stand in quotes, as in JSON.
pub(crate) fn yaml(value: &Value) -> String {
    let mut text = String::new();
    write_yaml(&mut text, value, 0);
    text
}

fn write_yaml(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&"  ".repeat(depth));
                text.push_str(&scalar(&Value::String(key.clone())));
                text.push(':');
                write_nested(text, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                write_yaml(&mut inner, item, depth + 1);
                // The first line of what is inside stands beside the dash.
                text.push_str(&"  ".repeat(depth));
                text.push_str("- ");
                text.push_str(inner.trim_start());
            }
        }
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn write_nested(text: &mut String, value: &Value, depth: usize) {
    let nested = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    text.push(if nested { '\n' } else { ' ' });
    write_yaml(text, value, depth);
}

fn scalar(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    if begins && text.chars().all(plain) && !word {
        return text.clone();
    }
    value.to_string()
}

/// Writes one line of CSV (RFC 4180, but for its line ends).
pub(crate) fn csv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = cells.into_iter().map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    });
    let mut line = quoted.collect::<Vec<_>>().join(",");
    line.push('\n');
    line
}

/// Writes one object as CSV: its keys, and below them its values; amounts as dollars, what is nested as JSON.
pub(crate) fn csv_object(map: &Map<String, Value>, headers: bool) -> String {
    let cells: Vec<String> = map.values().map(csv_cell).collect();
    let mut text = String::new();
    if headers {
        text.push_str(&csv_line(map.keys().map(String::as_str)));
    }
    text.push_str(&csv_line(cells.iter().map(String::as_str)));
    text
}

fn csv_cell(value: &Value) -> String {
    if let Some(display) = value.get("display").and_then(Value::as_str) {
        return display.trim_start_matches('$').to_owned();
    }
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_sorted_as_people_read_them() {
        let ordered = |cells: &[&str]| cells.windows(2).all(|w| cell_key(w[0]) < cell_key(w[1]));
        assert!(ordered(&[
            "-0.5", "0.00", "0.09000", "0.1200", "12.34", "100"
        ]));
        assert!(ordered(&[
            "850 ms", "2.4 s", "1 m 5 s", "1 h 30 m", "2 d 0 h"
        ]));
        assert!(ordered(&["512 MiB", "1 GiB", "9.4 GiB", "80 GiB"]));
        assert!(ordered(&["3/8", "10/16"]));
        assert!(ordered(&["30s ago", "4m ago", "2h ago"]));
        assert!(
            cell_key("–") > cell_key("7"),
            "what is not known comes last"
        );
    }

    #[test]
    fn json_is_sorted_cut_and_narrowed() {
        let mut items = vec![
            json!({"id": "a", "cost": {"micros": "9"}, "n": 1}),
            json!({"id": "b", "cost": {"micros": "10"}, "n": 3}),
            json!({"id": "c", "cost": {"micros": "2"}, "n": 2}),
        ];
        let shape = Shape {
            fields: vec!["id".to_owned()],
            sort: Some("-cost".to_owned()),
            limit: Some(2),
        };
        shape.apply(&mut items).unwrap();
        assert_eq!(items, [json!({"id": "b"}), json!({"id": "a"})]);
        let wrong = Shape {
            sort: Some("ids".to_owned()),
            ..Shape::default()
        };
        assert_eq!(
            wrong.apply(&mut items).unwrap_err().hints()[0],
            "did you mean: id"
        );
    }

    #[test]
    fn yaml_reads_back_as_the_same_tree() {
        let view = json!({"items": [{"id": "job_1", "state": "no", "n": 1.5, "tags": [], "end": null,
            "cost": {"micros": "10", "display": "$0.000010"}}, ["x", ["y"]]], "next": null});
        let text = yaml(&view);
        assert_eq!(
            text,
            "items:\n  - cost:\n      display: \"$0.000010\"\n      micros: \"10\"\n    end: null\n    id: job_1\n    \"n\": 1.5\n    state: \"no\"\n    tags: []\n  - - x\n    - - \"y\"\nnext: null\n"
        );
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(
            csv_line(["a", "b,c", "d\"e", ""]),
            "a,\"b,c\",\"d\"\"e\",\n"
        );
        let view =
            json!({"id": "x", "cost": {"micros": "10", "display": "$0.000010"}, "end": null});
        let Value::Object(map) = view else {
            unreachable!()
        };
        assert_eq!(csv_object(&map, true), "cost,end,id\n0.000010,,x\n");
    }
}
