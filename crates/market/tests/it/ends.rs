//! Every way in which a lease ends: who says so, what the tenant pays, what the provider forfeits, what the job does.

use market::*;

use crate::world::*;

const TENANT: u8 = 10;
const PROVIDER: u8 = 20;
const MACHINE: u8 = 21;
const OTHER: u8 = 30;
const OTHER_MACHINE: u8 = 31;

/// One tenant, one provider with one GPU at $3.60 an hour (1,000 micro-dollars a second).
struct Scene {
    w: World,
    machine: MachineId,
}

fn scene_with(tier: Tier, params: Params) -> Scene {
    let mut w = World::new(params);
    w.fund(TENANT, 100);
    w.provider(PROVIDER, 50);
    let machine = w.machine(PROVIDER, MACHINE, gpu_machine(1, "rack-a"));
    let mut terms = offer(machine, 1, tier, 0);
    terms.prices.per_device_hour = Rate::from_micros_per_hour(3_600_000);
    w.offer(PROVIDER, terms);
    Scene { w, machine }
}

fn scene(tier: Tier) -> Scene {
    scene_with(tier, Params::default())
}

/// Adds a second owner with the same GPU, a little dearer.
fn add_other(s: &mut Scene, tier: Tier) -> MachineId {
    s.w.provider(OTHER, 50);
    let machine = s.w.machine(OTHER, OTHER_MACHINE, gpu_machine(1, "rack-b"));
    s.w.offer(OTHER, offer(machine, 1, tier, 4));
    machine
}

fn spec(tier: Tier) -> JobSpec {
    JobSpec { tier, ..job(10) }
}

/// Opens a job, which is awarded at once, and has it ready and running for `time`.
fn running(s: &mut Scene, spec: JobSpec, time: Millis) -> (JobId, LeaseId) {
    let job = s.w.job(TENANT, spec);
    let lease = s.w.lease_of(job);
    s.w.ready(lease);
    s.w.run(s.machine, &[lease], time);
    (job, lease)
}

fn micros(n: u64) -> Money {
    Money::from_micros(n)
}

#[test]
fn completed_pays_through_the_end_and_ends_the_job() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    let paid_before = s.w.available(PROVIDER);
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );

    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::Completed);
    assert_eq!(bill.elapsed, secs(100));
    assert_eq!(bill.charged, micros(100_000));
    assert_eq!(bill.fee, micros(2_500));
    assert_eq!(bill.to_provider, micros(97_500));
    assert_eq!(bill.forfeited, Money::ZERO);
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::Completed));
    assert_eq!(
        s.w.available(PROVIDER),
        paid_before.saturating_add(micros(97_500))
    );
    assert_eq!(
        s.w.available(TENANT),
        usd(100).saturating_sub(micros(100_000))
    );
    assert_eq!(s.w.m.system().fees, micros(2_500));
}

#[test]
fn failed_pays_and_uses_an_attempt_until_none_is_left() {
    let mut s = scene(Tier::OnDemand);
    let spec = JobSpec {
        attempts_max: 2,
        ..spec(Tier::OnDemand)
    };
    let (job, first) = running(&mut s, spec, secs(20));
    s.w.ended(
        first,
        Outcome::Exited {
            code: 3,
            out_of_memory: false,
        },
    );
    let (reason, bill) = s.w.end_of(first);
    assert_eq!(reason, EndReason::Failed { code: 3 });
    assert_eq!(bill.charged, micros(20_000));
    assert_eq!(s.w.m.job(job).expect("it goes on").attempts_used, 1);

    let second = s.w.lease_of(job);
    assert_ne!(
        first, second,
        "another attempt, under another fencing token"
    );
    s.w.ready(second);
    s.w.run(s.machine, &[second], secs(30));
    s.w.ended(
        second,
        Outcome::Exited {
            code: 4,
            out_of_memory: true,
        },
    );
    assert_eq!(
        s.w.job_end(job),
        JobEnd::Lease(EndReason::Failed { code: 4 })
    );
    assert_eq!(
        s.w.available(TENANT),
        usd(100).saturating_sub(micros(50_000))
    );
}

