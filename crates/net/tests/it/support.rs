//! Endpoints and sources for tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use market::{
    Grant, JobId, LeaseId, Millis, NetworkName, PublicKey, Rights, SignedGrant, Timestamp,
};
use net::logs::{LogChunk, LogOffsets, LogQuery, LogSource, LogStream, LogStreams};
use net::{BindOptions, Endpoint, Limits, Refusal, RefusalCode, Services};
use tokio::sync::Notify;
use tokio::time::timeout;

/// For anything that should take milliseconds, on a machine that does much else.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn network() -> NetworkName {
    NetworkName::parse("test").unwrap()
}

pub(crate) fn lease(n: u8) -> LeaseId {
    LeaseId::from_bytes([n; 16])
}

pub(crate) fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap())
}

/// A grant to read the logs of `lease(1)`, as the tenant of [`FakeLogs`] signs it.
pub(crate) fn grant(endpoint: PublicKey) -> Grant {
    Grant {
        lease: lease(1),
        endpoint,
        rights: Rights::LOGS,
        expires_at: now().after(Millis::from_secs(60)),
    }
}

pub(crate) fn signed(grant: Grant) -> SignedGrant {
    grant.sign(&network(), &key(TENANT))
}

pub(crate) fn query(follow: bool) -> LogQuery {
    LogQuery {
        lease: lease(1),
        streams: LogStreams::Both,
        from: LogOffsets::default(),
        follow,
    }
}

/// Seed of the key that may read [`FakeLogs`].
pub(crate) const TENANT: u8 = 77;

pub(crate) async fn client() -> Endpoint {
    let secret = SigningKey::from_bytes(&fresh_secret());
    Endpoint::bind(&secret, BindOptions::loopback(), Services::none())
        .await
        .unwrap()
}

pub(crate) fn fresh_secret() -> [u8; 32] {
    use api::envelope::{JobKey, system_rng};
    *JobKey::generate(&mut system_rng()).expose()
}

pub(crate) async fn machine(logs: Arc<dyn LogSource>, limits: Limits) -> Endpoint {
    let options = BindOptions {
        limits,
        ..BindOptions::loopback()
    };
    let services = Services::none().with_logs(network(), logs);
    Endpoint::bind(&SigningKey::from_bytes(&fresh_secret()), options, services)
        .await
        .unwrap()
}

/// Fails the test rather than hang.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    timeout(SOON, what).await.expect("should have come by now")
}

/// The output of one workload under [`lease`]`(1)`.
#[derive(Debug, Default)]
pub(crate) struct FakeLogs {
    state: Mutex<Output>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Output {
    written: BTreeMap<LogStream, Vec<u8>>,
    /// Bytes before this offset are gone.
    kept_from: usize,
    ended: bool,
}

impl FakeLogs {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state
            .written
            .entry(stream)
            .or_default()
            .extend_from_slice(bytes);
        self.more.notify_waiters();
    }

    pub(crate) fn drop_before(&self, offset: usize) {
        self.state.lock().unwrap().kept_from = offset;
    }

    pub(crate) fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.more.notify_waiters();
    }
}

#[async_trait]
impl LogSource for FakeLogs {
    async fn authorize(&self, grant: &SignedGrant, _remote: PublicKey) -> Result<(), Refusal> {
        if grant.grant.lease != lease(1) {
            return Err(Refusal::new(RefusalCode::NoSuchLease, "not here"));
        }
        if grant.signer != PublicKey::of(&key(TENANT)) {
            return Err(Refusal::new(RefusalCode::NotAuthorized, "not yours"));
        }
        Ok(())
    }

    async fn read(
        &self,
        _lease: LeaseId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk, Refusal> {
        let state = self.state.lock().unwrap();
        let all = state.written.get(&stream).map_or(&[][..], Vec::as_slice);
        let asked = usize::try_from(offset).unwrap().min(all.len());
        let from = asked.max(state.kept_from.min(all.len()));
        let to = (from + max).min(all.len());
        Ok(LogChunk {
            offset: offset.max(from as u64),
            bytes: all[from..to].to_vec(),
            ended: state.ended && to == all.len(),
        })
    }

    async fn more(&self, _lease: LeaseId) {
        // Bounded, as a write may come between the reading and this.
        drop(timeout(Duration::from_millis(20), self.more.notified()).await);
    }
}
