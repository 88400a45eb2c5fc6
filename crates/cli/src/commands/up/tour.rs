//! The demo's tour: the offers, a real job, what it wrote, what it cost, and the proof of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser as _;
use runtime::image::build::{ImageBuilder, LayerBuilder};

use crate::app::App;
use crate::commands::provider::RuntimeKind;
use crate::commands::run::{self, Follow, Request};
use crate::commands::{Command, lease, offers};
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::output::{Output, Style};
use crate::progress::Progress;
use crate::session::Session;

/// Names of the demo's program beside this one, best first; the static one runs in an image of its own.
const PROGRAMS: [&str; 2] = ["tradewind-demo-static", "tradewind-demo"];
/// What the first job may cost at most; it costs less than a hundredth of a cent.
const BUDGET: &str = "0.01";
/// What the first job draws, again and again for long enough to cost something.
const PICTURE: [&str; 7] = [
    "render",
    "--width",
    "96",
    "--height",
    "48",
    "--seconds",
    "3",
];

/// Runs the tour.
pub(super) async fn run(context: &Context, kind: RuntimeKind) -> Result<u8> {
    let output = Arc::clone(&context.output);
    let image = image(context)?;
    let session = Session::open(context).await?;
    let page = session.client.offers(&api::OfferFilter::default()).await?;
    output.say("");
    if output.talks() {
        output.list(&page, &page.items, &offers::table(&page.items))?;
    }
    let code = first_job(context, &session, kind, &image).await?;
    output.say(&format!("\n{}", next(&output)));
    Ok(code)
}

async fn first_job(
    context: &Context,
    session: &Session,
    kind: RuntimeKind,
    image: &str,
) -> Result<u8> {
    let output = &context.output;
    let words = command_words(kind, image);
    output.say(&format!(
        "\n$ {}",
        output.paint(Style::Good, &words.join(" "))
    ));
    // The job goes the way of every job: the command line is read, planned, sealed, signed and followed.
    let parsed = App::try_parse_from(&words).map_err(|error| {
        Failure::new("bug", "the demo's own command line is wrong").detail(error.to_string())
    })?;
    let Command::Run(args) = parsed.command else {
        return Err(Failure::new("bug", "the demo's command is not run"));
    };
    let wallet = context.wallet()?;
    let progress = Progress::new(output);
    let mut request = Request::resolve(&args, session).await?;
    let account = session.client.account(&wallet.account()).await?;
    run::plan(context, &args, session, &account, &mut request, &progress).await?;
    let after = session.client.status().await?.next_event.checked_sub(1);
    let job = run::submit(session, &wallet, &request).await?;
    let follow = Follow {
        session,
        wallet: &wallet,
        output,
        job,
        after,
    };
    let Some(ended) = follow.until_ended(progress).await? else {
        return Ok(exit::INTERRUPTED);
    };
    let code = run::finish(context, session, job, ended).await?;
    let leases = session.client.job_leases(&job).await?.items;
    let last = leases
        .last()
        .ok_or_else(|| Failure::new("no-lease-yet", "the first job had no lease"))?;
    output.say(&format!(
        "\n$ {}",
        output.paint(
            Style::Good,
            &format!("tradewind lease show {} --verify", last.id)
        )
    ));
    if output.talks() {
        output.thing(last, &last.id.to_string(), &lease::lines(last))?;
    }
    let proved = lease::verify(context, session, last).await?;
    output.say(&proved);
    Ok(if code == exit::DONE {
        exit::DONE
    } else {
        exit::FAILED
    })
}

fn command_words(kind: RuntimeKind, image: &str) -> Vec<String> {
    let mut words = vec![
        "tradewind",
        "run",
        "--name",
        "hello",
        "--for",
        "10m",
        "--budget",
        BUDGET,
        "--disk",
        "100M",
        "-y",
    ];
    if kind == RuntimeKind::Process {
        words.extend(["--isolation", "none"]);
    }
    words.extend([image, "--"]);
    words.extend(PICTURE);
    words.into_iter().map(ToOwned::to_owned).collect()
}

/// Writes the demo's image, one program in one layer, and returns its reference.
pub(super) fn image(context: &Context) -> Result<String> {
    let program = program()?;
    let folder = context.home.join("images/demo");
    let bytes = fs::read(&program).map_err(io_failure("read", &program))?;
    let write = || {
        let layer = LayerBuilder::new()
            .file("tradewind-demo", 0o755, &bytes)?
            .finish()?;
        ImageBuilder::new()
            .layer(layer)
            .entrypoint(["/tradewind-demo"])
            .write(&folder, "latest")
    };
    write().map_err(io_failure("write the demo's image to", &folder))?;
    Ok(format!("oci:{}:latest", folder.display()))
}

fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(io_failure("find", Path::new("/proc/self/exe")))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let found = PROGRAMS
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        Failure::new("no-workload", "the demo's program is not beside this one").detail(format!(
            "looked for {} in {}",
            PROGRAMS.join(" or "),
            folder.display()
        ))
    })
}

/// Returns what to type next.
pub(super) fn next(output: &Output) -> String {
    let commands = [
        ("tradewind offers", "what is for hire"),
        ("tradewind ps -a", "my jobs, and what they cost"),
        ("tradewind logs hello", "its output again, from the machine"),
        (
            "tradewind account history --verify",
            "every movement of money, against a proof",
        ),
        ("tradewind run --help", "run something of your own"),
        ("tradewind down", "stop everything"),
    ];
    let lines = commands.iter().enumerate().map(|(place, (command, what))| {
        let lead = if place == 0 { "next:" } else { "" };
        format!(
            "{lead:5}  {}  {what}",
            output.paint(Style::Good, &format!("{command:36}"))
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_asks_for_what_the_command_line_can_read() {
        for kind in [RuntimeKind::Embedded, RuntimeKind::Process] {
            let words = command_words(kind, "oci:/home/images/demo:latest");
            let app = App::try_parse_from(&words).unwrap();
            assert!(matches!(app.command, Command::Run(_)));
        }
        assert!(crate::words::money(BUDGET).is_ok());
    }
}
