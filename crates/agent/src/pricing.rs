//! What a machine asks for: its standing offers, and bids below them.
//!
//! Simple on purpose, and the same for everyone. A [`Policy`] is a table of [`Line`]s: for a kind of device and a tier, the
//! *target* that its standing offer asks for and the *floor* below which it never goes. Each line gets one standing
//! offer over the devices that it speaks of. An order that collects bids gets one bid, a fixed share below the target,
//! and never below the floor. A provider that wants more writes its own agent: everything here uses the public interface.

pub mod file;

use std::{collections::BTreeSet, fmt};

use api::{DeviceView, MachineView, OrderView, RequirementView};
use market::{
    BasisPoints, BidTerms, Device, DeviceClass, MachineId, MachineSpec, Millis, Name, Offer,
    OfferId, OfferTerms, PricePerGib, Prices, Rate, SlaClass, Tier, Timestamp,
};

/// How far below its target a line bids where it does not say: enough to win against a standing offer.
pub const UNDERCUT_DEFAULT: BasisPoints = BasisPoints::from_bps(1_000);
/// Most lines of a policy: each is an offer of each machine.
pub const LINES_MAX: usize = 64;

/// What a provider wants for a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it wants for which device in which tier; of the lines that speak of a device, the most specific counts.
    pub lines: Vec<Line>,
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

/// What a provider wants for one kind of device in one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which devices.
    pub device: DeviceKind,
    /// In which tier.
    pub tier: Tier,
    /// Asked for by the standing offer, per device-hour.
    pub target: Rate,
    /// Never takes less per device-hour; where it is the target, there are no bids.
    pub floor: Rate,
    /// How far below the target it bids.
    pub undercut: BasisPoints,
    /// Per GiB of storage kept and hour.
    pub per_gib_hour: Rate,
    /// Per GiB sent out.
    pub per_gib_out: PricePerGib,
}

/// Which devices a [`Line`] speaks of, from the least to the most specific.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// Every device.
    Any,
    /// Every CPU slot.
    Cpu,
    /// Every GPU.
    Gpu,
    /// GPUs of one canonical model.
    Model(Name),
}

impl DeviceKind {
    /// Reads what [`fmt::Display`] writes: `any`, `cpu`, `gpu` or a model.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        match text {
            "any" => Some(Self::Any),
            "cpu" => Some(Self::Cpu),
            "gpu" => Some(Self::Gpu),
            model if plain => Name::parse(model).map(Self::Model),
            _ => None,
        }
    }

    fn speaks_of(&self, class: DeviceClass, model: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Cpu => class == DeviceClass::Cpu,
            Self::Gpu => class != DeviceClass::Cpu,
            Self::Model(name) => class != DeviceClass::Cpu && name.as_str() == model,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Model(name) => name.as_str(),
        })
    }
}

impl Default for Policy {
    /// On-demand at $0.10 per device-hour for up to 30 days, firm, no bids below.
    fn default() -> Self {
        let price = Rate::from_micros_per_hour(100_000);
        Self::of_lines(vec![Line::new(
            DeviceKind::Any,
            Tier::OnDemand,
            price,
            price,
        )])
    }
}

impl Policy {
    /// Returns a policy of these lines with the usual terms.
    pub const fn of_lines(lines: Vec<Line>) -> Self {
        Self {
            lines,
            term_min: Millis::ZERO,
            term_max: Millis::from_secs(30 * 86_400),
            preempt_notice: Millis::from_secs(30),
            sla: SlaClass::None,
            stands_for: Millis::from_secs(30 * 86_400),
        }
    }

    /// Returns whether some line bids below its target.
    pub fn bids(&self) -> bool {
        self.lines.iter().any(|line| line.bid().is_some())
    }

    /// Tells whether a device has a price, in any tier.
    pub fn has_price(&self, class: DeviceClass, model: &str) -> bool {
        self.lines
            .iter()
            .any(|line| line.device.speaks_of(class, model))
    }

    /// Returns the line that counts for a device in a tier.
    pub fn line(&self, tier: Tier, class: DeviceClass, model: &str) -> Option<&Line> {
        let speak = self
            .lines
            .iter()
            .filter(|line| line.tier == tier && line.device.speaks_of(class, model));
        // Of two that are as specific the first: a file that says a thing twice is refused before.
        speak.rev().max_by(|a, b| a.device.cmp(&b.device))
    }
}

impl Line {
    /// Returns a line with the usual step for bids and nothing asked for storage and transfer.
    pub const fn new(device: DeviceKind, tier: Tier, target: Rate, floor: Rate) -> Self {
        Self {
            device,
            tier,
            target,
            floor,
            undercut: UNDERCUT_DEFAULT,
            per_gib_hour: Rate::ZERO,
            per_gib_out: PricePerGib::ZERO,
        }
    }

    fn prices(&self, per_device_hour: Rate) -> Prices {
        Prices {
            per_device_hour,
            per_gib_hour: self.per_gib_hour,
            per_gib_out: self.per_gib_out,
        }
    }

