//! Every parser of bytes from others, as a fuzz target.
//!
//! A [`Target`] must take any bytes: it may refuse them, and panics only where the code under test is wrong. What it
//! accepts must encode back to the same bytes, so that nothing has two spellings. Three things run the targets:
//!
//! - the ordinary tests of this crate: each seed, whole, cut short at every length and with every bit flipped, then
//!   some thousand random damages, and every crash that was ever found (`crashes/TARGET/`);
//! - `cargo xtask fuzz [TARGET] [--seconds N]`: libFuzzer with coverage (the crate in `driver/`);
//! - `cargo run --release -p fuzz -- TARGET FILE`: one input, to look at a crash.

mod bytes;
mod images;
mod ledger;
pub mod mutate;
mod texts;

/// Something that reads foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line, and of its folder of crashes.
    pub name: &'static str,
    /// Where such bytes come from.
    pub from: &'static str,
    /// Reads them.
    pub run: fn(&[u8]),
    /// Well-formed inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "transaction",
        from: "anyone, posted to a gateway",
        run: bytes::transaction,
        seeds: bytes::transactions,
    },
    Target {
        name: "grant",
        from: "whoever dials a machine",
        run: bytes::grant,
        seeds: bytes::grants,
    },
    Target {
        name: "record",
        from: "a store that another may have damaged, or a proof",
        run: bytes::record,
        seeds: bytes::records,
    },
    Target {
        name: "block",
        from: "a proposer",
        run: bytes::block,
        seeds: bytes::blocks,
    },
    Target {
        name: "header",
        from: "a node that serves proofs",
        run: bytes::header,
        seeds: bytes::headers,
    },
    Target {
        name: "bundle",
        from: "a node that serves proofs",
        run: bytes::bundle,
        seeds: bytes::bundles,
    },
    Target {
        name: "manifest",
        from: "a tenant, opened by a machine",
        run: bytes::manifest,
        seeds: bytes::manifests,
    },
    Target {
        name: "sealed-job",
        from: "a tenant, posted to a keeper",
        run: bytes::sealed_job,
        seeds: bytes::sealed_jobs,
    },
    Target {
        name: "frames",
        from: "either end of a stream between machines",
        run: net::fuzz::frames,
        seeds: bytes::frames,
    },
    Target {
        name: "image",
        from: "a registry or a folder that a tenant names",
        run: images::manifest,
        seeds: images::manifests,
    },
    Target {
        name: "layer",
        from: "a registry or a folder that a tenant names",
        run: images::layer,
        seeds: images::layers,
    },
    Target {
        name: "registry",
        from: "a registry, in its refusals and beside its blobs",
        run: images::registry,
        seeds: images::registries,
    },
    Target {
        name: "devices",
        from: "whoever wrote a machine's device descriptions",
        run: images::devices,
        seeds: images::device_specs,
    },
    Target {
        name: "job-file",
        from: "a tenant, or whoever wrote the file",
        run: texts::job_file,
        seeds: texts::job_files,
    },
    Target {
        name: "query",
        from: "an HTTP client",
        run: texts::query,
        seeds: texts::queries,
    },
    Target {
        name: "answers",
        from: "a gateway that may lie to its clients",
        run: texts::answers,
        seeds: texts::bodies,
    },
    Target {
        name: "event-stream",
        from: "a gateway that may lie to its clients",
        run: api::client::fuzz_event_stream,
        seeds: texts::streams,
    },
    Target {
        name: "ids",
        from: "anyone who types",
        run: texts::ids,
        seeds: texts::id_seeds,
    },
    Target {
        name: "ledger",
        from: "signers who send what they like, in any order",
        run: ledger::run,
        seeds: ledger::seeds,
    },
];

/// Finds a target by name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
