//! An ordered map from keys that are spread evenly over all values, as hashes and public keys are, to row numbers.
//!
//! The first bits of a key choose a leaf, a small ordered map; the leaves follow each other in key order. So a look touches
//! a leaf of a few keys, not a tree of all of them. Whoever grinds keys to crowd one leaf gets a tree of ordinary depth
//! there and changes nothing for others.

use std::collections::BTreeMap;

use crate::{
    codec::{Digest, PublicKey},
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
};

/// Keys of a leaf, on average, above which there are made twice as many leaves: one node of an ordered map.
const LEAF_KEYS: usize = 8;
/// First bits that choose a leaf, at the least and at the most: the directory of leaves shall not outgrow the rows.
const BITS: (u32, u32) = (4, 24);

/// A key as big-endian words: their order is that of the bytes, and comparing the first nearly always decides.
pub(crate) trait Words: Ord + Copy + std::fmt::Debug {
    /// Returns the first word.
    fn first(&self) -> u64;
}

impl<const N: usize> Words for [u64; N] {
    fn first(&self) -> u64 {
        <[u64]>::first(self).copied().unwrap_or(0)
    }
}

/// A key that is spread evenly.
pub(crate) trait Even: Ord + Copy + std::fmt::Debug {
    /// Its words.
    type Words: Words;

    /// Returns its words.
    fn words(&self) -> Self::Words;
}

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct Spread<K: Even> {
    /// Two to the power of `bits` of them.
    leaves: Vec<BTreeMap<K::Words, u32>>,
    bits: u32,
    len: usize,
}

impl<K: Even> Default for Spread<K> {
    fn default() -> Self {
        Self {
            leaves: vec![BTreeMap::new(); 1 << BITS.0],
            bits: BITS.0,
            len: 0,
        }
    }
}

impl<K: Even> Spread<K> {
    /// Returns a key's row number.
    pub(crate) fn get(&self, key: K) -> Option<u32> {
        let words = key.words();
        let leaf = self.leaves.get(self.leaf_of(&words))?;
        leaf.get(&words).copied()
    }

    /// Sets a key's row number.
    pub(crate) fn insert(&mut self, key: K, at: u32) {
        if self.len > self.leaves.len().saturating_mul(LEAF_KEYS) && self.bits < BITS.1 {
            self.split();
        }
        let words = key.words();
        let leaf = self.leaf_of(&words);
        if let Some(leaf) = self.leaves.get_mut(leaf)
            && leaf.insert(words, at).is_none()
        {
            self.len = self.len.saturating_add(1);
        }
    }

    /// Removes a key and returns its row number.
    pub(crate) fn remove(&mut self, key: K) -> Option<u32> {
        let words = key.words();
        let leaf = self.leaf_of(&words);
        let at = self.leaves.get_mut(leaf)?.remove(&words)?;
        self.len = self.len.saturating_sub(1);
        Some(at)
    }

    /// Returns the row numbers in key order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.leaves.iter().flat_map(|leaf| leaf.values().copied())
    }

    fn leaf_of(&self, words: &K::Words) -> usize {
        let spare = u64::BITS.saturating_sub(self.bits);
        usize::try_from(words.first() >> spare).unwrap_or(0)
    }

    /// Makes two leaves of each.
    fn split(&mut self) {
        self.bits = self.bits.saturating_add(1);
        let bit = 1u64 << u64::BITS.saturating_sub(self.bits);
        let old = std::mem::take(&mut self.leaves);
        self.leaves.reserve_exact(old.len().saturating_mul(2));
        for leaf in old {
            let (high, low) = leaf
                .into_iter()
                .partition(|(words, _)| words.first() & bit != 0);
            self.leaves.extend([low, high]);
        }
    }
}

/// Reads big-endian words.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}

macro_rules! even {
    ($($key:ty: $words:literal, |$k:ident| $bytes:expr;)*) => {
        $(impl Even for $key {
            type Words = [u64; $words];

            fn words(&self) -> Self::Words {
                let $k = self;
                words($bytes)
            }
        })*
    };
}

even! {
    PublicKey: 4, |k| k.as_bytes();
    AccountId: 4, |k| k.owner_key().as_bytes();
    Digest: 4, |k| &k.0;
    RedemptionId: 2, |k| &k.to_bytes();
    MachineId: 2, |k| &k.to_bytes();
    OfferId: 2, |k| &k.to_bytes();
    JobId: 2, |k| &k.to_bytes();
    OrderId: 2, |k| &k.to_bytes();
    BidId: 2, |k| &k.to_bytes();
    LeaseId: 2, |k| &k.to_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_map_does_what_an_ordered_map_does() {
        let (mut spread, mut ordered) = (Spread::<Digest>::default(), BTreeMap::new());
        for n in 0..20_000u32 {
            // Some of few keys, so that they meet again; a quarter crowds one leaf.
            let mut key = Digest::of(&[&(n % 7_001).to_le_bytes()]);
            if n % 4 == 0 {
                key.0[..4].fill(0xab);
            }
            if n % 3 == 0 {
                assert_eq!(spread.remove(key), ordered.remove(&key));
            } else {
                spread.insert(key, n);
                ordered.insert(key, n);
            }
            assert_eq!(spread.get(key), ordered.get(&key).copied());
        }
        assert!(
            spread.bits > BITS.0,
            "there were enough keys to split leaves"
        );
        assert!(spread.iter().eq(ordered.values().copied()));
        assert_eq!(spread.len, ordered.len());
    }
}