#[test]
fn an_early_failed_exit_costs_nothing_and_a_second_owner_ends_the_job() {
    let mut s = scene(Tier::OnDemand);
    add_other(&mut s, Tier::OnDemand);
    let (job, first) = running(&mut s, spec(Tier::OnDemand), secs(9));
    s.w.ended(
        first,
        Outcome::Exited {
            code: 1,
            out_of_memory: false,
        },
    );
    assert_eq!(s.w.end_of(first).1.charged, Money::ZERO);
    let found = s.w.m.job(job).expect("it goes on");
    assert_eq!(
        (found.attempts_used, found.doubted_by.as_slice()),
        (0, &[account(PROVIDER)][..])
    );

    let second = s.w.lease_of(job);
    assert_eq!(
        s.w.lease(second).provider,
        account(OTHER),
        "another owner's machine"
    );
    s.w.ready(second);
    s.w.ended(
        second,
        Outcome::Exited {
            code: 1,
            out_of_memory: false,
        },
    );
    assert_eq!(
        s.w.job_end(job),
        JobEnd::Lease(EndReason::Failed { code: 1 })
    );
    assert_eq!(s.w.available(TENANT), usd(100));
}

#[test]
fn an_exit_after_ten_seconds_is_paid_for() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(10));
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 1,
            out_of_memory: false,
        },
    );
    assert_eq!(s.w.end_of(lease).1.charged, micros(10_000));
}

#[test]
fn an_image_error_of_a_lone_provider_ends_the_job_at_no_cost() {
    let mut s = scene(Tier::OnDemand);
    let job = s.w.job(TENANT, spec(Tier::OnDemand));
    let lease = s.w.lease_of(job);
    s.w.ended(lease, Outcome::ImageError);
    assert_eq!(s.w.end_of(lease).1, Bill::default());
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::ImageError));
    assert_eq!(s.w.available(TENANT), usd(100));
}

#[test]
fn an_image_error_goes_to_another_owner_if_there_is_one() {
    let mut s = scene(Tier::OnDemand);
    add_other(&mut s, Tier::OnDemand);
    let job = s.w.job(TENANT, spec(Tier::OnDemand));
    let first = s.w.lease_of(job);
    s.w.ended(first, Outcome::ImageError);
    let second = s.w.lease_of(job);
    assert_eq!(s.w.lease(second).provider, account(OTHER));
    s.w.ended(second, Outcome::ImageError);
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::ImageError));
}

#[test]
fn cancelled_pays_what_ran() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.ok(key(TENANT), Tx::CancelJob { job });
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::Cancelled, micros(100_000))
    );
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::Cancelled));
}

#[test]
fn cancelling_an_award_pays_the_time_since_it_up_to_a_minute() {
    for (wait, paid) in [(0, 0), (15, 15_000), (59, 59_000)] {
        let mut s = scene(Tier::OnDemand);
        let job = s.w.job(TENANT, spec(Tier::OnDemand));
        let lease = s.w.lease_of(job);
        s.w.wait(secs(wait));
        s.w.ok(key(TENANT), Tx::CancelJob { job });
        assert_eq!(s.w.end_of(lease).1.charged, micros(paid), "after {wait} s");
    }
}

#[test]
fn cancelling_while_waiting_costs_nothing() {
    let mut s = scene(Tier::Spot);
    let job = s.w.job(TENANT, spec(Tier::OnDemand));
    s.w.ok(key(TENANT), Tx::CancelJob { job });
    assert_eq!(s.w.job_end(job), JobEnd::Cancelled);
    assert_eq!(s.w.available(TENANT), usd(100));
}

/// A budget of $0.10 at $3.60 an hour is 100 s.
fn short_budget(on_budget: OnBudget) -> JobSpec {
    JobSpec {
        budget: micros(100_000),
        on_budget,
        ..spec(Tier::OnDemand)
    }
}

#[test]
fn budget_reached_is_charged_to_the_due_instant_whoever_says_it() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, short_budget(OnBudget::End), secs(99));
    s.w.run(s.machine, &[lease], secs(3));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::BudgetReached);
    assert_eq!(
        (bill.elapsed, bill.charged),
        (secs(100), micros(100_000)),
        "the ledger says it"
    );
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::BudgetReached));

    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, short_budget(OnBudget::End), secs(100));
    s.w.ended(lease, Outcome::LimitReached);
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::BudgetReached);
    assert_eq!(bill.charged, micros(100_000), "the machine says it");
}

