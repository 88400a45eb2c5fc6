//! Collects the beacon's value of each round, so that the next block can carry it.
//!
//! Every certificate of the engine contains the threshold signature of its round: the beacon. With one validator it is
//! predictable by that validator.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use commonware_actor::Feedback;
use commonware_codec::{Copying, DecodeExt as _, Encode as _};
use commonware_consensus::{
    Reporter,
    simplex::{
        scheme::bls12381_threshold::vrf::{Seed as RoundSeed, Seedable as _},
        types::Activity,
    },
};
use commonware_cryptography::bls12381::primitives::variant::{MinSig, Variant};
use light::{Digest, Round, Scheme, Seed};

/// Most rounds remembered: blocks carry the seed of their parent's round, which is a few rounds back at most.
const ROUNDS_MAX: usize = 64;

/// The seeds of recent rounds; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Beacon {
    scheme: Scheme,
    rounds: Arc<Mutex<BTreeMap<Round, Seed>>>,
}

impl Beacon {
    pub(crate) fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            rounds: Arc::default(),
        }
    }

    /// Returns the round's seed if a certificate of it was seen.
    pub(crate) fn seed(&self, round: Round) -> Option<Seed> {
        self.lock().get(&round).copied()
    }

    /// Returns whether `seed` is the group's signature of the round.
    pub(crate) fn verify(&self, round: Round, seed: &Seed) -> bool {
        <MinSig as Variant>::Signature::decode(Copying(seed.as_slice()))
            .is_ok_and(|signature| RoundSeed::<MinSig>::new(round, signature).verify(&self.scheme))
    }

    /// Drops the rounds before this one.
    pub(crate) fn forget_before(&self, round: Round) {
        let mut rounds = self.lock();
        *rounds = rounds.split_off(&round);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Round, Seed>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter for Beacon {
    type Activity = Activity<Scheme, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        let (round, seed) = match activity {
            Activity::Notarization(certificate) => (certificate.proposal.round, certificate.seed()),
            Activity::Finalization(certificate) => (certificate.proposal.round, certificate.seed()),
            _ => return Feedback::Ok,
        };
        let Ok(seed) = Seed::try_from(seed.signature.encode().as_ref()) else {
            return Feedback::Ok;
        };
        let mut rounds = self.lock();
        rounds.insert(round, seed);
        while rounds.len() > ROUNDS_MAX {
            rounds.pop_first();
        }
        Feedback::Ok
    }
}
