//! Manifests on disk: one file a job, bounded per tenant and in all.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use api::envelope::SEALED_JOB_BYTES_MAX;
use market::{AccountId, JobId};
use tokio::io::AsyncWriteExt as _;

/// Most bytes of one tenant: a thousand of the largest manifests.
const TENANT_BYTES_MAX: u64 = 64 << 20;
/// Most bytes in all.
const BYTES_MAX: u64 = 1 << 30;
/// Ending of a file that is being written.
const PART: &str = ".part";

/// The manifests that are stored.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    slots: BTreeMap<JobId, Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// `None` when the ledger no longer knew the job at start.
    tenant: Option<AccountId>,
    bytes: u64,
}

/// Why a manifest was not stored.
#[derive(Debug)]
pub(super) enum ShelfError {
    Full,
    Disk(io::Error),
}

impl Shelf {
    /// Opens the folder, removing what an interrupted write left.
    pub(super) fn open(
        folder: &Path,
        tenant: impl Fn(JobId) -> Option<AccountId>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let mut slots = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Ok(job) = name.parse::<JobId>() {
                slots.insert(
                    job,
                    Slot {
                        tenant: tenant(job),
                        bytes: entry.metadata()?.len(),
                    },
                );
            } else if name.ends_with(PART) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            slots,
        })
    }

    /// Stores a manifest durably; one that is there already stays, because the job's digest allows no other.
    pub(super) async fn put(
        &mut self,
        job: JobId,
        tenant: AccountId,
        sealed: Vec<u8>,
    ) -> Result<(), ShelfError> {
        if self.slots.contains_key(&job) {
            return Ok(());
        }
        let bytes = u64::try_from(sealed.len()).unwrap_or(u64::MAX);
        let all: u64 = self.slots.values().map(|slot| slot.bytes).sum();
        let of_tenant = self
            .slots
            .values()
            .filter(|slot| slot.tenant == Some(tenant));
        let of_tenant: u64 = of_tenant.map(|slot| slot.bytes).sum();
        if all.saturating_add(bytes) > BYTES_MAX
            || of_tenant.saturating_add(bytes) > TENANT_BYTES_MAX
        {
            return Err(ShelfError::Full);
        }
        self.write(job, &sealed).await.map_err(ShelfError::Disk)?;
        self.slots.insert(
            job,
            Slot {
                tenant: Some(tenant),
                bytes,
            },
        );
        Ok(())
    }

    async fn write(&self, job: JobId, sealed: &[u8]) -> io::Result<()> {
        let part = self.folder.join(format!("{job}{PART}"));
        let mut file = tokio::fs::File::create(&part).await?;
        file.write_all(sealed).await?;
        file.sync_all().await?;
        drop(file);
        tokio::fs::rename(&part, self.path(job)).await?;
        tokio::fs::File::open(&self.folder).await?.sync_all().await
    }

    /// Reads a job's manifest; `None` when it is not there.
    pub(super) async fn read(&self, job: JobId) -> io::Result<Option<Vec<u8>>> {
        let Some(slot) = self.slots.get(&job) else {
            return Ok(None);
        };
        if slot.bytes > u64::try_from(SEALED_JOB_BYTES_MAX).unwrap_or(u64::MAX) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        tokio::fs::read(self.path(job)).await.map(Some)
    }

    /// Returns the jobs that have one.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        self.slots.keys().copied().collect()
    }

    /// Removes a job's manifest.
    pub(super) async fn remove(&mut self, job: JobId) -> io::Result<()> {
        match tokio::fs::remove_file(self.path(job)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.slots.remove(&job);
        Ok(())
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.folder.join(job.to_string())
    }
}

#[cfg(test)]
mod tests {
    use market::PublicKey;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_manifest_survives_a_restart_and_goes_when_removed() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobId::from_bytes([1; 16]);
        let tenant = AccountId::of(PublicKey::from_bytes([2; 32]));
        std::fs::write(folder.path().join(format!("{job}.part")), b"torn").unwrap();
        let mut shelf = Shelf::open(folder.path(), |_| None).unwrap();
        assert!(shelf.jobs().is_empty());
        shelf
            .put(job, tenant, b"sealed".to_vec())
            .await
            .map_err(|_| ())
            .unwrap();
        let mut shelf = Shelf::open(folder.path(), |_| Some(tenant)).unwrap();
        assert_eq!(
            shelf.read(job).await.unwrap().as_deref(),
            Some(&b"sealed"[..])
        );
        shelf.remove(job).await.unwrap();
        assert_eq!(shelf.read(job).await.unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_tenant_cannot_take_all_the_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(folder.path(), |_| None).unwrap();
        let [greedy, other] = [2, 3].map(|n| AccountId::of(PublicKey::from_bytes([n; 32])));
        let full = Slot {
            tenant: Some(greedy),
            bytes: TENANT_BYTES_MAX,
        };
        shelf.slots.insert(JobId::from_bytes([9; 16]), full);
        let refused = shelf.put(JobId::from_bytes([1; 16]), greedy, vec![0]).await;
        assert!(matches!(refused, Err(ShelfError::Full)));
        assert!(
            shelf
                .put(JobId::from_bytes([1; 16]), other, vec![0])
                .await
                .is_ok()
        );
    }
}
