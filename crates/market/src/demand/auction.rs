//! Placing an order: standing offers and bids are ranked together, the best gets the lease.
//!
//! Rank: effective cost (until there is evidence of interruptions it is the price), then reliability, then how few
//! leases the tenant has with the provider, then age. The book lists only offers that are online with a device free,
//! cheapest first, by tier and model, so a placement looks at few; of equally cheap offers it compares the
//! [`TIES_MAX`] oldest.

use std::cmp::Reverse;

use crate::{
    demand::require::{Fit, Supply, Want, fit},
    event::{BidEnd, EventKind},
    glance::{Glance, Wanted},
    ids::{AccountId, BidId, LeaseId, MachineId, OrderId},
    index::{Bucket, Place},
    records::{Bid, Job, JobState, Lease, LeaseSource, LeaseState, Order, Provider},
    reject::Unmet,
    state::Market,
    supply::provider::{free_bond, reliability},
    tx::{BidTerms, DeviceClass, DeviceNeed, OfferTerms, Prices},
    units::{BasisPoints, Millis, Rate},
};

/// Most equally cheap offers that are compared by reliability and concentration; bounds one placement.
const TIES_MAX: usize = 16;

/// A glance at an offer costs this much less than a look.
const GLANCES_PER_LOOK: u32 = 32;

/// Longest time that image transfer adds to a start deadline, whatever the image's stated size: an award keeps a device
/// from others at little cost.
const TRANSFER_MAX: Millis = Millis::from_secs(7_200);

/// Best first.
pub(crate) type Rank = (Rate, Reverse<BasisPoints>, u32, u64);

/// A way to place an order.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    rank: Rank,
    pub(crate) source: LeaseSource,
    pub(crate) machine: MachineId,
    pub(crate) provider: AccountId,
    pub(crate) prices: Prices,
    preempt_notice: Millis,
    fit: Fit,
}

impl Market {
    /// Checks an offer against what a job wants.
    pub(crate) fn fit_offer(&self, want: &Want<'_>, terms: &OfferTerms) -> Result<Fit, Unmet> {
        self.fit_on(
            want,
            terms.machine,
            &terms.devices,
            &terms.prices,
            Some(terms),
        )
    }

    /// Checks a bid against its order.
    pub(crate) fn fit_bid(&self, terms: &BidTerms) -> Result<Fit, Unmet> {
        let (_, job) = self.order_and_job(terms.order).ok_or(Unmet::Online)?;
        let want = self.want(job.id).ok_or(Unmet::Online)?;
        self.fit_on(&want, terms.machine, &terms.devices, &terms.prices, None)
    }

    fn fit_on(
        &self,
        want: &Want<'_>,
        machine: MachineId,
        devices: &[u8],
        prices: &Prices,
        terms: Option<&OfferTerms>,
    ) -> Result<Fit, Unmet> {
        let machine = self.machine(machine).ok_or(Unmet::Online)?;
        let provider = self.provider(machine.provider).ok_or(Unmet::Online)?;
        let supply = Supply {
            machine,
            load: self.index.load(machine.id),
            provider,
            free_bond: free_bond(self, machine.provider),
            devices,
            prices,
            terms,
        };
        fit(self.params(), want, &supply)
    }

    /// Returns where a price of a provider stands for a tenant; the least is best.
    pub(crate) fn rank(
        &self,
        tenant: AccountId,
        provider: AccountId,
        prices: &Prices,
        seq: u64,
    ) -> Rank {
        let known = self.provider(provider).and_then(reliability);
        (
            prices.per_device_hour,
            Reverse(known.unwrap_or_default()),
            self.index.concentration(tenant, provider),
            seq,
        )
    }
}

/// Returns the best standing offer for what a tenant wants; adds the offers looked at. The book is up to date.
pub(crate) fn best_offer(
    m: &Market,
    want: &Want<'_>,
    tenant: AccountId,
    looked_at: &mut u32,
) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    let mut ties = 0;
    let wanted = Wanted::of(want);
    let mut glances = 0u32;
    for ((rate, seq, id), glance) in listed(m, want) {
        if best.as_ref().is_some_and(|b| b.rank.0 < rate)
            || want.price_cap.is_some_and(|cap| cap < rate)
        {
            break;
        }
        if !glance.may_do(&wanted) {
            glances = glances.saturating_add(1);
            continue;
        }
        let Some(offer) = m.offer(id) else { continue };
        *looked_at = looked_at.saturating_add(1);
        let Ok(fit) = m.fit_offer(want, &offer.terms) else {
            continue;
        };
        let candidate = Candidate {
            rank: m.rank(tenant, offer.provider, &offer.terms.prices, seq),
            source: LeaseSource::Offer(id),
            machine: offer.terms.machine,
            provider: offer.provider,
            prices: offer.terms.prices,
            preempt_notice: offer.terms.preempt_notice,
            fit,
        };
        if best.as_ref().is_none_or(|b| candidate.rank < b.rank) {
            best = Some(candidate);
        }
        ties = usize::saturating_add(ties, 1);
        if ties >= TIES_MAX {
            break;
        }
    }
    *looked_at = looked_at.saturating_add(glances.checked_div(GLANCES_PER_LOOK).unwrap_or(0));
    best
}

