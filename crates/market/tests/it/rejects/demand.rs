//! Jobs, holds, orders and bids.

use market::{reject::FieldName as F, *};

use super::*;

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
    let by = secs(60);
    s.no(STRANGER, Tx::ExtendJob { job, by }, Reject::NoJob(job));
    for by in [Millis::ZERO, secs(400 * 86_400)] {
        let field = F::Duration;
        s.no(
            TENANT,
            Tx::ExtendJob { job, by },
            Reject::BadField { field },
        );
    }
    s.w.ok(key(TENANT), Tx::ExtendJob { job, by });
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
