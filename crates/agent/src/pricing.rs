//! What a machine asks for: its standing offers, and bids below them.
//!
//! Simple on purpose, and the same for everyone: each tier of the [`Policy`] gets one standing offer over all devices at
//! the asking price. An order that collects bids gets one bid, a fixed share below the asking price, and never below the
//! floor. A provider that wants more writes its own agent: everything here uses the public interface.

use market::{
    BasisPoints, BidTerms, DeviceClass, DeviceNeed, JobSpec, MachineId, MachineSpec, Millis, Offer,
    OfferId, OfferTerms, Order, Prices, Rate, SlaClass, Tier, Timestamp,
};

/// What a provider wants for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which tiers it offers.
    pub tiers: Vec<Tier>,
    /// Asked for, by every standing offer.
    pub prices: Prices,
    /// Never takes less per device-hour.
    pub floor: Rate,
    /// How far below the asking price it bids; `None` does not bid.
    pub undercut: Option<BasisPoints>,
    /// Shortest job duration that it takes.
    pub term_min: Millis,
    /// Longest job duration that it takes.
    pub term_max: Millis,
    /// Notice before a spot lease is taken back.
    pub preempt_notice: Millis,
    /// Availability promised.
    pub sla: SlaClass,
    /// How long an offer stands before it must be renewed: a machine that is gone leaves the book.
    pub stands_for: Millis,
}

impl Default for Policy {
    /// On-demand at $0.10 per device-hour for up to 30 days, firm, no bids below.
    fn default() -> Self {
        let price = Rate::from_micros_per_hour(100_000);
        Self {
            tiers: vec![Tier::OnDemand],
            prices: Prices {
                per_device_hour: price,
                ..Prices::default()
            },
            floor: price,
            undercut: None,
            term_min: Millis::ZERO,
            term_max: Millis::from_secs(30 * 86_400),
            preempt_notice: Millis::from_secs(30),
            sla: SlaClass::None,
            stands_for: Millis::from_secs(30 * 86_400),
        }
    }
}

/// What to change in the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferChanges {
    /// To be withdrawn first.
    pub withdraw: Vec<OfferId>,
    /// To be placed.
    pub place: Vec<OfferTerms>,
}

/// Returns what must change so that the machine's standing offers are those of its policy; nothing when they are.
///
/// An offer is renewed in the last quarter of its time. Offers that differ only in when they end are the same offer.
pub fn offer_changes(
    policy: &Policy,
    machine: MachineId,
    spec: &MachineSpec,
    standing: &[Offer],
    now: Timestamp,
) -> OfferChanges {
    let renew_before = now.after(Millis::from_millis(policy.stands_for.millis() / 4));
    let wanted: Vec<OfferTerms> = policy
        .tiers
        .iter()
        .map(|tier| terms(policy, machine, spec, *tier, now))
        .collect();
    let is_same = |offer: &Offer, terms: &OfferTerms| {
        let expires_at = terms.expires_at;
        OfferTerms {
            expires_at,
            ..offer.terms.clone()
        } == *terms
            && offer.terms.expires_at > renew_before
    };
    let ours = standing.iter().filter(|o| o.terms.machine == machine);
    let mut kept: Vec<&OfferTerms> = Vec::new();
    let mut changes = OfferChanges::default();
    for offer in ours {
        match wanted
            .iter()
            .find(|t| is_same(offer, t) && !kept.contains(t))
        {
            Some(terms) => kept.push(terms),
            None => changes.withdraw.push(offer.id),
        }
    }
    changes.place = wanted
        .iter()
        .filter(|t| !kept.contains(t))
        .cloned()
        .collect();
    changes
}

fn terms(
    policy: &Policy,
    machine: MachineId,
    spec: &MachineSpec,
    tier: Tier,
    now: Timestamp,
) -> OfferTerms {
    OfferTerms {
        machine,
        devices: (0_u8..).take(spec.devices.len()).collect(),
        tier,
        prices: Prices {
            per_device_hour: policy.prices.per_device_hour.max(policy.floor),
            ..policy.prices
        },
        term_min: policy.term_min,
        term_max: policy.term_max,
        preempt_notice: policy.preempt_notice,
        sla: policy.sla,
        expires_at: now.after(policy.stands_for),
    }
}

/// Returns the bid on an order that collects bids, on the lowest free devices that fit; `None` where the machine does
/// not fit, does not bid, or cannot stay within the order's cap.
///
/// Only what is plain to see is checked (tier, device class, count, cap): the ledger checks the rest and charges
/// nothing for a bid that does not meet it.
pub fn bid(
    policy: &Policy,
    machine: MachineId,
    spec: &MachineSpec,
    free: &[u8],
    (order, job): (&Order, &JobSpec),
    now: Timestamp,
) -> Option<BidTerms> {
    let undercut = policy.undercut?;
    if order.closes_at <= now || !policy.tiers.contains(&job.tier) {
        return None;
    }
    let devices: Vec<u8> = free
        .iter()
        .copied()
        .filter(|index| fits(&job.needs.device, spec, *index))
        .take(usize::from(job.needs.count))
        .collect();
    if devices.len() < usize::from(job.needs.count) {
        return None;
    }
    let cap = order.price_cap.per_device_hour;
    let price = undercut_price(policy, undercut).min(cap);
    if price < policy.floor {
        return None;
    }
    Some(BidTerms {
        order: order.id,
        machine,
        devices,
        prices: Prices {
            per_device_hour: price,
            ..policy.prices
        },
        preempt_notice: policy.preempt_notice,
    })
}

fn undercut_price(policy: &Policy, undercut: BasisPoints) -> Rate {
    let ask = policy.prices.per_device_hour.micros_per_hour();
    let left = 10_000_u64.saturating_sub(u64::from(undercut.bps()));
    // In two parts, so that no price overflows.
    let below = (ask / 10_000) * left + (ask % 10_000) * left / 10_000;
    Rate::from_micros_per_hour(below).max(policy.floor)
}

fn fits(need: &DeviceNeed, spec: &MachineSpec, index: u8) -> bool {
    let Some(device) = spec.devices.get(usize::from(index)) else {
        return false;
    };
    match need {
        DeviceNeed::Any => true,
        DeviceNeed::Cpu => device.class == DeviceClass::Cpu,
        DeviceNeed::Gpu {
            models,
            vram_min,
            interface,
            ..
        } => {
            device.class != DeviceClass::Cpu
                && (models.is_empty() || models.contains(&device.model))
                && device.vram >= *vram_min
                && interface.is_none_or(|i| i == device.interface)
        }
    }
}
