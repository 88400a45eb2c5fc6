//! The keeper: holds encrypted manifests, and hands them to the machines of live leases.
//!
//! A tenant posts its job's manifest with the job key sealed to this keeper. The keeper opens both, so it knows that
//! what it holds is what the job's salted digest on the ledger names: nobody but the tenant can make it store anything
//! for a job. To a machine it hands the same ciphertext with the job key sealed anew, after it has seen on the final
//! ledger that the lease is live, that it is that machine's, and that the asker's endpoint key is the machine's.
//!
//! A manifest may come before its job is final: it is staged in memory until the job appears. Only the key that opens
//! the job can stage one for it, see [`api::claim`], so nobody can take the place of another's.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use api::{
    Code, KeeperView, ManifestClaim,
    envelope::{
        EnvelopeError, JobKey, SealContext, SealSecret, SealedFor, SealedJob, open_job_key,
        open_manifest, seal_job_key, system_rng,
    },
};
use async_trait::async_trait;
use market::{
    AccountId, Digest, Job, JobId, JobState, LeaseId, LeaseState, Market, Millis, NetworkName,
    PublicKey,
};
use net::{Refusal as PeerRefusal, RefusalCode, manifest::ManifestSource};
use tokio::sync::watch;

use crate::{
    refusal::{Answer, Refusal, internal},
    server::told_to_stop,
};

use shelf::{Shelf, ShelfError};
use staging::Staging;

mod shelf;
mod staging;

/// Time between two looks for manifests that are no longer needed.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How long a manifest outlives its job: no lease of it can be live, but a machine may be asking at this moment.
const KEPT_AFTER_END: Millis = Millis::from_secs(600);

/// What a keeper is made from.
#[derive(Debug)]
pub struct KeeperConfig {
    /// Where manifests lie; made when it does not exist.
    pub folder: PathBuf,
    /// Opens the job keys that tenants seal to this keeper.
    pub seal: SealSecret,
    /// The key of the data plane's endpoint that serves this keeper.
    pub endpoint: PublicKey,
}

/// The keeper's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("could not use the keeper's folder {folder}")]
pub struct KeeperError {
    folder: PathBuf,
    #[source]
    source: std::io::Error,
}

/// What became of a manifest that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// On disk.
    Stored,
    /// In memory, until its job appears.
    Staged,
}

/// A keeper of encrypted manifests.
pub struct Keeper {
    node: node::Handle,
    network: NetworkName,
    seal: SealSecret,
    endpoint: PublicKey,
    dial: RwLock<Vec<String>>,
    shelf: tokio::sync::Mutex<Shelf>,
    staging: Mutex<Staging>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What the keeper needs of a job.
struct Wanted {
    tenant: AccountId,
    digest: Digest,
}

impl Keeper {
    /// Opens the folder and takes stock of it. Blocks on the disk for a moment.
    pub fn open(config: KeeperConfig, node: node::Handle) -> Result<Arc<Self>, KeeperError> {
        let tenant = |job: JobId| node.read(|market| market.job(job).map(|job| job.tenant));
        let shelf = Shelf::open(&config.folder, tenant).map_err(|source| KeeperError {
            folder: config.folder.clone(),
            source,
        })?;
        let network = node.read(|market| market.network().clone());
        Ok(Arc::new(Self {
            node,
            network,
            seal: config.seal,
            endpoint: config.endpoint,
            dial: RwLock::default(),
            shelf: tokio::sync::Mutex::new(shelf),
            staging: Mutex::default(),
        }))
    }

