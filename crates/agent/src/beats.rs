//! When to beat, and the hash chain of beats.
//!
//! A beat says which workloads were running at an instant. Beats that the ledger has not accepted yet wait in the
//! [`Chain`], so that an outage ends in one batch; `market::BeatBatch` documents the chain itself.

use std::collections::VecDeque;

use api::ParamsView;
use borsh::{BorshDeserialize, BorshSerialize};
use market::{BEATS_MAX, Beat, BeatBatch, Digest, LeaseId, MachineId, Millis, Timestamp};

/// Most bytes of beats in one batch: half of what a transaction may have, so that its envelope always fits.
const BATCH_BYTES_MAX: usize = market::codec::TX_BYTES_MAX / 2;

/// How often a machine beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// While it has leases.
    pub leased: Millis,
    /// While it has none.
    pub idle: Millis,
}

impl Intervals {
    /// Returns what the network asks for.
    pub const fn of(params: &ParamsView) -> Self {
        Self {
            leased: Millis::from_millis(params.beat_leased_ms),
            idle: Millis::from_millis(params.beat_idle_ms),
        }
    }

    /// Returns the time from one beat to the next while so many leases are live.
    pub const fn length(&self, leases: usize) -> Millis {
        if leases > 0 { self.leased } else { self.idle }
    }
}

/// A machine's chain of beats, from the last accepted one on.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Chain {
    /// Number of the first beat that waits.
    pub next_seq: u64,
    /// Link before it.
    pub link: Digest,
    /// The beats that wait, oldest first; at most [`BEATS_MAX`].
    pub waiting: VecDeque<Beat>,
    /// Instant of the last beat made, whether it waits or was accepted.
    pub last_at: Option<Timestamp>,
}

impl Chain {
    /// Adds a beat. Instants in a chain rise: a clock that was set back does not.
    ///
    /// An outage of more than [`BEATS_MAX`] beats loses its oldest ones; the ledger would not pay for those anyway.
    pub fn beat(&mut self, now: Timestamp, leases: Vec<LeaseId>) {
        let earliest = self
            .last_at
            .map_or(Timestamp::ZERO, |last| last.after(Millis::from_millis(1)));
        let at = now.max(earliest);
        if self.waiting.len() >= BEATS_MAX {
            self.waiting.pop_front();
        }
        self.last_at = Some(at);
        self.waiting.push_back(Beat { at, leases });
    }

    /// Returns the beats that wait, as many as one transaction carries; `None` when none waits.
    pub fn batch(&self, machine: MachineId) -> Option<BeatBatch> {
        let mut bytes = 0;
        let fits = |beat: &&Beat| {
            bytes += market::codec::encode(*beat).len();
            bytes <= BATCH_BYTES_MAX
        };
        let beats: Vec<Beat> = self.waiting.iter().take_while(fits).cloned().collect();
        (!beats.is_empty()).then_some(BeatBatch {
            machine,
            first_seq: self.next_seq,
            prev: self.link,
            beats,
        })
    }

    /// Aligns the chain with the ledger's record: number of the next beat and link of the last accepted one.
    ///
    /// Beats that wait here and were accepted meanwhile are dropped; where the ledger knows a chain that is not ours (a
    /// lost data folder), those that wait and are later than its last one continue it.
    pub fn align(
        &mut self,
        machine: MachineId,
        (next_seq, link): (u64, Digest),
        last_at: Option<Timestamp>,
    ) {
        let (mut seq, mut at) = (self.next_seq, self.link);
        for (index, beat) in self.waiting.iter().enumerate() {
            at = beat.link(&at, machine, seq);
            seq = seq.saturating_add(1);
            if (seq, at) == (next_seq, link) {
                self.waiting.drain(..=index);
                break;
            }
        }
        self.next_seq = next_seq;
        self.link = link;
        if let Some(last) = last_at {
            self.waiting.retain(|beat| beat.at > last);
            self.last_at = self.last_at.max(Some(last));
        }
    }

    /// Notes that `batch`, as [`Chain::batch`] returned it, was accepted.
    pub fn accepted(&mut self, batch: &BeatBatch) {
        let (mut seq, mut link) = (batch.first_seq, batch.prev);
        for beat in &batch.beats {
            link = beat.link(&link, batch.machine, seq);
            seq = seq.saturating_add(1);
        }
        let last = batch.beats.last().map(|beat| beat.at);
        self.align(batch.machine, (seq, link), last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> MachineId {
        MachineId::from_bytes([7; 16])
    }

    fn lease(n: u8) -> LeaseId {
        LeaseId::from_bytes([n; 16])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_millis(ms)
    }

    #[test]
    fn the_interval_depends_on_leases() {
        let intervals = Intervals::of(&ParamsView::from(&market::Params::default()));
        assert_eq!(intervals.length(0), Millis::from_secs(60));
        assert_eq!(intervals.length(2), Millis::from_secs(10));
    }

    #[test]
    fn an_accepted_batch_moves_the_chain_and_leaves_later_beats() {
        let mut chain = Chain::default();
        chain.beat(at(10), vec![lease(1)]);
        chain.beat(at(20), vec![]);
        let batch = chain.batch(machine()).unwrap();
        assert_eq!(
            (batch.first_seq, batch.prev, batch.beats.len()),
            (0, Digest::default(), 2)
        );
        chain.beat(at(30), vec![]);
        chain.accepted(&batch);
        assert_eq!((chain.next_seq, chain.waiting.len()), (2, 1));
        let first = batch.beats[0].link(&Digest::default(), machine(), 0);
        assert_eq!(chain.link, batch.beats[1].link(&first, machine(), 1));
    }

    #[test]
    fn an_answer_that_was_lost_is_made_up_from_the_ledgers_record() {
        let mut chain = Chain::default();
        for ms in [10, 20, 30] {
            chain.beat(at(ms), vec![]);
        }
        let batch = chain.batch(machine()).unwrap();
        let after_two = batch.beats[..2]
            .iter()
            .enumerate()
            .fold(Digest::default(), |link, (i, b)| {
                b.link(&link, machine(), i as u64)
            });
        chain.align(machine(), (2, after_two), Some(at(20)));
        assert_eq!(
            chain.waiting.iter().map(|b| b.at).collect::<Vec<_>>(),
            [at(30)]
        );
        chain.align(machine(), (9, Digest([4; 32])), Some(at(25)));
        let next = chain.batch(machine()).unwrap();
        assert_eq!(
            (next.first_seq, next.prev, next.beats.len()),
            (9, Digest([4; 32]), 1)
        );
    }

    #[test]
    fn instants_rise_even_when_the_clock_is_set_back() {
        let mut chain = Chain::default();
        chain.beat(at(1_000), vec![]);
        chain.beat(at(500), vec![]);
        assert_eq!(
            chain.waiting.iter().map(|b| b.at).collect::<Vec<_>>(),
            [at(1_000), at(1_001)]
        );
    }

    #[test]
    fn a_long_outage_is_bounded_and_each_batch_fits_a_transaction() {
        let mut chain = Chain::default();
        let leases: Vec<LeaseId> = (0..64).map(lease).collect();
        for n in 0..(BEATS_MAX as u64 + 40) {
            chain.beat(at(10_000 * (n + 1)), leases.clone());
        }
        assert_eq!(chain.waiting.len(), BEATS_MAX);
        let mut batches = 0;
        while let Some(batch) = chain.batch(machine()) {
            assert!(market::codec::encode(&batch).len() < market::codec::TX_BYTES_MAX);
            chain.accepted(&batch);
            batches += 1;
        }
        assert!((2..30).contains(&batches), "{batches}");
    }
}
