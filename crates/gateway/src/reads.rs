//! Views of the final ledger.
//!
//! Everything here runs under the node's read lock, so it copies what it needs and returns.

use api::{
    AccountView, JobView, KeyView, LeaseView, MachineView, OfferView, OrderView, Page,
    ProviderView, RedemptionView, StatusView, WorkView,
};
use market::{
    AccountId, Job, JobId, JobState, Lease, LeaseState, Machine, MachineId, Market, Money, Offer,
    PublicKey, Tier,
};

use crate::parse::{self, Cut};

/// Records in whatever order the ledger keeps them.
type Records<'a, T> = Box<dyn Iterator<Item = &'a T> + 'a>;

/// Which offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfferWish {
    pub(crate) model: Option<String>,
    pub(crate) tier: Option<Tier>,
    pub(crate) region: Option<String>,
    pub(crate) provider: Option<AccountId>,
    pub(crate) machine: Option<MachineId>,
    pub(crate) available: bool,
}

/// Which jobs, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobWish {
    All,
    Open,
    Running,
    Ended,
    /// Open or running.
    Live,
}

/// What the text of a job's id leads to.
pub(crate) enum Found<T> {
    None,
    One(T),
    Several,
}

pub(crate) fn status(market: &Market) -> StatusView {
    StatusView::of_system(market.system())
}

pub(crate) fn account(market: &Market, id: AccountId) -> Option<AccountView> {
    let is_provider = market.provider(id).is_some();
    market
        .account(id)
        .map(|account| AccountView::new(account, is_provider))
}

pub(crate) fn key(market: &Market, key: &PublicKey) -> Option<KeyView> {
    market.signer(key).map(|signer| KeyView::new(signer, 0))
}

pub(crate) fn provider(market: &Market, id: AccountId) -> Option<ProviderView> {
    market.provider(id).map(ProviderView::from)
}

/// Redemptions under way, soonest end first.
pub(crate) fn redemptions(
    market: &Market,
    treasurer: Option<PublicKey>,
    account: Option<AccountId>,
    cut: Cut,
) -> Page<RedemptionView> {
    let wanted = market.redemptions().filter(|redemption| {
        treasurer.is_none_or(|key| redemption.treasurer == key)
            && account.is_none_or(|id| redemption.account == id)
    });
    let keyed = wanted.map(|redemption| {
        // Of two with one end the id decides; half of it is as unique as a page needs.
        let half = redemption.id.to_bytes().into_iter().take(8);
        let half = half.fold(0, |sum: u64, byte| (sum << 8) | u64::from(byte));
        ((redemption.returns_at.unix_millis(), half), redemption)
    });
    parse::page(keyed, cut, |redemption| {
        Some(RedemptionView::from(redemption))
    })
}

/// Offers, cheapest first, older before newer.
pub(crate) fn offers(market: &Market, wish: &OfferWish, cut: Cut) -> Page<OfferView> {
    let all: Records<'_, Offer> = match (wish.machine, wish.provider) {
        (Some(machine), _) => Box::new(market.offers_on(machine)),
        (None, Some(provider)) => Box::new(market.offers_of(provider)),
        (None, None) => Box::new(market.offers()),
    };
    let wanted = all.filter(|offer| fits(market, wish, offer));
    let keyed = wanted.map(|offer| {
        let rate = offer.terms.prices.per_device_hour.micros_per_hour();
        ((rate, offer.seq), offer)
    });
    parse::page(keyed, cut, |offer| offer_view(market, offer))
}

fn fits(market: &Market, wish: &OfferWish, offer: &Offer) -> bool {
    let Some(machine) = market.machine(offer.terms.machine) else {
        return false;
    };
    let first = offer
        .terms
        .devices
        .first()
        .and_then(|index| machine.spec.devices.get(usize::from(*index)));
    let Some(first) = first else { return false };
    wish.model
        .as_ref()
        .is_none_or(|model| first.model.as_str() == model)
        && wish.tier.is_none_or(|tier| offer.terms.tier == tier)
        && wish.region.as_ref().is_none_or(|region| {
            machine
                .spec
                .region
                .as_ref()
                .is_some_and(|known| known.as_str() == region)
        })
        && wish
            .provider
            .is_none_or(|provider| offer.provider == provider)
        && (!wish.available || (market.is_online(machine.id) && devices_free(market, offer) > 0))
}

