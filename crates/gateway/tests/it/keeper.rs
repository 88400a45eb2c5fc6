//! Manifests: from the tenant to the keeper to the machine of a live lease, and to nobody else.

use api::{
    Code, ManifestClaim,
    envelope::{
        JobKey, SaltedManifest, SealContext, SealSecret, SealedFor, SealedJob, open_job_key,
        open_manifest, seal_job_key, seal_manifest, system_rng,
    },
    manifest::Manifest,
};
use ed25519_dalek::SigningKey;
use market::{Digest, JobId, JobSpec, LeaseId, PublicKey, Tx};
use net::{RefusalCode, manifest::ManifestSource as _};

use crate::world::{World, job_spec, keeper_keys, keeper_seal, key, machine_keys, network};

/// Returns a manifest's digest and the manifest sealed to the world's keeper.
fn sealed(job: JobId) -> (Manifest, Digest, SealedJob) {
    let mut manifest = Manifest::new("oci:/srv/images/train", Digest([7; 32]));
    manifest.env.insert("MODE".to_owned(), "fast".to_owned());
    let mut rng = system_rng();
    let (key, network) = (JobKey::generate(&mut rng), network());
    let salted = SaltedManifest::new(&manifest, &mut rng).unwrap();
    let context = SealContext {
        network: &network,
        to: SealedFor::Keeper(job),
    };
    let sealed = SealedJob {
        key: seal_job_key(&mut rng, &keeper_seal().public(), &context, &key).unwrap(),
        manifest: seal_manifest(&mut rng, &key, &network, &salted),
    };
    (manifest, salted.digest(), sealed)
}

struct Scene {
    world: World,
    job: JobId,
    lease: LeaseId,
    spec: JobSpec,
    manifest: Manifest,
    sealed: SealedJob,
    endpoint: SigningKey,
    seal: SealSecret,
}

/// A tenant's job with a live lease; the manifest is put before the job when `early`.
async fn scene(early: bool) -> Scene {
    let world = World::start().await;
    let (owner, tenant, sign_key, endpoint) = (key(40), key(41), key(42), key(43));
    let (keys, seal) = machine_keys(&sign_key, &endpoint);
    let machine = world.machine(&owner, keys, &sign_key).await;
    world.fund(&tenant, 10).await;
    let job = JobId::created_by(&PublicKey::of(&tenant), 0);
    let (manifest, digest, sealed) = sealed(job);
    if early {
        let claim = ManifestClaim::sign(&network(), &tenant, 0, &sealed);
        let staged = world.client.stage_manifest(&job, &sealed, &claim);
        staged.await.unwrap();
    }
    let spec = job_spec(digest);
    world.apply(&tenant, Tx::OpenJob(spec.clone())).await;
    let work = world.client.machine_leases(&machine).await.unwrap();
    assert_eq!(work.items[0].manifest, digest);
    assert_eq!(work.items[0].keepers[0].keeper(), keeper_keys());
    let lease = work.items[0].lease.id;
    Scene {
        world,
        job,
        lease,
        spec,
        manifest,
        sealed,
        endpoint,
        seal,
    }
}

impl Scene {
    async fn hand_over(&self, endpoint: &SigningKey) -> Result<SealedJob, RefusalCode> {
        let machine = PublicKey::of(endpoint);
        let handed = self
            .world
            .keeper
            .hand_over(machine, self.lease, self.job)
            .await;
        handed.map_err(|refusal| refusal.code())
    }

    fn open(&self, handed: &SealedJob) -> Manifest {
        let network = network();
        let context = SealContext {
            network: &network,
            to: SealedFor::Machine(self.lease),
        };
        let key = open_job_key(&self.seal, &context, &handed.key).unwrap();
        open_manifest(&key, &network, &self.spec.manifest, &handed.manifest).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_of_a_live_lease_gets_the_manifest_and_nobody_else() {
    let scene = scene(false).await;
    assert_eq!(
        scene.hand_over(&scene.endpoint).await,
        Err(RefusalCode::Unavailable),
        "nothing was sent yet"
    );
    scene
        .world
        .client
        .put_manifest(&scene.job, &scene.sealed)
        .await
        .unwrap();
    assert_eq!(
        scene.hand_over(&key(99)).await,
        Err(RefusalCode::NotAuthorized)
    );
    let handed = scene.hand_over(&scene.endpoint).await.unwrap();
    assert_eq!(scene.open(&handed), scene.manifest);
    let network = network();
    let context = SealContext {
        network: &network,
        to: SealedFor::Machine(scene.lease),
    };
    assert!(
        open_job_key(&keeper_seal(), &context, &handed.key).is_err(),
        "sealed to the machine alone"
    );

    // It is on disk: another keeper over the same folder has it.
    let scene = Scene {
        world: scene.world.restart_gateway().await,
        ..scene
    };
    assert_eq!(
        scene.open(&scene.hand_over(&scene.endpoint).await.unwrap()),
        scene.manifest
    );

    let tenant = key(41);
    scene
        .world
        .apply(&tenant, Tx::CancelJob { job: scene.job })
        .await;
    assert_eq!(
        scene.hand_over(&scene.endpoint).await,
        Err(RefusalCode::NoSuchLease)
    );
    let late = scene
        .world
        .client
        .put_manifest(&scene.job, &scene.sealed)
        .await
        .unwrap_err();
    assert_eq!(late.code(), Some(Code::JobEnded));
    scene.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_may_come_before_its_job() {
    let scene = scene(true).await;
    let handed = scene.hand_over(&scene.endpoint).await.unwrap();
    assert_eq!(scene.open(&handed), scene.manifest);
    scene.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_job_names_is_stored() {
    let scene = scene(false).await;
    let (_, _, other) = sealed(scene.job);
    let client = &scene.world.client;
    let refused = client.put_manifest(&scene.job, &other).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::BadManifest));
    let mut foreign = scene.spec.clone();
    foreign.keepers[0].endpoint = PublicKey::of(&key(98));
    let tenant = key(41);
    scene.world.apply(&tenant, Tx::OpenJob(foreign)).await;
    let job = JobId::created_by(&PublicKey::of(&tenant), 1);
    let refused = client.put_manifest(&job, &scene.sealed).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::NotKeeper));
    scene.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_takes_the_place_of_a_manifest_that_comes_before_its_job() {
    let world = World::start().await;
    let (tenant, squatter, stranger) = (key(41), key(50), key(51));
    world.fund(&tenant, 10).await;
    world.fund(&squatter, 10).await;
    let job = JobId::created_by(&PublicKey::of(&tenant), 0);
    let (_, _, sealed) = sealed(job);
    let client = &world.client;

    let unsigned = client.put_manifest(&job, &sealed).await.unwrap_err();
    assert_eq!(unsigned.code(), Some(Code::UnsignedManifest));
    let mut foreign = ManifestClaim::sign(&network(), &squatter, 0, &sealed);
    let refused = client.stage_manifest(&job, &sealed, &foreign).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::UnsignedManifest));
    foreign.signer = PublicKey::of(&tenant);
    let refused = client.stage_manifest(&job, &sealed, &foreign).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::UnsignedManifest));
    // A key without an account is refused even for its own job.
    let own = JobId::created_by(&PublicKey::of(&stranger), 0);
    let claim = ManifestClaim::sign(&network(), &stranger, 0, &sealed);
    let refused = client.stage_manifest(&own, &sealed, &claim).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::UnknownKey));

    let claim = ManifestClaim::sign(&network(), &tenant, 0, &sealed);
    client.stage_manifest(&job, &sealed, &claim).await.unwrap();
    world.stop().await;
}
