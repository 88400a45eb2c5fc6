//! Every reason to say no, each from the shortest story that leads to it; none changes more than the nonce.

use market::{reject::FieldName as F, *};

use crate::world::*;

const TENANT: u8 = 10;
const STRANGER: u8 = 11;
const PROVIDER: u8 = 20;
const MACHINE: u8 = 21;
const DELEGATE: u8 = 40;

/// A tenant, a provider with a two-GPU machine and a spot offer on its first GPU, a stranger, a tenant's key.
struct Scene {
    w: World,
    machine: MachineId,
    offer: OfferId,
}

fn scene_with(params: Params) -> Scene {
    let mut w = World::new(params);
    w.fund(TENANT, 100);
    w.fund(STRANGER, 100);
    w.provider(PROVIDER, 50);
    let machine = w.machine(PROVIDER, MACHINE, gpu_machine(2, "rack-a"));
    let offer = w.offer(PROVIDER, offer(machine, 1, Tier::Spot, 2));
    w.ok(
        key(TENANT),
        Tx::AuthorizeKey {
            key: key(DELEGATE),
            role: KeyRole::Tenant,
            budget: Some(usd(5)),
            expires_at: None,
        },
    );
    Scene { w, machine, offer }
}

fn scene() -> Scene {
    scene_with(Params::default())
}

fn spot(dollars: u64) -> JobSpec {
    JobSpec {
        tier: Tier::Spot,
        ..job(dollars)
    }
}

fn bid(order: OrderId, machine: MachineId) -> BidTerms {
    BidTerms {
        order,
        machine,
        devices: vec![1],
        prices: prices(1),
        preempt_notice: secs(30),
    }
}

impl Scene {
    /// Sends a call that must be rejected with this reason.
    fn no(&mut self, signer: u8, call: Tx, why: Reject) {
        let got = self.w.reject(key(signer), call.clone());
        assert_eq!(got, why, "{call:?}");
    }

    /// Opens a job that waits in the book.
    fn waiting(&mut self) -> (JobId, OrderId) {
        let job = self.w.job(
            TENANT,
            JobSpec {
                tier: Tier::OnDemand,
                ..job(1)
            },
        );
        match self.w.m.job(job).expect("it is open").state {
            JobState::Open { order } => (job, order),
            other => panic!("it waits: {other:?}"),
        }
    }
}

#[test]
fn roles_are_enforced() {
    let mut s = scene();
    let to = account(STRANGER);
    s.no(
        DELEGATE,
        Tx::Transfer {
            to,
            amount: usd(1),
            memo: None,
        },
        Reject::NotAllowed,
    );
    s.no(
        DELEGATE,
        Tx::PlaceOffer(offer(s.machine, 1, Tier::Spot, 1)),
        Reject::NotAllowed,
    );
    s.no(MACHINE, Tx::OpenJob(spot(1)), Reject::NotAllowed);
    s.no(
        MACHINE,
        Tx::WithdrawBond { amount: usd(1) },
        Reject::NotAllowed,
    );
    s.no(
        PROVIDER,
        Tx::Issue {
            to,
            amount: usd(1),
            reference: Digest([9; 32]),
        },
        Reject::NotTreasurer,
    );
    s.no(
        PROVIDER,
        s.w.beat_call(s.machine, s.w.m.time(), &[]).1,
        Reject::NotAllowed,
    );
    s.no(
        DELEGATE,
        Tx::AuthorizeKey {
            key: key(41),
            role: KeyRole::Viewer,
            budget: None,
            expires_at: None,
        },
        Reject::NotAllowed,
    );
    s.no(
        TENANT,
        Tx::AuthorizeKey {
            key: key(41),
            role: KeyRole::Treasurer,
            budget: None,
            expires_at: None,
        },
        Reject::BadField { field: F::Role },
    );
}

