//! What is asked for: arguments over a job file, and the job and manifest that they make.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use api::jobfile::{BadJobFile, FILE_BYTES_MAX, JobFile};
use api::manifest::{Manifest, SecretText};
use market::{
    BasisPoints, ByteSize, Claims, DeviceNeed, Digest, Isolation, JobKind, JobSpec, MilliCpu,
    Millis, Money, Name, OnBudget, OnPartition, Rate, Requirement, SlaClass, Tier, Verification,
};
use runtime::ImageRef;

use crate::context;
use crate::error::{Failure, Result, io_failure};
use crate::session::Session;
use crate::words::{self, GpuNeed};

/// Longest running time where none is given: long enough for most trials, short enough to bound a forgotten one.
const DURATION_DEFAULT: Millis = Millis::from_secs(3600);
/// Disk where none is given: the writable layer of a small job.
const DISK_DEFAULT: ByteSize = ByteSize::from_gib(1);
/// A job that shall not wait still gives a lease a few blocks to be made.
const WAIT_MIN: Millis = Millis::from_secs(10);

/// Run an image on the cheapest machine that meets the needs
///
/// The best offer is taken at once, its price and the most that it can cost are shown before, and unused budget
/// returns at the end. Output is streamed; the exit code is the workload's own. Ctrl-C detaches.
///
/// With -o json or yaml, standard output gets the job's view once it has ended, and what the workload writes goes to
/// standard error. With -o jsonl it gets one object a line: events as they happen, pieces of output, and at last the job.
///
/// Until verification exists, delivery is the provider's claim, and so is what a provider says of its machine. The
/// node you submit to keeps the job's key and can read what it runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tradewind run --budget 0.05 oci:/path/to/image\n  \
    tradewind run -f job.yaml --max-price 1.20\n  \
    tradewind run --gpu h100:8 --max-price 1.80 --for 6h -d 127.0.0.1:5000/train:v3 -- python train.py\n  \
    tradewind run --cpu 1 --mem 512M -y -e MODE=fast 127.0.0.1:5000/app -- /app --steps 10")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Do not stay: print the job's id and return
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Agree to the plan without being asked
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// What is asked for, as flags; each has its counterpart in a job file, over which it wins.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// What to run: an image of a registry or of a local folder
    #[arg(
        value_name = "IMAGE",
        help = "HOST:PORT/NAME[:TAG][@sha256:…] of a registry, or oci:/PATH[:TAG] of a local folder, or docker-archive:/FILE of an archive"
    )]
    pub(crate) image: Option<String>,
    /// Arguments that replace the image's own
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
    /// Job file, or - for standard input; flags win over it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// GPUs: a model or any, and how many: h100, h100:8, any:2
    #[arg(long, value_name = "MODEL[:N]", value_parser = words::gpu, help_heading = "Needs")]
    pub(crate) gpu: Option<GpuNeed>,
    /// Least memory of each GPU
    #[arg(long, value_name = "SIZE", value_parser = words::size, help_heading = "Needs")]
    pub(crate) vram: Option<ByteSize>,
    /// Processor cores; without --gpu it takes CPU slots
    #[arg(long, value_name = "CORES", value_parser = words::cores, help_heading = "Needs")]
    pub(crate) cpu: Option<MilliCpu>,
    /// Memory, else the devices' share of the machine
    #[arg(long, alias = "memory", value_name = "SIZE", value_parser = words::size, help_heading = "Needs")]
    pub(crate) mem: Option<ByteSize>,
    /// Disk for what it writes [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = words::size, help_heading = "Needs")]
    pub(crate) disk: Option<ByteSize>,
    /// How many devices, where --gpu does not say it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), help_heading = "Needs")]
    pub(crate) count: Option<u8>,
    /// Region that will do, repeatable; any by default
    #[arg(long, value_name = "REGION", value_parser = words::name, help_heading = "Needs")]
    pub(crate) region: Vec<Name>,
    /// Weakest isolation that will do: none, container, vm or tee [default: container]
    #[arg(long, value_name = "CLASS", value_parser = isolation, help_heading = "Needs")]
    pub(crate) isolation: Option<Isolation>,
    /// Least reliability by the ledger's own evidence
    #[arg(long, value_name = "PERCENT", value_parser = words::percent, help_heading = "Needs")]
    pub(crate) min_reliability: Option<BasisPoints>,
    /// Accept what providers say of their machines; the default while nothing else exists
    #[arg(
        long,
        conflicts_with = "verified_only",
        help_heading = "Needs",
        hide_short_help = true
    )]
    pub(crate) allow_unverified: bool,
    /// Accept only what was measured or attested
    #[arg(long, help_heading = "Needs")]
    pub(crate) verified_only: bool,

    /// Most it may cost in all; held now, the rest returns
    #[arg(long, value_name = "DOLLARS", value_parser = words::money, help_heading = "Price and time")]
    pub(crate) budget: Option<Money>,
    /// Most it pays per device and hour
    #[arg(long, value_name = "DOLLARS", value_parser = words::rate, help_heading = "Price and time")]
    pub(crate) max_price: Option<Rate>,
    /// Longest running time [default: 1h]
    #[arg(long = "for", alias = "duration", value_name = "TIME", value_parser = words::duration, help_heading = "Price and time")]
    pub(crate) duration: Option<Millis>,
    /// How firmly: spot, on-demand or reserved [default: on-demand]
    #[arg(long, value_name = "TIER", value_parser = crate::commands::tier, help_heading = "Price and time")]
    pub(crate) tier: Option<Tier>,
    /// Collect bids for this long instead of taking the best offer at once
    #[arg(long, value_name = "TIME", value_parser = words::duration, help_heading = "Price and time")]
    pub(crate) window: Option<Millis>,
    /// Where nothing matches, wait in the book for this long
    #[arg(long, value_name = "TIME", value_parser = words::duration, help_heading = "Price and time")]
    pub(crate) wait: Option<Millis>,
    /// When the budget is reached: end, or pause:TIME to keep the disk for so long [default: end]
    #[arg(long, value_name = "WHAT", value_parser = words::on_budget, help_heading = "Price and time")]
    pub(crate) on_budget: Option<OnBudget>,
    /// When its machine does not hear from the ledger: keep, or pause:TIME to rest after so long [default: keep]
    #[arg(long, value_name = "WHAT", value_parser = words::on_partition, help_heading = "Price and time")]
    pub(crate) on_partition: Option<OnPartition>,
    /// Attempts that failing work may use up [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Price and time")]
    pub(crate) attempts: Option<u16>,

    /// A name to call it by
    #[arg(long, value_name = "NAME", value_parser = words::name, help_heading = "Workload")]
    pub(crate) name: Option<Name>,
    /// Label to find it by, repeatable; stays on this machine
    #[arg(long, value_name = "NAME=VALUE", value_parser = words::label, help_heading = "Workload")]
    pub(crate) label: Vec<(String, String)>,
    /// Variable of the environment, repeatable
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = words::variable, help_heading = "Workload")]
    pub(crate) env: Vec<(String, String)>,
    /// Variable that is never shown, repeatable; without a value it is taken from here
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = secret, help_heading = "Workload")]
    pub(crate) secret: Vec<(String, Option<SecretText>)>,
    /// Working directory inside, absolute
    #[arg(long, value_name = "DIR", help_heading = "Workload")]
    pub(crate) workdir: Option<String>,
    /// Program that replaces the image's entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = "Workload")]
    pub(crate) entrypoint: Option<String>,
}

