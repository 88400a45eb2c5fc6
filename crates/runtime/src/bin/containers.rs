//! Containers by hand: the shim that this crate's tests use, and what they kill in place of an agent.
//!
//! ```text
//! containers probe ROOT embedded|runc|process
//! containers run   ROOT embedded|runc|process IMAGE ID [WORDS...]   print the output, end with its code
//! containers bench ROOT embedded|runc|process IMAGE COUNT            milliseconds of each step, median and most
//! containers hold  ROOT embedded|runc|process IMAGE ID [WORDS...]   start, say so, and stay until killed
//! ```

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use runtime::{
    ContainerId, ContainerSpec, ImageRef, Limits, LocalConfig, LocalRuntime, LogStream, Runtime,
    SHIM_ARGUMENT, Status,
};

type Failure = Box<dyn std::error::Error>;

const LIMITS: Limits = Limits {
    cpu_milli: 1000,
    memory_bytes: 256 << 20,
    pids: 64,
};
const LOG_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|a| a == SHIM_ARGUMENT).is_some() {
        return runtime::shim_main(arguments);
    }
    match serve(&arguments.collect::<Vec<_>>()) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            let mut text = e.to_string();
            let mut cause = e.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            let _ignored = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(arguments: &[OsString]) -> Result<u8, Failure> {
    let words: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    match words.as_slice() {
        ["probe", root, kind] => {
            let found = open(root, kind).await?.probe().await?;
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&found)?)?;
            Ok(0)
        }
        ["run", root, kind, image, id, words @ ..] => {
            let runtime = open(root, kind).await?;
            let id = start(&runtime, image, id, words).await?;
            let status = runtime.wait(&id).await?;
            for stream in [LogStream::Stdout, LogStream::Stderr] {
                let chunk = runtime.logs(&id, stream, 0, LOG_BYTES).await?;
                io::stdout().write_all(&chunk.bytes)?;
            }
            runtime.remove(&id).await?;
            writeln!(io::stderr(), "{status:?}")?;
            Ok(if let Status::Exited(exit) = status {
                exit.code
            } else {
                1
            })
        }
        ["bench", root, kind, image, count] => {
            bench(&open(root, kind).await?, image, count.parse()?).await?;
            Ok(0)
        }
        ["hold", root, kind, image, id, words @ ..] => {
            let runtime = open(root, kind).await?;
            start(&runtime, image, id, words).await?;
            writeln!(io::stdout(), "started")?;
            std::future::pending().await
        }
        _ => Err("see the head of this file for what it takes".into()),
    }
}

async fn open(root: &str, kind: &str) -> Result<LocalRuntime, Failure> {
    let config = LocalConfig::new(Path::new(root), std::env::current_exe()?);
    Ok(match kind {
        "embedded" => LocalRuntime::embedded(config).await?,
        "runc" => LocalRuntime::runc(config, "/usr/sbin/runc").await?,
        _ => LocalRuntime::process(config).await?,
    })
}

/// Runs an image that ends at once, again and again.
async fn bench(runtime: &LocalRuntime, image: &str, count: usize) -> Result<(), Failure> {
    let image = runtime.prepare(&image.parse::<ImageRef>()?).await?;
    let spec = ContainerSpec::new(image.digest, LIMITS);
    let id = ContainerId::new("bench")?;
    let steps = ["create", "start", "wait", "remove"];
    let mut times = vec![Vec::new(); steps.len()];
    for _ in 0..count {
        let mut last = Instant::now();
        let mut lap = |times: &mut Vec<f64>| {
            let now = Instant::now();
            times.push((now - last).as_secs_f64() * 1e3);
            last = now;
        };
        runtime.create(&id, &spec).await?;
        lap(&mut times[0]);
        runtime.start(&id).await?;
        lap(&mut times[1]);
        runtime.wait(&id).await?;
        lap(&mut times[2]);
        runtime.remove(&id).await?;
        lap(&mut times[3]);
    }
    for (step, mut times) in steps.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        writeln!(
            io::stdout(),
            "{step:7} median {median:7.2} ms, most {most:7.2} ms"
        )?;
    }
    Ok(())
}

async fn start(
    runtime: &LocalRuntime,
    image: &str,
    id: &str,
    words: &[&str],
) -> Result<ContainerId, Failure> {
    let image = runtime.prepare(&image.parse::<ImageRef>()?).await?;
    let mut spec = ContainerSpec::new(image.digest, LIMITS);
    if !words.is_empty() {
        spec.args = Some(words.iter().map(|&w| w.to_owned()).collect());
    }
    let id = ContainerId::new(id)?;
    runtime.create(&id, &spec).await?;
    runtime.start(&id).await?;
    Ok(id)
}
