//! The network among several validators: authenticated and encrypted connections to peers with known addresses.
//!
//! Channels are registered before the network starts, each with its own allowance per peer, and handed to the engine one
//! by one. [`AnyNet`] is either this or nobody ([`NullNet`]), so that the engine is compiled once for both.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    time::{Duration, SystemTime},
};

use commonware_actor::{Feedback, Unreliable};
use commonware_consensus::{
    marshal::{self, standard::Standard},
    simplex,
};
use commonware_cryptography::{ChaCha20Poly1305, ed25519};
use commonware_p2p::{
    Address, AddressableManager as _, BlockedSubscription, Blocker, CheckedSender, LimitedSender,
    Message, PeerSetSubscription, Provider, Receiver, Recipients, TrackedPeers,
    authenticated::lookup::{self, Network},
    max_message_size,
};
use commonware_runtime::{Handle, IoBufs, Quota, Supervisor as _, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, ordered::Map};
use light::{Digest, Scheme, Validator};

use crate::{
    chain::Block,
    engine::Net,
    null_net::{NullBlocker, NullChecked, NullNet, NullReceiver, NullSender, OnlyMe},
};

/// Separates connections of this network from those of any other; the network's name follows.
const NAMESPACE: &[u8] = b"tradewind/peers/v1/";
/// How far the clocks of two peers may be apart.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);
/// Oldest handshake that is answered.
const HANDSHAKE_AGE_MAX: Duration = Duration::from_secs(10);
/// Messages that may wait inside the network's own actors.
const MAILBOX: NonZeroUsize = NZUsize!(1_024);
/// Sets of peers that are remembered: the one of now, and one that is coming or going.
const PEER_SETS: NonZeroUsize = NZUsize!(2);

/// Each channel, and how many messages a second one peer may send on it.
///
/// A peer that sends more is read more slowly, not cut off; so these must be the same at every validator. Votes and
/// certificates come a few a view, and there are at most some forty views a second; blocks are large and few.
const CHANNELS: [(u64, NonZeroU32); 6] = [
    (0, NZU32!(256)),
    (1, NZU32!(256)),
    (2, NZU32!(64)),
    (3, NZU32!(64)),
    (4, NZU32!(48)),
    (GOSSIP, NZU32!(64)),
];
/// The channel of waiting transactions.
pub(crate) const GOSSIP: u64 = 5;

/// Whom to connect to, and where to listen.
pub(crate) struct PeersConfig {
    pub(crate) network: String,
    pub(crate) identity: ed25519::PrivateKey,
    pub(crate) listen: SocketAddr,
    /// The validators, this one too.
    pub(crate) validators: Vec<(Validator, SocketAddr)>,
}

type P2pSender = lookup::Sender<Validator, Context>;
type P2pReceiver = lookup::Receiver<Validator>;
type Oracle = lookup::Oracle<Validator>;

/// A network that has started.
pub(crate) struct PeerNet {
    channels: BTreeMap<u64, (P2pSender, P2pReceiver)>,
    oracle: Oracle,
}

/// Starts to listen and to dial; the handle ends when the network does.
pub(crate) fn start(context: &Context, config: PeersConfig) -> (PeerNet, Handle<()>) {
    let peers = NonZeroUsize::new(config.validators.len()).unwrap_or(NonZeroUsize::MIN);
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake {
            signer: config.identity,
            synchrony_bound: CLOCK_SKEW_MAX,
            max_handshake_age: HANDSHAKE_AGE_MAX,
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let namespace = [NAMESPACE, config.network.as_bytes()].concat();
    let local = lookup::Config::local(
        handshake,
        &namespace,
        config.listen,
        peers,
        message_bytes_max(peers),
        MAILBOX,
    );
    let settings = lookup::Config {
        tracked_peer_sets: PEER_SETS,
        ..local
    };
    let (mut network, mut oracle) = Network::new(context.child("peers"), settings);
    let directory: Map<Validator, Address> = Map::from_iter_dedup(
        config
            .validators
            .into_iter()
            .map(|(validator, address)| (validator, Address::Symmetric(address))),
    );
    // Refused only by a network that has ended, which its handle tells.
    let _: Feedback = oracle.track(0, directory);
    let channels = CHANNELS
        .into_iter()
        .map(|(id, quota)| (id, network.register(id, Quota::per_second(quota))))
        .collect();
    let handle = network.start();
    (PeerNet { channels, oracle }, handle)
}

/// Returns the longest message; more ends the connection.
fn message_bytes_max(peers: NonZeroUsize) -> u32 {
    let validators = u32::try_from(peers.get()).unwrap_or(u32::MAX);
    max_message_size(&[
        simplex::max_payload_size::<Scheme, Digest>(validators),
        marshal::max_payload_size::<Standard<Block>, Scheme>(validators, &()),
    ])
}

/// Peers, or nobody.
pub(crate) enum AnyNet {
    /// A network of one.
    Nobody(NullNet),
    /// Several.
    Peers(Box<PeerNet>),
}

/// Sends to peers or to nobody.
#[derive(Clone)]
pub(crate) enum AnySender {
    Nobody(NullSender),
    Peers(P2pSender),
}

/// A send that was checked.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives between a check and a send; the large variant is the usual one"
)]
pub(crate) enum AnyChecked<'a> {
    Nobody(NullChecked),
    Peers(<P2pSender as LimitedSender>::Checked<'a>),
}