#[test]
fn money_is_checked_before_it_moves() {
    let mut s = scene();
    let (to, reference) = (account(STRANGER), Digest([9; 32]));
    let available = usd(100);
    s.no(
        TENANT,
        Tx::Transfer {
            to,
            amount: usd(101),
            memo: None,
        },
        Reject::Funds {
            available,
            need: usd(101),
        },
    );
    s.no(
        TENANT,
        Tx::Transfer {
            to,
            amount: Money::ZERO,
            memo: None,
        },
        Reject::ZeroAmount,
    );
    let min = s.w.m.params().first_deposit_min;
    let small = Money::from_micros(min.micros() - 1);
    s.no(
        TENANT,
        Tx::Transfer {
            to: account(99),
            amount: small,
            memo: None,
        },
        Reject::DepositTooSmall { min },
    );
    s.no(
        TENANT,
        Tx::Transfer {
            to: account(MACHINE),
            amount: usd(1),
            memo: None,
        },
        Reject::KeyInUse,
    );
    s.no(
        TREASURER,
        Tx::Issue {
            to,
            amount: Money::MAX,
            reference,
        },
        Reject::Overflow,
    );
    s.w.ok(
        key(TREASURER),
        Tx::Issue {
            to,
            amount: usd(1),
            reference,
        },
    );
    s.no(
        TREASURER,
        Tx::Issue {
            to,
            amount: usd(1),
            reference,
        },
        Reject::ReferenceUsed,
    );
    s.no(
        DELEGATE,
        Tx::OpenJob(spot(6)),
        Reject::KeyBudget {
            left: usd(5),
            need: usd(6),
        },
    );
    s.no(
        TENANT,
        Tx::OpenJob(spot(101)),
        Reject::Funds {
            available,
            need: usd(101),
        },
    );
    s.w.job(DELEGATE, spot(4));
    s.no(
        DELEGATE,
        Tx::OpenJob(spot(2)),
        Reject::KeyBudget {
            left: usd(1),
            need: usd(2),
        },
    );
}

#[test]
fn redemptions_are_the_named_treasurers() {
    let mut s = scene();
    let (treasurer, destination) = (key(TREASURER), Digest([8; 32]));
    let request = |treasurer| Tx::RequestRedemption {
        treasurer,
        amount: usd(10),
        destination,
    };
    s.no(TENANT, request(key(STRANGER)), Reject::NotTreasurer);
    let redemption = RedemptionId::created_by(&key(TENANT), s.w.nonce(key(TENANT)));
    s.w.ok(key(TENANT), request(treasurer));
    assert_eq!(
        s.w.m.account(account(TENANT)).expect("an account").held,
        usd(10)
    );
    s.no(
        STRANGER,
        Tx::RefuseRedemption { redemption },
        Reject::NotTreasurer,
    );
    let reference = Digest([7; 32]);
    s.w.ok(
        key(TREASURER),
        Tx::ConfirmRedemption {
            redemption,
            reference,
        },
    );
    s.no(
        TREASURER,
        Tx::RefuseRedemption { redemption },
        Reject::NoRedemption(redemption),
    );
    assert_eq!(s.w.available(TENANT), usd(90));

    let second = RedemptionId::created_by(&key(TENANT), s.w.nonce(key(TENANT)));
    s.w.ok(key(TENANT), request(treasurer));
    s.no(
        TREASURER,
        Tx::ConfirmRedemption {
            redemption: second,
            reference,
        },
        Reject::ReferenceUsed,
    );
    s.w.wait(secs(3_600));
    assert_eq!(
        s.w.available(TENANT),
        usd(90),
        "nobody paid: the dollars return by themselves"
    );
}

