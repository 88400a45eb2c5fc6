//! Every stable code: what it means, who can mend it, and the ways out. `tradewind help CODE` prints a row.

use super::exit;

/// A stable code.
#[derive(Debug)]
pub(crate) struct Code {
    /// The code.
    pub(crate) code: &'static str,
    /// The program's exit code.
    pub(crate) exit: u8,
    /// Who can mend it.
    pub(crate) mender: Mender,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// Ways out; the first is the hint where a failure has none of its own.
    pub(crate) ways: &'static [&'static str],
}

/// Who can mend a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mender {
    /// Whoever typed the command.
    You,
    /// The provider that offered the machine.
    Provider,
    /// Whoever runs the node or this machine.
    Operator,
    /// Whoever writes tradewind.
    Developers,
}

impl Mender {
    /// Returns the words for it.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Provider => "the provider",
            Self::Operator => "whoever runs the node or this machine",
            Self::Developers => "the developers of tradewind",
        }
    }
}

/// Returns the row of `code`.
pub(crate) fn find(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|row| row.code == code)
}

const fn row(
    code: &'static str,
    exit: u8,
    mender: Mender,
    meaning: &'static str,
    ways: &'static [&'static str],
) -> Code {
    Code { code, exit, mender, meaning, ways }
}

use Mender::{Developers, Operator, Provider, You};

