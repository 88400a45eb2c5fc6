//! The trial of `tradewind provider test`: an image is fetched, a container of it runs to its end, its output is read.

use std::time::{Duration, Instant};

use runtime::{ContainerId, ContainerSpec, ImageRef, Limits, LogStream, Runtime, Status};

use super::check::check;
use crate::commands::checks::Check;
use crate::words;

/// For an image to be fetched and unpacked.
const PREPARE_MAX: Duration = Duration::from_mins(5);
/// For the demo's program to write a few lines.
const RUN_MAX: Duration = Duration::from_mins(1);
/// What the demo's program is asked to write: 64 lines of 64 bytes.
const OUTPUT_BYTES: usize = 4096;
/// Small, so that a machine full of leases has room for it.
const LIMITS: Limits = Limits {
    cpu_milli: 500,
    memory_bytes: 64 << 20,
    pids: 32,
};
pub(super) const IMAGE_HINT: &str =
    "see why: tradewind help bad-image; a private registry is named to init: --registry HOST";
const RUN_HINT: &str = "see what this machine lacks: tradewind doctor";

/// Which image is tried, and how.
#[derive(Clone, Debug)]
pub(super) enum Trial {
    /// The demo's, whose program writes what it is asked to.
    Demo(String),
    /// Another, which is fetched and not run: nobody knows what it does.
    Fetch(String),
}

/// Tries an image in a runtime that is there for the trial alone.
pub(super) async fn try_image(runtime: &dyn Runtime, trial: &Trial) -> Vec<Check> {
    let (Trial::Demo(image) | Trial::Fetch(image)) = trial;
    let begun = Instant::now();
    let digest = match within(PREPARE_MAX, prepare(runtime, image)).await {
        Ok(digest) => digest,
        Err(why) => return vec![check("image", Err(format!("{image}: {why}")), IMAGE_HINT)],
    };
    let took = words::show_duration(market::Millis::from_millis(
        u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    ));
    let mut checks = vec![check(
        "image",
        Ok(format!("{image} prepared in {took}")),
        IMAGE_HINT,
    )];
    if let Trial::Demo(_) = trial {
        let ran = within(RUN_MAX, run(runtime, digest)).await;
        checks.push(check("workload and its output", ran, RUN_HINT));
    }
    checks
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let ended = tokio::time::timeout(deadline, work).await;
    ended.unwrap_or_else(|_| Err(format!("no end within {deadline:?}")))
}

async fn prepare(runtime: &dyn Runtime, image: &str) -> Result<runtime::Digest, String> {
    let reference: ImageRef = image
        .parse()
        .map_err(|error: runtime::image::InvalidImageRef| error.to_string())?;
    let prepared = runtime
        .prepare(&reference)
        .await
        .map_err(|e| with_causes(&e))?;
    Ok(prepared.digest)
}

/// Runs the demo's program, and always removes its container.
async fn run(runtime: &dyn Runtime, image: runtime::Digest) -> Result<String, String> {
    let id = ContainerId::new("trial").map_err(|error| error.to_string())?;
    let ran = start_and_read(runtime, &id, image).await;
    let removed = runtime.remove(&id).await.map_err(|e| with_causes(&e));
    let text = ran?;
    removed?;
    Ok(text)
}

async fn start_and_read(
    runtime: &dyn Runtime,
    id: &ContainerId,
    image: runtime::Digest,
) -> Result<String, String> {
    let spec = ContainerSpec {
        args: Some(vec!["spam".to_owned(), OUTPUT_BYTES.to_string()]),
        ..ContainerSpec::new(image, LIMITS)
    };
    runtime
        .create(id, &spec)
        .await
        .map_err(|e| with_causes(&e))?;
    let begun = Instant::now();
    runtime.start(id).await.map_err(|e| with_causes(&e))?;
    let started = begun.elapsed().as_millis();
    let status = runtime.wait(id).await.map_err(|e| with_causes(&e))?;
    let Status::Exited(exit) = &status else {
        return Err(format!("it did not run to its end: {status:?}"));
    };
    let wanted = OUTPUT_BYTES;
    let read = runtime
        .logs(id, LogStream::Stdout, 0, wanted.saturating_mul(2))
        .await
        .map_err(|e| with_causes(&e))?;
    if exit.code != 0 || read.bytes.len() != wanted {
        return Err(format!(
            "it ended with exit {}, {} of {wanted} bytes of output were kept",
            exit.code,
            read.bytes.len()
        ));
    }
    Ok(format!(
        "started in {started} ms, exit 0, all of its output kept"
    ))
}

fn with_causes(error: &runtime::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
