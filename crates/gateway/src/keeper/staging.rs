//! Manifests that came before their jobs: in memory, and bounded in every direction.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api::envelope::SealedJob;
use market::{AccountId, JobId};

/// Most bytes that wait in all.
const BYTES_MAX: usize = 32 << 20;
/// Most that wait in all: small ones cost more than their bytes.
const COUNT_MAX: usize = 4_096;
/// Most bytes that wait of one account: a hundred jobs opened at once.
const ACCOUNT_BYTES_MAX: usize = 8 << 20;
/// Most that wait of one account.
const ACCOUNT_COUNT_MAX: usize = 256;
/// Most that wait for one job: commands that race for a nonce make the same id, and only one of them gets it.
const PER_JOB_MAX: usize = 4;
/// How long one waits: far longer than a block takes.
const AGE_MAX: Duration = Duration::from_mins(5);

/// The manifests that wait for their jobs.
#[derive(Debug, Default)]
pub(super) struct Staging {
    waiting: BTreeMap<JobId, Vec<Staged>>,
}

#[derive(Debug)]
struct Staged {
    since: Instant,
    /// Whose it is, as the claim showed.
    account: AccountId,
    sealed: SealedJob,
}

impl Staging {
    /// Takes one; `false` when there is no room.
    pub(super) fn put(&mut self, job: JobId, account: AccountId, sealed: SealedJob) -> bool {
        self.expire();
        let size = sealed.manifest.as_bytes().len();
        let (mut all, mut ours) = ((1, size), (1, size));
        for staged in self.waiting.values().flatten() {
            let size = staged.sealed.manifest.as_bytes().len();
            all = (all.0 + 1, all.1 + size);
            if staged.account == account {
                ours = (ours.0 + 1, ours.1 + size);
            }
        }
        let of_job = self.waiting.entry(job).or_default();
        if of_job.iter().any(|known| known.sealed == sealed) {
            return true;
        }
        let fits = all.0 <= COUNT_MAX
            && all.1 <= BYTES_MAX
            && ours.0 <= ACCOUNT_COUNT_MAX
            && ours.1 <= ACCOUNT_BYTES_MAX
            && of_job.len() < PER_JOB_MAX;
        if fits {
            of_job.push(Staged {
                since: Instant::now(),
                account,
                sealed,
            });
        }
        fits
    }

    /// Returns those that wait for a job.
    pub(super) fn of(&self, job: JobId) -> Vec<SealedJob> {
        self.waiting
            .get(&job)
            .into_iter()
            .flatten()
            .map(|staged| staged.sealed.clone())
            .collect()
    }

    /// Returns how many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Returns the jobs that are waited for.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        self.waiting.keys().copied().collect()
    }

    /// Forgets those of a job.
    pub(super) fn remove(&mut self, job: JobId) {
        self.waiting.remove(&job);
    }

    /// Forgets those that have waited too long.
    pub(super) fn expire(&mut self) {
        self.waiting.retain(|_, of_job| {
            of_job.retain(|staged| staged.since.elapsed() < AGE_MAX);
            !of_job.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use api::envelope::{SEALED_JOB_KEY_BYTES, SealedJobKey, SealedManifest};
    use market::PublicKey;

    use super::*;

    fn sealed(n: u8, len: usize) -> SealedJob {
        let mut manifest = vec![n; len];
        manifest[0] = 1;
        SealedJob {
            key: SealedJobKey::from_bytes(&[1; SEALED_JOB_KEY_BYTES]).unwrap(),
            manifest: SealedManifest::from_bytes(manifest).unwrap(),
        }
    }

    fn account(n: u8) -> AccountId {
        AccountId::of(PublicKey::from_bytes([n; 32]))
    }

    #[test]
    fn a_flood_is_bounded_per_job_per_account_and_in_all() {
        let mut staging = Staging::default();
        let job = JobId::from_bytes([1; 16]);
        for n in 0..4 {
            assert!(staging.put(job, account(1), sealed(n, 100)));
        }
        assert!(!staging.put(job, account(1), sealed(9, 100)));
        assert!(
            staging.put(job, account(1), sealed(0, 100)),
            "what waits already is no new one"
        );
        let mut flood = |who: u8| {
            let taken = (0..=255u8).filter(|n| {
                let mut id = [2; 16];
                (id[0], id[1]) = (who, *n);
                staging.put(JobId::from_bytes(id), account(who), sealed(1, 60_000))
            });
            taken.count()
        };
        assert_eq!(flood(2), ACCOUNT_BYTES_MAX / 60_000);
        assert_eq!(
            flood(3),
            ACCOUNT_BYTES_MAX / 60_000,
            "another has its own room"
        );
        let rest = (4..10).map(&mut flood).sum::<usize>();
        assert_eq!(
            rest,
            (BYTES_MAX - 400) / 60_000 - 2 * (ACCOUNT_BYTES_MAX / 60_000)
        );
        staging.remove(job);
        assert!(staging.of(job).is_empty());
    }
}
