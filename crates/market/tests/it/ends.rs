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
    s.w.ended(lease, Outcome::Exited { code: 0, out_of_memory: false });

    let (reason, bill) = s.w.end_of(lease);
    assert_eq!(reason, EndReason::Completed);
    assert_eq!(bill.elapsed, secs(100));
    assert_eq!(bill.charged, micros(100_000));
    assert_eq!(bill.fee, micros(2_500));
    assert_eq!(bill.to_provider, micros(97_500));
    assert_eq!(bill.forfeited, Money::ZERO);
    assert_eq!(s.w.job_end(job), JobEnd::Lease(EndReason::Completed));
    assert_eq!(s.w.available(PROVIDER), paid_before.saturating_add(micros(97_500)));
    assert_eq!(s.w.available(TENANT), usd(100).saturating_sub(micros(100_000)));
    assert_eq!(s.w.m.system().fees, micros(2_500));
}