impl Wanted {
    /// Returns what the flags and below them the job file ask for.
    pub(crate) fn job(&self) -> Result<JobFile> {
        let file = match &self.file {
            Some(path) => read_file(path)?,
            None => JobFile::default(),
        };
        let job = self.flags().over(file);
        if job.vram.is_some() && job.gpu.is_none() {
            return Err(
                Failure::new("usage", "memory of GPUs is asked for, but no GPU")
                    .hint("say which: --gpu h100, or any: --gpu any"),
            );
        }
        Ok(job)
    }

    fn flags(&self) -> JobFile {
        let verified_only = match (self.verified_only, self.allow_unverified) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        JobFile {
            name: self.name.clone(),
            image: self.image.clone(),
            command: (!self.command.is_empty()).then(|| self.command.clone()),
            entrypoint: self.entrypoint.clone(),
            workdir: self.workdir.clone(),
            tier: self.tier,
            gpu: self.gpu.clone(),
            vram: self.vram,
            cpu: self.cpu,
            memory: self.mem,
            disk: self.disk,
            count: self.count,
            max_price: self.max_price,
            budget: self.budget,
            duration: self.duration,
            attempts: self.attempts,
            window: self.window,
            wait: self.wait,
            on_budget: self.on_budget,
            on_partition: self.on_partition,
            regions: self.region.clone(),
            isolation: self.isolation,
            reliability: self.min_reliability,
            verified_only,
            env: self.env.iter().cloned().collect(),
            secrets: self.secret.iter().map(|(name, _)| name.clone()).collect(),
            labels: self.label.iter().cloned().collect(),
        }
    }

