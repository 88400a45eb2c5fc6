//! `tradewind network`: a network of several validators, before any of them runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use market::{Genesis, Millis, NetworkName, Params, PublicKey};
use node::{DealError, Members, VALIDATORS_MAX, VALIDATORS_MIN};
use serde::Serialize;

use crate::commands::node::{network_name, public_key, treasurer_file};
use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::table::pairs;
use crate::wallet::Wallet;

/// Longest time between blocks where several validators vote: well below the time after which a leader is given up.
const HEARTBEAT: Millis = Millis::from_secs(1);
/// First port of the validators of a network on one machine.
pub(super) const PEER_PORT: u16 = 7201;

/// A network of several validators: make its keys
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(Init),
}

/// Make the keys and data folders of a new network, as its trusted dealer
///
/// One folder a validator, to be carried to its machine and started there with `node start --data`. Whoever runs this
/// sees the secrets of all validators: it is for development, and for networks whose validators trust the dealer.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind network init --validators 4 --out lab\n  tradewind network init --validators 2 --out lab --address 10.0.0.1:7201 --address 10.0.0.2:7201"
)]
struct Init {
    /// How many validators; a third of them, less one, may fail
    #[arg(long, value_name = "N", value_parser = validators())]
    validators: u16,
    /// Folder to make the validators' folders in
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the network
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = network_name)]
    network: NetworkName,
    /// Where a validator listens for the others, once for each; by default ports from 7201 on this machine
    #[arg(long, value_name = "IP:PORT")]
    address: Vec<SocketAddr>,
    /// Key that may issue dollars, repeatable; without any, one is made in the home folder
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    treasurer: Vec<PublicKey>,
}

/// Parses a number of validators.
pub(super) fn validators() -> clap::builder::RangedI64ValueParser<u16> {
    let least = i64::try_from(VALIDATORS_MIN).unwrap_or(i64::MAX);
    let most = i64::try_from(VALIDATORS_MAX).unwrap_or(i64::MAX);
    clap::value_parser!(u16).range(least..=most)
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    network: String,
    group_key: String,
    dealer: &'static str,
    validators: Vec<MadeValidator>,
}

#[derive(Debug, Serialize)]
struct MadeValidator {
    folder: String,
    address: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Init(args) => init(context, args),
    }
}

fn init(context: &Context, args: &Init) -> Result<u8> {
    let addresses = if args.address.is_empty() {
        loopback(args.validators, PEER_PORT)
    } else {
        args.address.clone()
    };
    if addresses.len() != usize::from(args.validators) {
        let what = format!(
            "{} addresses for {} validators",
            addresses.len(),
            args.validators
        );
        return Err(
            Failure::new("usage", what).hint("give --address once for each validator, or never")
        );
    }
    let treasurers = match args.treasurer.as_slice() {
        [] => vec![Wallet::open_or_create(&treasurer_file(context))?.public()],
        given => given.to_vec(),
    };
    let (members, folders) = deal(&args.out, args.network.clone(), treasurers, &addresses)?;
    let made = Made {
        network: members.name().to_string(),
        group_key: api::view::text::to_hex(&members.group_key()),
        dealer: "trusted",
        validators: folders
            .iter()
            .zip(&addresses)
            .map(|(folder, address)| MadeValidator {
                folder: folder.display().to_string(),
                address: address.to_string(),
            })
            .collect(),
    };
    let folder_lines: Vec<(&str, String)> = made
        .validators
        .iter()
        .map(|one| ("validator", format!("{} at {}", one.folder, one.address)))
        .collect();
    let head = [
        ("network", made.network.clone()),
        ("group key", made.group_key.clone()),
    ];
    let lines = pairs(&[&head[..], &folder_lines[..]].concat());
    context.output.thing(&made, &made.network, &lines)?;
    context.output.say(
        "dealt by one: this command saw every validator's secrets. Carry each folder to its machine, delete it here",
    );
    Ok(exit::DONE)
}

/// Returns consecutive ports of this machine.
pub(super) fn loopback(count: u16, first: u16) -> Vec<SocketAddr> {
    (0..count)
        .map(|step| SocketAddr::from((Ipv4Addr::LOCALHOST, first.saturating_add(step))))
        .collect()
}

/// Makes the keys and folders.
pub(super) fn deal(
    out: &Path,
    network: NetworkName,
    treasurers: Vec<PublicKey>,
    addresses: &[SocketAddr],
) -> Result<(Members, Vec<PathBuf>)> {
    let genesis = Genesis {
        network,
        time: crate::tail::now(),
        treasurers,
        params: Params {
            heartbeat: HEARTBEAT,
            ..Params::default()
        },
    };
    node::deal_network(out, &genesis, addresses).map_err(|error| {
        let code = match &error {
            DealError::Exists { .. } => "exists",
            DealError::Count => "usage",
            _ => "io",
        };
        Failure::new(code, "could not make the network's folders").causes(&error)
    })
}
