//! Job files: what to run, on what, for how much, as a page of YAML.
//!
//! Every key has its counterpart on the command line, and a flag wins over the file. One table ([`fields`]) says which
//! keys there are; the reader, the published JSON Schema and the suggestions after a typing error come from it. A key
//! that is not in it is an error, because a misspelt limit must never become no limit.
//!
//! # Map
//! - [`JobFile`]: what a file says, every key optional; [`JobFile::read`] and [`JobFile::write`]
//! - [`fields`]: the table of keys; [`schema()`]: the same as a JSON Schema
//! - [`quantity`]: sizes, prices, durations and GPU models as people type them
//! - [`BadJobFile`]: what is wrong, at which line and column
//! - [`tree`]: the YAML below it, bounded

use std::collections::BTreeMap;

use market::{
    BasisPoints, ByteSize, Isolation, MilliCpu, Millis, Money, Name, OnBudget, OnPartition, Rate,
    Tier,
};

mod error;
pub mod fields;
pub mod quantity;
mod read;
mod schema;
#[cfg(test)]
mod tests;
pub mod tree;
mod write;

pub use error::{BadJobFile, FILE_BYTES_MAX, Fault};
pub use fields::{FIELDS, Field, Kind};
use quantity::GpuNeed;
pub use schema::schema;

/// What a job file says. What it does not say is `None` or empty; defaults are the reader's to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFile {
    /// A name to call the job by.
    pub name: Option<Name>,
    /// What to run.
    pub image: Option<String>,
    /// Arguments that replace the image's own.
    pub command: Option<Vec<String>>,
    /// Program that replaces the image's entrypoint.
    pub entrypoint: Option<String>,
    /// Working directory inside, absolute.
    pub workdir: Option<String>,
    /// How firmly the machine is given.
    pub tier: Option<Tier>,
    /// GPUs: which and how many.
    pub gpu: Option<GpuNeed>,
    /// Least memory of each GPU.
    pub vram: Option<ByteSize>,
    /// Processor cores.
    pub cpu: Option<MilliCpu>,
    /// Memory.
    pub memory: Option<ByteSize>,
    /// Disk.
    pub disk: Option<ByteSize>,
    /// How many devices, where `gpu` does not say it.
    pub count: Option<u8>,
    /// Most it pays per device-hour.
    pub max_price: Option<Rate>,
    /// Most it may cost in all.
    pub budget: Option<Money>,
    /// Longest running time.
    pub duration: Option<Millis>,
    /// Attempts that failing work may use up.
    pub attempts: Option<u16>,
    /// How long bids are collected.
    pub window: Option<Millis>,
    /// How long it may wait in the book.
    pub wait: Option<Millis>,
    /// What happens when its budget is reached.
    pub on_budget: Option<OnBudget>,
    /// What happens when its machine does not hear from the ledger.
    pub on_partition: Option<OnPartition>,
    /// Regions that will do.
    pub regions: Vec<Name>,
    /// Weakest isolation that will do.
    pub isolation: Option<Isolation>,
    /// Least reliability by the ledger's own evidence.
    pub reliability: Option<BasisPoints>,
    /// Whether only what was measured or attested counts.
    pub verified_only: Option<bool>,
    /// Variables of the environment.
    pub env: BTreeMap<String, String>,
    /// Names of variables whose values come from the environment of whoever starts the job, and are never shown.
    pub secrets: Vec<String>,
    /// Labels, kept on the machine of whoever starts the job.
    pub labels: BTreeMap<String, String>,
}

impl JobFile {
    /// Returns what `self` says, and what `base` says where `self` is silent: flags over a file.
    ///
    /// Lists are taken whole; variables, secrets and labels are joined, name by name.
    pub fn over(self, base: Self) -> Self {
        let joined = |mut under: BTreeMap<String, String>, over: BTreeMap<String, String>| {
            under.extend(over);
            under
        };
        let mut secrets = base.secrets;
        secrets.retain(|name| !self.secrets.contains(name));
        secrets.extend(self.secrets);
        Self {
            name: self.name.or(base.name),
            image: self.image.or(base.image),
            command: self.command.or(base.command),
            entrypoint: self.entrypoint.or(base.entrypoint),
            workdir: self.workdir.or(base.workdir),
            tier: self.tier.or(base.tier),
            gpu: self.gpu.or(base.gpu),
            vram: self.vram.or(base.vram),
            cpu: self.cpu.or(base.cpu),
            memory: self.memory.or(base.memory),
            disk: self.disk.or(base.disk),
            count: self.count.or(base.count),
            max_price: self.max_price.or(base.max_price),
            budget: self.budget.or(base.budget),
            duration: self.duration.or(base.duration),
            attempts: self.attempts.or(base.attempts),
            window: self.window.or(base.window),
            wait: self.wait.or(base.wait),
            on_budget: self.on_budget.or(base.on_budget),
            on_partition: self.on_partition.or(base.on_partition),
            regions: if self.regions.is_empty() {
                base.regions
            } else {
                self.regions
            },
            isolation: self.isolation.or(base.isolation),
            reliability: self.reliability.or(base.reliability),
            verified_only: self.verified_only.or(base.verified_only),
            env: joined(base.env, self.env),
            secrets,
            labels: joined(base.labels, self.labels),
        }
    }
}

/// Returns the candidate nearest to `word`, if one is near enough to be a typing error.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this similarity a suggestion confuses more than it helps; clap uses the same.
    const ENOUGH: f64 = 0.7;
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > ENOUGH)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
