//! From a tree to a job.

use std::collections::BTreeMap;

use super::{
    BadJobFile, FIELDS, Field, JobFile,
    error::Fault,
    fields::{PLANNED, SECTIONS},
    nearest, quantity,
    tree::{self, Key, Mark, Node, Value},
};
use crate::view::text::Text;

impl JobFile {
    /// Reads a job file.
    ///
    /// # Errors
    /// The first fault: of YAML itself, an unknown key, or a value that is not of its kind.
    pub fn read(text: &str) -> Result<Self, BadJobFile> {
        let read = || {
            let root = tree::read(text)?;
            let mut job = Self::default();
            for (key, node) in root.entries("a job file has keys, as image: NAME")? {
                top(&mut job, key, node)?;
            }
            Ok(job)
        };
        read().map_err(|fault: Fault| fault.in_text(text))
    }
}

fn top(job: &mut JobFile, key: &Key, node: &Node) -> Result<(), Fault> {
    if let Some((section, _)) = SECTIONS.iter().find(|(name, _)| *name == key.text) {
        let what = format!("{section} has keys of its own");
        for (key, node) in node.entries(&what)? {
            set(job, known(section, key)?, node)?;
        }
        return Ok(());
    }
    set(job, known("", key)?, node)
}

/// Finds the key in the table, or says what was meant.
fn known(section: &str, key: &Key) -> Result<&'static Field, Fault> {
    let word = key.text.as_str();
    let here = |field: &&Field| field.section == section;
    if let Some(field) = FIELDS.iter().filter(here).find(|f| f.name == word) {
        return Ok(field);
    }
    if section.is_empty() && PLANNED.contains(&word) {
        return Err(Fault::new(key.at, format!("{word} is not supported yet")));
    }
    let whose = if section.is_empty() {
        "a job file".to_owned()
    } else {
        section.to_owned()
    };
    let fault = Fault::new(key.at, format!("{whose} has no key {word:?}"));
    if let Some(field) = FIELDS.iter().find(|field| field.name == word) {
        return Err(fault.hint(match field.section {
            "" => format!("{word} stands at the top, not under {section}"),
            section => format!("{word} stands under {section}"),
        }));
    }
    let sections = SECTIONS.iter().map(|(name, _)| *name);
    let sections = sections.filter(|_| section.is_empty());
    let names = FIELDS.iter().filter(here).map(|field| field.name);
    let names: Vec<&str> = names.chain(sections).collect();
    Err(match nearest(word, names.iter().copied()) {
        Some(name) => fault.hint(format!("did you mean: {name}")),
        None => fault.hint(format!("it has: {}", names.join(", "))),
    })
}

/// Reads the value of a field of the table.
fn set(job: &mut JobFile, field: &Field, node: &Node) -> Result<(), Fault> {
    match (field.section, field.name) {
        ("", "name") => job.name = Some(node.parse(quantity::name)?),
        ("", "image") => job.image = Some(node.text()?.to_owned()),
        ("", "command") => job.command = Some(node.words()?),
        ("", "entrypoint") => job.entrypoint = Some(node.text()?.to_owned()),
        ("", "workdir") => job.workdir = Some(node.parse(absolute)?),
        ("", "tier") => job.tier = Some(node.choice(field)?),
        ("", "env") => job.env = node.map(quantity::variable_name)?,
        ("", "secrets") => job.secrets = node.list(quantity::variable_name)?,
        ("", "labels") => job.labels = node.map(quantity::label_name)?,
        ("resources", "gpu") => job.gpu = Some(node.parse(quantity::gpu)?),
        ("resources", "vram") => job.vram = Some(node.parse(quantity::size)?),
        ("resources", "cpu") => job.cpu = Some(node.parse(quantity::cores)?),
        ("resources", "memory") => job.memory = Some(node.parse(quantity::size)?),
        ("resources", "disk") => job.disk = Some(node.parse(quantity::size)?),
        ("resources", "count") => job.count = Some(node.parse(count)?),
        ("limits", "max_price") => job.max_price = Some(node.parse(quantity::rate)?),
        ("limits", "budget") => job.budget = Some(node.parse(quantity::money)?),
        ("limits", "duration") => job.duration = Some(node.parse(quantity::duration)?),
        ("limits", "attempts") => job.attempts = Some(node.parse(count)?),
        ("limits", "window") => job.window = Some(node.parse(quantity::duration)?),
        ("limits", "wait") => job.wait = Some(node.parse(quantity::duration)?),
        ("limits", "on_budget") => job.on_budget = Some(node.parse(quantity::on_budget)?),
        ("limits", "on_partition") => {
            job.on_partition = Some(node.parse(quantity::on_partition)?);
        }
        ("where", "region") => job.regions = node.names()?,
        ("where", "isolation") => job.isolation = Some(node.choice(field)?),
        ("where", "reliability") => job.reliability = Some(node.parse(quantity::percent)?),
        ("where", "verified_only") => job.verified_only = Some(node.truth()?),
        _ => unreachable!("a test reads every field of the table"),
    }
    Ok(())
}