    /// Says where the endpoint can be dialled, as `ip:port`, once it is bound; shown in the gateway's status.
    pub fn set_dial(&self, addresses: Vec<String>) {
        *self.dial.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Returns the keeper as jobs name it.
    pub fn view(&self) -> KeeperView {
        KeeperView {
            endpoint: self.endpoint,
            seal: self.seal.public(),
            dial: self
                .dial
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Returns how many manifests wait for their jobs, and how many are stored.
    pub(crate) async fn counts(&self) -> (usize, usize) {
        let staged = self
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count();
        (staged, self.shelf.lock().await.jobs().len())
    }

    /// Stores a job's manifest, or stages it when the ledger does not have the job yet.
    pub(crate) async fn put(
        &self,
        id: JobId,
        sealed: SealedJob,
        claim: Option<ManifestClaim>,
    ) -> Answer<Kept> {
        let job = self
            .node
            .read(|market| market.job(id).map(|job| self.wanted(job)));
        let Some(wanted) = job else {
            return self.stage(id, sealed, claim);
        };
        self.store(id, &wanted?, &sealed).await?;
        Ok(Kept::Stored)
    }

    /// Returns what a manifest of this job must be, or why none is kept for it.
    fn wanted(&self, job: &Job) -> Answer<Wanted> {
        if matches!(job.state, JobState::Ended { .. }) {
            return Err(Refusal::new(
                Code::JobEnded,
                format!("{} has ended", job.id),
            ));
        }
        let us = self.view().keeper();
        if !job.spec.keepers.contains(&us) {
            return Err(Refusal::new(
                Code::NotKeeper,
                format!("{} does not name this keeper", job.id),
            ));
        }
        Ok(Wanted {
            tenant: job.tenant,
            digest: job.spec.manifest,
        })
    }

    fn stage(&self, id: JobId, sealed: SealedJob, claim: Option<ManifestClaim>) -> Answer<Kept> {
        let claim = claim.ok_or_else(|| {
            let text = format!("{id} is not on the ledger, and the manifest came without a claim");
            Refusal::new(Code::UnsignedManifest, text)
        })?;
        claim.verify(&self.network, id, &sealed).map_err(|_| {
            let text = format!("the claim is not of the key that opens {id}, or of other bytes");
            Refusal::new(Code::UnsignedManifest, text)
        })?;
        // An account costs a deposit, so the room of each is worth bounding.
        let account = self
            .node
            .read(|market| market.signer(&claim.signer).map(|signer| signer.account));
        let account = account.ok_or_else(|| {
            let text = format!("{} belongs to no account", claim.signer);
            Refusal::new(Code::UnknownKey, text)
        })?;
        let staged = self
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(id, account, sealed);
        if staged {
            return Ok(Kept::Staged);
        }
        let hint = "too many manifests wait for their jobs; send it again once the job is final";
        Err(Refusal::new(Code::KeeperFull, hint))
    }

    async fn store(&self, id: JobId, wanted: &Wanted, sealed: &SealedJob) -> Answer<()> {
        self.open_key(id, wanted, sealed)
            .map_err(|error| Refusal::new(Code::BadManifest, error.to_string()))?;
        let mut shelf = self.shelf.lock().await;
        match shelf.put(id, wanted.tenant, sealed.encode()).await {
            Ok(()) => Ok(()),
            Err(ShelfError::Full) => Err(Refusal::new(
                Code::KeeperFull,
                "the keeper has no room for this tenant's manifest",
            )),
            Err(ShelfError::Disk(error)) => Err(internal(&error)),
        }
    }

    /// Returns the job key, if this is the manifest that the job names.
    fn open_key(
        &self,
        id: JobId,
        wanted: &Wanted,
        sealed: &SealedJob,
    ) -> Result<JobKey, EnvelopeError> {
        let context = SealContext {
            network: &self.network,
            to: SealedFor::Keeper(id),
        };
        let key = open_job_key(&self.seal, &context, &sealed.key)?;
        open_manifest(&key, &self.network, &wanted.digest, &sealed.manifest)?;
        Ok(key)
    }

    /// Returns a job's manifest from disk, or the staged one that fits, which is stored then.
    async fn find(&self, id: JobId, wanted: &Wanted) -> Result<SealedJob, PeerRefusal> {
        let unavailable = |text: &str| PeerRefusal::new(RefusalCode::Unavailable, text);
        let read = self.shelf.lock().await.read(id).await;
        let bytes = read.map_err(|error| {
            tracing::error!(%error, job = %id, "a manifest cannot be read");
            unavailable("the keeper cannot read the manifest")
        })?;
        if let Some(bytes) = bytes {
            return SealedJob::decode(&bytes)
                .map_err(|_| unavailable("the keeper's copy is damaged"));
        }
        let candidates = self
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of(id);
        for sealed in candidates {
            if self.store(id, wanted, &sealed).await.is_ok() {
                self.staging
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(id);
                return Ok(sealed);
            }
        }
        Err(unavailable("the tenant has not sent the manifest yet"))
    }

    /// Removes what is no longer needed, again and again until told to stop.
    pub(crate) async fn sweep_until(&self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_INTERVAL) => self.sweep().await,
                () = told_to_stop(&mut stopped) => return,
            }
        }
    }

