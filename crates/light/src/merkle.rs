//! A plain binary Merkle tree (RFC 6962 shape) over byte strings: transactions and events of one block.

use commonware_cryptography::{Hasher as _, Sha256};

use crate::Digest;

/// Separates leaves from inner nodes, so that neither can pass for the other.
const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// Returns the root over `leaves` in order; the hash of nothing when there are none.
///
/// # Source
/// RFC 6962, section 2.1, with SHA-256.
pub fn merkle_root<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut level: Vec<Digest> = leaves
        .into_iter()
        .map(|leaf| Sha256::hash(&[LEAF, leaf]))
        .collect();
    if level.is_empty() {
        return Sha256::hash(&[]);
    }
    // Pairing level by level and carrying the odd one up gives the same tree as RFC 6962's split
    // at the largest power of two.
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Sha256::hash(&[NODE, left.as_ref(), right.as_ref()]),
                rest => rest[0],
            })
            .collect();
    }
    level[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_depends_on_every_leaf_and_on_their_order() {
        let leaves: Vec<Vec<u8>> = (0..7u8).map(|i| vec![i; 3]).collect();
        let root = |leaves: &[Vec<u8>]| merkle_root(leaves.iter().map(Vec::as_slice));
        let whole = root(&leaves);
        for i in 0..leaves.len() {
            let mut changed = leaves.clone();
            changed[i][0] ^= 1;
            assert_ne!(root(&changed), whole);
        }
        let mut swapped = leaves.clone();
        swapped.swap(0, 1);
        assert_ne!(root(&swapped), whole);
        assert_ne!(root(&leaves[..6]), whole);
    }

    #[test]
    fn empty_root_is_the_hash_of_nothing() {
        assert_eq!(merkle_root([]), Sha256::hash(&[]));
    }
}
