//! Who gets an order: eligibility first, then price; bids, windows, waiting, and what the funnel says.

use market::*;
use reject::Unmet;

use crate::world::*;

const TENANT: u8 = 10;
const OTHER_TENANT: u8 = 11;
const A: u8 = 20;
const B: u8 = 30;

/// A tenant and two providers without machines.
fn world() -> World {
    world_with(Params::default())
}

fn world_with(params: Params) -> World {
    let mut w = World::new(params);
    w.fund(TENANT, 1_000);
    w.fund(OTHER_TENANT, 1_000);
    w.provider(A, 500);
    w.provider(B, 500);
    w
}

fn supply(w: &mut World, owner: u8, n: u8, gpus: u8, dollars: u64) -> MachineId {
    let machine = w.machine(owner, n, gpu_machine(gpus, &format!("rack-{n}")));
    w.offer(owner, offer(machine, gpus, Tier::OnDemand, dollars));
    machine
}

fn machine_of(w: &World, job: JobId) -> MachineId {
    w.lease(w.lease_of(job)).machine
}

fn is_waiting(w: &World, job: JobId) -> bool {
    matches!(w.m.job(job).map(|j| j.state), Some(JobState::Open { .. }))
}

fn order_of(w: &World, job: JobId) -> OrderId {
    match w.m.job(job).map(|j| j.state) {
        Some(JobState::Open { order }) => order,
        other => panic!("the job has no order: {other:?}"),
    }
}

#[test]
fn the_cheapest_that_fits_is_taken_and_a_device_only_once() {
    let mut w = world();
    let dear = supply(&mut w, A, 21, 1, 3);
    let cheap = supply(&mut w, B, 31, 1, 2);
    let first = w.job(TENANT, job(10));
    let second = w.job(TENANT, job(10));
    let third = w.job(TENANT, job(10));
    assert_eq!(machine_of(&w, first), cheap);
    assert_eq!(machine_of(&w, second), dear);
    assert!(is_waiting(&w, third));
    assert_eq!(
        w.lease(w.lease_of(first)).prices,
        prices(2),
        "at the offer's price"
    );
}

#[test]
fn a_waiting_order_is_placed_when_a_lease_ends_oldest_first() {
    let mut w = world();
    supply(&mut w, A, 21, 1, 2);
    let first = w.job(TENANT, job(10));
    let second = w.job(TENANT, job(10));
    let third = w.job(OTHER_TENANT, job(10));
    w.ok(key(TENANT), Tx::CancelJob { job: first });
    assert!(!is_waiting(&w, second), "in the same block");
    assert!(is_waiting(&w, third));
}

#[test]
fn a_pass_over_the_waiting_goes_on_over_blocks() {
    let mut w = world_with(Params {
        timers_per_block: 2,
        ..Params::default()
    });
    let jobs: Vec<JobId> = (0..7).map(|_| w.job(TENANT, job(10))).collect();
    let machine = w.machine(A, 21, gpu_machine(8, "rack"));
    w.offer(A, offer(machine, 8, Tier::OnDemand, 1));
    assert_eq!(jobs.iter().filter(|j| is_waiting(&w, **j)).count(), 5);
    assert_eq!(w.m.next_due(), Some(w.m.time()), "there is more to do");
    for _ in 0..4 {
        w.block(Millis::ZERO, vec![]);
    }
    assert!(!jobs.iter().any(|j| is_waiting(&w, *j)));
    assert_eq!(w.m.system().retry, Retry::default());
}

#[test]
fn equally_cheap_goes_to_the_reliable_then_to_the_less_used_provider() {
    let mut w = world();
    supply(&mut w, A, 21, 2, 2);
    let other = supply(&mut w, B, 31, 2, 2);
    let first = w.job(TENANT, job(10));
    assert_ne!(machine_of(&w, first), other, "the older offer");
    let second = w.job(TENANT, job(10));
    assert_eq!(
        machine_of(&w, second),
        other,
        "where the tenant has fewer leases"
    );
    let lease = w.lease_of(second);
    w.ready(lease);
    w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    let third = w.job(OTHER_TENANT, job(10));
    assert_eq!(
        machine_of(&w, third),
        other,
        "which has shown that it delivers"
    );
}

