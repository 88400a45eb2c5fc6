//! One table of codes: complete, unique, and helpful.

use std::collections::BTreeSet;

use api::{Code, Problem};
use market::{
    AccountId, BidId, Inadmissible, JobId, LeaseId, MachineId, Millis, Money, OfferId, OrderId,
    PublicKey, RedemptionId, Reject, Timestamp,
    reject::{FieldName, Unmet},
};

fn rejects() -> Vec<Reject> {
    let money = Money::from_micros(1);
    let id = [7; 16];
    vec![
        Reject::NotAllowed,
        Reject::KeyBudget {
            left: money,
            need: money,
        },
        Reject::Funds {
            available: money,
            need: money,
        },
        Reject::DepositTooSmall { min: money },
        Reject::ZeroAmount,
        Reject::Overflow,
        Reject::ReferenceUsed,
        Reject::NotTreasurer,
        Reject::NoRedemption(RedemptionId::from_bytes(id)),
        Reject::NoAccount(AccountId::of(PublicKey::from_bytes([7; 32]))),
        Reject::KeyInUse,
        Reject::NoKey,
        Reject::NotProvider,
        Reject::AlreadyProvider,
        Reject::BondReserved { free: money },
        Reject::NoMachine(MachineId::from_bytes(id)),
        Reject::MachineState(MachineId::from_bytes(id)),
        Reject::MachineBusy(MachineId::from_bytes(id)),
        Reject::Devices,
        Reject::NoOffer(OfferId::from_bytes(id)),
        Reject::BadTime {
            at: Timestamp::ZERO,
        },
        Reject::BeatChain { next: 3 },
        Reject::BadField {
            field: FieldName::Budget,
        },
        Reject::Unsupported {
            field: FieldName::Kind,
        },
        Reject::NoJob(JobId::from_bytes(id)),
        Reject::JobEnded(JobId::from_bytes(id)),
        Reject::TooMany { max: 5 },
        Reject::NoOrder(OrderId::from_bytes(id)),
        Reject::OrderClosed(OrderId::from_bytes(id)),
        Reject::Unmet(Unmet::Vram),
        Reject::NoBid(BidId::from_bytes(id)),
        Reject::NoLease(LeaseId::from_bytes(id)),
        Reject::LeaseState(LeaseId::from_bytes(id)),
        Reject::NotSpot(LeaseId::from_bytes(id)),
        Reject::HoldLive(JobId::from_bytes(id)),
        Reject::TermTooLong {
            longest: Millis::from_secs(60),
        },
    ]
}

fn inadmissibles() -> Vec<Inadmissible> {
    vec![
        Inadmissible::BadSignature,
        Inadmissible::UnknownKey,
        Inadmissible::KeyEnded,
        Inadmissible::Nonce {
            expected: 1,
            got: 2,
        },
        Inadmissible::Expired,
        Inadmissible::OutOfBounds { field: "devices" },
    ]
}

#[test]
fn every_code_has_a_status_a_title_and_a_hint() {
    let mut texts = BTreeSet::new();
    for code in Code::ALL {
        assert!((400..600).contains(&code.status()), "{code}");
        assert!(
            !code.title().is_empty() && !code.title().ends_with('.'),
            "{code}"
        );
        assert!(!code.hints().is_empty(), "{code}");
        assert!(code.hints().iter().all(|hint| !hint.is_empty()), "{code}");
        assert!(texts.insert(code.as_str()), "{code} is there twice");
        assert!(
            code.as_str()
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c == b'-'),
            "{code}"
        );
        assert_eq!(Code::parse(code.as_str()), Some(*code));
    }
}

#[test]
fn the_ledgers_codes_and_the_tables_are_the_same() {
    let mut seen = BTreeSet::new();
    for reject in rejects() {
        assert_eq!(Code::from(&reject).as_str(), reject.code());
        seen.insert(Code::from(&reject));
    }
    for why in inadmissibles() {
        assert_eq!(Code::from(&why).as_str(), why.code());
        seen.insert(Code::from(&why));
    }
    // The gateway's own codes begin here; whatever stands before is the ledger's and must have been walked.
    let ledgers = Code::ALL
        .iter()
        .take_while(|code| **code != Code::BadRequest);
    assert_eq!(ledgers.copied().collect::<BTreeSet<_>>(), seen);
}

#[test]
fn a_problem_reads_as_rfc_9457() {
    let reject = Reject::Funds {
        available: Money::from_micros(250_000),
        need: Money::from_dollars(5),
    };
    let json = serde_json::to_value(Problem::from(&reject)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "type": "urn:tradewind:problem:insufficient-funds",
            "title": "not enough available money",
            "status": 422,
            "code": "insufficient-funds",
            "detail": "the account has $0.250000 available, $5.000000 is needed",
            "hints": [
                "deposit more dollars, or lower the budget: tradewind account show",
                "money held by ended jobs returns by itself within the hour",
            ],
            "charged_micros": "0",
        })
    );
}

#[test]
fn a_newer_servers_problem_is_still_read() {
    let text = r#"{"title":"t","status":418,"code":"brand-new","detail":"d","surprise":1}"#;
    let problem: Problem = serde_json::from_str(text).unwrap();
    assert_eq!(problem.known(), None);
    assert_eq!(problem.to_string(), "d  [brand-new]");
}
