//! Why a job matches what it matches: the funnel of offers, requirement by requirement, the best that are left, and for
//! those that fell out the single changes that would bring some back.

use std::collections::BTreeMap;

use crate::{
    demand::require::Want,
    ids::{AccountId, JobId, MachineId, OfferId},
    money::meter::{pause_grace, storage_charge},
    records::{JobState, Offer},
    reject::Unmet,
    state::Market,
    tx::{Claims, DeviceNeed, Isolation, JobSpec, OfferTerms, Prices, Requirement, SlaClass},
    units::{ByteSize, MilliCpu, Money},
};

/// Most matches that an explanation lists.
const MATCHES_MAX: usize = 20;

/// What the book has for a job now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Standing offers in all.
    pub total: u64,
    /// How many fall out at each requirement, in the order of the checks; those that cost none are left out.
    pub unmet: Vec<(Unmet, u64)>,
    /// How many match.
    pub matching: u64,
    /// The best of them, best first; at most 20.
    pub matches: Vec<OfferMatch>,
    /// Changes to one requirement that would each let more offers match, in the order of the checks.
    pub relaxations: Vec<Relaxation>,
}

/// An offer that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferMatch {
    /// Which.
    pub offer: OfferId,
    /// On which machine.
    pub machine: MachineId,
    /// Whose.
    pub provider: AccountId,
    /// At what prices.
    pub prices: Prices,
    /// The most that one run of the full duration costs; never above the budget.
    pub worst_case: Money,
}

/// A change to one requirement, all others kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relaxation {
    /// The requirement to relax; how far is seen in the offer that would match.
    pub need: Unmet,
    /// How many more offers would match if it were dropped.
    pub offers: u64,
    /// The best of them.
    pub best: OfferMatch,
}

impl Market {
    /// Explains what matches a job that `tenant` has not opened yet.
    pub fn explain(&self, spec: &JobSpec, tenant: AccountId) -> Explanation {
        self.funnel(&fresh(spec), spec, tenant)
    }

    /// Explains what matches a job that waits in the book, with what is left of its budget and duration and what it
    /// has learnt to avoid; `None` when it does not wait.
    pub fn explain_waiting(&self, id: JobId) -> Option<Explanation> {
        let job = self.job(id)?;
        let JobState::Open { .. } = job.state else {
            return None;
        };
        Some(self.funnel(&self.want(id)?, &job.spec, job.tenant))
    }

    fn funnel(&self, want: &Want<'_>, spec: &JobSpec, tenant: AccountId) -> Explanation {
        let mut unmet: BTreeMap<Unmet, u64> = BTreeMap::new();
        let mut relaxed: BTreeMap<Unmet, Vec<&Offer>> = BTreeMap::new();
        let mut found: Vec<&Offer> = Vec::new();
        let mut total: u64 = 0;
        for offer in self.offers() {
            total = total.saturating_add(1);
            match self.fit_offer(want, &offer.terms) {
                Ok(_) => found.push(offer),
                Err(first) => {
                    let count = unmet.entry(first).or_default();
                    *count = count.saturating_add(1);
                    if self.fits_without(want, first, &offer.terms) {
                        relaxed.entry(first).or_default().push(offer);
                    }
                }
            }
        }
        let rank = |o: &&Offer| self.rank(tenant, o.provider, &o.terms.prices, o.seq);
        // A rank looks at what else the tenant has with the provider: once an offer, not once a comparison.
        found.sort_by_cached_key(rank);
        let matches = found.iter().take(MATCHES_MAX).map(|o| offer_match(spec, o));
        let relaxations = relaxed.iter().filter_map(|(need, offers)| {
            let best = offers.iter().min_by_key(|o| rank(o))?;
            Some(Relaxation {
                need: *need,
                offers: count(offers),
                best: offer_match(spec, best),
            })
        });
        Explanation {
            total,
            unmet: unmet.into_iter().collect(),
            matching: count(&found),
            matches: matches.collect(),
            relaxations: relaxations.collect(),
        }
    }

