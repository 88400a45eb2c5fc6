//! The program inside the demo's container: a small renderer, and the chores that tests of a
//! container runtime need done inside one.
//!
//! It uses the standard library alone and is linked statically (`cargo xtask workload`), so that
//! an image holding nothing but this one file runs. Standard output carries results, standard
//! error carries progress.
//!
//! ```text
//! main.rs     the command line, and what to do for each command
//! render.rs   a deterministic path tracer: same arguments, same pixels, any number of threads
//! scene.rs    what the picture shows
//! vector.rs   the arithmetic both use
//! picture.rs  the finished pixels: fingerprint, PPM file, letters for a terminal
//! chores.rs   sleep, spin, spam and the rest
//! signals.rs  what to do about SIGTERM (the one file with unsafe code)
//! ```

mod chores;
mod picture;
mod render;
mod scene;
mod signals;
mod vector;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::render::Settings;

const USAGE: &str = "\
usage: tradewind-demo [render] [--width N] [--height N] [--samples N] [--threads N]
                      [--seconds S] [--out FILE.ppm]
       tradewind-demo sleep SECONDS      end on SIGTERM, as most programs do
       tradewind-demo polite SECONDS     on SIGTERM say so and end with code 0
       tradewind-demo deaf SECONDS       ignore SIGTERM
       tradewind-demo spin SECONDS       keep one core busy
       tradewind-demo alloc MIB [SECONDS]  touch that much memory, then hold it
       tradewind-demo tasks COUNT        start that many threads at once
       tradewind-demo spam BYTES         write that many bytes in numbered lines of 64
       tradewind-demo say TEXT...        one line to standard output
       tradewind-demo complain TEXT...   one line to standard error
       tradewind-demo exit CODE | env | cat FILE
";

/// Why a command ended without doing what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// What was attempted, and what the system answered.
    System(String, io::Error),
    /// A second rendering gave other pixels than the first.
    PixelsDiffer { first: u64, again: u64 },
}

impl Failure {
    /// Names what was attempted, for use with `map_err`.
    pub(crate) fn during(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System(what, source)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(failure) => {
            let (text, code) = match failure {
                Failure::Usage(what) => (format!("error: {what}\n{USAGE}"), 2),
                Failure::System(what, source) => {
                    (format!("error: could not {what}: {source}\n"), 1)
                }
                Failure::PixelsDiffer { first, again } => (
                    format!("error: pixels {again:016x} on repeating, {first:016x} at first\n"),
                    1,
                ),
            };
            // Nobody is left to tell when standard error itself is gone.
            let _written = io::stderr().write_all(text.as_bytes());
            ExitCode::from(code)
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode, Failure> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--help" | "-h" | "help"] => chores::say(USAGE.trim_end())?,
        ["render", options @ ..] => render::run(&settings(options)?)?,
        [] => render::run(&Settings::default())?,
        [option, ..] if option.starts_with("--") => render::run(&settings(&words)?)?,
        ["sleep", seconds] => chores::sleep(duration(seconds)?)?,
        ["polite", seconds] => chores::polite(duration(seconds)?)?,
        ["deaf", seconds] => chores::deaf(duration(seconds)?)?,
        ["spin", seconds] => chores::spin(duration(seconds)?)?,
        ["alloc", mib] => chores::alloc(number(mib, chores::MIB_MAX)?, Duration::ZERO)?,
        ["alloc", mib, seconds] => {
            chores::alloc(number(mib, chores::MIB_MAX)?, duration(seconds)?)?;
        }
        ["tasks", count] => chores::tasks(number(count, chores::TASKS_MAX)?)?,
        ["spam", bytes] => chores::spam(number(bytes, chores::SPAM_BYTES_MAX)?)?,
        ["say", text @ ..] => chores::say(&text.join(" "))?,
        ["complain", text @ ..] => chores::complain(&text.join(" "))?,
        ["exit", code] => {
            let code = code
                .parse::<u8>()
                .map_err(|_| usage(format!("no exit code: {code}")))?;
            return Ok(ExitCode::from(code));
        }
        ["env"] => chores::env()?,
        ["cat", file] => chores::cat(file)?,
        _ => return Err(usage(format!("cannot make sense of: {}", words.join(" ")))),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the renderer's options; each takes one value, and the last of two wins.
fn settings(options: &[&str]) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    let (pairs, rest) = options.as_chunks::<2>();
    for [name, value] in pairs {
        match *name {
            "--width" => settings.width = at_least_one(name, value, render::SIDE_MAX)?,
            "--height" => settings.height = at_least_one(name, value, render::SIDE_MAX)?,
            "--samples" => settings.samples = at_least_one(name, value, render::SAMPLES_MAX)?,
            "--threads" => settings.threads = at_least_one(name, value, render::THREADS_MAX)?,
            "--seconds" => settings.at_least = duration(value)?,
            "--out" => settings.out = Some(value.into()),
            _ => return Err(usage(format!("unknown option {name}"))),
        }
    }
    match rest {
        [] => Ok(settings),
        [name, ..] => Err(usage(format!("{name} needs a value"))),
    }
}

fn at_least_one(name: &str, value: &str, max: usize) -> Result<usize, Failure> {
    match number(value, max)? {
        0 => Err(usage(format!("{name} must be at least 1"))),
        number => Ok(number),
    }
}

fn number(text: &str, max: usize) -> Result<usize, Failure> {
    match text.parse() {
        Ok(number) if number <= max => Ok(number),
        _ => Err(usage(format!("not a whole number from 0 to {max}: {text}"))),
    }
}

/// Reads seconds, with a fraction if need be; a day at most, so that nothing runs for ever.
fn duration(text: &str) -> Result<Duration, Failure> {
    const LONGEST: Duration = Duration::from_hours(24);
    let seconds = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(usage(format!(
            "not a number of seconds up to a day: {text}"
        ))),
    }
}

fn usage(what: String) -> Failure {
    Failure::Usage(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_set_what_they_name() {
        let settings = settings(&["--width", "64", "--samples", "3", "--seconds", "1.5"]).unwrap();
        assert_eq!((settings.width, settings.samples), (64, 3));
        assert_eq!(settings.at_least, Duration::from_millis(1500));
        assert_eq!(settings.height, Settings::default().height);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for words in [
            &["--width"][..],
            &["--width", "0"],
            &["--width", "99999"],
            &["--depth", "1"],
            &["sleep", "-1"],
            &["sleep", "NaN"],
            &["sleep", "1e300"],
            &["exit", "256"],
            &["spam", "18446744073709551615"],
            &["dance"],
        ] {
            let args: Vec<String> = words.iter().map(ToString::to_string).collect();
            assert!(matches!(run(&args), Err(Failure::Usage(_))), "{words:?}");
        }
    }
}