#[test]
fn keys_belong_to_one_account() {
    let mut s = scene();
    let grant = |k, expires_at| Tx::AuthorizeKey {
        key: key(k),
        role: KeyRole::Tenant,
        budget: None,
        expires_at,
    };
    s.no(STRANGER, grant(DELEGATE, None), Reject::KeyInUse);
    s.no(TENANT, grant(STRANGER, None), Reject::KeyInUse);
    s.no(
        STRANGER,
        Tx::RevokeKey { key: key(DELEGATE) },
        Reject::NoKey,
    );
    s.no(TENANT, Tx::RevokeKey { key: key(TENANT) }, Reject::NoKey);
    let at = s.w.m.time();
    s.no(TENANT, grant(41, Some(at)), Reject::BadTime { at });
    s.w.ok(key(TENANT), Tx::RevokeKey { key: key(DELEGATE) });
    s.no(TENANT, Tx::RevokeKey { key: key(DELEGATE) }, Reject::NoKey);
    assert!(
        !s.w.m
            .may_act(&key(DELEGATE), account(TENANT), RoleNeeded::Tenant)
    );
    s.w.ok(key(TENANT), grant(DELEGATE, None));
    assert!(
        s.w.m
            .may_act(&key(DELEGATE), account(TENANT), RoleNeeded::Tenant)
    );
}

#[test]
fn supply_is_checked() {
    let mut s = scene();
    let machine = s.machine;
    let nobody = MachineId::from_bytes([7; 16]);
    let spec = gpu_machine(2, "rack-a");
    let none = MachineSpec {
        devices: vec![],
        ..spec.clone()
    };
    let keys = machine_keys(22);
    s.no(TENANT, Tx::PostBond { amount: usd(1) }, Reject::NotProvider);
    s.no(
        TENANT,
        Tx::AddMachine {
            keys,
            spec: spec.clone(),
        },
        Reject::NotProvider,
    );
    s.no(
        PROVIDER,
        Tx::OpenProvider {
            name: name("again"),
        },
        Reject::AlreadyProvider,
    );
    s.no(
        PROVIDER,
        Tx::WithdrawBond { amount: usd(51) },
        Reject::BondReserved { free: usd(50) },
    );
    s.no(
        PROVIDER,
        Tx::AddMachine {
            keys,
            spec: none.clone(),
        },
        Reject::Devices,
    );
    s.no(
        PROVIDER,
        Tx::AddMachine {
            keys: machine_keys(MACHINE),
            spec: spec.clone(),
        },
        Reject::KeyInUse,
    );
    s.no(
        PROVIDER,
        Tx::RotateMachineKeys {
            machine,
            keys: machine_keys(TENANT),
        },
        Reject::KeyInUse,
    );
    s.no(
        PROVIDER,
        Tx::UpdateMachine {
            machine,
            spec: none,
        },
        Reject::Devices,
    );
    s.no(
        PROVIDER,
        Tx::RetireMachine { machine: nobody },
        Reject::NoMachine(nobody),
    );
    s.no(
        STRANGER,
        Tx::RetireMachine { machine },
        Reject::NoMachine(machine),
    );
    s.no(
        PROVIDER,
        Tx::ResumeMachine { machine },
        Reject::MachineState(machine),
    );
    let early = s.w.m.time().before(secs(1));
    s.no(
        PROVIDER,
        Tx::DrainMachine {
            machine,
            evict_at: Some(early),
        },
        Reject::BadTime { at: early },
    );
}

