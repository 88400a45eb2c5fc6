//! What would happen to a job: who matches, or why nobody does and what would change that.

use api::{
    CandidateView, Code, ExplanationView, FunnelView, MoneyView, RelaxationView,
    jobfile::quantity::{write_cores, write_duration, write_money, write_size},
    view::text::Text as _,
};
use axum::{Json, body::Body, extract::State, http::HeaderMap};
use market::{
    AccountId, ByteSize, DeviceClass, JobSpec, Market, MilliCpu, PublicKey,
    explain::{Explanation, OfferMatch, Relaxation},
    reject::Unmet,
};

use crate::{
    parse::{self, Query},
    refusal::{Answer, Refusal},
    server::App,
};

/// Largest encoded job; the longest honest one, with every list full, has a few kilobytes.
pub(super) const SPEC_BYTES_MAX: usize = 32 * 1024;
/// Largest body: hexadecimal doubles the bytes, and the JSON around it is short.
const BODY_BYTES_MAX: usize = 2 * SPEC_BYTES_MAX + 1_024;

pub(super) async fn plan(
    State(app): State<App>,
    mut query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ExplanationView>> {
    let tenant: Option<AccountId> = query.id("tenant")?;
    query.end()?;
    // Nobody has leases, so nothing weighs in the ranking but price and age.
    let nobody = AccountId::of(PublicKey::from_bytes([0; 32]));
    let tenant = tenant.unwrap_or(nobody);
    let bytes = parse::canonical_bytes(&headers, parse::body(body, BODY_BYTES_MAX).await?, "spec")?;
    let spec: JobSpec = borsh::from_slice(&bytes).map_err(|_| {
        Refusal::new(
            Code::BadRequest,
            "the body is no canonical job specification",
        )
    })?;
    let plan = app.scan(move |market| explain(market, &spec, tenant));
    Ok(Json(plan.await?))
}

fn explain(market: &Market, spec: &JobSpec, tenant: AccountId) -> ExplanationView {
    let explanation = market.explain(spec, tenant);
    let matches = explanation.matches.iter();
    // Where something matches, nothing needs to give way.
    let relaxations = explanation.relaxations.iter();
    let relaxations = relaxations.filter(|_| explanation.matching == 0);
    ExplanationView {
        offers: explanation.total,
        matching: explanation.matching,
        matches: matches
            .map(|found| candidate(market, spec, found))
            .collect(),
        funnel: funnel(&explanation),
        relaxations: relaxations
            .map(|change| relaxation(market, spec, change))
            .collect(),
    }
}

fn candidate(market: &Market, spec: &JobSpec, found: &OfferMatch) -> CandidateView {
    let machine = market.machine(found.machine);
    let rate = found.prices.per_device_hour;
    let lasts = rate.affords(u32::from(spec.needs.count), spec.budget);
    let provider = market.provider(found.provider);
    CandidateView {
        offer: found.offer,
        provider: found.provider,
        provider_name: provider.map(|provider| provider.name.clone()),
        machine: found.machine,
        model: machine
            .and_then(|m| m.spec.devices.first())
            .map(|device| device.model.clone()),
        per_device_hour: rate.into(),
        lasts_ms: lasts.min(spec.duration_max).millis(),
        worst_case: found.worst_case.into(),
    }
}

fn funnel(explanation: &Explanation) -> Vec<FunnelView> {
    let mut left = explanation.total;
    let steps = explanation.unmet.iter().map(|(unmet, turned_away)| {
        left = left.saturating_sub(*turned_away);
        FunnelView {
            unmet: *unmet,
            text: unmet.to_string(),
            turned_away: *turned_away,
            left,
        }
    });
    steps.collect()
}

fn relaxation(market: &Market, spec: &JobSpec, change: &Relaxation) -> RelaxationView {
    let price = MoneyView::from(change.best.prices.per_device_hour);
    RelaxationView {
        unmet: change.need,
        text: words(market, change, price),
        flag: flag(market, spec, change),
        offers: change.offers,
        per_device_hour: Some(price),
    }
}

/// Returns the flag of `tradewind run` that goes as far as the best offer needs; `None` where a flag cannot, or where
/// it is not known how far.
#[expect(
    clippy::too_many_lines,
    reason = "one arm a requirement, all straight lines"
)]
fn flag(market: &Market, spec: &JobSpec, change: &Relaxation) -> Option<String> {
    let best = &change.best;
    let machine = market.machine(best.machine)?;
    let first = machine.spec.devices.first()?;
    let terms = market.offer(best.offer).map(|offer| &offer.terms);
    let leases = || market.leases_on(best.machine);
    let text = match change.need {
        Unmet::Price => {
            let price = write_money(MoneyView::from(best.prices.per_device_hour).0);
            format!("--max-price {price}")
        }
        Unmet::Tier => format!("--tier {}", terms?.tier.to_text()),
        Unmet::Model if first.class != DeviceClass::Cpu => {
            let model = first.model.as_str();
            match spec.needs.count {
                1 => format!("--gpu {model}"),
                count => format!("--gpu {model}:{count}"),
            }
        }
        Unmet::Vram => format!("--vram {}", write_size(first.vram)),
        Unmet::Region => match &machine.spec.region {
            Some(region) => format!("--region {region}"),
            None => "--region any".to_owned(),
        },
        Unmet::Isolation => format!("--isolation {}", machine.spec.isolation.to_text()),
        Unmet::Cpu => {
            let used = leases().fold(MilliCpu::ZERO, |sum, lease| sum.saturating_add(lease.cpu));
            format!(
                "--cpu {}",
                write_cores(machine.spec.cpu.saturating_sub(used))
            )
        }
        Unmet::Memory => {
            let used = leases().fold(ByteSize::ZERO, |sum, lease| {
                sum.saturating_add(lease.memory)
            });
            format!(
                "--mem {}",
                whole_mib(machine.spec.memory.saturating_sub(used))
            )
        }
        Unmet::Disk => {
            let used = leases().fold(ByteSize::ZERO, |sum, lease| sum.saturating_add(lease.disk));
            format!(
                "--disk {}",
                whole_mib(machine.spec.disk.saturating_sub(used))
            )
        }
        Unmet::Unverified => "--allow-unverified".to_owned(),
        Unmet::Term => {
            let terms = terms?;
            let duration = spec.duration_max.clamp(terms.term_min, terms.term_max);
            format!("--for {}", write_duration(duration))
        }
        Unmet::Budget => {
            // What the whole time costs; an offer takes no less than a while of it.
            let time = spec.duration_max.max(market.params().order_reserve);
            let units = u32::from(spec.needs.count);
            let budget = best.prices.per_device_hour.charge(units, time)?;
            format!("--budget {}", write_money(budget))
        }
        // Only a job file says these, or nothing but time helps.
        Unmet::Model
        | Unmet::Interface
        | Unmet::DevicesFree
        | Unmet::Fabric
        | Unmet::Latency
        | Unmet::Certificate
        | Unmet::Reliability
        | Unmet::Sla
        | Unmet::Provider
        | Unmet::Excluded
        | Unmet::Online
        | Unmet::Bond => return None,
    };
    Some(text)
}