    /// Returns what it bids per device-hour; `None` where it does not go below its target.
    pub fn bid(&self) -> Option<Rate> {
        let ask = self.target.micros_per_hour();
        let left = 10_000_u64.saturating_sub(u64::from(self.undercut.bps()));
        // In two parts, so that no price overflows.
        let below = (ask / 10_000) * left + (ask % 10_000) * left / 10_000;
        let price = Rate::from_micros_per_hour(below).max(self.floor);
        (price < self.target).then_some(price)
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
        .lines
        .iter()
        .filter_map(|line| terms(policy, line, machine, &spec.devices, now))
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

/// Returns the standing offer of a line; `None` where it counts for no device.
fn terms(
    policy: &Policy,
    line: &Line,
    machine: MachineId,
    devices: &[Device],
    now: Timestamp,
) -> Option<OfferTerms> {
    let counts = |device: &Device| {
        let found = policy.line(line.tier, device.class, device.model.as_str());
        found.is_some_and(|found| std::ptr::eq(found, line))
    };
    let devices: Vec<u8> = (0_u8..)
        .zip(devices)
        .filter_map(|(index, device)| counts(device).then_some(index))
        .collect();
    (!devices.is_empty()).then(|| OfferTerms {
        machine,
        devices,
        tier: line.tier,
        prices: line.prices(line.target.max(line.floor)),
        term_min: policy.term_min,
        term_max: policy.term_max,
        preempt_notice: policy.preempt_notice,
        sla: policy.sla,
        expires_at: now.after(policy.stands_for),
    })
}

/// Returns the bid on an order that collects bids, on the lowest free devices that fit, of the line that bids least;
/// `None` where the machine does not fit, does not bid, or cannot stay within the order's cap.
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
    let term = Millis::from_millis(order.duration_max_ms);
    let takes_term = (policy.term_min..=policy.term_max).contains(&term);
    let is_open = order.closes_at.0 > now;
    if !is_open || !takes_term || machine.state != "active" {
        return None;
    }
    let cap = Rate::from_micros_per_hour(order.price_cap.per_device_hour.0.micros());
    let bid_of = |line: &Line| {
        let price = line.bid()?.min(cap);
        (price >= line.floor).then_some(price)
    };
    let lines = policy.lines.iter().filter(|line| line.tier == order.tier);
    let bids = lines.filter_map(|line| {
        let price = bid_of(line)?;
        let devices = devices_for(policy, line, machine, busy, &order.needs)?;
        Some((price, line, devices))
    });
    let (price, line, devices) = bids.min_by_key(|(price, ..)| *price)?;
    Some(BidTerms {
        order: order.id,
        machine: machine.id,
        devices,
        prices: line.prices(price),
        preempt_notice: policy.preempt_notice,
    })
}

/// Returns as many free devices as are needed for which `line` counts.
fn devices_for(
    policy: &Policy,
    line: &Line,
    machine: &MachineView,
    busy: &BTreeSet<u8>,
    needs: &RequirementView,
) -> Option<Vec<u8>> {
    let counts = |device: &&DeviceView| {
        let found = policy.line(line.tier, device.class, device.model.as_str());
        found.is_some_and(|found| std::ptr::eq(found, line))
    };
    let free = machine
        .devices
        .iter()
        .filter(|device| !busy.contains(&device.index) && fits(needs, device));
    let devices: Vec<u8> = free
        .filter(counts)
        .map(|device| device.index)
        .take(usize::from(needs.count))
        .collect();
    (devices.len() == usize::from(needs.count)).then_some(devices)
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
            spec: spec().into(),
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

    fn line(device: DeviceKind, target: u64, floor: u64) -> Line {
        Line::new(device, Tier::OnDemand, rate(target), rate(floor))
    }

    /// One line for everything with a target of 100,000.
    fn policy(floor: u64, undercut: u16) -> Policy {
        Policy::of_lines(vec![Line {
            undercut: BasisPoints::from_bps(undercut),
            ..line(DeviceKind::Any, 100_000, floor)
        }])
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
                &policy(floor, undercut),
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
        let keen = policy(1, 100);
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
            fits(&policy(100_000, 100), &none, &order(9_999_999, 1, "cpu"), 0),
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
        dearer.lines[0].target = rate(200_000);
        let replaced = changes(&dearer, 1);
        assert_eq!(replaced.withdraw, [standing[0].id]);
        assert_eq!(replaced.place[0].prices.per_device_hour, rate(200_000));
    }

    #[test]
    fn the_most_specific_line_counts_and_each_line_is_one_offer() {
        let model = |text| DeviceKind::parse(text).unwrap();
        let policy = Policy::of_lines(vec![
            line(DeviceKind::Any, 50, 50),
            line(model("h100"), 300, 200),
            line(DeviceKind::Gpu, 100, 90),
        ]);
        let mut devices = spec().devices;
        for (device, name) in devices.iter_mut().zip(["h100", "rtx4090"]) {
            device.class = DeviceClass::Nvidia;
            device.model = Name::parse(name).unwrap();
        }
        devices.push(spec().devices[0].clone());
        let spec = MachineSpec { devices, ..spec() };
        let machine = MachineId::from_bytes([1; 16]);
        let placed = offer_changes(&policy, machine, &spec, &[], at(0)).place;
        let seen: Vec<(&[u8], u64)> = placed
            .iter()
            .map(|o| (&*o.devices, o.prices.per_device_hour.micros_per_hour()))
            .collect();
        assert_eq!(seen, [(&[2][..], 50), (&[0][..], 300), (&[1][..], 100)]);
        for text in ["any", "cpu", "gpu", "rtx4090ti"] {
            assert_eq!(DeviceKind::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "H100", "h 100", "h100:8"] {
            assert_eq!(DeviceKind::parse(bad), None, "{bad}");
        }
    }
}
