//! `tradewind job init`: writes a job file from flags, or by asking four questions.

use std::path::{Path, PathBuf};

use api::jobfile::JobFile;

use crate::commands::run::Wanted;
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::output::{Output, Style};
use crate::words;

/// Where a file is written when none is named.
const FILE_DEFAULT: &str = "job.yaml";

/// Write a job file from the flags of run
///
/// At a terminal, what no flag says is asked for: the image, GPUs, the longest time and the most it may cost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tradewind job init\n  \
    tradewind job init --gpu h100:8 --budget 25 --for 8h 127.0.0.1:5000/train:v3 -- python train.py\n  \
    tradewind run -f job.yaml")]
pub(super) struct Args {
    #[command(flatten)]
    wanted: Wanted,
    /// Where to write; - is standard output
    #[arg(long, value_name = "FILE", default_value = FILE_DEFAULT)]
    to: PathBuf,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<u8> {
    let stdout = args.to == Path::new("-");
    if !stdout && !args.force && args.to.exists() {
        let what = format!("{} is there already", args.to.display());
        return Err(Failure::new("file-exists", what));
    }
    let mut job = args.wanted.job()?;
    if job.image.is_none() {
        if !context.output.can_ask() {
            return Err(
                Failure::new("usage", "no image is named, and nobody can be asked")
                    .hint("name one: tradewind job init HOST:PORT/NAME:TAG"),
            );
        }
        ask(&context.output, &mut job)?;
    }
    let endpoint = context.endpoint().unwrap_or("http://127.0.0.1:7070");
    let schema = format!("{}/api/v1/schema/job", endpoint.trim_end_matches('/'));
    let text = job.write(Some(&schema));
    if stdout {
        context.output.bytes(text.as_bytes());
        return Ok(exit::DONE);
    }
    std::fs::write(&args.to, text).map_err(io_failure("write", &args.to))?;
    let output = &context.output;
    let shown = args.to.display();
    output.say(&format!("{} wrote {shown}", output.mark(Style::Good)));
    output.say(&format!(
        "  see what it would cost:  {}",
        output.paint(Style::Good, &format!("tradewind plan -f {shown}"))
    ));
    output.say(&format!(
        "  run it:                  {}",
        output.paint(Style::Good, &format!("tradewind run -f {shown}"))
    ));
    Ok(exit::DONE)
}

/// Asks what no flag has said.
fn ask(output: &Output, job: &mut JobFile) -> Result<()> {
    let image = |text: &str| match text {
        "" => Err("an image is needed, as 127.0.0.1:5000/train:v3 or oci:/PATH".to_owned()),
        image => Ok(image.to_owned()),
    };
    job.image = Some(answer(output, "image", "", image)?);
    if job.gpu.is_none() && job.cpu.is_none() {
        let gpu = answer(
            output,
            "GPUs, as h100:8 or any, or none",
            "none",
            |text| match text {
                "none" => Ok(None),
                text => words::gpu(text).map(Some),
            },
        )?;
        job.gpu = gpu;
    }
    if job.duration.is_none() {
        job.duration = Some(answer(
            output,
            "longest running time",
            "1h",
            words::duration,
        )?);
    }
    if job.budget.is_none() {
        job.budget = Some(answer(
            output,
            "most it may cost, in dollars",
            "1",
            words::money,
        )?);
    }
    Ok(())
}

/// Asks until the answer can be read; the end of the input declines.
fn answer<T>(
    output: &Output,
    question: &str,
    default: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T> {
    /// Whoever errs this often wants the help, not another question.
    const ATTEMPTS: usize = 5;
    for _attempt in 0..ATTEMPTS {
        let Some(text) = output.question(question, default) else {
            break;
        };
        match read(&text) {
            Ok(value) => return Ok(value),
            Err(why) => output.say(&format!("  {why}")),
        }
    }
    Err(Failure::new(
        "declined",
        format!("no answer to: {question}"),
    ))
}
