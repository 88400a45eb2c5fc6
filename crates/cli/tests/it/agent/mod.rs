//! The agent against a real node, gateway and keeper: whole leases, and what goes wrong in them. Workloads are in memory.

mod world;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agent::{
    Bidding,
    images::ImagePolicy,
    inventory::Inventory,
    pricing::{DeviceKind, Line, Policy},
    steward::{Running, Stewarding, Window, Wishes},
};
use api::{LeaseStateView, LeaseView};
use market::{Grant, Millis, OnBudget, OnPartition, PublicKey, Rate, Rights, Tier, Tx};
use net::{
    BindOptions, Endpoint, Peer, Services,
    logs::{LogClient, LogEvent, LogOffsets, LogQuery, LogStreams},
};
use runtime::{Blame, Fault, LogStream, Operation, Runtime as _, Status};

use tokio::sync::watch;
use world::{Agent, NO_GPUS, World, container, key, network, now, owner, tenant, until};

/// What is charged may differ from what was measured by this much.
const CHARGE_TOLERANCE_MS: u64 = 100;

fn charged(lease: &LeaseView) -> (u64, u64) {
    let LeaseStateView::Ended {
        ready_at,
        ended_at,
        bill,
        ..
    } = &lease.state
    else {
        panic!("{lease:?}");
    };
    (
        bill.elapsed_ms,
        ended_at.0.since(ready_at.unwrap().0).millis(),
    )
}