#[test]
fn offers_are_checked() {
    let mut s = scene();
    let good = offer(s.machine, 1, Tier::Spot, 1);
    let field = |field| Reject::BadField { field };
    let late = s.w.m.time();
    for (terms, why) in [
        (
            OfferTerms {
                devices: vec![],
                ..good.clone()
            },
            Reject::Devices,
        ),
        (
            OfferTerms {
                devices: vec![1, 0],
                ..good.clone()
            },
            Reject::Devices,
        ),
        (
            OfferTerms {
                devices: vec![0, 0],
                ..good.clone()
            },
            Reject::Devices,
        ),
        (
            OfferTerms {
                devices: vec![2],
                ..good.clone()
            },
            Reject::Devices,
        ),
        (
            OfferTerms {
                term_min: secs(9),
                term_max: secs(8),
                ..good.clone()
            },
            field(F::Term),
        ),
        (
            OfferTerms {
                preempt_notice: secs(3_601),
                ..good.clone()
            },
            field(F::Grace),
        ),
        (
            OfferTerms {
                expires_at: late,
                ..good.clone()
            },
            Reject::BadTime { at: late },
        ),
        (
            OfferTerms {
                expires_at: Timestamp::MAX,
                ..good.clone()
            },
            Reject::BadTime { at: Timestamp::MAX },
        ),
        (
            OfferTerms {
                sla: SlaClass::P999,
                ..good.clone()
            },
            Reject::Unsupported { field: F::Sla },
        ),
    ] {
        s.no(PROVIDER, Tx::PlaceOffer(terms), why);
    }
    s.no(
        STRANGER,
        Tx::WithdrawOffer { offer: s.offer },
        Reject::NoOffer(s.offer),
    );
    s.w.ok(key(PROVIDER), Tx::WithdrawOffer { offer: s.offer });
    s.no(
        PROVIDER,
        Tx::WithdrawOffer { offer: s.offer },
        Reject::NoOffer(s.offer),
    );
}

#[test]
fn live_things_are_bounded_per_account() {
    let mut s = scene_with(Params {
        live_per_account: 2,
        ..Params::default()
    });
    let max = 2;
    s.w.offer(PROVIDER, offer(s.machine, 1, Tier::Spot, 3));
    s.no(
        PROVIDER,
        Tx::PlaceOffer(offer(s.machine, 1, Tier::Spot, 3)),
        Reject::TooMany { max },
    );
    s.w.job(TENANT, spot(1));
    s.w.job(TENANT, spot(1));
    s.no(TENANT, Tx::OpenJob(spot(1)), Reject::TooMany { max });
    s.no(
        TENANT,
        Tx::AuthorizeKey {
            key: key(41),
            role: KeyRole::Viewer,
            budget: None,
            expires_at: None,
        },
        Reject::TooMany { max },
    );
}

#[test]
fn job_specifications_are_checked() {
    let mut s = scene();
    let good = spot(1);
    let needs = |change: fn(&mut Requirement)| {
        let mut spec = good.clone();
        change(&mut spec.needs);
        spec
    };
    let over = |limit: Millis| limit.saturating_add(Millis::from_millis(1));
    let p = s.w.m.params().clone();
    for (spec, field) in [
        (
            JobSpec {
                budget: Money::ZERO,
                ..good.clone()
            },
            F::Budget,
        ),
        (
            JobSpec {
                duration_max: Millis::ZERO,
                ..good.clone()
            },
            F::Duration,
        ),
        (
            JobSpec {
                duration_max: over(p.duration_max),
                ..good.clone()
            },
            F::Duration,
        ),
        (
            JobSpec {
                attempts_max: 0,
                ..good.clone()
            },
            F::Attempts,
        ),
        (
            JobSpec {
                window: over(p.window_max),
                ..good.clone()
            },
            F::Window,
        ),
        (
            JobSpec {
                wait_max: over(p.order_wait_max),
                ..good.clone()
            },
            F::Wait,
        ),
        (
            JobSpec {
                on_budget: OnBudget::Pause { grace: Millis::MAX },
                ..good.clone()
            },
            F::Grace,
        ),
        (
            JobSpec {
                keepers: vec![],
                ..good.clone()
            },
            F::Keepers,
        ),
        (needs(|n| n.count = 0), F::Count),
        (needs(|n| n.count = 65), F::Count),
    ] {
        s.no(TENANT, Tx::OpenJob(spec), Reject::BadField { field });
    }
    for (spec, field) in [
        (
            JobSpec {
                kind: JobKind::Gang { ranks: 2 },
                ..good.clone()
            },
            F::Kind,
        ),
        (
            JobSpec {
                verification: Verification::Redundant { copies: 2 },
                ..good.clone()
            },
            F::Verification,
        ),
    ] {
        s.no(TENANT, Tx::OpenJob(spec), Reject::Unsupported { field });
    }
}

