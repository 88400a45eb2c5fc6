//! What is asked for: the arguments, and the job and manifest that they make.

use std::collections::BTreeMap;
use std::path::Path;

use api::manifest::{Manifest, SecretText};
use market::{
    ByteSize, Claims, DeviceNeed, Digest, Isolation, JobKind, JobSpec, MilliCpu, Millis, Money,
    Name, OnBudget, OnPartition, Rate, Requirement, SlaClass, Tier, Verification,
};
use runtime::ImageRef;

use crate::error::{Failure, Result};
use crate::session::Session;
use crate::words::{self, GpuNeed};

/// Longest running time where none is given: long enough for most trials, short enough to bound a forgotten one.
const DURATION_DEFAULT: &str = "1h";
/// Disk where none is given: the writable layer of a small job.
const DISK_DEFAULT: &str = "1G";
/// A job that shall not wait still gives a lease a few blocks to be made.
const WAIT_MIN: Millis = Millis::from_secs(10);

/// Run an image on the cheapest machine that meets the needs
///
/// The best offer is taken at once, its price and the most that it can cost are shown before, and unused budget
/// returns at the end. Output is streamed; the exit code is the workload's own. Ctrl-C detaches.
///
/// Until verification exists, delivery is the provider's claim, and so is what a provider says of its machine. The
/// node you submit to keeps the job's key and can read what it runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tradewind run --budget 0.05 oci:/path/to/image\n  \
    tradewind run --gpu h100:8 --max-price 1.80 --for 6h -d 127.0.0.1:5000/train:v3 -- python train.py\n  \
    tradewind run --cpu 1 --mem 512M -y -e MODE=fast 127.0.0.1:5000/app -- /app --steps 10")]
#[expect(clippy::struct_excessive_bools, reason = "one flag each")]
pub(crate) struct Args {
    /// What to run: an image of a registry or of a local folder
    #[arg(
        value_name = "IMAGE",
        help = "HOST:PORT/NAME[:TAG][@sha256:…] of a registry, or oci:/PATH[:TAG] of a local folder"
    )]
    pub(crate) image: String,
    /// Arguments that replace the image's own
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,

    /// GPUs: a model or any, and how many: h100, h100:8, any:2
    #[arg(long, value_name = "MODEL[:N]", value_parser = words::gpu, help_heading = "Needs")]
    pub(crate) gpu: Option<GpuNeed>,
    /// Least memory of each GPU
    #[arg(long, value_name = "SIZE", value_parser = words::size, requires = "gpu", help_heading = "Needs")]
    pub(crate) vram: Option<ByteSize>,
    /// Processor cores; without --gpu it takes CPU slots
    #[arg(long, value_name = "CORES", value_parser = words::cores, help_heading = "Needs")]
    pub(crate) cpu: Option<MilliCpu>,
    /// Memory, else the devices' share of the machine
    #[arg(long, value_name = "SIZE", value_parser = words::size, help_heading = "Needs")]
    pub(crate) mem: Option<ByteSize>,
    /// Disk for what it writes
    #[arg(long, value_name = "SIZE", value_parser = words::size, default_value = DISK_DEFAULT, help_heading = "Needs")]
    pub(crate) disk: ByteSize,
    /// How many devices, where --gpu does not say it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), help_heading = "Needs")]
    pub(crate) count: Option<u8>,
    /// Region that will do, repeatable; any by default
    #[arg(long, value_name = "REGION", value_parser = words::name, help_heading = "Needs")]
    pub(crate) region: Vec<Name>,
    /// Weakest isolation that will do: none, container, vm or tee
    #[arg(long, value_name = "CLASS", value_parser = isolation, default_value = "container", help_heading = "Needs")]
    pub(crate) isolation: Isolation,
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
    /// Longest running time
    #[arg(long = "for", value_name = "TIME", value_parser = words::duration, default_value = DURATION_DEFAULT, help_heading = "Price and time")]
    pub(crate) duration: Millis,
    /// How firmly: spot, on-demand or reserved
    #[arg(long, value_name = "TIER", value_parser = crate::commands::tier, default_value = "on-demand", help_heading = "Price and time")]
    pub(crate) tier: Tier,
    /// Collect bids for this long instead of taking the best offer at once
    #[arg(long, value_name = "TIME", value_parser = words::duration, help_heading = "Price and time")]
    pub(crate) window: Option<Millis>,
    /// Where nothing matches, wait in the book for this long
    #[arg(long, value_name = "TIME", value_parser = words::duration, help_heading = "Price and time")]
    pub(crate) wait: Option<Millis>,
    /// Attempts that failing work may use up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), default_value_t = 1, help_heading = "Price and time")]
    pub(crate) attempts: u16,

    /// A name to call it by
    #[arg(long, value_name = "NAME", value_parser = words::name, help_heading = "Workload")]
    pub(crate) name: Option<Name>,
    /// Variable of the environment, repeatable
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = words::variable, help_heading = "Workload")]
    pub(crate) env: Vec<(String, String)>,
    /// Variable that is never shown, repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = words::variable, help_heading = "Workload")]
    pub(crate) secret: Vec<(String, String)>,
    /// Working directory inside, absolute
    #[arg(long, value_name = "DIR", help_heading = "Workload")]
    pub(crate) workdir: Option<String>,
    /// Program that replaces the image's entrypoint
    #[arg(long, value_name = "PROGRAM", help_heading = "Workload")]
    pub(crate) entrypoint: Option<String>,

    /// Do not stay: print the job's id and return
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Agree to the plan without being asked
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// A job and its manifest, ready but for keeper and budget.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The job.
    pub(crate) spec: JobSpec,
    /// What it runs.
    pub(crate) manifest: Manifest,
}

