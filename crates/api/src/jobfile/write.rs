//! A job as a file, so that reading it gives the same job.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{FIELDS, JobFile, fields::SECTIONS, quantity};
use crate::view::text::Text as _;

impl JobFile {
    /// Writes the job as YAML, the keys in the table's order; what it does not say is left out.
    ///
    /// The first line names the schema, so that editors complete, where `schema` says where it is served.
    pub fn write(&self, schema: Option<&str>) -> String {
        let mut text = String::new();
        if let Some(address) = schema {
            line(
                &mut text,
                &format!("# yaml-language-server: $schema={address}"),
            );
        }
        let mut open = Vec::new();
        for field in FIELDS {
            let Some(value) = self.value(field.section, field.name) else {
                continue;
            };
            if field.section.is_empty() {
                line(&mut text, &format!("{}: {value}", field.name));
                continue;
            }
            if !open.contains(&field.section) {
                open.push(field.section);
                line(&mut text, &format!("{}:", field.section));
            }
            line(&mut text, &format!("  {}: {value}", field.name));
        }
        debug_assert!(
            open.len() <= SECTIONS.len(),
            "fields of a section stand together"
        );
        text
    }

    fn value(&self, section: &str, name: &str) -> Option<String> {
        match (section, name) {
            ("", "name") => self.name.as_ref().map(|name| scalar(name.as_str())),
            ("", "image") => self.image.as_deref().map(scalar),
            ("", "command") => self.command.as_deref().map(list),
            ("", "entrypoint") => self.entrypoint.as_deref().map(scalar),
            ("", "workdir") => self.workdir.as_deref().map(scalar),
            ("", "tier") => self.tier.map(|tier| tier.to_text()),
            ("", "env") => map(&self.env),
            ("", "secrets") => (!self.secrets.is_empty()).then(|| list(&self.secrets)),
            ("", "labels") => map(&self.labels),
            ("resources", "gpu") => self.gpu.as_ref().map(|gpu| {
                let model = gpu.model.as_ref().map_or("any", |model| model.as_str());
                scalar(&format!("{model}:{}", gpu.count))
            }),
            ("resources", "vram") => self.vram.map(quantity::write_size),
            ("resources", "cpu") => self.cpu.map(quantity::write_cores),
            ("resources", "memory") => self.memory.map(quantity::write_size),
            ("resources", "disk") => self.disk.map(quantity::write_size),
            ("resources", "count") => self.count.map(|count| count.to_string()),
            ("limits", "max_price") => {
                let amount =
                    |rate: market::Rate| market::Money::from_micros(rate.micros_per_hour());
                self.max_price
                    .map(|rate| quantity::write_money(amount(rate)))
            }
            ("limits", "budget") => self.budget.map(quantity::write_money),
            ("limits", "duration") => self.duration.map(quantity::write_duration),
            ("limits", "attempts") => self.attempts.map(|count| count.to_string()),
            ("limits", "window") => self.window.map(quantity::write_duration),
            ("limits", "wait") => self.wait.map(quantity::write_duration),
            ("limits", "on_budget") => self.on_budget.map(quantity::write_on_budget),
            ("limits", "on_partition") => self.on_partition.map(quantity::write_on_partition),
            ("where", "region") => {
                let names: Vec<String> = self.regions.iter().map(ToString::to_string).collect();
                (!names.is_empty()).then(|| list(&names))
            }
            ("where", "isolation") => self.isolation.map(|isolation| isolation.to_text()),
            ("where", "reliability") => {
                let text = |share| scalar(&format!(">={}", quantity::write_percent(share)));
                self.reliability.map(text)
            }
            ("where", "verified_only") => self.verified_only.map(|only| only.to_string()),
            _ => unreachable!("a test writes every field of the table"),
        }
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Writes a text plainly where nothing of YAML can mistake it, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    // A colon is plain between two other plain characters, as in h100:8.
    let inside = text
        .split(':')
        .all(|part| !part.is_empty() && part.chars().all(plain));
    let word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off"
    );
    if begins && inside && !word {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || !c.is_ascii() => {
                write!(quoted, "\\U{:08X}", u32::from(c)).expect("a string takes everything");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| scalar(word)).collect();
    format!("[{}]", words.join(", "))
}

fn map(map: &BTreeMap<String, String>) -> Option<String> {
    let entries: Vec<String> = map
        .iter()
        .map(|(name, text)| format!("{}: {}", scalar(name), scalar(text)))
        .collect();
    (!entries.is_empty()).then(|| format!("{{ {} }}", entries.join(", ")))
}
