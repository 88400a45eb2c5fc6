//! Every reason to say no, each from the shortest story that leads to it; none changes more than the nonce.

mod demand;
mod money;
mod supply;

use market::*;

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
