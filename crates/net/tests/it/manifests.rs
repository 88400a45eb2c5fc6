//! A machine fetches its sealed manifest from a keeper.

use std::sync::Arc;
use std::time::Duration;

use api::envelope::{
    JobKey, SaltedManifest, SealContext, SealSecret, SealedFor, SealedJob, SealedManifest,
    open_job_key, open_manifest, seal_job_key, seal_manifest, system_rng,
};
use api::manifest::Manifest;
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use market::{Digest, JobId, LeaseId, PublicKey};
use net::manifest::{FetchError, ManifestSource, fetch_manifest};
use net::{BindOptions, DialError, Endpoint, Limits, Refusal, RefusalCode, Services};
use tokio::time::{Instant, sleep};

use crate::support::{SOON, client, fresh_secret, job, key, lease, network, soon};

/// Keeps one job, for the machine that leases it.
struct Keeper {
    seal: SealSecret,
    deposited: SealedJob,
    machine: PublicKey,
    machine_seal: PublicKey,
    delay: Duration,
}

#[async_trait]
impl ManifestSource for Keeper {
    async fn hand_over(
        &self,
        machine: PublicKey,
        asked: LeaseId,
        of: JobId,
    ) -> Result<SealedJob, Refusal> {
        sleep(self.delay).await;
        if asked != lease(1) || of != job(1) {
            return Err(Refusal::new(RefusalCode::NoSuchLease, "no live lease"));
        }
        if machine != self.machine {
            return Err(Refusal::new(RefusalCode::NotAuthorized, "another machine"));
        }
        let network = network();
        let from = SealContext {
            network: &network,
            to: SealedFor::Keeper(of),
        };
        let to = SealContext {
            network: &network,
            to: SealedFor::Machine(asked),
        };
        let key = open_job_key(&self.seal, &from, &self.deposited.key).unwrap();
        Ok(SealedJob {
            key: seal_job_key(&mut system_rng(), &self.machine_seal, &to, &key).unwrap(),
            manifest: self.deposited.manifest.clone(),
        })
    }
}

struct World {
    manifest: Manifest,
    digest: Digest,
    machine_seal: SealSecret,
    machine_key: SigningKey,
    keeper: Endpoint,
}

async fn world(manifest: Manifest, delay: Duration, limits: Limits) -> World {
    let rng = &mut system_rng();
    let network = network();
    let (seal, machine_seal) = (SealSecret::generate(rng), SealSecret::generate(rng));
    let job_key = JobKey::generate(rng);
    let salted = SaltedManifest::new(&manifest, rng).unwrap();
    let context = SealContext {
        network: &network,
        to: SealedFor::Keeper(job(1)),
    };
    let deposited = SealedJob {
        key: seal_job_key(rng, &seal.public(), &context, &job_key).unwrap(),
        manifest: seal_manifest(rng, &job_key, &network, &salted),
    };
    let machine_key = SigningKey::from_bytes(&fresh_secret());
    let source = Keeper {
        seal,
        deposited,
        machine: PublicKey::of(&machine_key),
        machine_seal: machine_seal.public(),
        delay,
    };
    let options = BindOptions {
        limits,
        ..BindOptions::loopback()
    };
    let services = Services::none().with_manifests(Arc::new(source));
    let keeper_key = SigningKey::from_bytes(&fresh_secret());
    let keeper = Endpoint::bind(&keeper_key, options, services);
    World {
        manifest,
        digest: salted.digest(),
        machine_seal,
        machine_key,
        keeper: keeper.await.unwrap(),
    }
}

fn small() -> Manifest {
    Manifest::new("oci:/srv/image", Digest([3; 32]))
}

async fn machine(world: &World) -> Endpoint {
    let options = BindOptions::loopback();
    Endpoint::bind(&world.machine_key, options, Services::none())
        .await
        .unwrap()
}

