//! Golden vectors: the bytes of everything that is signed, stored or shown to others, so that no build changes them by
//! accident. `GOLDEN_WRITE=1 cargo test -p market golden` writes the file anew after a deliberate change.

use std::fmt::Write as _;

use market::codec::encode;
use market::*;

use crate::world::*;

/// The committed vectors: a name and the hexadecimal bytes a line.
const FILE: &str = include_str!("golden.txt");
/// Where they are.
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

fn instant(secs: u64) -> Timestamp {
    Timestamp::from_unix_millis(START + secs * 1_000)
}

fn machine() -> MachineId {
    MachineId::created_by(&key(2), 7)
}

fn job_id() -> JobId {
    JobId::created_by(&key(3), 9)
}

fn order() -> OrderId {
    OrderId::child_of(job_id().to_bytes(), 0)
}

fn lease() -> LeaseId {
    LeaseId::child_of(order().to_bytes(), 0)
}

fn offer_id() -> OfferId {
    OfferId::created_by(&key(2), 8)
}

fn bid_id() -> BidId {
    BidId::created_by(&key(2), 10)
}

fn redemption() -> RedemptionId {
    RedemptionId::created_by(&key(3), 1)
}

fn bid_terms() -> BidTerms {
    BidTerms {
        order: order(),
        machine: machine(),
        devices: vec![0, 3],
        prices: prices(2),
        preempt_notice: secs(30),
    }
}

fn full_job() -> JobSpec {
    let mut spec = job(10);
    spec.name = Some(name("train"));
    spec.needs.regions = vec![name("eu-west")];
    spec.needs.latency = Some(LatencyNeed {
        region: name("eu-west"),
        max: secs(1),
    });
    spec.price_cap = Some(Rate::from_micros_per_hour(5));
    spec.on_budget = OnBudget::Pause { grace: secs(60) };
    spec.on_partition = OnPartition::Pause { after: secs(60) };
    spec
}

/// One of every verb.
fn calls() -> Vec<Tx> {
    let (to, amount, reference) = (account(4), usd(5), Digest([6; 32]));
    let (machine, keys) = (machine(), machine_keys(2));
    let spec = gpu_machine(1, "rack");
    let (lease, at) = (lease(), instant(1));
    let batch = BeatBatch {
        machine,
        first_seq: 3,
        prev: Digest([1; 32]),
        beats: vec![Beat {
            at,
            leases: vec![lease],
        }],
    };
    vec![
        Tx::Issue {
            to,
            amount,
            reference,
        },
        Tx::Transfer {
            to,
            amount,
            memo: Some(reference),
        },
        Tx::RequestRedemption {
            treasurer: key(1),
            amount,
            destination: reference,
        },
        Tx::ConfirmRedemption {
            redemption: redemption(),
            reference,
        },
        Tx::RefuseRedemption {
            redemption: redemption(),
        },
        Tx::AuthorizeKey {
            key: key(5),
            role: KeyRole::Tenant,
            budget: Some(amount),
            expires_at: Some(at),
        },
        Tx::RevokeKey { key: key(5) },
        Tx::OpenProvider {
            name: name("north"),
        },
        Tx::PostBond { amount },
        Tx::WithdrawBond { amount },
        Tx::AddMachine {
            keys,
            spec: spec.clone(),
        },
        Tx::UpdateMachine { machine, spec },
        Tx::RotateMachineKeys { machine, keys },
        Tx::DrainMachine {
            machine,
            evict_at: Some(at),
        },
        Tx::ResumeMachine { machine },
        Tx::RetireMachine { machine },
        Tx::PlaceOffer(offer(machine, 1, Tier::Spot, 2)),
        Tx::WithdrawOffer { offer: offer_id() },
        Tx::Beat(batch),
        Tx::OpenJob(full_job()),
        Tx::TopUpJob {
            job: job_id(),
            amount,
        },
        Tx::CancelJob { job: job_id() },
        Tx::PlaceBid(bid_terms()),
        Tx::WithdrawBid { bid: bid_id() },
        Tx::LeaseReady { lease, at },
        Tx::LeaseEnded {
            lease,
            at,
            outcome: Outcome::Exited {
                code: 137,
                out_of_memory: true,
            },
        },
        Tx::PreemptLease { lease },
        Tx::ReleaseHold { job: job_id() },
        Tx::ExtendJob {
            job: job_id(),
            by: secs(3),
        },
    ]
}