#[test]
fn a_machine_that_claims_the_limit_too_early_is_not_believed() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, short_budget(OnBudget::End), secs(90));
    let at = s.w.m.time();
    let call = Tx::LeaseEnded {
        lease,
        at,
        outcome: Outcome::LimitReached,
    };
    assert_eq!(s.w.reject(key(MACHINE), call), Reject::BadTime { at });
}

#[test]
fn duration_reached_is_charged_to_the_due_instant() {
    let mut s = scene(Tier::OnDemand);
    let spec = JobSpec {
        duration_max: secs(50),
        ..spec(Tier::OnDemand)
    };
    let (job, lease) = running(&mut s, spec, secs(60));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::DurationReached);
    assert_eq!(bill.charged, micros(50_000));
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::DurationReached));
}

#[test]
fn a_job_may_pause_for_funds_and_go_on_after_a_top_up() {
    let mut s = scene(Tier::OnDemand);
    let mut paused = short_budget(OnBudget::Pause { grace: secs(300) });
    paused.storage_kept = ByteSize::from_gib(36);
    // 36 GiB at $0.001 per GiB-hour is 10 micro-dollars a second; 300 s of it are set aside: 97 s of compute remain.
    let job = s.w.job(TENANT, paused);
    let lease = s.w.lease_of(job);
    s.w.ready(lease);
    s.w.run(s.machine, &[lease], secs(100));
    let LeaseState::Paused { run, since, until } = s.w.lease(lease).state else {
        panic!("it pauses")
    };
    assert_eq!(run.ran_before, secs(97));
    assert_eq!(until, since.after(secs(300)));
    let found = s.w.m.explain(&spec(Tier::OnDemand), account(TENANT));
    assert_eq!(found.matching, 1, "a paused lease gives its device back");

    s.w.wait(secs(47));
    s.w.ok(
        key(TENANT),
        Tx::TopUpJob {
            job,
            amount: micros(50_000),
        },
    );
    s.w.ready(lease);
    let paused = s.w.m.time().since(since);
    s.w.run(s.machine, &[lease], secs(20));
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::Completed);
    assert_eq!(bill.compute, micros(117_000));
    assert_eq!(bill.storage, micros(paused.millis() / 100));
    assert_eq!(bill.charged, bill.compute.saturating_add(bill.storage));
}

#[test]
fn a_pause_that_nobody_funds_ends_as_budget_reached() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(
        &mut s,
        short_budget(OnBudget::Pause { grace: secs(60) }),
        secs(110),
    );
    assert_eq!(s.w.lease(lease).state.phase(), LeasePhase::Paused);
    s.w.wait(secs(60));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::BudgetReached, micros(100_000))
    );
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::BudgetReached));
}

#[test]
fn a_top_up_moves_the_funded_instant() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, short_budget(OnBudget::End), secs(50));
    s.w.ok(
        key(TENANT),
        Tx::TopUpJob {
            job,
            amount: micros(25_000),
        },
    );
    s.w.run(s.machine, &[lease], secs(80));
    assert_eq!(s.w.end_of(lease).1.charged, micros(125_000));
}

#[test]
fn an_extension_moves_the_end_as_far_as_the_machine_is_lent() {
    let mut s = scene(Tier::OnDemand);
    let short = JobSpec {
        duration_max: secs(50),
        ..spec(Tier::OnDemand)
    };
    let (job, lease) = running(&mut s, short, secs(20));
    let (held, total) = (
        s.w.m.hold(job).map(|hold| hold.amount),
        s.w.m.system().issued,
    );
    let by = secs(30);
    s.w.ok(key(TENANT), Tx::ExtendJob { job, by });
    assert_eq!(
        s.w.m.hold(job).map(|hold| hold.amount),
        held,
        "it costs nothing by itself"
    );
    let longest =
        s.w.m
            .offers_on(s.machine)
            .map(|offer| offer.terms.term_max)
            .max();
    let longest = longest.expect("an offer stands");
    assert_eq!(
        s.w.reject(key(TENANT), Tx::ExtendJob { job, by: longest }),
        Reject::TermTooLong { longest }
    );
    s.w.run(s.machine, &[lease], secs(40));
    assert!(s.w.lease(lease).is_live(), "it lives on past its first end");
    s.w.run(s.machine, &[lease], secs(30));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::DurationReached);
    assert_eq!(bill.charged, micros(80_000));
    assert_eq!(s.w.m.system().issued, total);
    assert_eq!(
        s.w.reject(key(TENANT), Tx::ExtendJob { job, by }),
        Reject::JobEnded(job)
    );
}