async fn scene() -> (World, Agent) {
    let world = World::start().await;
    let agent = world.agent().await;
    (world, agent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_runs_once_is_charged_as_measured_and_leaves_nothing() {
    let (world, agent) = scene().await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let Status::Running { started_at_ms } = world.fake.status(&container(lease.id)).await.unwrap()
    else {
        panic!("it does not run");
    };
    world.fake.exit(&container(lease.id), 0);
    let ended_at_ms = now().unix_millis();
    let (reason, ended) = world.ended(job).await;
    let (charged, _) = charged(&ended);
    assert_eq!(reason, "completed");
    assert!(
        charged.abs_diff(ended_at_ms - started_at_ms) <= CHARGE_TOLERANCE_MS,
        "{charged}"
    );
    assert_eq!(world.fake.starts(&container(lease.id)), 1);
    world.cleared().await;
    let on_disk = world.agent_bytes();
    assert!(
        !on_disk.windows(9).any(|w| w == b"hush-hush"),
        "a secret is on the agent's disk"
    );
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_again_changes_nothing() {
    let world = World::start().await;
    let again = world.set_up(&Policy::default()).await;
    assert_eq!((again.machine, again.changed), (world.machine, vec![]));
    let mut dearer = Policy::default();
    dearer.lines[0].target = Rate::from_micros_per_hour(300_000);
    let changed = world.set_up(&dearer).await.changed;
    assert_eq!(
        changed.len(),
        2,
        "one offer withdrawn, one placed: {changed:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_in_mid_lease_takes_it_up_again() {
    let (world, agent) = scene().await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    agent.crash().await;
    // It ends while nobody looks: the shim's instants count, not the agent's.
    let gone = world.open_job(|_| {}).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let agent = world.spawn_agent();
    let second = world.running(gone).await;
    agent.crash().await;
    let exited_at = now().unix_millis();
    world.fake.exit(&container(second.id), 3);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let agent = world.agent().await;
    let (reason, ended) = world.ended(gone).await;
    let LeaseStateView::Ended { ended_at, .. } = ended.state else {
        panic!()
    };
    assert_eq!(reason, "failed");
    assert!(ended_at.0.unix_millis().abs_diff(exited_at) <= CHARGE_TOLERANCE_MS);
    assert!(matches!(
        world.running(job).await.state,
        LeaseStateView::Running { .. }
    ));
    world.fake.exit(&container(lease.id), 0);
    assert_eq!(world.ended(job).await.0, "completed");
    for lease in [lease.id, second.id] {
        assert_eq!(world.fake.starts(&container(lease)), 1);
    }
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_stops_nothing_and_its_beats_are_made_good() {
    let (mut world, agent) = scene().await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    world.cut().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let during = world.fake.status(&container(lease.id)).await.unwrap();
    assert!(matches!(during, Status::Running { .. }), "{during:?}");
    world.mend().await;
    // Suspect or not meanwhile: it comes back, and the outage is paid for.
    let good = until("a good beat after the outage", async || {
        let lease = world.client.lease(&lease.id).await.ok()?;
        let run = *lease.state.run()?;
        let running = matches!(lease.state, LeaseStateView::Running { .. });
        (running && now().since(run.good_until.0) < Millis::from_millis(1_000)).then_some(run)
    })
    .await;
    // The last beat of the outage is up to one interval older than its end.
    assert!(good.good_until.0.since(good.ready_at.0) >= Millis::from_millis(2_500));
    world.fake.exit(&container(lease.id), 0);
    let (reason, ended) = world.ended(job).await;
    let (charged, measured) = charged(&ended);
    assert_eq!(
        (reason.as_str(), world.fake.starts(&container(lease.id))),
        ("completed", 1)
    );
    assert!(
        charged >= 3_000 && charged.abs_diff(measured) <= CHARGE_TOLERANCE_MS,
        "{charged} {measured}"
    );
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_kept_to_the_millisecond() {
    let (world, agent) = scene().await;
    let job = world
        .open_job(|spec| spec.duration_max = Millis::from_millis(1_500))
        .await;
    let (reason, ended) = world.ended(job).await;
    assert_eq!(
        (reason.as_str(), charged(&ended).0),
        ("duration-reached", 1_500)
    );
    world.cleared().await;
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_falls_into_an_outage_ends_the_workload_in_time() {
    let (mut world, agent) = scene().await;
    let job = world
        .open_job(|spec| spec.duration_max = Millis::from_millis(1_500))
        .await;
    let lease = world.running(job).await;
    world.cut().await;
    let ran_ms = until("stopped by itself", async || {
        match world.fake.status(&container(lease.id)).await.unwrap() {
            Status::Exited(exit) => Some(exit.ended_at_ms - exit.started_at_ms),
            _ => None,
        }
    })
    .await;
    assert!((1_500..1_700).contains(&ran_ms), "{ran_ms}");
    world.mend().await;
    let (reason, ended) = world.ended(job).await;
    // The ledger went on without the machine: it pays for what it heard of, and never for more than the limit.
    assert_eq!(reason, "duration-reached");
    assert!(charged(&ended).0 <= 1_500, "{ended:?}");
    world.cleared().await;
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_stopped_and_cleared_away() {
    let (world, agent) = scene().await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    world
        .fake
        .write(&container(lease.id), LogStream::Stdout, b"half\n");
    world.send(&tenant(), Tx::CancelJob { job }).await;
    assert_eq!(world.ended(job).await.0, "cancelled");
    world.cleared().await;
    assert_eq!(world.fake.starts(&container(lease.id)), 1);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blame_decides_the_reason_and_what_passes_is_tried_again() {
    let (world, agent) = scene().await;
    let table = [
        (Operation::Prepare, Blame::Tenant, "image-error"),
        (Operation::Prepare, Blame::Provider, "provider-lost"),
    ];
    for (operation, blame, reason) in table {
        world.fake.put_fault(operation, Fault::Fails(blame));
        let job = world.open_job(|_| {}).await;
        assert_eq!(world.ended(job).await.0, reason, "{blame:?}");
        if blame == Blame::Provider {
            // The tenant's fault ends the job; the provider's has it wait for another machine.
            world.send(&tenant(), Tx::CancelJob { job }).await;
        }
    }
    world.cleared().await;
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passing_faults_of_every_step_do_not_start_it_twice() {
    let (world, agent) = scene().await;
    let steps = [
        Operation::Prepare,
        Operation::Create,
        Operation::Start,
        Operation::Status,
    ];
    for operation in steps {
        for fault in [
            Fault::Fails(Blame::Transient),
            Fault::FailsAfter(Blame::Transient),
        ] {
            world.fake.put_fault(operation, fault);
            let job = world.open_job(|_| {}).await;
            let lease = world.running(job).await;
            assert_eq!(
                world.fake.starts(&container(lease.id)),
                1,
                "{operation:?} {fault:?}"
            );
            for end in [Operation::Stop, Operation::Remove] {
                world.fake.put_fault(end, fault);
            }
            world.send(&tenant(), Tx::CancelJob { job }).await;
            world.cleared().await;
        }
    }
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_workload_is_reported_and_not_started_again() {
    let (world, agent) = scene().await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    world.fake.lose(&container(lease.id));
    assert_eq!(world.ended(job).await.0, "provider-lost");
    world.cleared().await;
    assert_eq!(world.fake.starts(&container(lease.id)), 1);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_for_the_tenant_alone_and_outlive_the_container() {
    let (world, agent) = scene().await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    world
        .fake
        .write(&container(lease.id), LogStream::Stdout, b"hello\n");
    world.fake.exit(&container(lease.id), 0);
    world.ended(job).await;
    world.cleared().await;
    let machine = world.client.machine(&world.machine).await.unwrap();
    let peer = Peer::from_hints(machine.endpoint_key, &machine.dial);
    assert_eq!(
        read(&peer, &lease, &tenant()).await,
        Ok(b"hello\n".to_vec())
    );
    assert!(read(&peer, &lease, &key(77)).await.is_err());
    assert!(read(&peer, &lease, &owner()).await.is_err());
    agent.stop().await;
    world.stop().await;
}

/// Reads a lease's output with a grant that `signer` signs.
async fn read(
    peer: &Peer,
    lease: &LeaseView,
    signer: &ed25519_dalek::SigningKey,
) -> Result<Vec<u8>, String> {
    let dialler = key(60);
    let endpoint = Endpoint::bind(&dialler, BindOptions::loopback(), Services::none())
        .await
        .unwrap();
    let grant = Grant {
        lease: lease.id,
        endpoint: PublicKey::of(&dialler),
        rights: Rights::LOGS,
        expires_at: now().after(Millis::from_secs(60)),
    };
    let query = LogQuery {
        lease: lease.id,
        streams: LogStreams::Both,
        from: LogOffsets::default(),
        follow: true,
    };
    let mut bytes = Vec::new();
    let mut client = LogClient::new(
        &endpoint,
        peer.clone(),
        grant.sign(&network(), signer),
        query,
    );
    let result = loop {
        match client.next().await {
            Ok(LogEvent::Piece(piece)) => bytes.extend_from_slice(&piece.bytes),
            Ok(LogEvent::End(_)) => break Ok(bytes),
            Err(error) => break Err(format!("{error:?}")),
        }
    };
    endpoint.close().await;
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_with_a_window_is_won_below_the_ask() {
    let world = World::start().await;
    let target = Rate::from_micros_per_hour(100_000);
    let floor = Rate::from_micros_per_hour(50_000);
    let lines = vec![Line::new(DeviceKind::Any, Tier::OnDemand, target, floor)];
    let (_prices, policy) = watch::channel(Policy::of_lines(lines));
    let key = owner();
    let agent = world.spawn_agent_with(Some(Bidding { key, policy }), None);
    until("a beat", async || {
        world
            .client
            .machine(&world.machine)
            .await
            .unwrap()
            .last_beat
    })
    .await;
    // The bidder hears only what opens after it began to listen.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let job = world
        .open_job(|spec| spec.window = Millis::from_millis(1_500))
        .await;
    let lease = world.running(job).await;
    assert!(lease.source.starts_with("bid_"), "{}", lease.source);
    assert_eq!(lease.prices.per_device_hour.0.micros(), 90_000);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_provider_does_not_take_is_refused_with_a_word_to_the_tenant() {
    let mut world = World::start().await;
    world.images = ImagePolicy::default();
    let agent = world.agent().await;
    for image in ["oci:/etc/secrets", "127.0.0.1:9/internal:1"] {
        let job = world.open_job_of(image, |_| {}).await;
        let (reason, lease) = world.ended(job).await;
        assert_eq!(reason, "image-error", "{image}");
        assert_eq!(lease.charged.0, market::Money::ZERO);
        let machine = world.client.machine(&world.machine).await.unwrap();
        let peer = Peer::from_hints(machine.endpoint_key, &machine.dial);
        let said = String::from_utf8(read(&peer, &lease, &tenant()).await.unwrap()).unwrap();
        assert!(said.starts_with("tradewind: image-not-allowed: "), "{said}");
        assert!(said.contains("\ntradewind: next: "), "{said}");
        assert_eq!(world.fake.starts(&container(lease.id)), 0);
    }
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_pauses_when_its_funds_are_used_up_and_goes_on_when_they_are_added_to() {
    let (world, agent) = scene().await;
    // At ten cents an hour, a second and a half.
    let job = world
        .open_job(|spec| {
            spec.budget = market::Money::from_micros(42);
            spec.on_budget = OnBudget::Pause {
                grace: Millis::from_secs(60),
            };
        })
        .await;
    let lease = world.running(job).await;
    let id = container(lease.id);
    let paused = world
        .lease(job, "paused", |s| {
            matches!(s, LeaseStateView::Paused { .. })
        })
        .await;
    until("at rest", async || {
        let status = world.fake.status(&id).await.unwrap();
        matches!(status, Status::Exited(_)).then_some(())
    })
    .await;
    let ran = paused.state.run().unwrap().ran_before_ms;
    assert!((1_400..=1_520).contains(&ran), "{ran}");
    // A crash while it rests is no reason to start it, or to forget it.
    agent.crash().await;
    let agent = world.agent().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(world.fake.starts(&id), 1);

    let amount = market::Money::from_micros(1_000);
    world.send(&tenant(), Tx::TopUpJob { job, amount }).await;
    world.running(job).await;
    assert_eq!(world.fake.starts(&id), 2);
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.fake.exit(&id, 0);
    let (reason, ended) = world.ended(job).await;
    let (charged, from_first_to_last) = charged(&ended);
    assert_eq!(reason, "completed");
    // The pause is not charged.
    assert!(
        (ran + 700..ran + 1_200).contains(&charged),
        "{charged} after {ran}"
    );
    assert!(
        from_first_to_last > charged + 500,
        "{from_first_to_last} {charged}"
    );
    world.cleared().await;
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_says_so_rests_while_the_ledger_cannot_be_reached() {
    let (mut world, agent) = scene().await;
    let keeps = world.open_job(|_| {}).await;
    let kept = world.running(keeps).await;
    let rests = world
        .open_job(|spec| {
            spec.on_partition = OnPartition::Pause {
                after: Millis::from_millis(500),
            };
        })
        .await;
    let rested = world.running(rests).await;
    world.cut().await;
    until("at rest", async || {
        let status = world.fake.status(&container(rested.id)).await.unwrap();
        matches!(status, Status::Exited(_)).then_some(())
    })
    .await;
    let other = world.fake.status(&container(kept.id)).await.unwrap();
    assert!(matches!(other, Status::Running { .. }), "{other:?}");
    world.mend().await;
    until("it goes on", async || {
        let status = world.fake.status(&container(rested.id)).await.unwrap();
        matches!(status, Status::Running { .. }).then_some(())
    })
    .await;
    assert_eq!(world.fake.starts(&container(rested.id)), 2);
    for (job, lease) in [(keeps, kept), (rests, rested)] {
        world.fake.exit(&container(lease.id), 0);
        assert_eq!(world.ended(job).await.0, "completed");
    }
    agent.stop().await;
    world.stop().await;
}

/// Two GPUs of one host, both free.
fn two_gpus() -> String {
    let recorded = include_str!("../../../../agent/src/inventory/h100x2.json");
    let mut told: serde_json::Value = serde_json::from_str(recorded).unwrap();
    for gpu in told["gpus"].as_array_mut().unwrap() {
        gpu["programs"] = 0.into();
    }
    told.to_string()
}

/// The two by the names that NVIDIA's tool gives them.
const FIRST: &str = "nvidia.com/gpu=GPU-3f1c9e0a-5c5b-7d0e-9a51-0b8f6a2c41d7";
const SECOND: &str = "nvidia.com/gpu=GPU-a4d2b7f6-1e83-4c6b-b2f0-77c0de91f3aa";

/// Wants one GPU of any model.
fn one_gpu(spec: &mut market::JobSpec) {
    spec.needs.device = market::DeviceNeed::Gpu {
        models: Vec::new(),
        vram_min: market::ByteSize::ZERO,
        interface: None,
        one_fabric: false,
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_gpu_gets_that_card_and_no_other() {
    let mut world = World::start().await;
    world.fake.set_devices(&[FIRST, SECOND]);
    world.gpus = two_gpus();
    world.set_up_with(&Policy::default(), &world.gpus).await;
    let agent = world.agent().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let job = world.open_job(one_gpu).await;
        let lease = world.running(job).await;
        let named = [FIRST, SECOND][usize::from(lease.devices[0])];
        assert_eq!(world.fake.devices(&container(lease.id)), [named]);
        held.push(named);
    }
    held.sort_unstable();
    assert_eq!(held, [FIRST, SECOND]);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_failed_before_its_lease_began_fails_the_lease_and_nothing_is_paid() {
    let mut world = World::start().await;
    world.fake.set_devices(&[FIRST, SECOND]);
    let both = two_gpus();
    world.set_up_with(&Policy::default(), &both).await;
    // The listing still has both, and offers go in order: the first is leased first.
    world.gpus = without_the_first(&both);
    let agent = world.agent().await;
    let tenant_account = market::AccountId::of(market::PublicKey::of(&tenant()));
    let before = world.client.account(&tenant_account).await.unwrap();
    let job = world.open_job(one_gpu).await;
    let (_reason, lease) = world.ended(job).await;
    assert!(world.fake.devices(&container(lease.id)).is_empty());
    assert!(lease.charged.0.is_zero(), "{lease:?}");
    // The job waits in the book for another machine, with its budget held; nothing of it is spent.
    let now = world.client.account(&tenant_account).await.unwrap();
    let all = now.available.0.micros() + now.held.0.micros();
    assert!(all >= before.available.0.micros(), "{now:?}");
    agent.stop().await;
    world.stop().await;
}

fn without_the_first(gpus: &str) -> String {
    let mut told: serde_json::Value = serde_json::from_str(gpus).unwrap();
    told["gpus"].as_array_mut().unwrap().remove(0);
    told.to_string()
}

/// Starts an agent whose steward sees what the test puts there, and in a hurry.
fn stewarded(world: &World, seen: &Arc<Mutex<Inventory>>) -> Agent {
    let plan = world.plan(&Policy::default());
    let seen = Arc::clone(seen);
    let (prices, _policy) = watch::channel(Policy::default());
    let steward = Stewarding {
        key: owner(),
        wishes: Arc::new(move || {
            let windows = Vec::new();
            let plan = plan.clone();
            Ok(Wishes { plan, windows })
        }),
        measure: Arc::new(move || Ok(seen.lock().unwrap().clone())),
        prices,
        every: Duration::from_millis(100),
    };
    world.spawn_agent_with(None, Some(steward))
}

async fn until_state(world: &World, state: &str) {
    until(state, async || {
        let view = world.client.machine(&world.machine).await.unwrap();
        (view.state == state && view.last_beat.is_some()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_closes_the_machine_and_room_opens_it_again() {
    let world = World::start().await;
    let seen = Arc::new(Mutex::new(world.inventory(NO_GPUS)));
    seen.lock().unwrap().host.disk = market::ByteSize::from_gib(9);
    let agent = stewarded(&world, &seen);
    until_state(&world, "active").await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    seen.lock().unwrap().host.disk = market::ByteSize::from_mib(100);
    until_state(&world, "draining").await;
    // What runs goes on.
    let status = world.fake.status(&container(lease.id)).await.unwrap();
    assert!(matches!(status, Status::Running { .. }), "{status:?}");
    seen.lock().unwrap().host.disk = market::ByteSize::from_gib(9);
    until_state(&world, "active").await;
    // What a person drained stays drained.
    let machine = world.machine;
    world
        .send(
            &owner(),
            Tx::DrainMachine {
                machine,
                evict_at: None,
            },
        )
        .await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    until_state(&world, "draining").await;
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_falls_off_the_bus_leaves_the_listing_and_a_hanging_driver_closes_it() {
    let world = World::start().await;
    let both = two_gpus();
    world
        .fake
        .set_devices(&["nvidia.com/gpu=all", FIRST, SECOND]);
    world.set_up_with(&Policy::default(), &both).await;
    let seen = Arc::new(Mutex::new(world.inventory(&both)));
    seen.lock().unwrap().host.disk = market::ByteSize::from_gib(9);
    let agent = stewarded(&world, &seen);
    until_state(&world, "active").await;
    seen.lock().unwrap().gpus = Err("the GPU probe did not answer".to_owned());
    until_state(&world, "draining").await;
    let view = world.client.machine(&world.machine).await.unwrap();
    assert_eq!(
        view.devices.len(),
        2,
        "a driver that does not answer says nothing of the devices"
    );
    seen.lock().unwrap().gpus = world.inventory(&without_the_first(&both)).gpus;
    until_state(&world, "active").await;
    let view = world.client.machine(&world.machine).await.unwrap();
    assert_eq!(
        (view.devices.len(), view.devices[0].model.as_str()),
        (1, "h100")
    );
    let offers = until("an offer of what is left", async || {
        let filter = api::OfferFilter {
            machine: Some(world.machine),
            ..api::OfferFilter::default()
        };
        let offers = world.client.offers(&filter).await.unwrap().items;
        (offers.len() == 1 && offers[0].devices == [0]).then_some(offers)
    })
    .await;
    assert_eq!(offers[0].machine, world.machine);
    agent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maintenance_window_closes_the_machine_for_its_time_and_no_longer() {
    let world = World::start().await;
    let plan = world.plan(&Policy::default());
    let inventory = world.inventory(NO_GPUS);
    let windows = Arc::new(Mutex::new(Vec::new()));
    let planned = Arc::clone(&windows);
    let (prices, _policy) = watch::channel(Policy::default());
    let steward = Stewarding {
        key: owner(),
        wishes: Arc::new(move || {
            let windows = planned.lock().unwrap().clone();
            let plan = plan.clone();
            Ok(Wishes { plan, windows })
        }),
        measure: Arc::new(move || Ok(inventory.clone())),
        prices,
        // A look at the machine is not due for long: the window alone must bring one about.
        every: Duration::from_hours(1),
    };
    let agent = world.spawn_agent_with(None, Some(steward));
    until_state(&world, "active").await;
    let job = world.open_job(|_| {}).await;
    let lease = world.running(job).await;
    let now = world.client.status().await.unwrap().now.0;
    windows.lock().unwrap().push(Window {
        from: now,
        until: now.after(Millis::from_secs(12)),
        drain_ahead: Millis::ZERO,
        running: Running::Stay,
    });
    until_state(&world, "draining").await;
    let status = world.fake.status(&container(lease.id)).await.unwrap();
    assert!(matches!(status, Status::Running { .. }), "{status:?}");
    until_state(&world, "active").await;
    let now = world.client.status().await.unwrap().now.0;
    assert!(
        now >= windows.lock().unwrap()[0].until,
        "put back too early"
    );
    agent.stop().await;
    world.stop().await;
}