#[test]
fn bids_and_offers_are_compared_when_the_window_closes() {
    let mut w = world();
    supply(&mut w, A, 21, 1, 3);
    let bidder = w.machine(B, 31, gpu_machine(1, "rack-b"));
    let spec = JobSpec {
        window: secs(5),
        ..job(10)
    };
    let id = w.job(TENANT, spec);
    let order = order_of(&w, id);
    let bid = |dollars| BidTerms {
        order,
        machine: bidder,
        devices: vec![0],
        prices: prices(dollars),
        preempt_notice: secs(30),
    };
    w.ok(key(B), Tx::PlaceBid(bid(4)));
    w.wait(secs(4));
    assert!(
        is_waiting(&w, id),
        "while the window is open nothing is taken"
    );
    w.ok(key(B), Tx::PlaceBid(bid(2)));
    let events = w.wait(secs(1));
    let lease = w.lease(w.lease_of(id));
    assert_eq!(
        (lease.machine, lease.prices),
        (bidder, prices(2)),
        "the winner is paid its bid"
    );
    let lost = |e: &EventKind| {
        matches!(
            e,
            EventKind::BidClosed {
                why: BidEnd::Lost,
                ..
            }
        )
    };
    assert_eq!(events.iter().filter(|e| lost(e)).count(), 1);
}

#[test]
fn a_bid_whose_device_was_leased_meanwhile_is_void() {
    let mut w = world();
    let machine = supply(&mut w, A, 21, 1, 3);
    let id = w.job(
        TENANT,
        JobSpec {
            window: secs(5),
            ..job(10)
        },
    );
    let order = order_of(&w, id);
    let terms = BidTerms {
        order,
        machine,
        devices: vec![0],
        prices: prices(1),
        preempt_notice: secs(30),
    };
    w.ok(key(A), Tx::PlaceBid(terms));
    w.job(OTHER_TENANT, job(10));
    let events = w.wait(secs(5));
    let void = |e: &EventKind| {
        matches!(
            e,
            EventKind::BidClosed {
                why: BidEnd::Void,
                ..
            }
        )
    };
    assert_eq!(events.iter().filter(|e| void(e)).count(), 1);
    assert!(is_waiting(&w, id));
}

#[test]
fn a_machine_that_never_beat_or_fell_silent_gets_nothing() {
    let mut w = world();
    let id = MachineId::created_by(&key(A), w.nonce(key(A)));
    let (keys, spec) = (machine_keys(21), gpu_machine(1, "rack"));
    w.ok(key(A), Tx::AddMachine { keys, spec });
    w.offer(A, offer(id, 1, Tier::OnDemand, 2));
    let waiting = w.job(TENANT, job(10));
    assert!(is_waiting(&w, waiting));
    w.beat(id, &[]);
    assert_eq!(
        machine_of(&w, waiting),
        id,
        "its first beat brings it into the book"
    );
    w.ok(key(TENANT), Tx::CancelJob { job: waiting });

    w.wait(secs(179));
    assert!(w.m.is_online(id));
    w.wait(secs(1));
    assert!(!w.m.is_online(id), "three idle beats missed");
    let second = w.job(TENANT, job(10));
    assert!(is_waiting(&w, second));
    w.beat(id, &[]);
    assert_eq!(machine_of(&w, second), id);
}

#[test]
fn draining_retiring_withdrawing_and_expiring_take_supply_away() {
    let mut w = world();
    let machine = supply(&mut w, A, 21, 1, 2);
    let count = |w: &World| w.m.explain(&job(10), account(TENANT)).matching;
    assert_eq!(count(&w), 1);
    w.ok(
        key(A),
        Tx::DrainMachine {
            machine,
            evict_at: None,
        },
    );
    assert_eq!(count(&w), 0);
    w.ok(key(A), Tx::ResumeMachine { machine });
    assert_eq!(count(&w), 1);
    let mut short = offer(machine, 1, Tier::OnDemand, 1);
    short.expires_at = w.m.time().after(secs(10));
    w.offer(A, short);
    assert_eq!(count(&w), 2);
    w.run(machine, &[], secs(10));
    assert_eq!(count(&w), 1);
    w.ok(key(A), Tx::RetireMachine { machine });
    assert_eq!((count(&w), w.m.offers().count()), (0, 0));
    assert!(w.m.machine(machine).is_none());
    assert_eq!(
        w.m.admissible(&key(21), w.m.time()),
        Err(Inadmissible::KeyEnded)
    );
}

/// A change to a job, and the need that a plain machine then fails.
type Case = (fn(&mut JobSpec), Unmet);