impl Request {
    /// Finds the image and makes the request from the arguments.
    pub(crate) async fn resolve(args: &Args, _session: &Session) -> Result<Self> {
        let image = image_reference(&args.image)?;
        let resolved = runtime::image::resolve(&image).await.map_err(|error| {
            Failure::new("bad-image", format!("could not find image {image}")).causes(&error)
        })?;
        let digest = Digest(*resolved.digest.as_bytes());
        let manifest = manifest(args, &image, digest)?;
        Ok(Self {
            spec: spec(args, ByteSize::from_bytes(resolved.compressed_bytes)),
            manifest,
        })
    }
}

/// Reads an image reference; a relative local path is made absolute, because the machine reads it from elsewhere.
fn image_reference(text: &str) -> Result<ImageRef> {
    let local = ["oci:", "docker-archive:"].into_iter().find_map(|kind| {
        let path = text.strip_prefix(kind)?;
        (!path.starts_with('/')).then_some((kind, path))
    });
    let text = match local {
        Some((kind, path)) => {
            let path = std::path::absolute(Path::new(path))
                .map_err(crate::error::io_failure("resolve", Path::new(path)))?;
            format!("{kind}{}", path.display())
        }
        None => text.to_owned(),
    };
    text.parse()
        .map_err(|error: runtime::image::InvalidImageRef| {
            Failure::new("bad-image", error.to_string())
        })
}

fn manifest(args: &Args, image: &ImageRef, digest: Digest) -> Result<Manifest> {
    let secrets: BTreeMap<String, SecretText> = args
        .secret
        .iter()
        .map(|(name, value)| (name.clone(), SecretText::new(value.clone())))
        .collect();
    let manifest = Manifest {
        command: args.entrypoint.clone().map(|program| vec![program]),
        args: (!args.command.is_empty()).then(|| args.command.clone()),
        env: args.env.iter().cloned().collect(),
        secrets,
        workdir: args.workdir.clone(),
        ..Manifest::new(image.to_string(), digest)
    };
    manifest
        .check()
        .map_err(|error| Failure::new("bad-manifest", error.to_string()))?;
    Ok(manifest)
}

fn spec(args: &Args, image_size: ByteSize) -> JobSpec {
    let window = args.window.unwrap_or(Millis::ZERO);
    JobSpec {
        name: args.name.clone(),
        kind: JobKind::Batch,
        needs: needs(args),
        tier: args.tier,
        budget: args.budget.unwrap_or(Money::ZERO),
        price_cap: args.max_price,
        duration_max: args.duration,
        attempts_max: args.attempts,
        window,
        wait_max: args
            .wait
            .unwrap_or(Millis::ZERO)
            .max(window.saturating_add(WAIT_MIN)),
        on_budget: OnBudget::End,
        on_partition: OnPartition::Keep,
        verification: Verification::None,
        storage_kept: ByteSize::ZERO,
        egress_max: ByteSize::ZERO,
        image_size,
        manifest: Digest::default(),
        keepers: Vec::new(),
    }
}

fn needs(args: &Args) -> Requirement {
    let device = match (&args.gpu, args.cpu) {
        (Some(gpu), _) => gpu.device(args.vram.unwrap_or(ByteSize::ZERO)),
        (None, Some(_)) => DeviceNeed::Cpu,
        (None, None) => DeviceNeed::Any,
    };
    let any = args.region.iter().any(|region| region.as_str() == "any");
    Requirement {
        device,
        count: args
            .count
            .or(args.gpu.as_ref().map(|gpu| gpu.count))
            .unwrap_or(1),
        cpu: args.cpu,
        memory: args.mem,
        disk: args.disk,
        isolation: args.isolation,
        regions: if any { Vec::new() } else { args.region.clone() },
        certificates: Vec::new(),
        reliability_min: None,
        sla: SlaClass::None,
        latency: None,
        providers: Vec::new(),
        exclude_machines: Vec::new(),
        exclude_domains: Vec::new(),
        claims: if args.verified_only {
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