    async fn sweep(&self) {
        let staged = self
            .staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .jobs();
        for id in staged {
            let job = self
                .node
                .read(|market| market.job(id).map(|job| self.wanted(job)));
            match job {
                None => {}
                // Stores it and forgets the rest of what was staged; what fits nothing goes when its time is over.
                Some(Ok(wanted)) => drop(self.find(id, &wanted).await),
                Some(Err(_)) => self
                    .staging
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(id),
            }
        }
        self.staging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .expire();
        let mut shelf = self.shelf.lock().await;
        let stored = shelf.jobs();
        let over = self.node.read(|market| {
            stored
                .into_iter()
                .filter(|id| is_over(market, *id))
                .collect::<Vec<_>>()
        });
        for id in over {
            if let Err(error) = shelf.remove(id).await {
                tracing::warn!(%error, job = %id, "could not remove a manifest");
            }
        }
    }
}

/// Returns whether nobody can need a job's manifest any more.
fn is_over(market: &Market, id: JobId) -> bool {
    match market.job(id).map(|job| job.state) {
        None => true,
        Some(JobState::Ended { at, .. }) => market.time() > at.after(KEPT_AFTER_END),
        Some(JobState::Open { .. } | JobState::Running { .. }) => false,
    }
}

/// What the ledger says about a machine that asks.
struct Claim {
    wanted: Wanted,
    machine_seal: PublicKey,
}

/// Checks on the ledger that `endpoint` is the machine of the live `lease` of `job`.
fn claim(
    market: &Market,
    endpoint: PublicKey,
    lease: LeaseId,
    job: JobId,
) -> Result<Claim, PeerRefusal> {
    // A keeper may hear of a lease later than its machine.
    let unknown = || {
        PeerRefusal::new(
            RefusalCode::Unavailable,
            "this keeper does not know the lease yet",
        )
    };
    let lease = market.lease(lease).ok_or_else(unknown)?;
    let machine = market.machine(lease.machine).ok_or_else(unknown)?;
    let found = market.job(lease.job).ok_or_else(unknown)?;
    if machine.keys.endpoint != endpoint || lease.job != job {
        return Err(PeerRefusal::new(
            RefusalCode::NotAuthorized,
            "the lease is not of this machine and job",
        ));
    }
    if matches!(lease.state, LeaseState::Ended { .. }) {
        return Err(PeerRefusal::new(
            RefusalCode::NoSuchLease,
            "the lease has ended",
        ));
    }
    let wanted = Wanted {
        tenant: found.tenant,
        digest: found.spec.manifest,
    };
    Ok(Claim {
        wanted,
        machine_seal: machine.keys.seal,
    })
}

#[async_trait]
impl ManifestSource for Keeper {
    async fn hand_over(
        &self,
        machine: PublicKey,
        lease: LeaseId,
        job: JobId,
    ) -> Result<SealedJob, PeerRefusal> {
        let Claim {
            wanted,
            machine_seal,
        } = self
            .node
            .read(|market| claim(market, machine, lease, job))?;
        let sealed = self.find(job, &wanted).await?;
        let broken = |error: EnvelopeError| {
            tracing::error!(%error, %job, "a stored manifest cannot be handed over");
            PeerRefusal::new(
                RefusalCode::Unavailable,
                "the keeper cannot seal the job key to this machine",
            )
        };
        let key = self.open_key(job, &wanted, &sealed).map_err(broken)?;
        let context = SealContext {
            network: &self.network,
            to: SealedFor::Machine(lease),
        };
        let key = seal_job_key(&mut system_rng(), &machine_seal, &context, &key).map_err(broken)?;
        Ok(SealedJob {
            key,
            manifest: sealed.manifest,
        })
    }
}
