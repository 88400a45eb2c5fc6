//! What a halt of the chain, a silent machine or a long wait must not cost anyone.

use market::*;

use crate::world::*;

const TENANT: u8 = 10;
const PROVIDER: u8 = 20;
const MACHINE: u8 = 21;

/// One tenant, one provider with one GPU at $3.60 an hour (1,000 micro-dollars a second), and a lease that ran 100 s.
struct Scene {
    w: World,
    machine: MachineId,
    job: JobId,
    lease: LeaseId,
}

fn scene(spec: JobSpec) -> Scene {
    let mut w = World::new(Params::default());
    w.fund(TENANT, 100);
    w.provider(PROVIDER, 50);
    let machine = w.machine(PROVIDER, MACHINE, gpu_machine(1, "rack-a"));
    let mut terms = offer(machine, 1, Tier::OnDemand, 0);
    terms.prices.per_device_hour = Rate::from_micros_per_hour(3_600_000);
    w.offer(PROVIDER, terms);
    let job = w.job(TENANT, spec);
    let lease = w.lease_of(job);
    w.ready(lease);
    w.run(machine, &[lease], secs(100));
    Scene {
        w,
        machine,
        job,
        lease,
    }
}

fn micros(n: u64) -> Money {
    Money::from_micros(n)
}

/// Has the machine send, at once, beats of every 10 s from `from` up to now.
fn late_beats(s: &mut Scene, from: Timestamp) {
    let record = s.w.m.machine(s.machine).expect("the machine exists");
    let beat = |n: u64| Beat {
        at: from.after(secs(10 * n)),
        leases: vec![s.lease],
    };
    let beats = s.w.m.time().since(from).millis() / 10_000;
    let batch = BeatBatch {
        machine: s.machine,
        first_seq: record.next_beat,
        prev: record.beat_link,
        beats: (1..=beats).map(beat).collect(),
    };
    s.w.ok(key(MACHINE), Tx::Beat(batch));
}

/// A job whose $0.10 are used up after 97 s, because storage for a pause of 300 s is set aside.
fn pausing() -> JobSpec {
    JobSpec {
        budget: micros(100_000),
        on_budget: OnBudget::Pause { grace: secs(300) },
        storage_kept: ByteSize::from_gib(36),
        ..job(10)
    }
}

#[test]
fn a_top_up_is_announced_with_the_machine_that_may_go_on() {
    let mut s = scene(job(10));
    let events = s.w.ok(
        key(TENANT),
        Tx::TopUpJob {
            job: s.job,
            amount: micros(25_000),
        },
    );
    let said = EventKind::LeaseChanged {
        lease: s.lease,
        job: s.job,
        machine: s.machine,
        to: LeasePhase::Running,
    };
    assert!(events.contains(&said), "{events:?}");
}

#[test]
fn a_second_halt_before_the_beats_came_does_not_forget_the_first() {
    let mut s = scene(job(10));
    let halted = s.w.m.time();
    s.w.block(secs(600), vec![]);
    s.w.wait(secs(5));
    s.w.block(secs(600), vec![]);
    let gap = s.w.m.system().last_gap.expect("there was one");
    assert_eq!(gap, (halted, s.w.m.time()));
    late_beats(&mut s, halted);
    s.w.ended(
        s.lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    assert_eq!(s.w.end_of(s.lease).1.charged, micros(1_305_000));
}

#[test]
fn a_halt_long_after_another_is_one_of_its_own() {
    let mut s = scene(job(10));
    s.w.block(secs(600), vec![]);
    s.w.wait(secs(61));
    let halted = s.w.m.time();
    s.w.block(secs(600), vec![]);
    assert_eq!(s.w.m.system().last_gap, Some((halted, s.w.m.time())));
}

#[test]
fn a_machine_that_dies_in_a_pause_is_paid_no_storage() {
    for draining in [false, true] {
        let mut s = scene(pausing());
        assert_eq!(s.w.lease(s.lease).state.phase(), LeasePhase::Paused);
        if draining {
            let call = Tx::DrainMachine {
                machine: s.machine,
                evict_at: None,
            };
            s.w.ok(key(PROVIDER), call);
        }
        s.w.wait(secs(181));
        let (reason, bill) = s.w.end_of(s.lease);
        assert_eq!(reason, EndReason::ProviderLost, "draining: {draining}");
        assert_eq!(
            (bill.compute, bill.storage),
            (micros(97_000), Money::ZERO),
            "draining: {draining}"
        );
    }
}

#[test]
fn a_redemption_that_fell_due_in_a_halt_can_still_be_confirmed_after_it() {
    let mut s = scene(job(10));
    let redemption = RedemptionId::created_by(&key(TENANT), s.w.nonce(key(TENANT)));
    let request = Tx::RequestRedemption {
        treasurer: key(TREASURER),
        amount: usd(10),
        destination: Digest([8; 32]),
    };
    s.w.ok(key(TENANT), request);
    s.w.block(secs(7_200), vec![]);
    s.w.wait(secs(30));
    let issued = s.w.m.system().issued;
    let confirm = Tx::ConfirmRedemption {
        redemption,
        reference: Digest([7; 32]),
    };
    s.w.ok(key(TREASURER), confirm);
    assert_eq!(s.w.m.system().issued, issued.saturating_sub(usd(10)));
}

#[test]
fn a_cancel_just_after_a_halt_pays_for_it_once_the_beats_arrive() {
    let mut s = scene(job(10));
    let halted = s.w.m.time();
    s.w.block(secs(600), vec![]);
    let call = Tx::CancelJob { job: s.job };
    let events = s.w.ok(key(TENANT), call);
    let machine = s.machine;
    assert!(
        events.iter().any(|e| matches!(e,
            EventKind::LeaseChanged { machine: m, .. } if *m == machine)),
        "the machine hears that it must stop"
    );
    assert!(s.w.lease(s.lease).is_live());
    let amount = micros(1);
    let top_up = Tx::TopUpJob { job: s.job, amount };
    assert_eq!(s.w.reject(key(TENANT), top_up), Reject::LeaseState(s.lease));
    s.w.wait(secs(5));
    late_beats(&mut s, halted);
    let (reason, bill) = s.w.end_of(s.lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::Cancelled, micros(700_000)),
        "through the cancel, not through the last beat"
    );
    assert_eq!(
        s.w.job_end(s.job),
        JobEnd::Lease(EndReason::Cancelled),
        "and it is not placed again"
    );
}