fn run() -> Run {
    Run {
        ready_at: instant(1),
        since: instant(2),
        ran_before: secs(3),
        paused_before: secs(4),
        good_until: instant(5),
        seen_chain: instant(6),
        funded_until: instant(7),
        duration_until: instant(8),
    }
}

fn bill() -> Bill {
    Bill {
        elapsed: secs(1),
        compute: usd(2),
        storage: usd(3),
        egress: usd(4),
        charged: usd(9),
        fee: usd(1),
        to_provider: usd(8),
        forfeited: usd(5),
    }
}

fn lease_record(state: LeaseState) -> Record {
    Record::Lease(Box::new(Lease {
        id: lease(),
        seq: 5,
        job: job_id(),
        order: order(),
        tenant: account(3),
        provider: account(2),
        machine: machine(),
        source: LeaseSource::Offer(offer_id()),
        devices: vec![0],
        cpu: MilliCpu::from_milli(500),
        memory: ByteSize::from_gib(1),
        disk: ByteSize::from_gib(2),
        tier: Tier::Reserved,
        prices: prices(2),
        preempt_notice: secs(30),
        collateral: usd(2),
        funds: usd(10),
        duration_max: secs(100),
        awarded_at: instant(0),
        state,
    }))
}

/// One of every table, and of every state of a lease.
fn stored() -> Vec<Record> {
    let genesis = World::new(Params::default());
    let ended = LeaseState::Ended {
        reason: EndReason::Failed { code: 3 },
        ready_at: Some(instant(1)),
        ended_at: instant(9),
        bill: bill(),
    };
    let account = Account {
        id: account(3),
        available: usd(1),
        held: usd(2),
        bonded: usd(3),
        locked: usd(4),
        opened_at: instant(0),
    };
    let mut records = vec![
        Record::System(Box::new(genesis.m.system().clone())),
        Record::Signer(
            genesis
                .m
                .signer(&key(TREASURER))
                .expect("a treasurer")
                .clone(),
        ),
        Record::Account(account),
        Record::Reference(Digest([6; 32])),
        Record::Redemption(Redemption {
            id: redemption(),
            account: crate::world::account(3),
            treasurer: key(1),
            amount: usd(1),
            destination: Digest([8; 32]),
            returns_at: instant(9),
        }),
        Record::Provider(Provider {
            account: crate::world::account(2),
            name: name("north"),
            state: ProviderState::Active,
            reserved: usd(1),
            leases_ended: 2,
            leases_failed: 1,
        }),
        machine_record(),
        Record::Offer(Offer {
            id: offer_id(),
            seq: 2,
            provider: crate::world::account(2),
            terms: offer(machine(), 1, Tier::Spot, 2),
        }),
        job_record(),
        Record::Order(Order {
            id: order(),
            seq: 4,
            job: job_id(),
            opened_at: instant(0),
            closes_at: instant(1),
            expires_at: instant(2),
            price_cap: prices(2),
            waiting: true,
        }),
        Record::Bid(Bid {
            id: bid_id(),
            seq: 6,
            provider: crate::world::account(2),
            terms: bid_terms(),
        }),
        Record::Hold(Hold {
            job: job_id(),
            tenant: crate::world::account(3),
            amount: usd(1),
            release_at: instant(9),
        }),
        Record::Payable(Payable {
            lease: lease(),
            provider: crate::world::account(2),
            amount: usd(1),
            due: instant(9),
        }),
    ];
    let states = [
        LeaseState::Awarded {
            start_by: instant(9),
        },
        LeaseState::Running { run: run() },
        LeaseState::Suspect {
            run: run(),
            lost_at: instant(9),
        },
        LeaseState::Preempting {
            run: run(),
            stop_by: instant(9),
        },
        LeaseState::Paused {
            run: run(),
            since: instant(7),
            until: instant(9),
        },
        ended,
    ];
    records.extend(states.map(lease_record));
    records
}

fn machine_record() -> Record {
    Record::Machine(Box::new(Machine {
        id: machine(),
        seq: 1,
        provider: account(2),
        keys: machine_keys(2),
        spec: gpu_machine(1, "rack").into(),
        state: MachineState::Draining {
            evict_at: Some(instant(9)),
            announced_at: instant(8),
        },
        next_beat: 4,
        beat_link: Digest([2; 32]),
        last_beat: Some(instant(7)),
        last_beat_chain: instant(7),
    }))
}

