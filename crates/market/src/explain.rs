//! Why a job matches what it matches: the funnel of offers, requirement by requirement, and the best that are left.

use crate::{
    demand::require::Want,
    ids::{AccountId, MachineId, OfferId},
    money::meter::{pause_grace, storage_charge},
    records::Offer,
    reject::Unmet,
    state::Market,
    tx::{JobSpec, Prices},
    units::Money,
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

impl Market {
    /// Explains what matches a job that `tenant` has not opened yet.
    pub fn explain(&self, spec: &JobSpec, tenant: AccountId) -> Explanation {
        let want = Want {
            needs: &spec.needs,
            tier: spec.tier,
            price_cap: spec.price_cap,
            budget: spec.budget,
            duration: spec.duration_max,
            storage_kept: spec.storage_kept,
            pause_grace: pause_grace(spec),
            avoid: &[],
            doubted_by: &[],
        };
        let mut unmet = std::collections::BTreeMap::new();
        let mut found: Vec<&Offer> = Vec::new();
        let mut total: u64 = 0;
        for offer in self.offers() {
            total = total.saturating_add(1);
            match self.fit_offer(&want, &offer.terms) {
                Ok(_) => found.push(offer),
                Err(first) => {
                    let count: &mut u64 = unmet.entry(first).or_default();
                    *count = count.saturating_add(1);
                }
            }
        }
        found.sort_by_key(|o| self.rank(tenant, o.provider, &o.terms.prices, o.seq));
        let matches = found.iter().take(MATCHES_MAX).map(|offer| OfferMatch {
            offer: offer.id,
            machine: offer.terms.machine,
            provider: offer.provider,
            prices: offer.terms.prices,
            worst_case: worst_case(spec, &offer.terms.prices),
        });
        Explanation {
            total,
            unmet: unmet.into_iter().collect(),
            matching: u64::try_from(found.len()).unwrap_or(u64::MAX),
            matches: matches.collect(),
        }
    }
}

fn worst_case(spec: &JobSpec, prices: &Prices) -> Money {
    let units = u32::from(spec.needs.count);
    let run = prices.per_device_hour.charge(units, spec.duration_max);
    let kept = storage_charge(prices.per_gib_hour, spec.storage_kept, pause_grace(spec));
    run.unwrap_or(Money::MAX)
        .saturating_add(kept)
        .min(spec.budget)
}