#[test]
fn a_cancel_just_after_a_halt_ends_without_beats_too() {
    let mut s = scene(job(10));
    s.w.block(secs(600), vec![]);
    s.w.ok(key(TENANT), Tx::CancelJob { job: s.job });
    s.w.wait(secs(62));
    let (reason, bill) = s.w.end_of(s.lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::ProviderLost, micros(100_000))
    );
    assert_eq!(s.w.job_end(s.job), JobEnd::Lease(EndReason::ProviderLost));
}

#[test]
fn ready_may_lie_between_two_distant_blocks() {
    let mut s = scene(job(10));
    s.w.ok(key(TENANT), Tx::CancelJob { job: s.job });
    let job = s.w.job(TENANT, job(10));
    let lease = s.w.lease_of(job);
    let at = s.w.m.time().after(secs(1));
    let outcome =
        s.w.block(secs(14), vec![(key(MACHINE), Tx::LeaseReady { lease, at })]);
    assert_eq!(outcome.receipts[0].result, Ok(()));
    let ready_at = s.w.lease(lease).state.run().map(|run| run.ready_at);
    assert_eq!(ready_at, Some(at));
}

#[test]
fn a_pass_over_many_orders_and_offers_goes_on_over_blocks() {
    let mut s = scene(job(10));
    // Nobody has it, and only a look at each offer tells.
    let certified = |n: u64| JobSpec {
        budget: usd(1),
        needs: Requirement {
            certificates: vec![name("iso-27001")],
            ..job(1).needs
        },
        wait_max: secs(600 + n),
        ..job(1)
    };
    s.w.fund(TENANT, 1_000);
    let machine = s.w.machine(PROVIDER, 22, gpu_machine(1, "rack-b"));
    let offers = (0..500).map(|_| {
        let terms = offer(machine, 1, Tier::OnDemand, 1);
        (key(PROVIDER), Tx::PlaceOffer(terms))
    });
    s.w.block(Millis::ZERO, offers.collect());
    let jobs = (0..300).map(|n| (key(TENANT), Tx::OpenJob(certified(n))));
    s.w.block(Millis::ZERO, jobs.collect());
    let waiting = |s: &Scene| s.w.m.orders_open().filter(|o| o.waiting).count();
    assert_eq!(waiting(&s), 200, "500 offers each: 100,000 looks");
    assert_eq!(s.w.m.next_due(), Some(s.w.m.time()), "there is more to do");
    s.w.block(Millis::ZERO, vec![]);
    assert_eq!(waiting(&s), 300);
    s.w.offer(PROVIDER, offer(machine, 1, Tier::OnDemand, 1));
    assert!(s.w.m.system().retry.from.is_some_and(|from| from > 0));
    s.w.block(Millis::ZERO, vec![]);
    s.w.block(Millis::ZERO, vec![]);
    assert_eq!(s.w.m.system().retry, Retry::default());
}