#[test]
fn an_extension_takes_an_offer_that_still_stands() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(20));
    let offers: Vec<_> = s.w.m.offers_on(s.machine).map(|offer| offer.id).collect();
    for offer in offers {
        s.w.ok(key(PROVIDER), Tx::WithdrawOffer { offer });
    }
    let longest = s.w.lease(lease).duration_max;
    assert_eq!(
        s.w.reject(key(TENANT), Tx::ExtendJob { job, by: secs(1) }),
        Reject::TermTooLong { longest }
    );
}

#[test]
fn preempted_after_notice_pays_through_the_stop_and_reopens_elsewhere() {
    let mut s = scene(Tier::Spot);
    let (job, lease) = running(&mut s, spec(Tier::Spot), secs(100));
    s.w.ok(key(PROVIDER), Tx::PreemptLease { lease });
    s.w.run(s.machine, &[lease], secs(20));
    s.w.ended(lease, Outcome::Stopped);
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(
        (reason, bill.charged, bill.forfeited),
        (EndReason::Preempted, micros(120_000), Money::ZERO)
    );
    let found = s.w.m.job(job).expect("it goes on");
    assert!(
        matches!(found.state, JobState::Open { .. }),
        "the only machine is avoided: it waits"
    );
    assert_eq!((found.attempts_used, found.charged), (0, micros(120_000)));
    let other = add_other(&mut s, Tier::Spot);
    let next = s.w.lease_of(job);
    assert_eq!(
        s.w.lease(next).machine,
        other,
        "new capacity is taken at once"
    );
    assert_eq!(
        s.w.lease(next).funds,
        usd(10).saturating_sub(micros(120_000))
    );
}

#[test]
fn a_machine_that_never_stops_is_preempted_at_the_end_of_its_notice() {
    let mut s = scene(Tier::Spot);
    let (_, lease) = running(&mut s, spec(Tier::Spot), secs(100));
    s.w.ok(key(PROVIDER), Tx::PreemptLease { lease });
    s.w.run(s.machine, &[lease], secs(40));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::Preempted, micros(130_000))
    );
}

#[test]
fn drained_with_short_notice_forfeits_the_collateral() {
    for (notice, forfeited) in [(60, micros(3_600_000)), (600, Money::ZERO)] {
        let mut s = scene(Tier::OnDemand);
        let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(10));
        let evict_at = Some(s.w.m.time().after(secs(notice)));
        s.w.ok(
            key(PROVIDER),
            Tx::DrainMachine {
                machine: s.machine,
                evict_at,
            },
        );
        s.w.run(s.machine, &[lease], secs(notice + 5));
        let (reason, bill) = s.w.end_of(lease);
        assert_eq!(reason, EndReason::Drained);
        assert_eq!(bill.charged, micros((notice + 10) * 1_000));
        assert_eq!(bill.forfeited, forfeited, "after {notice} s of notice");
        assert_eq!(s.w.m.system().insurance, forfeited);
        assert!(matches!(
            s.w.m.job(job).expect("it goes on").state,
            JobState::Open { .. }
        ));
    }
}

#[test]
fn a_silent_machine_is_suspect_then_lost_and_paid_to_its_last_beat() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.wait(secs(24));
    assert_eq!(s.w.lease(lease).state.phase(), LeasePhase::Running);
    s.w.wait(secs(1));
    assert_eq!(s.w.lease(lease).state.phase(), LeasePhase::Suspect);
    s.w.wait(secs(34));
    assert_eq!(s.w.lease(lease).state.phase(), LeasePhase::Suspect);
    s.w.wait(secs(1));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::ProviderLost);
    assert_eq!((bill.charged, bill.fee), (micros(100_000), Money::ZERO));
    assert_eq!(bill.forfeited, micros(3_600_000), "an hour's price");
    let found = s.w.m.job(job).expect("it goes on");
    assert!(matches!(found.state, JobState::Open { .. }));
    assert_eq!(
        found.avoid[0].domain,
        Some(name("rack-a")),
        "what fails together is avoided"
    );
}

