//! What Prometheus reads of an agent: how it serves its leases, and how its machine is.
//!
//! One struct. What is counted is counted as it happens; the rest is set after each round of the loop and each look of the
//! steward. [`serve()`] answers `GET /metrics` on an address that the provider names; [`page`] is the reference.

mod serve;

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{inventory::Inventory, steward::Closed};

pub use serve::{ServeError, serve};

/// The format, as Prometheus asks for it.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Every reason for which a machine may be closed, as its label has it.
const REASONS: [&str; 4] = ["disk", "driver", "device", "maintenance"];

/// Why a machine takes no leases.
type ReasonLabels = [(&'static str, &'static str); 1];
/// What was done, and how it ended.
type StepLabels = [(&'static str, &'static str); 2];

/// The metrics of one agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leases: Gauge,
    workloads: Gauge,
    beats: Counter,
    beats_waiting: Gauge,
    steps: Family<StepLabels, Counter>,
    ledger_silent: Gauge,
    looks: Counter,
    looks_failed: Counter,
    disk_free: Gauge<u64, AtomicU64>,
    gpus: Gauge,
    gpu_driver_failed: Gauge,
    closed: Family<ReasonLabels, Gauge>,
}

/// What the loop owns, after a round.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) leases: usize,
    pub(crate) workloads: usize,
    pub(crate) beats_waiting: usize,
    pub(crate) silent: bool,
}

impl Metrics {
    /// Makes them, all at nothing.
    pub fn new() -> Arc<Self> {
        let mut all = Self {
            registry: Registry::with_prefix("tradewind_agent"),
            leases: Gauge::default(),
            workloads: Gauge::default(),
            beats: Counter::default(),
            beats_waiting: Gauge::default(),
            steps: Family::default(),
            ledger_silent: Gauge::default(),
            looks: Counter::default(),
            looks_failed: Counter::default(),
            disk_free: Gauge::default(),
            gpus: Gauge::default(),
            gpu_driver_failed: Gauge::default(),
            closed: Family::default(),
        };
        all.register();
        for why in REASONS {
            all.closed.get_or_create(&[("why", why)]).set(0);
        }
        Arc::new(all)
    }

    #[rustfmt::skip]
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("leases", "Leases that the ledger wants on this machine", self.leases.clone());
        registry.register("workloads", "Workloads that run", self.workloads.clone());
        registry.register("beats", "Beats made", self.beats.clone());
        registry.register("beats_waiting", "Beats that the ledger has not yet", self.beats_waiting.clone());
        registry.register("steps", "Steps done for leases, by step and how they ended", self.steps.clone());
        registry.register("ledger_silent", "1 while the ledger does not answer", self.ledger_silent.clone());
        registry.register("looks", "Measurements of the machine", self.looks.clone());
        registry.register("looks_failed", "Measurements that came to nothing", self.looks_failed.clone());
        registry.register("disk_free_bytes", "Free space on the disk that leases use", self.disk_free.clone());
        registry.register("gpus", "GPUs that their driver names", self.gpus.clone());
        registry.register("gpu_driver_failed", "1 while the GPU driver does not answer: its devices are suspect", self.gpu_driver_failed.clone());
        registry.register("closed", "1 while the machine takes no leases, by why", self.closed.clone());
    }

    /// Counts a beat.
    pub(crate) fn beat(&self) {
        self.beats.inc();
    }

    /// Counts a step of a lease.
    pub(crate) fn step(&self, step: &'static str, went_well: bool) {
        let outcome = if went_well { "done" } else { "failed" };
        self.steps
            .get_or_create(&[("step", step), ("outcome", outcome)])
            .inc();
    }

    /// Takes over what the loop owns.
    pub(crate) fn round(&self, round: Round) {
        self.leases.set(small(round.leases));
        self.workloads.set(small(round.workloads));
        self.beats_waiting.set(small(round.beats_waiting));
        self.ledger_silent.set(i64::from(round.silent));
    }

    /// Takes over what the steward measured.
    pub(crate) fn measured(&self, inventory: &Inventory) {
        self.looks.inc();
        self.disk_free.set(inventory.host.disk.bytes());
        self.gpu_driver_failed
            .set(i64::from(inventory.gpus.is_err()));
        if let Ok(gpus) = &inventory.gpus {
            self.gpus.set(small(gpus.len()));
        }
    }

    /// Counts a look that came to nothing.
    pub(crate) fn look_failed(&self) {
        self.looks_failed.inc();
    }

    /// Takes over why the machine takes no leases, if it takes none.
    pub(crate) fn closed(&self, why: Option<&Closed>) {
        for reason in REASONS {
            let holds = why.is_some_and(|why| why.word() == reason);
            self.closed
                .get_or_create(&[("why", reason)])
                .set(i64::from(holds));
        }
    }

    /// Returns them all as `OpenMetrics` text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics cannot be written");
        }
        text
    }
}

/// Returns the reference page of an agent's metrics.
pub fn page() -> String {
    let metrics = Metrics::new();
    // A family shows its labels only once it has a member.
    metrics.step("start", true);
    let text = metrics.text();
    let mut page = "# Metrics of an agent\n\n\
        `tradewind provider start --metrics 127.0.0.1:7072` gives these at `/metrics`, as OpenMetrics text. Labels stand in braces.\n\n\
        | metric | kind | what |\n|---|---|---|\n"
        .to_owned();
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, about) = help.split_once(' ').unwrap_or((help, ""));
        let is_counter = text.contains(&format!("# TYPE {name} counter"));
        let (kind, suffix) = if is_counter {
            ("counter", "_total")
        } else {
            ("gauge", "")
        };
        let labels = labels_of(&text, &format!("{name}{suffix}{{"));
        let about = about.trim_end_matches('.');
        // Writing to a string does not fail.
        let _ = writeln!(page, "| `{name}{suffix}{labels}` | {kind} | {about} |");
    }
    page
}

/// Returns the names of the labels of a metric's samples, in braces; nothing for one without labels.
fn labels_of(text: &str, sample: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(sample));
    let labels = found.and_then(|rest| rest.split_once('}'));
    labels.map_or_else(String::new, |(labels, _)| {
        let names = labels.split(',').filter_map(|one| one.split('=').next());
        format!("{{{}}}", names.collect::<Vec<_>>().join(","))
    })
}

fn small(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use market::ByteSize;

    use super::*;

    #[test]
    fn the_committed_page_is_what_the_code_says() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/src/reference/metrics-agent.md"
        );
        let page = page();
        if std::env::var_os("DOCS_WRITE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            known == page,
            "{path} is stale; DOCS_WRITE=1 writes it anew"
        );
        assert!(
            page.contains("`tradewind_agent_steps_total{step,outcome}` | counter"),
            "{page}"
        );
        assert!(
            page.contains("`tradewind_agent_closed{why}` | gauge"),
            "{page}"
        );
    }

    #[test]
    fn one_reason_at_a_time_closes_a_machine() {
        let metrics = Metrics::new();
        let free = ByteSize::from_mib(1);
        metrics.closed(Some(&Closed::Disk { free }));
        metrics.closed(Some(&Closed::Device));
        let text = metrics.text();
        assert!(
            text.contains("tradewind_agent_closed{why=\"disk\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("tradewind_agent_closed{why=\"device\"} 1"),
            "{text}"
        );
        metrics.closed(None);
        assert!(
            !metrics
                .text()
                .contains("tradewind_agent_closed{why=\"device\"} 1")
        );
    }
}