#[test]
fn the_funnel_names_the_first_need_that_is_not_met() {
    let mut w = world();
    let machine = supply(&mut w, A, 21, 2, 2);
    let cases: [Case; 19] = [
        (|s| s.tier = Tier::Spot, Unmet::Tier),
        (|s| s.needs.device = DeviceNeed::Cpu, Unmet::Model),
        (|s| s.needs.device = gpu("a100", 0, None), Unmet::Model),
        (|s| s.needs.device = gpu("h100", 81, None), Unmet::Vram),
        (
            |s| s.needs.device = gpu("h100", 80, Some(Interface::Pcie)),
            Unmet::Interface,
        ),
        (|s| s.needs.count = 3, Unmet::DevicesFree),
        (
            |s| s.needs.cpu = Some(MilliCpu::from_milli(16_001)),
            Unmet::Cpu,
        ),
        (
            |s| s.needs.memory = Some(ByteSize::from_gib(65)),
            Unmet::Memory,
        ),
        (|s| s.needs.disk = ByteSize::from_gib(501), Unmet::Disk),
        (|s| s.needs.isolation = Isolation::Vm, Unmet::Isolation),
        (|s| s.needs.regions = vec![name("us-east")], Unmet::Region),
        (
            |s| s.needs.certificates = vec![name("iso27001")],
            Unmet::Certificate,
        ),
        (
            |s| s.needs.reliability_min = Some(BasisPoints::from_bps(1)),
            Unmet::Reliability,
        ),
        (|s| s.needs.sla = SlaClass::P990, Unmet::Sla),
        (|s| s.needs.claims = Claims::VerifiedOnly, Unmet::Unverified),
        (|s| s.needs.providers = vec![account(B)], Unmet::Provider),
        (
            |s| s.needs.exclude_domains = vec![name("rack-21")],
            Unmet::Excluded,
        ),
        (|s| s.duration_max = secs(86_401), Unmet::Term),
        (
            |s| s.price_cap = Some(Rate::from_micros_per_hour(1_999_999)),
            Unmet::Price,
        ),
    ];
    for (change, unmet) in cases {
        let mut spec = job(10);
        change(&mut spec);
        let found = w.m.explain(&spec, account(TENANT));
        assert_eq!(found.unmet, vec![(unmet, 1)], "{unmet}");
        assert_eq!((found.total, found.matching), (1, 0));
        let single = found
            .relaxations
            .first()
            .map(|r| (r.need, r.offers, r.best.machine));
        assert_eq!(
            single,
            Some((unmet, 1, machine)),
            "dropping that need alone is enough"
        );
        let id = w.job(TENANT, spec);
        assert!(
            is_waiting(&w, id),
            "the ledger agrees with the funnel: {unmet}"
        );
        w.ok(key(TENANT), Tx::CancelJob { job: id });
    }
    let mut spec = job(10);
    spec.needs.exclude_machines = vec![machine];
    assert_eq!(
        w.m.explain(&spec, account(TENANT)).unmet,
        vec![(Unmet::Excluded, 1)]
    );
    spec = JobSpec {
        budget: Money::from_micros(33_000),
        ..job(1)
    };
    assert_eq!(
        w.m.explain(&spec, account(TENANT)).unmet,
        vec![(Unmet::Budget, 1)],
        "under a minute"
    );
    w.ok(key(A), Tx::WithdrawBond { amount: usd(499) });
    let found = w.m.explain(&job(10), account(TENANT));
    assert_eq!(
        found.unmet,
        vec![(Unmet::Bond, 1)],
        "$1 of bond for an hour at $2"
    );
}

fn gpu(model: &str, vram_gib: u64, interface: Option<Interface>) -> DeviceNeed {
    DeviceNeed::Gpu {
        models: vec![name(model)],
        vram_min: ByteSize::from_gib(vram_gib),
        interface,
        one_fabric: false,
    }
}

#[test]
fn the_funnel_lists_the_best_first_with_the_worst_case_cost() {
    let mut w = world();
    supply(&mut w, A, 21, 1, 3);
    let cheap = supply(&mut w, B, 31, 1, 2);
    let found = w.m.explain(&job(10), account(TENANT));
    assert_eq!((found.total, found.matching, found.unmet.len()), (2, 2, 0));
    assert_eq!(
        (found.matches[0].machine, found.matches[0].worst_case),
        (cheap, usd(2))
    );
    let found = w.m.explain(&job(1), account(TENANT));
    assert_eq!(
        found.matches[0].worst_case,
        usd(1),
        "never above the budget"
    );
}