    /// Returns the values of the job's secrets: from the command line, else from the environment here.
    fn secrets(&self, job: &JobFile) -> Result<BTreeMap<String, SecretText>> {
        let value = |name: &String| {
            let given = self.secret.iter().rev().find(|(other, _)| other == name);
            given
                .and_then(|(_, value)| value.clone())
                .or_else(|| context::variable(name).map(SecretText::new))
        };
        let mut secrets = BTreeMap::new();
        for name in &job.secrets {
            let value = value(name).ok_or_else(|| {
                Failure::new("no-secret", format!("the secret {name} is not set here"))
                    .hint(format!("set it before: export {name}=…"))
            })?;
            secrets.insert(name.clone(), value);
        }
        Ok(secrets)
    }
}

/// Reads a job file, or standard input for `-`; a relative local image is relative to the file.
fn read_file(path: &Path) -> Result<JobFile> {
    let stdin = path == Path::new("-");
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut bytes = Vec::new();
    let read = if stdin {
        std::io::stdin().take(limit).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    if let Err(error) = read {
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound => Failure::new(
                "no-job-file",
                format!("there is no job file {}", path.display()),
            ),
            _ => io_failure("read", path)(error),
        });
    }
    let shown = if stdin {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new("bad-job-file", format!("{shown} is no text in UTF-8")))?;
    let mut job = JobFile::read(&text).map_err(|error| bad_file(&shown, &error))?;
    if let (Some(image), Some(folder), false) = (&mut job.image, path.parent(), stdin) {
        *image = anchored(image, folder)?;
    }
    Ok(job)
}

fn bad_file(shown: &str, error: &BadJobFile) -> Failure {
    let mut failure = Failure::new("bad-job-file", format!("{shown}:{error}"));
    for line in error.excerpt.lines() {
        failure = failure.detail(line);
    }
    match &error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A job and its manifest, ready but for keeper and budget.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The job.
    pub(crate) spec: JobSpec,
    /// What it runs.
    pub(crate) manifest: Manifest,
    /// Labels, kept on this machine.
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it may wait in the book where nothing matches.
    pub(crate) waits: bool,
}

impl Request {
    /// Finds the image and makes the request from the arguments.
    pub(crate) async fn resolve(args: &Args, _session: &Session) -> Result<Self> {
        Self::of(&args.wanted, args.wanted.job()?).await
    }

    /// Finds the image and makes the request from what was asked for.
    pub(crate) async fn of(wanted: &Wanted, job: JobFile) -> Result<Self> {
        let image = job.image.as_deref().ok_or_else(no_image)?;
        let image = image_reference(image)?;
        let secrets = wanted.secrets(&job)?;
        let resolved = runtime::image::resolve(&image).await.map_err(|error| {
            Failure::new("bad-image", format!("could not find image {image}")).causes(&error)
        })?;
        let digest = Digest(*resolved.digest.as_bytes());
        let manifest = manifest(&job, secrets, &image, digest)?;
        Ok(Self {
            spec: spec(&job, ByteSize::from_bytes(resolved.compressed_bytes)),
            manifest,
            waits: waits(&job),
            labels: job.labels,
        })
    }
}

pub(super) fn no_image() -> Failure {
    Failure::new("usage", "no image is named").hint(
        "name one: tradewind run HOST:PORT/NAME:TAG, or in a job file: tradewind run -f job.yaml",
    )
}

/// Tells whether a job may wait in the book where nothing matches.
fn waits(job: &JobFile) -> bool {
    job.wait.is_some() || job.window.is_some_and(|window| !window.is_zero())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(io_failure("resolve", path))
}