fn job_record() -> Record {
    Record::Job(Box::new(Job {
        id: job_id(),
        seq: 3,
        tenant: account(3),
        opened_by: key(3),
        spec: full_job(),
        opened_at: instant(0),
        orders: 1,
        attempts_used: 1,
        ran: secs(5),
        charged: usd(1),
        avoid: vec![Avoid {
            machine: machine(),
            provider: account(2),
            domain: Some(name("rack")),
            why: EndReason::ProviderLost,
        }],
        doubted_by: vec![account(2)],
        state: JobState::Ended {
            reason: JobEnd::Lease(EndReason::Completed),
            at: instant(9),
        },
    }))
}

/// One of every fact.
fn facts() -> Vec<EventKind> {
    let (tenant, provider, account) = (account(3), account(2), account(3));
    let (job, order, lease, machine) = (job_id(), order(), lease(), machine());
    let (offer, bid, redemption) = (offer_id(), bid_id(), redemption());
    let amount = usd(1);
    vec![
        EventKind::Posted {
            from: Slot::Hold(job),
            to: Slot::Payable(lease),
            amount,
            purpose: Purpose::Charge,
        },
        EventKind::AccountOpened { account },
        EventKind::KeyAuthorized {
            account,
            key: key(5),
        },
        EventKind::KeyRevoked {
            account,
            key: key(5),
        },
        EventKind::RedemptionRequested {
            redemption,
            account,
            treasurer: key(1),
            amount,
        },
        EventKind::RedemptionClosed {
            redemption,
            account,
            paid: true,
        },
        EventKind::ProviderOpened { provider },
        EventKind::MachineAdded { machine, provider },
        EventKind::MachineChanged { machine, provider },
        EventKind::OfferPlaced {
            offer,
            provider,
            machine,
        },
        EventKind::OfferClosed {
            offer,
            provider,
            expired: true,
        },
        EventKind::JobOpened {
            job,
            tenant,
            budget: amount,
        },
        EventKind::JobToppedUp {
            job,
            tenant,
            amount,
        },
        EventKind::JobEnded {
            job,
            tenant,
            reason: JobEnd::NoMatch,
            charged: amount,
            returned: amount,
        },
        EventKind::OrderOpened {
            order,
            job,
            tenant,
            closes_at: instant(1),
        },
        EventKind::OrderClosed {
            order,
            job,
            expired: false,
        },
        EventKind::BidPlaced {
            bid,
            order,
            provider,
        },
        EventKind::BidClosed {
            bid,
            order,
            provider,
            why: BidEnd::Void,
        },
        EventKind::LeaseAwarded {
            lease,
            job,
            tenant,
            provider,
            machine,
            source: LeaseSource::Bid(bid),
        },
        EventKind::LeaseReady {
            lease,
            job,
            machine,
            at: instant(1),
        },
        EventKind::LeaseChanged {
            lease,
            job,
            machine,
            to: LeasePhase::Suspect,
        },
        EventKind::LeaseEnded {
            lease,
            job,
            tenant,
            provider,
            machine,
            reason: EndReason::Completed,
            bill: bill(),
        },
        EventKind::LeasePaid {
            lease,
            provider,
            amount,
        },
        EventKind::JobExtended {
            job,
            tenant,
            by: secs(3),
        },
    ]
}

/// The first word of a value's debug text: its variant.
fn variant(debug: &str) -> String {
    debug
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

fn network() -> NetworkName {
    NetworkName::parse("golden").expect("a valid name")
}

/// Every vector, in the order of the file.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for call in calls() {
        all.push((
            format!("tx {}", variant(&format!("{call:?}"))),
            encode(&call),
        ));
    }
    let key = ed25519_dalek::SigningKey::from_bytes(&[42; 32]);
    let body = TxBody {
        signer: PublicKey::of(&key),
        nonce: 17,
        expires_at: instant(60),
        call: Tx::CancelJob { job: job_id() },
    };
    let signed = body.sign(&network(), &key);
    all.push(("signed".to_owned(), signed.encode()));
    all.push(("signed id".to_owned(), signed.id().0.0.to_vec()));
    let grant = Grant {
        lease: lease(),
        endpoint: crate::world::key(9),
        rights: Rights::LOGS.with(Rights::EXEC),
        expires_at: instant(60),
    };
    all.push(("grant".to_owned(), encode(&grant.sign(&network(), &key))));
    for record in stored() {
        let name = variant(&format!("{record:?}"));
        let state = match &record {
            Record::Lease(lease) => format!(" {:?}", lease.state.phase()),
            _ => String::new(),
        };
        all.push((format!("key {name}{state}"), record.id().key().0.to_vec()));
        all.push((format!("record {name}{state}"), encode(&record)));
    }
    for (seq, kind) in (0..).zip(facts()) {
        let name = format!("event {}", variant(&format!("{kind:?}")));
        let event = Event {
            seq,
            height: Height::from_number(3),
            time: instant(3),
            cause: Some(TxId(Digest([5; 32]))),
            kind,
        };
        all.push((name, encode(&event)));
    }
    let beat = Beat {
        at: instant(1),
        leases: vec![lease()],
    };
    let link = BeatBatch::link(&Digest::default(), machine(), 0, &beat);
    all.push(("beat link".to_owned(), link.0.to_vec()));
    all.push(("genesis".to_owned(), encode(&genesis(Params::default()))));
    all
}

