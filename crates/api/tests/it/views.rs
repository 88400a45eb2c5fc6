//! Views as JSON: what the gateway writes, the client reads.

use std::sync::Arc;

use api::{EventKindView, EventView, LeaseView, MachineView, MoneyView, OfferView};
use market::{
    AccountId, Bill, ByteSize, Device, DeviceClass, Digest, EndReason, Event, EventKind, Height,
    Interface, Isolation, JobId, Lease, LeaseId, LeaseSource, LeaseState, Machine, MachineId,
    MachineKeys, MachineSpec, MachineState, MilliCpu, Millis, Money, Name, Offer, OfferId,
    OfferTerms, OrderId, PricePerGib, Prices, PublicKey, Rate, Run, SlaClass, Tier, Timestamp,
    event::{LeasePhase, Purpose, Slot},
};
use serde_json::json;

const NOON: Timestamp = Timestamp::from_unix_millis(1_763_985_600_000);

fn account(n: u8) -> AccountId {
    AccountId::of(PublicKey::from_bytes([n; 32]))
}

fn later(secs: u64) -> Timestamp {
    NOON.after(Millis::from_secs(secs))
}

fn lease(state: LeaseState) -> Lease {
    Lease {
        id: LeaseId::from_bytes([1; 16]),
        seq: 9,
        job: JobId::from_bytes([2; 16]),
        order: OrderId::from_bytes([3; 16]),
        tenant: account(4),
        provider: account(5),
        machine: MachineId::from_bytes([6; 16]),
        source: LeaseSource::Offer(OfferId::from_bytes([7; 16])),
        devices: vec![0, 1],
        cpu: MilliCpu::from_milli(2_000),
        memory: ByteSize::from_gib(4),
        disk: ByteSize::from_gib(1),
        tier: Tier::OnDemand,
        prices: prices(),
        preempt_notice: Millis::ZERO,
        collateral: Money::from_dollars(1),
        funds: Money::from_dollars(2),
        duration_max: Millis::from_secs(3_600),
        awarded_at: NOON,
        state,
    }
}

fn prices() -> Prices {
    Prices {
        per_device_hour: Rate::from_micros_per_hour(1_320_000),
        per_gib_hour: Rate::from_micros_per_hour(100),
        per_gib_out: PricePerGib::from_micros_per_gib(50_000),
    }
}

fn run() -> Run {
    Run {
        ready_at: later(10),
        since: later(10),
        ran_before: Millis::ZERO,
        paused_before: Millis::ZERO,
        good_until: later(100),
        seen_chain: later(100),
        funded_until: Timestamp::MAX,
        duration_until: later(3_610),
    }
}

#[test]
fn a_running_lease_shows_what_accrued_until_its_last_beat() {
    let view = LeaseView::from(&lease(LeaseState::Running { run: run() }));
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["state"], "running");
    assert_eq!(json["elapsed_ms"], 90_000);
    // Two devices for 90 s at $1.32 an hour.
    assert_eq!(
        json["charged"],
        json!({"micros": "66000", "display": "$0.066000"})
    );
    assert_eq!(json["as_of"], "2025-11-24T12:01:40.000Z");
    assert_eq!(json["run"]["funded_until"], "9999-12-31T23:59:59.999Z");
    assert_eq!(json["tier"], "on-demand");
    assert_eq!(json["source"], OfferId::from_bytes([7; 16]).to_string());
    let back: LeaseView = serde_json::from_value(json).unwrap();
    assert_eq!(back.id, view.id);
    assert_eq!(back.state.phase(), LeasePhase::Running);
}

#[test]
fn an_ended_lease_shows_its_bill() {
    let bill = Bill {
        elapsed: Millis::from_secs(7),
        charged: Money::from_micros(5_132),
        ..Bill::default()
    };
    let state = LeaseState::Ended {
        reason: EndReason::Failed { code: 3 },
        ready_at: Some(later(1)),
        ended_at: later(8),
        bill,
    };
    let json = serde_json::to_value(LeaseView::from(&lease(state))).unwrap();
    assert_eq!(json["state"], "ended");
    assert_eq!(json["reason"], json!({"code": "failed", "exit_code": 3}));
    assert_eq!(json["elapsed_ms"], 7_000);
    assert_eq!(json["charged"]["micros"], "5132");
    assert_eq!(json["bill"]["charged"]["display"], "$0.005132");
    let back: LeaseView = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), json);
}

