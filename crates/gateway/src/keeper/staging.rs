//! Manifests that came before their jobs: in memory, unchecked, and bounded in every direction.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use api::envelope::SealedJob;
use market::JobId;

/// Most bytes that wait in all.
const BYTES_MAX: usize = 32 << 20;
/// Most that wait in all: small ones cost more than their bytes.
const COUNT_MAX: usize = 4_096;
/// Most that wait for one job: anyone may send one, so the tenant's must not be the only one that fits.
const PER_JOB_MAX: usize = 4;
/// How long one waits: far longer than a block takes.
const AGE_MAX: Duration = Duration::from_mins(5);

/// The manifests that wait for their jobs.
#[derive(Debug, Default)]
pub(super) struct Staging {
    waiting: BTreeMap<JobId, Vec<(Instant, SealedJob)>>,
}

impl Staging {
    /// Takes one; `false` when there is no room.
    pub(super) fn put(&mut self, job: JobId, sealed: SealedJob) -> bool {
        self.expire();
        let all = self.waiting.values().flatten();
        let (count, bytes) = all.fold((0, 0), |(count, bytes), (_, one)| {
            (count + 1, bytes + one.manifest.as_bytes().len())
        });
        let size = sealed.manifest.as_bytes().len();
        let of_job = self.waiting.entry(job).or_default();
        if of_job.iter().any(|(_, known)| *known == sealed) {
            return true;
        }
        let fits = count < COUNT_MAX && bytes + size <= BYTES_MAX && of_job.len() < PER_JOB_MAX;
        if fits {
            of_job.push((Instant::now(), sealed));
        }
        fits
    }

    /// Returns those that wait for a job.
    pub(super) fn of(&self, job: JobId) -> Vec<SealedJob> {
        self.waiting
            .get(&job)
            .into_iter()
            .flatten()
            .map(|(_, sealed)| sealed.clone())
            .collect()
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
            of_job.retain(|(since, _)| since.elapsed() < AGE_MAX);
            !of_job.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use api::envelope::{SEALED_JOB_KEY_BYTES, SealedJobKey, SealedManifest};

    use super::*;

    fn sealed(n: u8, len: usize) -> SealedJob {
        let mut manifest = vec![n; len];
        manifest[0] = 1;
        SealedJob {
            key: SealedJobKey::from_bytes(&[1; SEALED_JOB_KEY_BYTES]).unwrap(),
            manifest: SealedManifest::from_bytes(manifest).unwrap(),
        }
    }

    #[test]
    fn a_flood_is_bounded_per_job_and_in_bytes() {
        let mut staging = Staging::default();
        let job = JobId::from_bytes([1; 16]);
        for n in 0..4 {
            assert!(staging.put(job, sealed(n, 100)));
        }
        assert!(!staging.put(job, sealed(9, 100)));
        assert!(
            staging.put(job, sealed(0, 100)),
            "what waits already is no new one"
        );
        let taken = (0..=255u8)
            .flat_map(|a| (0..=3).map(move |b| (a, b)))
            .filter(|(a, b)| {
                let mut id = [2; 16];
                (id[0], id[1]) = (*a, *b);
                staging.put(JobId::from_bytes(id), sealed(1, 60_000))
            });
        assert_eq!(taken.count(), (BYTES_MAX - 400) / 60_000);
        staging.remove(job);
        assert!(staging.of(job).is_empty());
    }
}