impl Node {
    /// Returns its keys and values.
    ///
    /// # Errors
    /// `what`, where it has none.
    pub fn entries(&self, what: &str) -> Result<&[(Key, Self)], Fault> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            Value::Scalar { .. } | Value::List(_) => Err(Fault::new(self.at, what)),
        }
    }

    /// Returns text, a number or a word as it stands.
    ///
    /// # Errors
    /// Where it is nothing, a list or keys.
    pub fn text(&self) -> Result<&str, Fault> {
        match &self.value {
            Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null") => {
                Err(Fault::new(self.at, "there is no value")
                    .hint("give it one, or take the line out"))
            }
            Value::Scalar { text, .. } => Ok(text),
            Value::List(_) => Err(Fault::new(self.at, "one value is wanted here, not a list")),
            Value::Map(_) => Err(Fault::new(self.at, "one value is wanted here, not keys")),
        }
    }

    /// Reads a value of one word.
    ///
    /// # Errors
    /// What `read` says, at its place.
    pub fn parse<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Fault> {
        read(self.text()?).map_err(|what| Fault::new(self.at, what))
    }

    fn choice<T: Text>(&self, field: &Field) -> Result<T, Fault> {
        let super::Kind::Choice(words) = field.kind else {
            unreachable!("only choices are read as such");
        };
        let text = self.text()?;
        let fault = || {
            let what = format!("{text:?} is no {}; use {}", field.name, words.join(", "));
            let fault = Fault::new(self.at, what);
            match nearest(text, words.iter().copied()) {
                Some(word) => fault.hint(format!("did you mean: {word}")),
                None => fault,
            }
        };
        let known = words.contains(&text).then(|| T::from_text(text)).flatten();
        known.ok_or_else(fault)
    }

    fn truth(&self) -> Result<bool, Fault> {
        match (self.text()?, &self.value) {
            ("true", Value::Scalar { plain: true, .. }) => Ok(true),
            ("false", Value::Scalar { plain: true, .. }) => Ok(false),
            (text, _) => Err(Fault::new(
                self.at,
                format!("{text:?} is neither true nor false"),
            )),
        }
    }

    /// Returns the items of a list.
    ///
    /// # Errors
    /// `what`, where it is none.
    pub fn items(&self, what: &str) -> Result<&[Self], Fault> {
        match &self.value {
            Value::List(items) => Ok(items),
            Value::Scalar { .. } | Value::Map(_) => Err(Fault::new(self.at, what)),
        }
    }

    fn list<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Fault> {
        let items = self.items("a list is wanted here, as [A, B]")?;
        items.iter().map(|item| item.parse(&read)).collect()
    }

    /// Returns words: a list as it is, even with empty ones, or one text split.
    fn words(&self) -> Result<Vec<String>, Fault> {
        if let Value::Scalar { .. } = &self.value {
            return self.parse(quantity::command_words);
        }
        let items = self.items("a command is a text or a list of words")?;
        if items.is_empty() {
            return Err(Fault::new(self.at, "the command has no words"));
        }
        let word = |item: &Self| match &item.value {
            Value::Scalar { text, plain: false } => Ok(text.clone()),
            _ => item.text().map(ToOwned::to_owned),
        };
        items.iter().map(word).collect()
    }

    fn names(&self) -> Result<Vec<market::Name>, Fault> {
        if let Value::Scalar { .. } = &self.value {
            return Ok(vec![self.parse(quantity::name)?]);
        }
        self.list(quantity::name)
    }

    /// Returns names with texts; a text may be empty where it stands in quotes.
    fn map(
        &self,
        name: impl Fn(&str) -> Result<String, String>,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let mut map = BTreeMap::new();
        for (key, node) in self.entries("names with values are wanted here, as { NAME: value }")? {
            let name = name(&key.text).map_err(|what| Fault::new(key.at, what))?;
            let text = match &node.value {
                Value::Scalar { text, plain: false } => text.as_str(),
                _ => node.text()?,
            };
            require_no_zero(node.at, text)?;
            map.insert(name, text.to_owned());
        }
        Ok(map)
    }
}

fn require_no_zero(at: Mark, text: &str) -> Result<(), Fault> {
    if text.contains('\0') {
        return Err(Fault::new(at, "a value cannot hold a zero byte"));
    }
    Ok(())
}

fn count<T: TryFrom<u16>>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().filter(|number: &u16| *number > 0);
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is no number from 1 to {}",
                (1_u64 << (8 * size_of::<T>())) - 1
            )
        })
}

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not absolute; begin it with /"))
}