/// Every code, by where it comes from.
#[rustfmt::skip]
pub(crate) const CODES: &[Code] = &[
    // This program.
    row("usage", exit::USAGE, You, "The command line is not one that tradewind knows.",
        &["see the command's own help: tradewind help COMMAND"]),
    row("needs-consent", exit::USAGE, You,
        "The command would spend money, and nobody is at a terminal to be asked.",
        &["say the most it may cost: --budget 0.50", "or agree to the plan unseen: -y"]),
    row("declined", exit::DECLINED, You, "You answered no at the prompt. Nothing was spent.",
        &["see what it would do and cost: the same command in a terminal"]),
    row("interrupted", exit::INTERRUPTED, You, "The command was interrupted before it was done.",
        &["see what goes on: tradewind ps"]),
    row("no-network", exit::INVALID, You, "No network is set up here, and none was named.",
        &["start one on this machine: tradewind up --demo",
          "or name one: --endpoint http://HOST:PORT"]),
    row("bad-context", exit::INVALID, You, "The stored context cannot be read.",
        &["write it anew: tradewind up"]),
    row("wrong-network", exit::INVALID, You,
        "The node belongs to another network than the one stored under this context.",
        &["name the right node: --endpoint http://HOST:PORT", "or use another home: TRADEWIND_HOME=/PATH"]),
    row("unreachable", exit::UNREACHABLE, Operator, "The node did not answer.",
        &["see whether it runs: tradewind node status", "start the one of this machine: tradewind up",
          "check everything: tradewind doctor"]),
    row("bad-reply", exit::UNREACHABLE, Operator,
        "Something answered that is no tradewind node, or is of another version.",
        &["check the address: --endpoint http://HOST:PORT", "check both versions: tradewind version"]),
    row("machine-unreachable", exit::UNREACHABLE, Provider, "The provider's machine did not answer.",
        &["try again; the job goes on without it: tradewind logs JOB"]),
    row("timed-out", exit::TIMED_OUT, Operator, "Something did not happen within its time.",
        &["check everything: tradewind doctor"]),
    row("no-key-file", exit::NOT_ALLOWED, You, "There is no key to sign with.",
        &["say which: --key-file FILE", "or make the demo's: tradewind up --demo"]),
    row("bad-key", exit::NOT_ALLOWED, You, "The key file holds no key, or others may read it.",
        &["make it yours alone: chmod 600 FILE", "or name another: --key-file FILE"]),
    row("no-match", exit::NO_MATCH, You,
        "No machine that is online meets every requirement at the price. The funnel shows which one emptied the list.",
        &["see what is for hire: tradewind offers", "wait for capacity: run with --wait 10m",
          "allow more: a higher --max-price, --region any, less --mem"]),
    row("bad-image", exit::INVALID, You, "The image cannot be found or is no image that can run.",
        &["name one in a registry: HOST:PORT/NAME:TAG", "or a local folder in OCI layout: oci:/PATH"]),
    row("image-error", exit::RUN_FAILED, You, "Machines could not fetch, check or start the image. It cost nothing.",
        &["see what they said: tradewind job events JOB", "check the image's name and platform"]),
    row("job-failed", exit::FAILED, You, "The job ended without success.",
        &["see its output: tradewind logs JOB", "and its history: tradewind job show JOB"]),
    row("budget-reached", exit::FUNDS, You, "The job used up its budget.",
        &["run it with more: --budget", "or for less time: --for"]),
    row("port-taken", exit::FAILED, Operator, "Another program listens on the port.",
        &["choose another: --port 7171", "see who has it: ss -ltnp"]),
    row("disk-full", exit::FAILED, Operator, "The disk is full.",
        &["make room, or put the data elsewhere: TRADEWIND_HOME=/PATH"]),
    row("no-permission", exit::NOT_ALLOWED, Operator, "The system did not allow it.",
        &["run as the user that owns the file, or use another home: TRADEWIND_HOME=/PATH"]),
    row("io", exit::FAILED, Operator, "The system refused to read or write a file.",
        &["check the path and the disk: tradewind doctor"]),
    row("not-running", exit::FAILED, Operator, "The process does not run.",
        &["start it: tradewind up"]),
    row("died", exit::FAILED, Operator, "A process of the network ended while it was starting.",
        &["read its log; the path is above", "check everything: tradewind doctor"]),
    row("busy", exit::CHANGED, You, "Another tradewind works on the same home folder right now.",
        &["wait until it is done, then try again"]),
    row("no-runtime", exit::FAILED, Operator, "No container runtime works on this machine.",
        &["see which check failed: tradewind doctor", "run as root for real containers"]),
    row("no-workload", exit::FAILED, Operator,
        "The demo's program is not beside the tradewind program.",
        &["build it: cargo xtask workload"]),
    row("bad-proof", exit::FAILED, Operator,
        "The proof does not hold: what the node shows is not what the network agreed on.",
        &["ask another node: --endpoint http://HOST:PORT", "do not trust this one"]),
    row("no-anchor", exit::INVALID, You,
        "There is no group key to check proofs against.",
        &["give the network's group key, as its operators publish it: --group-key HEX"]),
    row("unhealthy", exit::FAILED, Operator, "A check failed.",
        &["mend what the list shows as failed, then again: tradewind doctor"]),
    row("not-found", exit::NOT_FOUND, You, "There is no such thing on the ledger.",
        &["check the id; lists: tradewind ps -a, tradewind offers, tradewind lease list"]),
    row("no-lease-yet", exit::NOT_FOUND, You, "The job has had no lease so far, so it has no output.",
        &["see why it waits: tradewind job explain JOB"]),
    row("bug", exit::BUG, Developers, "Tradewind broke one of its own rules.",
        &["report it with the text above and the output of: tradewind version"]),

    // Why the ledger refuses a transaction (`market::Reject`).
    row("not-allowed", exit::NOT_ALLOWED, You, "The key's role does not allow this.",
        &["sign with the account's own key: --key-file FILE"]),
    row("key-budget", exit::FUNDS, You, "The key's own budget is used up.",
        &["sign with the account's own key, or authorize this one for more"]),
    row("insufficient-funds", exit::FUNDS, You, "The account has less available than this needs.",
        &["see what is held, and for what: tradewind account show", "ask for less: --budget",
          "end what holds it: tradewind stop JOB"]),
    row("deposit-too-small", exit::FUNDS, You, "An account opens with a deposit of at least $0.10.",
        &["send more at first"]),
    row("zero-amount", exit::USAGE, You, "The amount is zero.", &["give an amount above zero"]),
    row("overflow", exit::USAGE, You, "The amount is larger than the ledger can count.",
        &["give a smaller amount"]),
    row("reference-used", exit::CHANGED, Operator, "The outside payment was booked before.",
        &["nothing to do: the money is there already"]),
    row("not-treasurer", exit::NOT_ALLOWED, Operator, "Only the network's treasurers issue and redeem dollars.",
        &["sign with a treasurer's key: --key-file FILE"]),
    row("no-redemption", exit::NOT_FOUND, You, "There is no such redemption.", &["check the id"]),
    row("no-account", exit::NOT_FOUND, You, "There is no such account.",
        &["an account opens with its first deposit; check the id"]),
    row("key-in-use", exit::CHANGED, You, "The key acts for an account already.", &["use a fresh key"]),
    row("not-provider", exit::NOT_ALLOWED, You, "The account is no provider.",
        &["become one: tradewind provider init"]),
    row("already-provider", exit::CHANGED, You, "The account is a provider already.",
        &["see it: tradewind provider status"]),
    row("bond-reserved", exit::FUNDS, You, "Live leases reserve part of the bond.",
        &["wait until they end, or withdraw less"]),
    row("no-machine", exit::NOT_FOUND, You, "The account has no such machine.",
        &["see yours: tradewind provider status"]),
    row("machine-state", exit::CHANGED, Provider, "The machine takes no leases now.",
        &["put it back: tradewind provider resume"]),
    row("machine-busy", exit::CHANGED, Provider, "Live leases use what would change or go.",
        &["empty it first: tradewind provider drain"]),
    row("bad-devices", exit::INVALID, You, "The list of devices is empty, unordered, or names one that is not there.",
        &["see the machine's devices: tradewind provider status -o json"]),
    row("no-offer", exit::NOT_FOUND, You, "The account has no such offer.", &["see what stands: tradewind offers"]),
    row("bad-time", exit::INVALID, Operator, "An instant lies outside the allowed time; the machine's clock may be wrong.",
        &["check this machine's clock: date -u"]),
    row("beat-chain", exit::CHANGED, Provider, "The beat does not continue the machine's chain.",
        &["restart the agent: it asks for its place in the chain"]),
    row("bad-field", exit::INVALID, You, "A value is not accepted.", &["see what is: tradewind help run"]),
    row("unsupported", exit::INVALID, You, "The network does not support this yet.",
        &["leave it out; what works is listed in the README"]),
    row("no-job", exit::NOT_FOUND, You, "The account has no such job.", &["see yours: tradewind ps -a"]),
    row("job-ended", exit::CHANGED, You, "The job has ended.", &["see how: tradewind job show JOB"]),
    row("too-many", exit::FAILED, You, "The account has as many live things of this kind as the network allows.",
        &["end some first: tradewind stop JOB"]),
    row("no-order", exit::NOT_FOUND, Provider, "There is no such order in the book.",
        &["it was placed or cancelled meanwhile; nothing to do"]),
    row("order-closed", exit::CHANGED, Provider, "The order takes no bids any more.",
        &["nothing to do; the next order comes"]),
    row("unmet", exit::INVALID, Provider, "The bid does not meet the order's requirement.",
        &["bid with a machine that does"]),
    row("no-bid", exit::NOT_FOUND, You, "The account has no such bid.", &["check the id"]),
    row("no-lease", exit::NOT_FOUND, You, "There is no such lease of this sender.",
        &["see yours: tradewind lease list"]),
    row("lease-state", exit::CHANGED, You, "The lease is in another state meanwhile.",
        &["see which: tradewind lease show LEASE"]),
    row("not-spot", exit::INVALID, You, "Only spot leases can be taken back early.",
        &["empty the machine with notice: tradewind provider drain"]),
    row("hold-live", exit::CHANGED, You, "The hold's deadline has not passed, or a lease is live.",
        &["wait, or end the job: tradewind stop JOB"]),

    row("no-key", exit::NOT_FOUND, You, "The account has no such key.", &["check the key"]),

    // Why a transaction cannot be in a block at all (`market::Inadmissible`).
    row("bad-signature", exit::NOT_ALLOWED, You, "The signature does not fit the key, the network or the bytes.",
        &["check that key and network belong together: tradewind doctor"]),
    row("unknown-key", exit::NOT_ALLOWED, You, "The key belongs to no funded account.",
        &["the demo funds one: tradewind up --demo", "else ask a treasurer for a first deposit of $0.10 or more"]),
    row("key-ended", exit::NOT_ALLOWED, You, "The key was revoked or has expired.",
        &["sign with another: --key-file FILE"]),
    row("wrong-nonce", exit::CHANGED, You, "Another command signed with the same key meanwhile.",
        &["try again"]),
    row("tx-expired", exit::CHANGED, Operator, "The transaction waited too long and can no longer be included.",
        &["try again", "check that the network moves: tradewind node status"]),
    row("out-of-bounds", exit::INVALID, You, "A list is longer, or a number larger, than its bound.",
        &["give fewer or smaller values"]),

    // What a gateway, a keeper or a machine refuses (`api::Code`).
    row("bad-request", exit::USAGE, Developers, "The node could not read the request.",
        &["check both versions: tradewind version"]),
    row("bad-id", exit::USAGE, You, "The id cannot be read.",
        &["copy the whole id with its prefix, as job_… or lse_…"]),
    row("ambiguous-id", exit::USAGE, You, "The name or prefix fits more than one thing.",
        &["give more characters, or the whole id"]),
    row("bad-transaction", exit::FAILED, Developers, "The node could not read the transaction.",
        &["check both versions: tradewind version"]),
    row("no-transaction", exit::NOT_FOUND, You, "The node does not know the transaction.",
        &["try again: the same one is never applied twice"]),
    row("no-provider", exit::NOT_FOUND, You, "There is no such provider.",
        &["see who offers: tradewind offers"]),
    row("no-proof", exit::CHANGED, Operator, "The node has no proof of the record right now.",
        &["try again after the next block"]),
    row("events-gone", exit::CHANGED, Operator, "The node no longer has events that old.",
        &["ask a node with a longer history: --endpoint http://HOST:PORT"]),
    row("method-not-allowed", exit::FAILED, Developers, "The node does not take that request at that address.",
        &["check both versions: tradewind version"]),
    row("too-large", exit::INVALID, You, "The job's manifest is larger than 64 KiB.",
        &["put large arguments and variables into the image"]),
    row("media-type", exit::FAILED, Developers, "The node does not take that kind of content.",
        &["check both versions: tradewind version"]),
    row("too-many-requests", exit::CHANGED, You, "Too many requests at once.", &["wait a second and try again"]),
    row("overloaded", exit::CHANGED, Operator, "The node has more work than it can take.",
        &["wait a few seconds and try again", "ask another node: --endpoint http://HOST:PORT"]),
    row("not-ready", exit::UNREACHABLE, Operator, "The node does not follow the network yet.",
        &["see why: tradewind node status"]),
    row("stopping", exit::UNREACHABLE, Operator, "The node is stopping.", &["wait until it is back: tradewind node status"]),
    row("timeout", exit::TIMED_OUT, Operator, "The node did not answer in time; nothing is lost.",
        &["see whether it took effect: tradewind ps -a", "see whether the network moves: tradewind node status"]),
    row("not-keeper", exit::FAILED, Operator, "The node keeps no manifest of the job.",
        &["send it to a node that the job names as keeper: --endpoint http://HOST:PORT"]),
    row("no-manifest", exit::NOT_FOUND, Operator, "The keeper has no manifest of the job.",
        &["run the job again"]),
    row("bad-manifest", exit::INVALID, You, "The job's manifest is not valid, or not the one that the job names.",
        &["change what the line above names"]),
    row("keeper-full", exit::FAILED, Operator, "The keeper has no room for another manifest.",
        &["wait until jobs have ended, or ask another node: --endpoint http://HOST:PORT"]),
    row("internal", exit::FAILED, Developers, "The node failed; this is a bug.",
        &["report it with the node's log: tradewind node status"]),
    row("grant-refused", exit::NOT_ALLOWED, You, "The machine does not let this key read the lease.",
        &["sign with the key that opened the job: --key-file FILE"]),
    row("lease-not-here", exit::NOT_FOUND, Provider, "The machine has nothing of this lease.",
        &["see where it runs and how it ended: tradewind lease show LEASE"]),
    row("keeper-refused", exit::NOT_ALLOWED, Operator, "The keeper does not hand over the manifest.",
        &["wait until it has seen the award; the machine asks again by itself"]),
    row("protocol-mismatch", exit::FAILED, Operator, "The other side speaks another version.",
        &["update the older side: tradewind version"]),
];