/// Writes a size without promising more than there is.
fn whole_mib(size: ByteSize) -> String {
    write_size(ByteSize::from_mib(size.bytes() >> 20))
}

/// Says the change in words, as far as the best offer needs it.
fn words(market: &Market, change: &Relaxation, price: MoneyView) -> String {
    let machine = market
        .machine(change.best.machine)
        .map(|machine| &machine.spec);
    let first = machine.and_then(|spec| spec.devices.first());
    match change.need {
        Unmet::Price => format!("raise the price cap to {price} per device-hour"),
        Unmet::Tier => match market.offer(change.best.offer) {
            Some(offer) => format!("take tier {}", offer.terms.tier.to_text()),
            None => "take another tier".to_owned(),
        },
        Unmet::Model | Unmet::Interface => match first {
            Some(device) => format!("take {}", device.model),
            None => "take any device".to_owned(),
        },
        Unmet::Vram => match first {
            Some(device) => format!(
                "ask for at most {} GiB of device memory",
                device.vram.bytes() >> 30
            ),
            None => "ask for less device memory".to_owned(),
        },
        Unmet::Region => match machine.and_then(|spec| spec.region.as_ref()) {
            Some(region) => format!("take region {region}"),
            None => "take any region".to_owned(),
        },
        Unmet::Isolation => match machine {
            Some(spec) => format!("accept isolation {}", spec.isolation.to_text()),
            None => "accept weaker isolation".to_owned(),
        },
        Unmet::DevicesFree => "ask for fewer devices".to_owned(),
        Unmet::Fabric => "take devices without a shared fabric".to_owned(),
        Unmet::Cpu => "ask for less processor time".to_owned(),
        Unmet::Memory => "ask for less memory".to_owned(),
        Unmet::Disk => "ask for less disk".to_owned(),
        Unmet::Latency => "drop the latency need".to_owned(),
        Unmet::Certificate => "ask for no certificates".to_owned(),
        Unmet::Reliability => "drop the least reliability".to_owned(),
        Unmet::Sla => "ask for a lower SLA class".to_owned(),
        Unmet::Unverified => "allow unverified claims".to_owned(),
        Unmet::Provider => "take any provider".to_owned(),
        Unmet::Excluded => "exclude less".to_owned(),
        Unmet::Term => "change the longest duration".to_owned(),
        Unmet::Budget => "raise the budget".to_owned(),
        Unmet::Online | Unmet::Bond => format!("wait: {}", change.need),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Write as _, time::Duration};

    use market::*;

    use super::*;
    use crate::reads::{OfferWish, offers};

    /// Providers, machines of each, and devices of each, every one with an offer of its own.
    const CROWD: [u8; 3] = [100, 125, 8];

    /// A market that is told things by its keys, without signatures.
    struct Book {
        market: Market,
        nonces: BTreeMap<PublicKey, u64>,
        block: Vec<SignedTx>,
    }

    fn key(kind: u8, n: u8, m: u8) -> PublicKey {
        PublicKey::from_bytes(Digest::of(&[&[kind, n, m]]).0)
    }

    impl Book {
        fn new() -> Self {
            let genesis = Genesis {
                network: NetworkName::parse("test").unwrap(),
                time: Timestamp::from_unix_millis(1_790_000_000_000),
                treasurers: vec![key(0, 0, 0)],
                params: Params::default(),
            };
            Self {
                market: Market::genesis(&genesis).unwrap(),
                nonces: BTreeMap::new(),
                block: Vec::new(),
            }
        }

        fn says(&mut self, signer: PublicKey, call: Tx) -> u64 {
            let nonce = self.nonces.entry(signer).or_default();
            let body = TxBody {
                signer,
                nonce: *nonce,
                expires_at: Timestamp::MAX,
                call,
            };
            *nonce += 1;
            let nonce = *nonce - 1;
            self.block.push(SignedTx {
                version: codec::TX_VERSION,
                body,
                signature: Signature([7; 64]),
            });
            nonce
        }

        fn close(&mut self) {
            let ctx = BlockCtx {
                height: self.market.height().next(),
                time: self.market.time(),
                seed: None,
            };
            let block = std::mem::take(&mut self.block);
            let outcome = self.market.execute(&ctx, &block).unwrap();
            self.market.forget_before(ctx.height.next());
            for receipt in outcome.receipts {
                receipt.result.unwrap();
            }
        }

        fn provider(&mut self, n: u8) {
            let owner = key(1, n, 0);
            let issue = Tx::Issue {
                to: AccountId::of(owner),
                amount: Money::from_dollars(10_000),
                reference: Digest([n; 32]),
            };
            self.says(key(0, 0, 0), issue);
            let name = Name::parse("North").unwrap();
            self.says(owner, Tx::OpenProvider { name });
            let amount = Money::from_dollars(9_000);
            self.says(owner, Tx::PostBond { amount });
            for m in 0..CROWD[1] {
                self.machine(owner, n, m);
            }
            self.close();
        }

        fn machine(&mut self, owner: PublicKey, n: u8, m: u8) {
            let sign = key(2, n, m);
            let keys = MachineKeys {
                sign,
                endpoint: sign,
                seal: sign,
            };
            let nonce = self.says(owner, Tx::AddMachine { keys, spec: spec() });
            let machine = MachineId::created_by(&owner, nonce);
            let beat = BeatBatch {
                machine,
                first_seq: 0,
                prev: Digest::default(),
                beats: vec![Beat {
                    at: self.market.time(),
                    leases: vec![],
                }],
            };
            self.says(sign, Tx::Beat(beat));
            for device in 0..CROWD[2] {
                let dollars = u64::from(device) + u64::from(n % 7) + 1;
                self.says(owner, Tx::PlaceOffer(terms(machine, device, dollars)));
            }
        }
    }

    fn spec() -> MachineSpec {
        let name = |text| Name::parse(text).unwrap();
        let device = |_| Device {
            class: DeviceClass::Nvidia,
            model: name("h100"),
            vram: ByteSize::from_gib(80),
            interface: Interface::Module,
            fabric: 0,
            identity: Digest::default(),
        };
        MachineSpec {
            devices: (0..CROWD[2]).map(device).collect(),
            cpu: MilliCpu::from_milli(64_000),
            memory: ByteSize::from_gib(512),
            disk: ByteSize::from_gib(4_000),
            down_bytes_per_s: None,
            isolation: Isolation::Container,
            runtime: name("embedded"),
            region: Some(name("eu-west")),
            facility: None,
            failure_domain: name("rack-7"),
            dial: vec![name("127.0.0.1:4001")],
        }
    }

    fn terms(machine: MachineId, device: u8, dollars: u64) -> OfferTerms {
        OfferTerms {
            machine,
            devices: vec![device],
            tier: Tier::OnDemand,
            prices: Prices {
                per_device_hour: Rate::from_micros_per_hour(dollars * 1_000_000),
                per_gib_hour: Rate::ZERO,
                per_gib_out: PricePerGib::ZERO,
            },
            term_min: Millis::ZERO,
            term_max: Millis::from_secs(86_400),
            preempt_notice: Millis::ZERO,
            sla: SlaClass::None,
            expires_at: Timestamp::from_unix_millis(1_790_000_000_000 + 86_400_000),
        }
    }

    fn job(model: &str) -> JobSpec {
        let needs = Requirement {
            device: DeviceNeed::Gpu {
                models: vec![Name::parse(model).unwrap()],
                vram_min: ByteSize::from_gib(40),
                interface: None,
                one_fabric: false,
            },
            count: 1,
            cpu: None,
            memory: None,
            disk: ByteSize::from_mib(100),
            isolation: Isolation::Container,
            regions: vec![],
            certificates: vec![],
            reliability_min: None,
            sla: SlaClass::None,
            latency: None,
            providers: vec![],
            exclude_machines: vec![],
            exclude_domains: vec![],
            claims: Claims::Allowed,
        };
        JobSpec {
            name: None,
            kind: JobKind::Batch,
            needs,
            tier: Tier::OnDemand,
            budget: Money::from_dollars(200),
            price_cap: None,
            duration_max: Millis::from_secs(3_600),
            attempts_max: 1,
            window: Millis::ZERO,
            wait_max: Millis::from_secs(600),
            on_budget: OnBudget::End,
            on_partition: OnPartition::Keep,
            verification: Verification::None,
            storage_kept: ByteSize::ZERO,
            egress_max: ByteSize::ZERO,
            image_size: ByteSize::from_mib(1),
            manifest: Digest::default(),
            keepers: vec![],
        }
    }

    /// Returns how long this thread has run on a processor: what else the machine does is no matter.
    fn ran() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanos = text.split(' ').next().unwrap().parse().unwrap();
        Duration::from_nanos(nanos)
    }

    #[test]
    fn planning_over_a_hundred_thousand_offers_takes_less_than_a_second_of_processor_time() {
        let mut book = Book::new();
        (0..CROWD[0]).for_each(|n| book.provider(n));
        let tenant = AccountId::of(key(9, 0, 0));
        let mut took = Vec::new();
        for model in ["h100", "b200"] {
            let begun = ran();
            let plan = explain(&book.market, &job(model), tenant);
            took.push(ran().saturating_sub(begun));
            assert_eq!(plan.offers, 100_000);
            assert_eq!(plan.matching, if model == "h100" { 100_000 } else { 0 });
        }
        let begun = ran();
        let mut query = crate::parse::Query::parse("limit=100")
            .map_err(drop)
            .unwrap();
        let cut = query.cut().map_err(drop).unwrap();
        let page = offers(&book.market, &OfferWish::default(), cut);
        took.push(ran().saturating_sub(begun));
        assert_eq!(page.items.len(), 100);
        writeln!(
            std::io::stderr(),
            "a plan that fits, one that does not, a page of offers: {took:?}"
        )
        .unwrap();
        assert!(took.iter().all(|took| took.as_millis() < 1_000), "{took:?}");
    }
}