/// Returns the offers that may do, cheapest first: the buckets of the wanted classes or models, merged.
///
/// A job that names providers is shown their offers, whatever the model: they are fewer.
fn listed<'a>(m: &'a Market, want: &Want<'_>) -> impl Iterator<Item = (Place, Glance)> + 'a {
    let providers = &want.needs.providers;
    let buckets: Vec<Bucket> = match &want.needs.device {
        _ if !providers.is_empty() => providers.iter().map(|p| Bucket::Provider(*p)).collect(),
        DeviceNeed::Any => [
            DeviceClass::Cpu,
            DeviceClass::Nvidia,
            DeviceClass::Amd,
            DeviceClass::Intel,
        ]
        .map(Bucket::Class)
        .to_vec(),
        DeviceNeed::Cpu => vec![Bucket::Class(DeviceClass::Cpu)],
        DeviceNeed::Gpu { models, .. } if models.is_empty() => {
            [DeviceClass::Nvidia, DeviceClass::Amd, DeviceClass::Intel]
                .map(Bucket::Class)
                .to_vec()
        }
        DeviceNeed::Gpu { models, .. } => models.iter().cloned().map(Bucket::Model).collect(),
    };
    let tier = want.tier;
    let mut streams: Vec<_> = buckets
        .into_iter()
        .filter_map(|bucket| m.index.listed(tier, bucket))
        .map(|places| {
            places
                .iter()
                .map(|(place, glance)| (*place, *glance))
                .peekable()
        })
        .collect();
    let mut last = None;
    std::iter::from_fn(move || {
        loop {
            let heads = streams.iter_mut().filter_map(|s| s.peek().copied());
            let next = heads.min_by_key(|(place, _)| *place)?;
            for stream in &mut streams {
                // An offer with devices of two models is listed twice.
                let _ = stream.next_if(|(place, _)| *place == next.0);
            }
            if last.replace(next.0) != Some(next.0) {
                return Some(next);
            }
        }
    })
}

/// Compares an order with the book and its bids: makes a lease of the best, or has it wait. Returns how many offers
/// were looked at.
pub(crate) fn compare(m: &mut Market, id: OrderId) -> u32 {
    m.refresh();
    let mut looked_at = 0;
    let void = void_bids(m, id);
    for bid in void {
        super::bid::close(m, bid, BidEnd::Void);
    }
    match best(m, id, &mut looked_at) {
        Some(candidate) => award(m, id, candidate),
        None => {
            if m.order(id).is_some_and(|o| !o.waiting) {
                m.edit::<Order>(id, |o| o.waiting = true);
            }
        }
    }
    looked_at
}

/// Returns the bids that can no longer be served: their devices were taken or their machine fell away.
fn void_bids(m: &Market, id: OrderId) -> Vec<BidId> {
    let bids = m.bids_on(id).filter(|b| m.fit_bid(&b.terms).is_err());
    bids.map(|b| b.id).collect()
}

fn best(m: &Market, id: OrderId, looked_at: &mut u32) -> Option<Candidate> {
    let (_, job) = m.order_and_job(id)?;
    let want = m.want(job.id)?;
    let offer = best_offer(m, &want, job.tenant, looked_at);
    let bids = m.bids_on(id).filter_map(|bid| {
        Some(Candidate {
            rank: m.rank(job.tenant, bid.provider, &bid.terms.prices, bid.seq),
            source: LeaseSource::Bid(bid.id),
            machine: bid.terms.machine,
            provider: bid.provider,
            prices: bid.terms.prices,
            preempt_notice: bid.terms.preempt_notice,
            fit: m.fit_bid(&bid.terms).ok()?,
        })
    });
    bids.chain(offer).min_by(|a, b| a.rank.cmp(&b.rank))
}

/// Makes the lease.
fn award(m: &mut Market, id: OrderId, won: Candidate) {
    let (Some((order, job)), Some(machine)) = (m.order_and_job(id), m.machine(won.machine)) else {
        return;
    };
    let (job_id, tenant) = (job.id, job.tenant);
    let Some(want) = m.want(job_id) else { return };
    let params = m.params();
    let floor = params.start_bandwidth_floor;
    let bandwidth = machine.spec.down_bytes_per_s.unwrap_or(floor).max(floor);
    let transfer = u128::from(job.spec.image_size.bytes()).saturating_mul(1_000);
    let transfer = transfer.checked_div(u128::from(bandwidth)).unwrap_or(0);
    let transfer = Millis::from_millis(u64::try_from(transfer).unwrap_or(u64::MAX));
    let transfer = transfer.min(TRANSFER_MAX);
    let start_by = m.chain_now().after(params.start_base).after(transfer);
    let lease = LeaseId::child_of(order.id.to_bytes(), 0);
    let mut row = Lease {
        id: lease,
        seq: 0,
        job: job_id,
        order: id,
        tenant,
        provider: won.provider,
        machine: won.machine,
        source: won.source,
        devices: won.fit.devices,
        cpu: won.fit.cpu,
        memory: won.fit.memory,
        disk: won.fit.disk,
        tier: job.spec.tier,
        prices: won.prices,
        preempt_notice: won.preempt_notice,
        collateral: won.fit.collateral,
        funds: want.budget,
        duration_max: want.duration,
        awarded_at: m.time(),
        state: LeaseState::Awarded { start_by },
    };
    row.seq = m.next_seq();
    m.edit::<Provider>(won.provider, |p| {
        p.reserved = p.reserved.saturating_add(row.collateral);
    });
    m.put(row);
    m.edit::<Job>(job_id, |job| job.state = JobState::Running { lease });
    if let LeaseSource::Bid(bid) = won.source {
        m.delete::<Bid>(bid);
    }
    super::order::close_bids(m, id, BidEnd::Lost);
    m.delete::<Order>(id);
    m.emit(EventKind::LeaseAwarded {
        lease,
        job: job_id,
        tenant,
        provider: won.provider,
        machine: won.machine,
        source: won.source,
    });
}