#[test]
fn bytes_are_those_of_the_committed_vectors() {
    let text: String = vectors()
        .iter()
        .fold(String::new(), |mut text, (name, bytes)| {
            writeln!(text, "{name}: {}", hex(bytes)).expect("writing to a string");
            text
        });
    if option_env!("GOLDEN_WRITE").is_some() {
        return write_file(&text);
    }
    for (ours, theirs) in text.lines().zip(FILE.lines()) {
        assert_eq!(
            ours, theirs,
            "see the head of this file if the change is meant"
        );
    }
    assert_eq!(text.lines().count(), FILE.lines().count());
}

#[expect(
    clippy::disallowed_methods,
    reason = "writes the vectors on demand, never in an ordinary run"
)]
fn write_file(text: &str) {
    std::fs::write(PATH, text).expect("the source tree is writable");
}

#[test]
fn every_verb_table_and_fact_has_a_vector() {
    let tags = |all: Vec<Vec<u8>>| -> Vec<u8> {
        let mut tags: Vec<u8> = all
            .iter()
            .filter_map(|bytes| bytes.first().copied())
            .collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    };
    let verbs = tags(calls().iter().map(encode).collect());
    let tables = tags(stored().iter().map(encode).collect());
    let facts = tags(facts().iter().map(encode).collect());
    for (tags, decodes) in [
        (verbs, decodes::<Tx> as fn(u8) -> bool),
        (tables, decodes::<Record>),
        (facts, decodes::<EventKind>),
    ] {
        assert_eq!(
            tags,
            (0..u8::try_from(tags.len()).expect("few")).collect::<Vec<u8>>()
        );
        let next = tags.last().map_or(0, |last| last + 1);
        assert!(!decodes(next), "a variant with tag {next} has no vector");
    }
}

/// Whether a variant with this tag exists: an unknown tag is refused before anything else is read.
fn decodes<T: borsh::BorshDeserialize>(tag: u8) -> bool {
    match T::try_from_slice(&[tag]) {
        Ok(_) => true,
        Err(error) => !error.to_string().contains("variant tag"),
    }
}

#[test]
fn vectors_decode_to_what_they_came_from() {
    for call in calls() {
        assert_eq!(
            borsh::from_slice::<Tx>(&encode(&call)).expect("a call"),
            call
        );
    }
    for record in stored() {
        assert_eq!(
            borsh::from_slice::<Record>(&encode(&record)).expect("a record"),
            record
        );
    }
    for fact in facts() {
        assert_eq!(
            borsh::from_slice::<EventKind>(&encode(&fact)).expect("a fact"),
            fact
        );
    }
}

#[test]
fn signatures_fit_one_network_only_and_every_byte_counts() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[42; 32]);
    let body = TxBody {
        signer: PublicKey::of(&key),
        nonce: 0,
        expires_at: instant(60),
        call: Tx::CancelJob { job: job_id() },
    };
    let tx = body.sign(&network(), &key);
    let bytes = tx.encode();
    assert_eq!(SignedTx::decode(&bytes), Ok(tx.clone()));
    assert_eq!(tx.verify(&network()), Ok(()));
    let other = NetworkName::parse("other").expect("a valid name");
    assert_eq!(tx.verify(&other), Err(BadSignature));
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let accepted = SignedTx::decode(&bad).is_ok_and(|tx| tx.verify(&network()).is_ok());
        assert!(!accepted, "byte {at} is not covered");
    }
    for len in 0..bytes.len() {
        assert!(
            SignedTx::decode(&bytes[..len]).is_err(),
            "cut to {len} bytes"
        );
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(SignedTx::decode(&longer), Err(BadTx::Malformed));
    let huge = vec![1; market::codec::TX_BYTES_MAX + 1];
    assert_eq!(
        SignedTx::decode(&huge),
        Err(BadTx::TooLong { bytes: huge.len() })
    );
    assert_eq!(
        SignedTx::decode(&[9, 9]),
        Err(BadTx::Version { version: 9 })
    );
}
