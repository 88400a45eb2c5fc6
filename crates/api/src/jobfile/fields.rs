//! Which keys a job file has.

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The section that it stands under; empty at the top.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What stands there.
    pub kind: Kind,
    /// What it says, without a period.
    pub about: &'static str,
    /// What counts where it is absent; empty where nothing does.
    pub default: &'static str,
    /// A value, as YAML.
    pub example: &'static str,
}

impl Field {
    /// Returns the key with its section, as `limits.budget`.
    pub fn path(&self) -> String {
        if self.section.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.section, self.name)
        }
    }
}

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A name as the ledger takes it.
    Name,
    /// A list of words, or one text that is split as a shell does.
    Words,
    /// Names with texts.
    Map,
    /// A list of variables' names.
    Variables,
    /// A name, or a list of them.
    Names,
    /// A GPU model and how many.
    Gpu,
    /// A size in bytes with a binary unit.
    Size,
    /// A number of cores.
    Cores,
    /// Dollars.
    Dollars,
    /// A duration.
    Duration,
    /// A whole number from 1.
    Count {
        /// The largest.
        max: u16,
    },
    /// A share in percent.
    Percent,
    /// Yes or no.
    Truth,
    /// A word, or `pause:` and a duration.
    Pause {
        /// The word.
        otherwise: &'static str,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// The sections, with what they are for.
pub const SECTIONS: &[(&str, &str)] = &[
    ("resources", "What the machine must have"),
    ("limits", "What it may cost, and how long it may take"),
    ("where", "Which machines will do"),
];

/// Keys that are planned: whoever writes one learns that it is not a typing error.
pub(super) const PLANNED: &[&str] = &[
    "mounts", "ports", "retry", "verify", "replicas", "model", "health", "scale", "user",
];

const fn field(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    about: &'static str,
    default: &'static str,
    example: &'static str,
) -> Field {
    Field {
        section,
        name,
        kind,
        about,
        default,
        example,
    }
}

/// Every key, in the order in which a file is written.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("", "name", Kind::Name, "A name to call the job by", "", "finetune"),
    field("", "image", Kind::Text, "What to run: HOST:PORT/NAME[:TAG][@sha256:…], or oci:/PATH[:TAG] of a local folder, or docker-archive:/FILE of an archive", "", "127.0.0.1:5000/train:v3"),
    field("", "command", Kind::Words, "Arguments that replace the image's own", "", "python train.py --epochs 3"),
    field("", "entrypoint", Kind::Text, "Program that replaces the image's entrypoint", "", "/usr/bin/python3"),
    field("", "workdir", Kind::Text, "Working directory inside, absolute", "", "/app"),
    field("", "tier", Kind::Choice(&["spot", "on-demand", "reserved"]), "How firmly the machine is given", "on-demand", "spot"),
    field("resources", "gpu", Kind::Gpu, "GPUs: a model or any, and how many", "", "h100:8"),
    field("resources", "vram", Kind::Size, "Least memory of each GPU", "", "80G"),
    field("resources", "cpu", Kind::Cores, "Processor cores; without gpu it takes CPU slots", "", "16"),
    field("resources", "memory", Kind::Size, "Memory; the devices' share of the machine where it is absent", "", "128G"),
    field("resources", "disk", Kind::Size, "Disk for what it writes", "1G", "200G"),
    field("resources", "count", Kind::Count { max: 255 }, "How many devices, where gpu does not say it", "1", "2"),
    field("limits", "max_price", Kind::Dollars, "Most it pays per device and hour", "", "1.80"),
    field("limits", "budget", Kind::Dollars, "Most it may cost in all; held when it starts, the rest returns", "", "25"),
    field("limits", "duration", Kind::Duration, "Longest running time", "1h", "8h"),
    field("limits", "attempts", Kind::Count { max: u16::MAX }, "Attempts that failing work may use up", "1", "3"),
    field("limits", "window", Kind::Duration, "Collect bids for this long instead of taking the best offer at once", "", "30s"),
    field("limits", "wait", Kind::Duration, "Where nothing matches, wait in the book for this long", "", "10m"),
    field("limits", "on_budget", Kind::Pause { otherwise: "end" }, "When the budget is reached: end, or pause and keep the disk for so long, until budget is added", "end", "pause:1h"),
    field("limits", "on_partition", Kind::Pause { otherwise: "keep" }, "When the machine does not hear from the ledger: keep running, or pause after so long until it does", "keep", "pause:10m"),
    field("where", "region", Kind::Names, "Regions that will do; any where it is absent", "", "eu-west"),
    field("where", "isolation", Kind::Choice(&["none", "container", "vm", "tee"]), "Weakest isolation that will do", "container", "vm"),
    field("where", "reliability", Kind::Percent, "Least reliability by the ledger's own evidence, in percent; a provider without evidence fails", "", "\">=99.5\""),
    field("where", "verified_only", Kind::Truth, "Whether only what was measured or attested counts, not what providers say of their machines", "false", "true"),
    field("", "env", Kind::Map, "Variables of the environment", "", "{ HF_HOME: /data/hf }"),
    field("", "secrets", Kind::Variables, "Variables whose values come from the environment of whoever starts the job, and are never shown", "", "[HF_TOKEN]"),
    field("", "labels", Kind::Map, "Labels to find jobs by; they stay on the machine of whoever starts the job", "", "{ team: vision }"),
];