#[test]
fn jobs_are_their_tenants_and_end_once() {
    let mut s = scene();
    let (job, _) = s.waiting();
    s.no(STRANGER, Tx::CancelJob { job }, Reject::NoJob(job));
    s.no(
        STRANGER,
        Tx::TopUpJob {
            job,
            amount: usd(1),
        },
        Reject::NoJob(job),
    );
    s.no(
        TENANT,
        Tx::TopUpJob {
            job,
            amount: Money::ZERO,
        },
        Reject::ZeroAmount,
    );
    s.no(STRANGER, Tx::ReleaseHold { job }, Reject::HoldLive(job));
    s.w.ok(key(TENANT), Tx::CancelJob { job });
    s.no(TENANT, Tx::CancelJob { job }, Reject::JobEnded(job));
    s.no(STRANGER, Tx::ReleaseHold { job }, Reject::JobEnded(job));
    let unknown = JobId::from_bytes([3; 16]);
    s.no(
        STRANGER,
        Tx::ReleaseHold { job: unknown },
        Reject::NoJob(unknown),
    );
}

#[test]
fn anyone_can_release_a_hold_that_outlived_its_deadlines() {
    // A network that never gets to its timers.
    let mut w = World::new(Params {
        timers_per_block: 0,
        ..Params::default()
    });
    w.fund(TENANT, 100);
    w.fund(STRANGER, 1);
    let job = w.job(TENANT, spot(10));
    w.block(secs(600 + 3_599), vec![]);
    assert_eq!(
        w.reject(key(STRANGER), Tx::ReleaseHold { job }),
        Reject::HoldLive(job)
    );
    w.block(secs(1), vec![]);
    w.ok(key(STRANGER), Tx::ReleaseHold { job });
    assert_eq!(w.job_end(job), JobEnd::NoMatch);
    assert_eq!(w.available(TENANT), usd(100));
}

#[test]
fn bids_are_checked() {
    let mut s = scene();
    let (job, order) = s.waiting();
    let good = bid(order, s.machine);
    let unknown = OrderId::from_bytes([3; 16]);
    s.no(
        PROVIDER,
        Tx::PlaceBid(BidTerms {
            order: unknown,
            ..good.clone()
        }),
        Reject::NoOrder(unknown),
    );
    s.no(
        PROVIDER,
        Tx::PlaceBid(BidTerms {
            devices: vec![4],
            ..good.clone()
        }),
        Reject::Devices,
    );
    let both = BidTerms {
        devices: vec![0, 1],
        ..good.clone()
    };
    s.no(
        PROVIDER,
        Tx::PlaceBid(both),
        Reject::Unmet(reject::Unmet::DevicesFree),
    );
    let dear = BidTerms {
        prices: prices(51),
        ..good.clone()
    };
    s.no(
        PROVIDER,
        Tx::PlaceBid(dear),
        Reject::Unmet(reject::Unmet::Bond),
    );
    s.no(
        STRANGER,
        Tx::PlaceBid(good.clone()),
        Reject::NoMachine(s.machine),
    );
    let nobody = BidId::from_bytes([3; 16]);
    s.no(
        PROVIDER,
        Tx::WithdrawBid { bid: nobody },
        Reject::NoBid(nobody),
    );
    s.w.ok(key(PROVIDER), Tx::PlaceBid(good.clone()));
    let lease = s.w.lease_of(job);
    assert!(
        matches!(s.w.lease(lease).source, LeaseSource::Bid(_)),
        "a waiting order takes it at once"
    );
    s.no(PROVIDER, Tx::PlaceBid(good), Reject::NoOrder(order));
}