/// Receives from peers or from nobody.
#[derive(Debug)]
pub(crate) enum AnyReceiver {
    Nobody(NullReceiver),
    Peers(P2pReceiver),
}

/// Blocks peers, or nobody.
#[derive(Clone)]
pub(crate) enum AnyBlocker {
    Nobody(NullBlocker),
    Peers(Box<Oracle>),
}

/// Knows the peers, or only this validator.
#[derive(Clone, Debug)]
pub(crate) enum AnyPeers {
    Nobody(OnlyMe),
    Peers(Oracle),
}

impl Net for AnyNet {
    type Sender = AnySender;
    type Receiver = AnyReceiver;
    type Blocker = AnyBlocker;
    type Peers = AnyPeers;

    fn channel(&mut self, id: u64) -> (AnySender, AnyReceiver) {
        match self {
            Self::Nobody(net) => {
                let (sender, receiver) = net.channel(id);
                (AnySender::Nobody(sender), AnyReceiver::Nobody(receiver))
            }
            Self::Peers(net) => {
                let (sender, receiver) = net
                    .channels
                    .remove(&id)
                    .expect("every channel is registered and taken once");
                (AnySender::Peers(sender), AnyReceiver::Peers(receiver))
            }
        }
    }

    fn blocker(&self) -> AnyBlocker {
        match self {
            Self::Nobody(net) => AnyBlocker::Nobody(net.blocker()),
            Self::Peers(net) => AnyBlocker::Peers(Box::new(net.oracle.clone())),
        }
    }

    fn peers(&self) -> AnyPeers {
        match self {
            Self::Nobody(net) => AnyPeers::Nobody(net.peers()),
            Self::Peers(net) => AnyPeers::Peers(net.oracle.clone()),
        }
    }
}

impl LimitedSender for AnySender {
    type PublicKey = Validator;
    type Checked<'a> = AnyChecked<'a>;

    fn check(&mut self, recipients: Recipients<Validator>) -> Result<AnyChecked<'_>, SystemTime> {
        match self {
            Self::Nobody(sender) => sender.check(recipients).map(AnyChecked::Nobody),
            Self::Peers(sender) => sender.check(recipients).map(AnyChecked::Peers),
        }
    }
}

impl CheckedSender for AnyChecked<'_> {
    type PublicKey = Validator;

    fn recipients(&self) -> Vec<Validator> {
        match self {
            Self::Nobody(checked) => checked.recipients(),
            Self::Peers(checked) => checked.recipients(),
        }
    }

    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        match self {
            Self::Nobody(checked) => checked.send(message, priority),
            Self::Peers(checked) => checked.send(message, priority),
        }
    }
}

impl Receiver for AnyReceiver {
    type Error = lookup::Error;
    type PublicKey = Validator;

    async fn recv(&mut self) -> Result<Message<Validator>, lookup::Error> {
        match self {
            Self::Nobody(receiver) => match receiver.recv().await {
                Ok(message) => Ok(message),
                Err(never) => match never {},
            },
            Self::Peers(receiver) => receiver.recv().await,
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        match self {
            Self::Nobody(receiver) => receiver.capacity(),
            Self::Peers(receiver) => receiver.capacity(),
        }
    }
}

impl Blocker for AnyBlocker {
    type PublicKey = Validator;

    fn block(&mut self, peer: Validator) -> Feedback {
        match self {
            Self::Nobody(blocker) => blocker.block(peer),
            Self::Peers(oracle) => {
                tracing::warn!(%peer, "peer cut off: it sent what no honest one sends");
                oracle.block(peer)
            }
        }
    }

    fn blocked(&mut self) -> BlockedSubscription<Validator> {
        match self {
            Self::Nobody(blocker) => blocker.blocked(),
            Self::Peers(oracle) => oracle.blocked(),
        }
    }
}

impl Provider for AnyPeers {
    type PublicKey = Validator;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<Validator>> {
        match self {
            Self::Nobody(peers) => peers.peer_set(id).await,
            Self::Peers(oracle) => oracle.peer_set(id).await,
        }
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<Validator> {
        match self {
            Self::Nobody(peers) => peers.subscribe().await,
            Self::Peers(oracle) => oracle.subscribe().await,
        }
    }
}
