//! What a machine asks for: its standing offers, and bids below them.
//!
//! Simple on purpose, and the same for everyone: each tier of the [`Policy`] gets one standing offer over all devices at
//! the asking price. An order that collects bids gets one bid, a fixed share below the asking price, and never below the
//! floor. A provider that wants more writes its own agent: everything here uses the public interface.

use std::collections::BTreeSet;

use api::{DeviceView, MachineView, OrderView, RequirementView};
use market::{
    BasisPoints, BidTerms, DeviceClass, MachineId, MachineSpec, Millis, Offer, OfferId, OfferTerms,
    Prices, Rate, SlaClass, Tier, Timestamp,
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
/// Only what is plain to see is checked (tier, term, device, count, cap): the ledger checks the rest and charges nothing
/// for a bid that does not meet it.
pub fn bid(
    policy: &Policy,
    machine: &MachineView,
    busy: &BTreeSet<u8>,
    order: &OrderView,
    now: Timestamp,
) -> Option<BidTerms> {
    let undercut = policy.undercut?;
    let term = Millis::from_millis(order.duration_max_ms);
    let takes_term = (policy.term_min..=policy.term_max).contains(&term);
    let is_open = order.closes_at.0 > now;
    if !is_open || !takes_term || !policy.tiers.contains(&order.tier) || machine.state != "active" {
        return None;
    }
    let free = machine
        .devices
        .iter()
        .filter(|device| !busy.contains(&device.index));
    let devices: Vec<u8> = free
        .filter(|device| fits(&order.needs, device))
        .map(|device| device.index)
        .take(usize::from(order.needs.count))
        .collect();
    if devices.len() < usize::from(order.needs.count) {
        return None;
    }
    let cap = Rate::from_micros_per_hour(order.price_cap.per_device_hour.0.micros());
    let price = undercut_price(policy, undercut).min(cap);
    if price < policy.floor {
        return None;
    }
    Some(BidTerms {
        order: order.id,
        machine: machine.id,
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

fn fits(needs: &RequirementView, device: &DeviceView) -> bool {
    let is_cpu = device.class == DeviceClass::Cpu;
    match needs.device.as_str() {
        "any" => true,
        "cpu" => is_cpu,
        "gpu" => {
            !is_cpu
                && (needs.models.is_empty() || needs.models.contains(&device.model))
                && device.vram_bytes >= needs.vram_min_bytes
                && needs.interface.is_none_or(|i| i == device.interface)
        }
        // A kind of device that this version does not know.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use market::{
        AccountId, ByteSize, Device, Digest, Interface, Isolation, MilliCpu, Name, PublicKey,
    };

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_millis(ms)
    }

    fn rate(micros: u64) -> Rate {
        Rate::from_micros_per_hour(micros)
    }

    fn spec() -> MachineSpec {
        let name = |text| Name::parse(text).unwrap();
        let slot = Device {
            class: DeviceClass::Cpu,
            model: name("cpu"),
            vram: ByteSize::ZERO,
            interface: Interface::Host,
            fabric: 0,
            identity: Digest::default(),
        };
        MachineSpec {
            devices: vec![slot.clone(), slot],
            cpu: MilliCpu::from_milli(2_000),
            memory: ByteSize::from_gib(2),
            disk: ByteSize::from_gib(9),
            down_bytes_per_s: None,
            isolation: Isolation::Container,
            runtime: name("embedded"),
            region: None,
            facility: None,
            failure_domain: name("here"),
            dial: vec![],
        }
    }

    fn machine() -> MachineView {
        let record = market::Machine {
            id: MachineId::from_bytes([1; 16]),
            seq: 0,
            provider: AccountId::of(PublicKey::default()),
            keys: market::MachineKeys {
                sign: PublicKey::default(),
                endpoint: PublicKey::default(),
                seal: PublicKey::default(),
            },
            spec: spec(),
            state: market::MachineState::Active,
            next_beat: 0,
            beat_link: Digest::default(),
            last_beat: None,
            last_beat_chain: Timestamp::ZERO,
        };
        MachineView::from(&record)
    }

    fn order(cap: u64, count: u8, device: &str) -> OrderView {
        let free = api::PricesView::from(&Prices::default());
        let price = api::MoneyView(market::Money::from_micros(cap));
        OrderView {
            id: market::OrderId::from_bytes([2; 16]),
            job: market::JobId::from_bytes([3; 16]),
            needs: RequirementView {
                device: device.to_owned(),
                models: vec![],
                vram_min_bytes: 0,
                interface: None,
                one_fabric: false,
                count,
                cpu_milli: None,
                memory_bytes: None,
                disk_bytes: 0,
                isolation: Isolation::None,
                regions: vec![],
                certificates: vec![],
                reliability_min_bps: None,
                sla: SlaClass::None,
                latency_region: None,
                latency_ms_max: None,
                providers: vec![],
                exclude_machines: vec![],
                exclude_domains: vec![],
                claims: market::Claims::Allowed,
            },
            tier: Tier::OnDemand,
            price_cap: api::PricesView {
                per_device_hour: price,
                ..free
            },
            duration_max_ms: 60_000,
            opened_at: api::TimeView(at(0)),
            closes_at: api::TimeView(at(2_000)),
            expires_at: api::TimeView(at(90_000)),
        }
    }

    fn policy(floor: u64, undercut: Option<u16>) -> Policy {
        Policy {
            floor: rate(floor),
            undercut: undercut.map(BasisPoints::from_bps),
            ..Policy::default()
        }
    }

    #[test]
    fn a_bid_is_below_the_ask_within_the_cap_and_never_below_the_floor() {
        // (floor, undercut in bps, cap) and what is bid, with an asking price of 100,000.
        let table = [
            ((50_000, 1_000, 200_000), Some(90_000)),
            ((95_000, 1_000, 200_000), Some(95_000)),
            ((50_000, 1_000, 70_000), Some(70_000)),
            ((80_000, 1_000, 70_000), None),
            ((50_000, 10_000, 200_000), Some(50_000)),
        ];
        for ((floor, undercut, cap), wanted) in table {
            let order = order(cap, 1, "cpu");
            let bid = bid(
                &policy(floor, Some(undercut)),
                &machine(),
                &BTreeSet::new(),
                &order,
                at(0),
            );
            let price = bid.map(|b| b.prices.per_device_hour.micros_per_hour());
            assert_eq!(price, wanted, "{floor} {undercut} {cap}");
        }
    }

    #[test]
    fn no_bid_without_policy_window_or_room() {
        let keen = policy(1, Some(100));
        let none = BTreeSet::new();
        let fits = |policy: &Policy, busy: &BTreeSet<u8>, order: &OrderView, now| {
            bid(policy, &machine(), busy, order, at(now)).map(|b| b.devices)
        };
        assert_eq!(
            fits(&keen, &none, &order(9_999_999, 2, "any"), 0),
            Some(vec![0, 1])
        );
        assert_eq!(
            fits(&keen, &[0].into(), &order(9_999_999, 1, "cpu"), 0),
            Some(vec![1])
        );
        assert_eq!(
            fits(&keen, &[0].into(), &order(9_999_999, 2, "cpu"), 0),
            None
        );
        assert_eq!(fits(&keen, &none, &order(9_999_999, 1, "gpu"), 0), None);
        assert_eq!(fits(&keen, &none, &order(9_999_999, 1, "cpu"), 2_000), None);
        assert_eq!(
            fits(&policy(1, None), &none, &order(9_999_999, 1, "cpu"), 0),
            None
        );
    }

    #[test]
    fn offers_are_placed_once_renewed_in_time_and_replaced_when_the_price_changes() {
        let machine = MachineId::from_bytes([1; 16]);
        let policy = Policy::default();
        let first = offer_changes(&policy, machine, &spec(), &[], at(0));
        assert_eq!((first.withdraw.len(), first.place.len()), (0, 1));
        assert_eq!(first.place[0].devices, [0, 1]);
        let standing = [Offer {
            id: OfferId::from_bytes([4; 16]),
            seq: 0,
            provider: AccountId::of(PublicKey::default()),
            terms: first.place[0].clone(),
        }];
        let month = policy.stands_for.millis();
        let changes =
            |policy: &Policy, now| offer_changes(policy, machine, &spec(), &standing, at(now));
        assert_eq!(changes(&policy, month / 2), OfferChanges::default());
        let renewed = changes(&policy, month * 4 / 5);
        assert_eq!((renewed.withdraw.len(), renewed.place.len()), (1, 1));
        let mut dearer = policy;
        dearer.prices.per_device_hour = rate(200_000);
        let replaced = changes(&dearer, 1);
        assert_eq!(replaced.withdraw, [standing[0].id]);
        assert_eq!(replaced.place[0].prices.per_device_hour, rate(200_000));
    }
}