    /// Returns whether an offer would match if this one need were dropped. Whether a machine is online and bonded is
    /// not the tenant's to change, so those stay.
    fn fits_without(&self, want: &Want<'_>, need: Unmet, terms: &OfferTerms) -> bool {
        let mut needs = want.needs.clone();
        let mut want = *want;
        drop_need(&mut needs, need);
        if need == Unmet::Tier {
            want.tier = terms.tier;
        } else if need == Unmet::Term {
            want.duration = want.duration.clamp(terms.term_min, terms.term_max);
        } else if need == Unmet::Price {
            want.price_cap = None;
        } else if need == Unmet::Budget {
            want.budget = Money::MAX;
        } else if need == Unmet::Disk {
            want.storage_kept = ByteSize::ZERO;
        } else if need == Unmet::Excluded {
            (want.avoid, want.doubted_by) = (&[], &[]);
        }
        want.needs = &needs;
        self.fit_offer(&want, terms).is_ok()
    }
}

/// Drops one need from a requirement; needs that are not the requirement's own are left to the caller.
fn drop_need(needs: &mut Requirement, need: Unmet) {
    match need {
        Unmet::Model => needs.device = DeviceNeed::Any,
        Unmet::Vram | Unmet::Interface | Unmet::Fabric => drop_device_need(needs, need),
        Unmet::DevicesFree => needs.count = 1,
        Unmet::Cpu => needs.cpu = Some(MilliCpu::ZERO),
        Unmet::Memory => needs.memory = Some(ByteSize::ZERO),
        Unmet::Disk => needs.disk = ByteSize::ZERO,
        Unmet::Isolation => needs.isolation = Isolation::None,
        Unmet::Region => needs.regions.clear(),
        Unmet::Latency => needs.latency = None,
        Unmet::Certificate => needs.certificates.clear(),
        Unmet::Reliability => needs.reliability_min = None,
        Unmet::Sla => needs.sla = SlaClass::None,
        Unmet::Unverified => needs.claims = Claims::Allowed,
        Unmet::Provider => needs.providers.clear(),
        Unmet::Excluded => {
            needs.exclude_machines.clear();
            needs.exclude_domains.clear();
        }
        Unmet::Online | Unmet::Tier | Unmet::Term | Unmet::Bond | Unmet::Price | Unmet::Budget => {}
    }
}

fn drop_device_need(needs: &mut Requirement, need: Unmet) {
    let DeviceNeed::Gpu {
        vram_min,
        interface,
        one_fabric,
        ..
    } = &mut needs.device
    else {
        return;
    };
    if need == Unmet::Vram {
        *vram_min = ByteSize::ZERO;
    } else if need == Unmet::Interface {
        *interface = None;
    } else {
        *one_fabric = false;
    }
}

/// Returns what a job wants that has not begun.
fn fresh(spec: &JobSpec) -> Want<'_> {
    Want {
        needs: &spec.needs,
        tier: spec.tier,
        price_cap: spec.price_cap,
        budget: spec.budget,
        duration: spec.duration_max,
        storage_kept: spec.storage_kept,
        pause_grace: pause_grace(spec),
        avoid: &[],
        doubted_by: &[],
    }
}

fn count(offers: &[&Offer]) -> u64 {
    u64::try_from(offers.len()).unwrap_or(u64::MAX)
}

fn offer_match(spec: &JobSpec, offer: &Offer) -> OfferMatch {
    OfferMatch {
        offer: offer.id,
        machine: offer.terms.machine,
        provider: offer.provider,
        prices: offer.terms.prices,
        worst_case: worst_case(spec, &offer.terms.prices),
    }
}

fn worst_case(spec: &JobSpec, prices: &Prices) -> Money {
    let units = u32::from(spec.needs.count);
    let run = prices.per_device_hour.charge(units, spec.duration_max);
    let kept = storage_charge(prices.per_gib_hour, spec.storage_kept, pause_grace(spec));
    let all = run.unwrap_or(Money::MAX).saturating_add(kept);
    all.min(spec.budget)
}