fn machine() -> Machine {
    let name = |text| Name::parse(text).unwrap();
    Machine {
        id: MachineId::from_bytes([6; 16]),
        seq: 1,
        provider: account(5),
        keys: MachineKeys {
            sign: PublicKey::from_bytes([1; 32]),
            endpoint: PublicKey::from_bytes([2; 32]),
            seal: PublicKey::from_bytes([3; 32]),
        },
        spec: Arc::new(MachineSpec {
            devices: vec![Device {
                class: DeviceClass::Nvidia,
                model: name("h100"),
                vram: ByteSize::from_gib(80),
                interface: Interface::Module,
                fabric: 0,
                identity: Digest::default(),
            }],
            cpu: MilliCpu::from_milli(16_000),
            memory: ByteSize::from_gib(128),
            disk: ByteSize::from_gib(64),
            down_bytes_per_s: None,
            isolation: Isolation::Container,
            runtime: name("embedded"),
            region: Some(name("eu-west")),
            facility: None,
            failure_domain: name("rack-7"),
            dial: vec![name("127.0.0.1:4433")],
        }),
        state: MachineState::Active,
        next_beat: 4,
        beat_link: Digest([0xab; 32]),
        last_beat: Some(NOON),
        last_beat_chain: NOON,
    }
}

#[test]
fn a_machine_round_trips() {
    let view = MachineView::from(&machine());
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["devices"][0]["model"], "h100");
    assert_eq!(json["devices"][0]["class"], "nvidia");
    assert_eq!(json["isolation"], "container");
    assert_eq!(json["facility"], json!(null));
    assert_eq!(json["dial"], json!(["127.0.0.1:4433"]));
    assert_eq!(json["beat_link"], "ab".repeat(32));
    assert_eq!(serde_json::from_value::<MachineView>(json).unwrap(), view);
}

#[test]
fn an_offer_shows_its_machines_facts() {
    let offer = Offer {
        id: OfferId::from_bytes([7; 16]),
        seq: 2,
        provider: account(5),
        terms: OfferTerms {
            machine: MachineId::from_bytes([6; 16]),
            devices: vec![0],
            tier: Tier::Spot,
            prices: prices(),
            term_min: Millis::ZERO,
            term_max: Millis::from_secs(86_400),
            preempt_notice: Millis::from_secs(30),
            sla: SlaClass::P995,
            expires_at: later(60),
        },
    };
    let name = Name::parse("North").unwrap();
    let view = OfferView::new(&offer, &machine(), Some(&name), 1).unwrap();
    let json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["provider_name"], "North");
    assert_eq!(json["model"], "h100");
    assert_eq!(json["sla"], "99.5");
    assert_eq!(json["prices"]["per_device_hour"]["display"], "$1.320000");
    assert_eq!(serde_json::from_value::<OfferView>(json).unwrap(), view);
}

#[test]
fn events_are_flat_and_their_words_are_in_the_ledgers_order() {
    let event = |kind| Event {
        seq: 5,
        height: Height::from_number(3),
        time: NOON,
        cause: None,
        kind,
    };
    let posted = event(EventKind::Posted {
        from: Slot::Hold(JobId::from_bytes([2; 16])),
        to: Slot::Fees,
        amount: Money::from_micros(7),
        purpose: Purpose::Fee,
    });
    let json = serde_json::to_value(EventView::from(&posted)).unwrap();
    assert_eq!(
        json,
        json!({
            "seq": 5, "height": 3, "time": "2025-11-24T12:00:00.000Z", "tx": null, "kind": "posted",
            "from": format!("hold:{}", JobId::from_bytes([2; 16])), "to": "fees",
            "amount": {"micros": "7", "display": "$0.000007"}, "purpose": "fee",
        })
    );
    assert_eq!(
        serde_json::from_value::<EventView>(json).unwrap(),
        EventView::from(&posted)
    );
    let last = EventKind::JobExtended {
        job: JobId::from_bytes([1; 16]),
        tenant: account(5),
        by: Millis::from_secs(1),
    };
    for kind in [posted.kind, last] {
        let tag = usize::from(market::codec::encode(&kind)[0]);
        assert_eq!(EventKindView::WORDS[tag], EventKindView::from(&kind).word());
    }
    assert_eq!(EventKindView::WORDS.last(), Some(&"job-extended"));
}

#[test]
fn money_without_its_twin_is_read() {
    let view: MoneyView = serde_json::from_value(json!({"micros": "12"})).unwrap();
    assert_eq!(view.0, Money::from_micros(12));
}