#[test]
fn several_devices_come_from_one_fabric_when_asked() {
    let mut w = world();
    let mut spec = gpu_machine(4, "rack");
    for (device, fabric) in spec.devices.iter_mut().zip([1, 2, 1, 2]) {
        device.fabric = fabric;
    }
    let machine = w.machine(A, 21, spec);
    w.offer(A, offer(machine, 4, Tier::OnDemand, 2));
    let mut two = job(10);
    two.needs.count = 2;
    two.needs.device = DeviceNeed::Gpu {
        models: vec![],
        vram_min: ByteSize::ZERO,
        interface: None,
        one_fabric: true,
    };
    let id = w.job(TENANT, two.clone());
    assert_eq!(w.lease(w.lease_of(id)).devices, [0, 2]);
    let mut three = two;
    three.needs.count = 3;
    w.ok(key(TENANT), Tx::CancelJob { job: id });
    let found = w.m.explain(&three, account(TENANT));
    assert_eq!(found.unmet, vec![(Unmet::Fabric, 1)]);
}

#[test]
fn a_lease_takes_its_devices_share_unless_told_otherwise() {
    let mut w = world();
    supply(&mut w, A, 21, 4, 2);
    let first = w.job(TENANT, job(10));
    let lease = w.lease(w.lease_of(first));
    assert_eq!(
        (lease.cpu, lease.memory),
        (MilliCpu::from_milli(4_000), ByteSize::from_gib(16))
    );
    let mut greedy = job(10);
    greedy.needs.memory = Some(ByteSize::from_gib(48));
    let second = w.job(TENANT, greedy);
    assert_eq!(w.lease(w.lease_of(second)).memory, ByteSize::from_gib(48));
    assert_eq!(
        w.m.explain(&job(10), account(TENANT)).unmet,
        vec![(Unmet::Memory, 1)]
    );
}

#[test]
fn a_job_that_asks_for_isolation_never_lands_on_a_bare_process() {
    let mut w = world();
    let spec = MachineSpec {
        isolation: Isolation::None,
        ..gpu_machine(1, "rack")
    };
    let machine = w.machine(A, 21, spec);
    w.offer(A, offer(machine, 1, Tier::OnDemand, 2));
    let id = w.job(TENANT, job(10));
    assert!(is_waiting(&w, id));
    let mut bare = job(10);
    bare.needs.isolation = Isolation::None;
    let id = w.job(TENANT, bare);
    assert_eq!(machine_of(&w, id), machine);
}

#[test]
fn an_image_may_make_the_start_deadline_longer_but_not_endless() {
    let mut w = world();
    supply(&mut w, A, 21, 2, 2);
    let start_by = |w: &World, job| match w.lease(w.lease_of(job)).state {
        LeaseState::Awarded { start_by } => start_by.since(w.m.time()),
        other => panic!("it was just awarded: {other:?}"),
    };
    // 100 MB/s.
    let image_size = ByteSize::from_bytes(20_000_000_000);
    let id = w.job(
        TENANT,
        JobSpec {
            image_size,
            ..job(10)
        },
    );
    assert_eq!(start_by(&w, id), secs(60 + 200));
    let image_size = ByteSize::MAX;
    let id = w.job(
        TENANT,
        JobSpec {
            image_size,
            ..job(10)
        },
    );
    assert_eq!(start_by(&w, id), secs(60 + 7_200));
}

#[test]
fn an_order_that_waits_for_no_time_is_placed_at_once_or_never() {
    let mut w = world();
    let now_or_never = JobSpec {
        wait_max: Millis::ZERO,
        ..job(10)
    };
    let id = w.job(TENANT, now_or_never.clone());
    assert_eq!(w.job_end(id), JobEnd::NoMatch);
    let machine = supply(&mut w, A, 21, 1, 2);
    let id = w.job(TENANT, now_or_never);
    assert_eq!(machine_of(&w, id), machine);
}

#[test]
fn an_order_that_expired_in_a_halt_is_not_placed_after_it() {
    let mut w = world();
    let machine = supply(&mut w, A, 21, 1, 2);
    let id = w.job(
        TENANT,
        JobSpec {
            window: secs(5),
            wait_max: secs(30),
            ..job(10)
        },
    );
    w.block(secs(60), vec![]);
    assert_eq!(w.job_end(id), JobEnd::NoMatch);
    assert_eq!(w.m.leases_on(machine).count(), 0);
}
