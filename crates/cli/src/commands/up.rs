//! `tradewind up`: a network of one validator and two providers on this machine.

mod network;
mod tour;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::files;
use crate::progress::Progress;
use crate::session::block_on;

/// Writes the demo's image and returns its reference.
pub(crate) fn demo_image(context: &Context) -> Result<String> {
    tour::image(context)
}

/// Start a whole network on this machine: one validator, two providers, a funded account
///
/// May be run again: what runs is left alone, what died is started. Everything lies in one home folder, listens on
/// this machine only, and stays up until `tradewind down`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind up --demo\n  tradewind up --port 7171\n  tradewind up --validators 4"
)]
pub(crate) struct Args {
    /// Run a first job and show what there is to see
    #[arg(long)]
    demo: bool,
    /// Port of the gateway; by default the one it had before, else 7070
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// How many validators run the ledger, each a process of its own; by default as many as there were, else one
    #[arg(long, value_name = "N", value_parser = super::network::validators())]
    validators: Option<u16>,
    /// What runs containers; by default embedded as root, else process
    #[arg(long, value_name = "RUNTIME", value_enum)]
    runtime: Option<super::provider::RuntimeKind>,
    /// The first provider lends this machine's GPUs, in place of a CPU slot; each start of it wants the word again
    #[arg(long)]
    gpus: bool,
    /// Folder whose images jobs may name as oci:DIR, repeatable; by default any that you can read
    ///
    /// Jobs on this network are those of accounts that you fund, from this machine only: so all folders are open to
    /// them, unless you name some. Those of the home folder's images always are.
    #[arg(long = "image-folder", value_name = "DIR", value_parser = super::provider::image_folder)]
    image_folder: Vec<super::provider::ImageFolder>,
}

pub(crate) fn run(context: &mut Context, args: &Args) -> Result<u8> {
    let _alone = alone(context)?;
    let output = context.output.clone();
    let runtime = block_on(async {
        let progress = Progress::new(&output);
        network::Network {
            context,
            port: args.port,
            validators: args.validators,
            runtime: args.runtime,
            gpus: args.gpus,
            image_folders: &args.image_folder,
            progress: &progress,
        }
        .start()
        .await
    })?;
    if args.demo {
        return block_on(tour::run(context, runtime));
    }
    output.say(&format!("\n{}", tour::next(&output)));
    Ok(exit::DONE)
}

/// Makes sure that one `up` or `down` at a time works on the home folder; held until dropped.
pub(crate) fn alone(context: &Context) -> Result<File> {
    files::create_private_folder(&context.home)?;
    let path = context.home.join("up.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(io_failure("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(
            "home-busy",
            format!(
                "another tradewind works on {} right now",
                context.home.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(io_failure("lock", &path)(error)),
    }
}