/// Reads an image reference; a relative local path is made absolute, because the machine reads it from elsewhere.
fn image_reference(text: &str) -> Result<ImageRef> {
    let text = anchored(text, Path::new(""))?;
    text.parse()
        .map_err(|error: runtime::image::InvalidImageRef| {
            Failure::new("bad-image", error.to_string())
        })
}

/// Returns the reference with a relative local path below `folder`.
fn anchored(text: &str, folder: &Path) -> Result<String> {
    let local = ["oci:", "docker-archive:"].into_iter().find_map(|kind| {
        let path = text.strip_prefix(kind)?;
        (!path.starts_with('/')).then_some((kind, path))
    });
    match local {
        Some((kind, path)) => Ok(format!("{kind}{}", absolute(&folder.join(path))?.display())),
        None => Ok(text.to_owned()),
    }
}

fn manifest(
    job: &JobFile,
    secrets: BTreeMap<String, SecretText>,
    image: &ImageRef,
    digest: Digest,
) -> Result<Manifest> {
    let manifest = Manifest {
        command: job.entrypoint.clone().map(|program| vec![program]),
        args: job.command.clone(),
        env: job.env.clone(),
        secrets,
        workdir: job.workdir.clone(),
        ..Manifest::new(image.to_string(), digest)
    };
    manifest
        .check()
        .map_err(|error| Failure::new("bad-manifest", error.to_string()))?;
    Ok(manifest)
}

/// Makes the job; its budget may still be zero, which the plan then fixes.
pub(crate) fn spec(job: &JobFile, image_size: ByteSize) -> JobSpec {
    let window = job.window.unwrap_or(Millis::ZERO);
    JobSpec {
        name: job.name.clone(),
        kind: JobKind::Batch,
        needs: needs(job),
        tier: job.tier.unwrap_or(Tier::OnDemand),
        budget: job.budget.unwrap_or(Money::ZERO),
        price_cap: job.max_price,
        duration_max: job.duration.unwrap_or(DURATION_DEFAULT),
        attempts_max: job.attempts.unwrap_or(1),
        window,
        wait_max: job
            .wait
            .unwrap_or(Millis::ZERO)
            .max(window.saturating_add(WAIT_MIN)),
        on_budget: job.on_budget.unwrap_or(OnBudget::End),
        on_partition: job.on_partition.unwrap_or(OnPartition::Keep),
        verification: Verification::None,
        storage_kept: ByteSize::ZERO,
        egress_max: ByteSize::ZERO,
        image_size,
        manifest: Digest::default(),
        keepers: Vec::new(),
    }
}

fn needs(job: &JobFile) -> Requirement {
    let device = match (&job.gpu, job.cpu) {
        (Some(gpu), _) => gpu.device(job.vram.unwrap_or(ByteSize::ZERO)),
        (None, Some(_)) => DeviceNeed::Cpu,
        (None, None) => DeviceNeed::Any,
    };
    let any = job.regions.iter().any(|region| region.as_str() == "any");
    Requirement {
        device,
        count: job
            .count
            .or(job.gpu.as_ref().map(|gpu| gpu.count))
            .unwrap_or(1),
        cpu: job.cpu,
        memory: job.memory,
        disk: job.disk.unwrap_or(DISK_DEFAULT),
        isolation: job.isolation.unwrap_or(Isolation::Container),
        regions: if any { Vec::new() } else { job.regions.clone() },
        certificates: Vec::new(),
        reliability_min: job.reliability,
        sla: SlaClass::None,
        latency: None,
        providers: Vec::new(),
        exclude_machines: Vec::new(),
        exclude_domains: Vec::new(),
        claims: if job.verified_only == Some(true) {
            Claims::VerifiedOnly
        } else {
            Claims::Allowed
        },
    }
}

fn isolation(text: &str) -> Result<Isolation, String> {
    api::view::text::Text::from_text(text)
        .ok_or_else(|| format!("{text:?} is no isolation class; use none, container, vm or tee"))
}

/// Reads a secret: its name, and its value where that is given here.
fn secret(text: &str) -> Result<(String, Option<SecretText>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(SecretText::new(value))),
        None => (text, None),
    };
    // What stands after the sign is not repeated in an error.
    let name = words::variable_name(name)?;
    Ok((name, value))
}