#[test]
fn an_expired_order_takes_no_bids() {
    let mut s = scene_with(Params {
        timers_per_block: 0,
        ..Params::default()
    });
    let (_, order) = s.waiting();
    s.w.block(secs(600), vec![]);
    s.no(
        PROVIDER,
        Tx::PlaceBid(bid(order, s.machine)),
        Reject::OrderClosed(order),
    );
}

#[test]
fn beats_continue_one_chain() {
    let mut s = scene();
    let machine = s.machine;
    s.w.wait(secs(5));
    let now = s.w.m.time();
    let (_, good) = s.w.beat_call(machine, now, &[]);
    let Tx::Beat(good) = good else {
        panic!("a beat")
    };
    let next = good.first_seq;
    let chain = Reject::BeatChain { next };
    s.no(
        MACHINE,
        Tx::Beat(BeatBatch {
            first_seq: next + 1,
            ..good.clone()
        }),
        chain.clone(),
    );
    s.no(
        MACHINE,
        Tx::Beat(BeatBatch {
            prev: Digest([1; 32]),
            ..good.clone()
        }),
        chain.clone(),
    );
    s.no(
        MACHINE,
        Tx::Beat(BeatBatch {
            beats: vec![],
            ..good.clone()
        }),
        chain.clone(),
    );
    let old = now.before(secs(5));
    let beats = vec![Beat {
        at: old,
        leases: vec![],
    }];
    s.no(
        MACHINE,
        Tx::Beat(BeatBatch {
            beats,
            ..good.clone()
        }),
        Reject::BadTime { at: old },
    );
    let unordered = vec![LeaseId::from_bytes([2; 16]), LeaseId::from_bytes([1; 16])];
    let beats = vec![Beat {
        at: now,
        leases: unordered,
    }];
    s.no(
        MACHINE,
        Tx::Beat(BeatBatch {
            beats,
            ..good.clone()
        }),
        Reject::BadTime { at: now },
    );
    s.w.ok(key(MACHINE), Tx::Beat(good.clone()));
    s.no(
        MACHINE,
        Tx::Beat(good),
        Reject::BeatChain { next: next + 1 },
    );
}

#[test]
fn leases_are_their_machines() {
    let mut s = scene();
    let job = s.w.job(TENANT, spot(5));
    let lease = s.w.lease_of(job);
    let (machine, at) = (s.machine, s.w.m.time());
    let done = Outcome::Exited {
        code: 0,
        out_of_memory: false,
    };
    s.no(
        PROVIDER,
        Tx::LeaseReady { lease, at },
        Reject::NoLease(lease),
    );
    s.no(
        STRANGER,
        Tx::LeaseEnded {
            lease,
            at,
            outcome: done,
        },
        Reject::NoLease(lease),
    );
    s.no(
        PROVIDER,
        Tx::PreemptLease { lease },
        Reject::LeaseState(lease),
    );
    s.no(STRANGER, Tx::PreemptLease { lease }, Reject::NoLease(lease));
    s.no(
        MACHINE,
        Tx::LeaseEnded {
            lease,
            at,
            outcome: Outcome::Stopped,
        },
        Reject::LeaseState(lease),
    );
    s.no(
        MACHINE,
        Tx::LeaseEnded {
            lease,
            at,
            outcome: Outcome::LimitReached,
        },
        Reject::LeaseState(lease),
    );
    s.no(
        PROVIDER,
        Tx::RetireMachine { machine },
        Reject::MachineBusy(machine),
    );
    let other = gpu_machine(2, "rack-b");
    let mut changed = other.clone();
    changed.devices[0].vram = ByteSize::from_gib(40);
    s.no(
        PROVIDER,
        Tx::UpdateMachine {
            machine,
            spec: changed,
        },
        Reject::MachineBusy(machine),
    );
    let small = MachineSpec {
        memory: ByteSize::from_gib(1),
        ..other
    };
    s.no(
        PROVIDER,
        Tx::UpdateMachine {
            machine,
            spec: small,
        },
        Reject::MachineBusy(machine),
    );
    s.w.ready(lease);
    s.no(
        MACHINE,
        Tx::LeaseReady { lease, at },
        Reject::LeaseState(lease),
    );
    s.no(
        MACHINE,
        Tx::LeaseEnded {
            lease,
            at,
            outcome: Outcome::Stopped,
        },
        Reject::LeaseState(lease),
    );
    s.w.ended(lease, done);
    s.no(
        MACHINE,
        Tx::LeaseEnded {
            lease,
            at,
            outcome: done,
        },
        Reject::LeaseState(lease),
    );
}

