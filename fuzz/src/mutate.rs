//! Damaging bytes, the same way for the same seed.

/// A small generator of numbers (SplitMix64): the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins a row of numbers.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `bound`, or 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from((mixed ^ (mixed >> 31)) % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}

/// Values that lie at the edges of lengths and counts.
const EDGES: [u32; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
/// Damages put on one another in one input.
const DAMAGES_MAX: usize = 4;

/// Returns the seed with one to four damages.
pub fn damaged(dice: &mut Dice, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(DAMAGES_MAX) {
        damage(dice, &mut bytes);
    }
    bytes
}

fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len());
    let len = dice.below(bytes.len().saturating_sub(at)).min(64);
    match dice.below(6) {
        0 => bytes.insert(at, dice.byte()),
        1 => drop(bytes.drain(at..at + len)),
        2 => bytes.truncate(at),
        3 => {
            let piece = bytes[at..at + len].to_vec();
            let to = dice.below(bytes.len());
            drop(bytes.splice(to..to, piece));
        }
        4 => {
            let edge = EDGES[dice.below(EDGES.len())].to_le_bytes();
            for (byte, with) in bytes.iter_mut().skip(at).zip(edge) {
                *byte = with;
            }
        }
        _ => {
            let byte = dice.byte();
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
        }
    }
}
