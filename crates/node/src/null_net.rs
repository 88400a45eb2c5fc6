//! A network of nobody: a single validator needs none, so that no socket listens for consensus.
//!
//! Sends reach no one and succeed; nothing is ever received; the peer set is the validator itself.

use std::{convert::Infallible, future::pending, num::NonZeroUsize, time::SystemTime};

use commonware_actor::{Feedback, Unreliable};
use commonware_p2p::{
    BlockedSubscription, Blocker, CheckedSender, LimitedSender, Message, PeerSetSubscription,
    Provider, Receiver, Recipients, TrackedPeers,
};
use commonware_runtime::IoBufs;
use commonware_utils::{
    NZUsize,
    channel::{mpsc, ring},
    ordered::Set,
};
use light::Validator;

use crate::engine::Net;

/// Sends to nobody.
#[derive(Clone, Debug)]
pub(crate) struct NullSender;

/// A send that was checked.
#[derive(Debug)]
pub(crate) struct NullChecked;

impl LimitedSender for NullSender {
    type PublicKey = Validator;
    type Checked<'a> = NullChecked;

    fn check(&mut self, _: Recipients<Validator>) -> Result<NullChecked, SystemTime> {
        Ok(NullChecked)
    }
}

impl CheckedSender for NullChecked {
    type PublicKey = Validator;

    fn recipients(&self) -> Vec<Validator> {
        Vec::new()
    }

    fn send(self, _: impl Into<IoBufs> + Send, _: bool) -> Unreliable<Feedback> {
        Unreliable::new(Feedback::Ok)
    }
}

/// Receives nothing.
#[derive(Debug)]
pub(crate) struct NullReceiver;

impl Receiver for NullReceiver {
    type Error = Infallible;
    type PublicKey = Validator;

    async fn recv(&mut self) -> Result<Message<Validator>, Infallible> {
        pending().await
    }

    fn capacity(&self) -> NonZeroUsize {
        NZUsize!(1)
    }
}

/// Blocks nobody: there is nobody.
#[derive(Clone, Debug)]
pub(crate) struct NullBlocker;

impl Blocker for NullBlocker {
    type PublicKey = Validator;

    fn block(&mut self, _: Validator) -> Feedback {
        Feedback::Ok
    }

    fn blocked(&mut self) -> BlockedSubscription<Validator> {
        ring::channel(NZUsize!(1)).1
    }
}

/// Knows one peer: this validator.
#[derive(Clone, Debug)]
pub(crate) struct OnlyMe {
    peers: Set<Validator>,
    /// Kept, so that subscriptions stay open.
    subscribers: Vec<mpsc::UnboundedSender<commonware_p2p::PeerSetUpdate<Validator>>>,
}

impl OnlyMe {
    pub(crate) const fn new(peers: Set<Validator>) -> Self {
        Self {
            peers,
            subscribers: Vec::new(),
        }
    }
}

impl Provider for OnlyMe {
    type PublicKey = Validator;

    async fn peer_set(&mut self, _: u64) -> Option<TrackedPeers<Validator>> {
        Some(TrackedPeers::primary(self.peers.clone()))
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<Validator> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let set = TrackedPeers::primary(self.peers.clone());
        // A receiver that is already gone has no use for the set.
        drop(sender.send(commonware_p2p::PeerSetUpdate {
            index: 0,
            latest: set.clone(),
            all: set,
        }));
        self.subscribers.push(sender);
        receiver
    }
}

/// The network of one validator.
#[derive(Clone, Debug)]
pub(crate) struct NullNet {
    peers: Set<Validator>,
}

impl NullNet {
    pub(crate) const fn new(peers: Set<Validator>) -> Self {
        Self { peers }
    }
}

impl Net for NullNet {
    type Sender = NullSender;
    type Receiver = NullReceiver;
    type Blocker = NullBlocker;
    type Peers = OnlyMe;

    fn channel(&mut self, _: u64) -> (NullSender, NullReceiver) {
        (NullSender, NullReceiver)
    }

    fn blocker(&self) -> NullBlocker {
        NullBlocker
    }

    fn peers(&self) -> OnlyMe {
        OnlyMe::new(self.peers.clone())
    }
}