#[test]
fn a_beat_brings_a_suspect_lease_back() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.wait(secs(40));
    assert!(
        !s.w.m.is_online(s.machine),
        "a suspect machine takes no new leases"
    );
    s.w.beat(s.machine, &[lease]);
    assert_eq!(s.w.lease(lease).state.phase(), LeasePhase::Running);
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    assert_eq!(s.w.end_of(lease).1.charged, micros(140_000));
}

#[test]
fn a_beat_that_does_not_name_the_lease_does_not_extend_it() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.run(s.machine, &[], secs(60));
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::ProviderLost, micros(100_000))
    );
}

#[test]
fn an_end_that_beats_do_not_cover_is_cut_to_the_last_one() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.wait(secs(21));
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    assert_eq!(s.w.end_of(lease).1.charged, micros(100_000));
}

#[test]
fn an_end_that_lies_before_the_last_beat_is_moved_to_it() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    let at = s.w.m.time().before(secs(50));
    let outcome = Outcome::Exited {
        code: 0,
        out_of_memory: false,
    };
    s.w.ok(key(MACHINE), Tx::LeaseEnded { lease, at, outcome });
    assert_eq!(s.w.end_of(lease).1.charged, micros(100_000));
}

#[test]
fn a_machine_that_lost_the_workload_forfeits_but_keeps_its_neighbours() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.ended(lease, Outcome::Lost);
    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(
        (reason, bill.charged),
        (EndReason::ProviderLost, micros(100_000))
    );
    assert_eq!(bill.forfeited, micros(3_600_000));
    let found = s.w.m.job(job).expect("it goes on");
    assert_eq!(
        (found.avoid[0].machine, &found.avoid[0].domain),
        (s.machine, &None)
    );
}

#[test]
fn a_start_timeout_costs_the_provider_its_collateral() {
    for (tier, forfeited) in [(Tier::OnDemand, 3_600_000), (Tier::Spot, 600_000)] {
        let mut s = scene(tier);
        let job = s.w.job(TENANT, spec(tier));
        let lease = s.w.lease_of(job);
        // 60 s and 100 MiB at 100 MB/s.
        s.w.wait(secs(61));
        assert!(s.w.lease(lease).is_live());
        s.w.wait(secs(1));
        let (reason, bill) = s.w.end_of(lease);
        assert_eq!(
            (reason, bill.charged),
            (EndReason::StartTimeout, Money::ZERO)
        );
        assert_eq!(bill.forfeited, micros(forfeited));
        assert_eq!(
            s.w.m.system().insurance,
            micros(forfeited),
            "forfeits never go to the tenant"
        );
        assert_eq!(s.w.available(TENANT), usd(90));
    }
}

#[test]
fn an_order_without_match_expires_and_all_money_returns() {
    let mut s = scene(Tier::Spot);
    let job = s.w.job(TENANT, spec(Tier::OnDemand));
    s.w.wait(secs(599));
    assert_eq!(s.w.available(TENANT), usd(90));
    s.w.wait(secs(1));
    assert_eq!(s.w.job_end(job), JobEnd::NoMatch);
    assert_eq!(s.w.available(TENANT), usd(100));
    assert_eq!(s.w.m.orders_open().count(), 0);
}

#[test]
fn a_halt_of_a_quarter_hour_ends_no_lease_and_its_time_is_paid_for() {
    let mut s = scene(Tier::OnDemand);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.block(secs(900), vec![]);
    assert_eq!(s.w.lease(lease).state.phase(), LeasePhase::Running);
    // The machine went on beating; it sends what it could not, all at once.
    s.w.wait(secs(5));
    let start = s.w.m.time().before(secs(900));
    let record = s.w.m.machine(s.machine).expect("the machine exists");
    let beat = |n: u64| Beat {
        at: start.after(secs(10 * n)),
        leases: vec![lease],
    };
    let batch = BeatBatch {
        machine: s.machine,
        first_seq: record.next_beat,
        prev: record.beat_link,
        beats: (0..=90).map(beat).collect(),
    };
    s.w.ok(key(MACHINE), Tx::Beat(batch));
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    assert_eq!(s.w.end_of(lease).1.charged, micros(1_005_000));
}