fn refusal(result: Result<SealedJob, FetchError>) -> RefusalCode {
    match result {
        Err(FetchError::Refused(refusal)) => refusal.code(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn the_machine_of_the_lease_gets_and_opens_the_manifest() {
    let mut large = small();
    large.args = Some(vec!["x".repeat(65_000)]);
    for manifest in [small(), large] {
        let world = world(manifest, Duration::ZERO, Limits::default()).await;
        let machine = machine(&world).await;
        let keeper = world.keeper.as_peer();
        let got = soon(fetch_manifest(&machine, &keeper, lease(1), job(1), SOON))
            .await
            .unwrap();
        let network = network();
        let context = SealContext {
            network: &network,
            to: SealedFor::Machine(lease(1)),
        };
        let key = open_job_key(&world.machine_seal, &context, &got.key).unwrap();
        let opened = open_manifest(&key, &network, &world.digest, &got.manifest).unwrap();
        assert_eq!(opened, world.manifest);
        machine.close().await;
        world.keeper.close().await;
    }
}

#[tokio::test]
async fn others_and_other_leases_are_refused_with_a_code() {
    let world = world(small(), Duration::ZERO, Limits::default()).await;
    let keeper = world.keeper.as_peer();
    let stranger = client().await;
    let got = soon(fetch_manifest(&stranger, &keeper, lease(1), job(1), SOON)).await;
    assert_eq!(refusal(got), RefusalCode::NotAuthorized);
    let machine = machine(&world).await;
    let got = soon(fetch_manifest(&machine, &keeper, lease(2), job(1), SOON)).await;
    assert_eq!(refusal(got), RefusalCode::NoSuchLease);
}

#[tokio::test]
async fn a_keeper_that_is_too_slow_says_so() {
    let limits = Limits {
        source: Duration::from_millis(50),
        ..Limits::default()
    };
    let world = world(small(), SOON, limits).await;
    let keeper = world.keeper.as_peer();
    let machine = machine(&world).await;
    let got = soon(fetch_manifest(&machine, &keeper, lease(1), job(1), SOON)).await;
    assert_eq!(refusal(got), RefusalCode::Unavailable);
    let short = Duration::from_millis(20);
    let got = soon(fetch_manifest(&machine, &keeper, lease(1), job(1), short)).await;
    assert!(
        matches!(got, Err(FetchError::Answer(_) | FetchError::Dial(_))),
        "{got:?}"
    );
}

#[tokio::test]
async fn another_key_at_the_address_is_not_the_keeper() {
    let world = world(small(), Duration::ZERO, Limits::default()).await;
    let mut keeper = world.keeper.as_peer();
    keeper.key = PublicKey::of(&key(9));
    let machine = client().await;
    let begun = Instant::now();
    let got = soon(fetch_manifest(&machine, &keeper, lease(1), job(1), SOON)).await;
    assert!(
        matches!(got, Err(FetchError::Dial(DialError::Failed { .. }))),
        "{got:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn dialling_nobody_is_a_typed_error_within_the_deadline() {
    let machine = client().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut nobody = net::Peer {
        key: PublicKey::of(&key(9)),
        addrs: vec![socket.local_addr().unwrap()],
    };
    let within = Duration::from_millis(300);
    let got = soon(fetch_manifest(&machine, &nobody, lease(1), job(1), within)).await;
    assert!(
        matches!(got, Err(FetchError::Dial(DialError::Timeout { .. }))),
        "{got:?}"
    );
    nobody.addrs.clear();
    let got = soon(fetch_manifest(&machine, &nobody, lease(1), job(1), within)).await;
    assert!(
        matches!(got, Err(FetchError::Dial(DialError::NoAddress { .. }))),
        "{got:?}"
    );
}

#[tokio::test]
async fn an_endpoint_that_serves_nothing_refuses() {
    let (one, two) = (client().await, client().await);
    let got = soon(fetch_manifest(&one, &two.as_peer(), lease(1), job(1), SOON)).await;
    assert!(
        matches!(got, Err(FetchError::Dial(DialError::Failed { .. }))),
        "{got:?}"
    );
}

#[test]
fn sealed_bytes_from_elsewhere_are_checked_at_the_door() {
    assert!(SealedManifest::from_bytes(vec![1; 10]).is_err());
}
