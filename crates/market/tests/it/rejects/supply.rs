//! Providers, machines, offers, beats and reports.

use market::{reject::FieldName as F, *};

use super::*;

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