fn offer_view(market: &Market, offer: &Offer) -> Option<OfferView> {
    let machine = market.machine(offer.terms.machine)?;
    let name = market
        .provider(offer.provider)
        .map(|provider| &provider.name);
    OfferView::new(offer, machine, name, devices_free(market, offer))
}

fn devices_free(market: &Market, offer: &Offer) -> u32 {
    let machine = offer.terms.machine;
    let taken = |device: &u8| {
        market
            .leases_on(machine)
            .any(|lease| lease.devices.contains(device))
    };
    let free = offer
        .terms
        .devices
        .iter()
        .filter(|device| !taken(device))
        .count();
    u32::try_from(free).unwrap_or(u32::MAX)
}

/// Machines, older before newer.
pub(crate) fn machines(
    market: &Market,
    provider: Option<AccountId>,
    cut: Cut,
) -> Page<MachineView> {
    let all: Records<'_, Machine> = match provider {
        Some(provider) => Box::new(market.machines_of(provider)),
        None => Box::new(market.machines()),
    };
    let keyed = all.map(|machine| ((machine.seq, 0), machine));
    parse::page(keyed, cut, |machine| Some(MachineView::from(machine)))
}

pub(crate) fn machine(market: &Market, id: MachineId) -> Option<MachineView> {
    market.machine(id).map(MachineView::from)
}

/// A machine's live leases with all that it needs to serve them, older before newer; `None` when there is no such
/// machine.
pub(crate) fn machine_leases(market: &Market, id: MachineId, cut: Cut) -> Option<Page<WorkView>> {
    market.machine(id)?;
    let live = market
        .leases_on(id)
        .filter(|lease| !matches!(lease.state, LeaseState::Ended { .. }))
        .map(|lease| ((lease.seq, 0), lease));
    let view = |lease: &Lease| Some(WorkView::new(lease, market.job(lease.job)?));
    Some(parse::page(live, cut, view))
}

/// Jobs, newer before older.
pub(crate) fn jobs(
    market: &Market,
    tenant: Option<AccountId>,
    wish: JobWish,
    cut: Cut,
) -> Page<JobView> {
    let all: Records<'_, Job> = match tenant {
        Some(tenant) => Box::new(market.jobs_of(tenant)),
        None => Box::new(market.jobs()),
    };
    let keyed = all
        .filter(|job| in_state(job, wish))
        .map(|job| ((u64::MAX - job.seq, 0), job));
    parse::page(keyed, cut, |job| Some(job_view(market, job)))
}

fn in_state(job: &Job, wish: JobWish) -> bool {
    match wish {
        JobWish::All => true,
        JobWish::Open => matches!(job.state, JobState::Open { .. }),
        JobWish::Running => matches!(job.state, JobState::Running { .. }),
        JobWish::Ended => matches!(job.state, JobState::Ended { .. }),
        JobWish::Live => !matches!(job.state, JobState::Ended { .. }),
    }
}

/// A job by its id.
pub(crate) fn job(market: &Market, id: JobId) -> Found<JobView> {
    market
        .job(id)
        .map_or(Found::None, |job| Found::One(job_view(market, job)))
}

/// A job by the beginning of its id's text.
pub(crate) fn job_beginning(market: &Market, text: &str) -> Found<JobView> {
    let mut matching = market
        .jobs()
        .filter(|job| job.id.to_string().starts_with(text));
    match (matching.next(), matching.next()) {
        (None, _) => Found::None,
        (Some(job), None) => Found::One(job_view(market, job)),
        (Some(_), Some(_)) => Found::Several,
    }
}

fn job_view(market: &Market, job: &Job) -> JobView {
    JobView::new(
        job,
        market.hold(job.id).map_or(Money::ZERO, |hold| hold.amount),
    )
}

/// A job's leases, older before newer; `None` when there is no such job.
pub(crate) fn job_leases(market: &Market, id: JobId, cut: Cut) -> Option<Page<LeaseView>> {
    market.job(id)?;
    let keyed = market
        .leases_of_job(id)
        .map(|lease| ((lease.seq, 0), lease));
    Some(parse::page(keyed, cut, |lease| {
        Some(LeaseView::from(lease))
    }))
}

/// Orders, older before newer.
pub(crate) fn orders(market: &Market, cut: Cut) -> Page<OrderView> {
    let keyed = market.orders_open().map(|order| ((order.seq, 0), order));
    parse::page(keyed, cut, |order| {
        Some(OrderView::new(order, market.job(order.job)?))
    })
}