#[test]
fn only_spot_leases_are_taken_back() {
    let mut s = scene();
    s.w.offer(PROVIDER, offer(s.machine, 2, Tier::OnDemand, 2));
    let job = s.w.job(TENANT, job(5));
    let lease = s.w.lease_of(job);
    s.w.ready(lease);
    s.no(PROVIDER, Tx::PreemptLease { lease }, Reject::NotSpot(lease));
}

#[test]
fn a_top_up_in_the_last_moment_is_too_late() {
    let mut s = scene();
    let spec = JobSpec {
        budget: Money::from_micros(50_000),
        ..spot(1)
    };
    // $0.05 at $2 an hour is 90 s.
    let job = s.w.job(TENANT, spec);
    let lease = s.w.lease_of(job);
    s.w.ready(lease);
    s.w.run(s.machine, &[lease], secs(88));
    s.no(
        TENANT,
        Tx::TopUpJob {
            job,
            amount: usd(1),
        },
        Reject::LeaseState(lease),
    );
}

#[test]
fn inadmissible_transactions_make_no_block() {
    let mut s = scene();
    let before: Vec<_> = s.w.m.records().collect();
    let body = |signer, nonce, call| TxBody {
        signer: key(signer),
        nonce,
        expires_at: Timestamp::MAX,
        call,
    };
    let beat = Tx::Beat(BeatBatch {
        machine: s.machine,
        first_seq: 0,
        prev: Digest::default(),
        beats: vec![
            Beat {
                at: Timestamp::ZERO,
                leases: vec![]
            };
            361
        ],
    });
    let fine = Tx::OpenProvider { name: name("x") };
    let nonce = s.w.nonce(key(TENANT));
    let expired = TxBody {
        expires_at: Timestamp::ZERO,
        ..body(TENANT, nonce, fine.clone())
    };
    for (body, why) in [
        (body(99, 0, fine.clone()), Inadmissible::UnknownKey),
        (
            body(TENANT, nonce + 1, fine.clone()),
            Inadmissible::Nonce {
                expected: nonce,
                got: nonce + 1,
            },
        ),
        (expired, Inadmissible::Expired),
        (
            body(MACHINE, 1, beat),
            Inadmissible::OutOfBounds { field: "beats" },
        ),
    ] {
        let good = unsigned(TxBody {
            signer: key(TENANT),
            nonce,
            expires_at: Timestamp::MAX,
            call: fine.clone(),
        });
        let txs = match &why {
            // After a good transaction of the same block, to show that it is taken back.
            Inadmissible::UnknownKey => vec![good, unsigned(body)],
            _ => vec![unsigned(body)],
        };
        let ctx = s.w.ctx(secs(1));
        let index = txs.len() - 1;
        assert_eq!(s.w.m.execute(&ctx, &txs), Err(BlockError { index, why }));
        assert_eq!(
            s.w.m.records().collect::<Vec<_>>(),
            before,
            "nothing happened"
        );
        invariants::check(&s.w.m).expect("every invariant holds");
    }
    let wrong = BlockCtx {
        height: Height::from_number(999),
        ..s.w.ctx(secs(1))
    };
    assert!(s.w.m.execute(&wrong, &[]).is_err());
}