#[test]
fn a_limit_inside_a_halt_waits_for_the_machines_own_word() {
    let mut s = scene(Tier::OnDemand);
    let (job, lease) = running(&mut s, short_budget(OnBudget::End), secs(50));
    let finished = s.w.m.time().after(secs(40));
    s.w.block(secs(900), vec![]);
    assert!(s.w.lease(lease).is_live(), "the ledger waits after a halt");
    let record = s.w.m.machine(s.machine).expect("the machine exists");
    let batch = BeatBatch {
        machine: s.machine,
        first_seq: record.next_beat,
        prev: record.beat_link,
        beats: vec![Beat {
            at: finished,
            leases: vec![lease],
        }],
    };
    let outcome = Outcome::Exited {
        code: 0,
        out_of_memory: false,
    };
    s.w.ok(key(MACHINE), Tx::Beat(batch));
    s.w.ok(
        key(MACHINE),
        Tx::LeaseEnded {
            lease,
            at: finished,
            outcome,
        },
    );
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::Completed));
    assert_eq!(s.w.end_of(lease).1.charged, micros(90_000));
}

#[test]
fn idle_heartbeats_are_no_gaps_and_hide_no_fault() {
    let mut s = scene(Tier::OnDemand);
    for _ in 0..6 {
        s.w.block(secs(10), vec![]);
    }
    assert_eq!(s.w.m.system().gap_total, Millis::ZERO);
    s.w.block(secs(16), vec![]);
    assert_eq!(
        s.w.m.system().gap_total,
        secs(1),
        "later than a heartbeat and the limit"
    );
}

#[test]
fn payment_waits_for_the_audit_lag() {
    let params = Params {
        audit_lag_none: secs(60),
        ..Params::default()
    };
    let mut s = scene_with(Tier::OnDemand, params);
    let before = s.w.available(PROVIDER);
    let (_, lease) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    let locked = |s: &Scene| s.w.m.account(account(PROVIDER)).expect("an account").locked;
    assert_eq!(
        (locked(&s), s.w.available(PROVIDER)),
        (micros(97_500), before)
    );
    s.w.wait(secs(60));
    assert_eq!(locked(&s), Money::ZERO);
    assert_eq!(
        s.w.available(PROVIDER),
        before.saturating_add(micros(97_500))
    );
}

#[test]
fn ended_things_are_forgotten_after_the_retention_time() {
    let params = Params {
        retention: secs(100),
        ..Params::default()
    };
    let mut s = scene_with(Tier::OnDemand, params);
    let (job, lease) = running(&mut s, spec(Tier::OnDemand), secs(10));
    s.w.ended(
        lease,
        Outcome::Exited {
            code: 0,
            out_of_memory: false,
        },
    );
    s.w.wait(secs(99));
    assert!(s.w.m.job(job).is_some() && s.w.m.lease(lease).is_some());
    s.w.wait(secs(1));
    assert!(s.w.m.job(job).is_none() && s.w.m.lease(lease).is_none());
}

#[test]
fn a_job_ends_when_what_remains_does_not_pay_for_another_start() {
    let mut s = scene(Tier::OnDemand);
    let spec = JobSpec {
        budget: micros(130_000),
        ..spec(Tier::OnDemand)
    };
    let (job, lease) = running(&mut s, spec, secs(80));
    s.w.ended(lease, Outcome::Lost);
    assert_eq!(
        s.w.job_end(job),
        JobEnd::BudgetReached,
        "$0.05 is less than a minute's price"
    );
    assert_eq!(
        s.w.available(TENANT),
        usd(100).saturating_sub(micros(80_000))
    );
}

#[test]
fn a_lease_after_failover_has_what_is_left_of_budget_and_duration() {
    let mut s = scene(Tier::OnDemand);
    add_other(&mut s, Tier::OnDemand);
    let (job, first) = running(&mut s, spec(Tier::OnDemand), secs(100));
    s.w.wait(secs(60));
    assert_eq!(s.w.end_of(first).0, EndReason::ProviderLost);
    let second = s.w.lease(s.w.lease_of(job));
    assert_eq!(second.provider, account(OTHER));
    assert_eq!(second.funds, usd(10).saturating_sub(micros(100_000)));
    assert_eq!(second.duration_max, secs(3_500));
}
