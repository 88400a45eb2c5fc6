//! One validator's process: signs its share, and runs each phase when it is told to.

use std::{
    fmt::Write as _,
    io::{BufRead as _, Write as _},
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use market::{AccountId, Digest, Millis, Money, PublicKey, RecordId, Timestamp, Tx, TxBody};
use node::{Config, Handle, Node};

use crate::{
    BATCH, Plan, STEADY_PER_S,
    figures::quantile_us,
    process::Usage,
    send::{self, Load, Sender},
};

/// Tries of the light client: enough for a mean.
const PROOFS: u32 = 100;
/// Longest wait for what another validator was told to become final here.
const SETTLED_MAX: Duration = Duration::from_mins(2);

/// Runs until the parent has no more phases.
pub(crate) fn run(plan: &Plan, number: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut share = Share::sign(plan, number);
    let folder = plan.folder.join(format!("validator-{}", number + 1));
    let node = runtime
        .block_on(Node::start(Config {
            folder: folder.clone(),
            genesis: None,
            listen_peers: None,
        }))
        .expect("the node starts");
    let handle = node.handle();
    say("ready", &[]);
    for phase in std::io::stdin().lock().lines().map_while(Result::ok) {
        let figures = runtime.block_on(share.phase(&phase, plan, &handle, &folder));
        say(&phase, &figures);
    }
    runtime.block_on(node.stop()).expect("the node stops");
}

fn say(phase: &str, figures: &[(&str, f64)]) {
    let mut line = phase.to_owned();
    for (name, value) in figures {
        // Writing to a text does not fail.
        let _infallible = write!(line, " {name}={value}");
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// What this validator submits.
struct Share {
    number: usize,
    set_up: Vec<Load>,
    transfers: Load,
    mix: Load,
    steady: Load,
}

impl Share {
    fn sign(plan: &Plan, number: usize) -> Self {
        let born = Timestamp::from_unix_millis(plan.born_ms);
        let mut sender = Sender::new(plan.people, born);
        let mine = |load: Load| -> Load {
            load.iter()
                .filter(|(person, _)| *person as usize % plan.validators == number)
                .cloned()
                .collect()
        };
        let set_up = sender.sign_set_up().into_iter();
        // Only the first validator sets up; the others' parts of the mix come from the same life, of other people.
        let set_up = set_up.map(|load| if number == 0 { load } else { Vec::new().into() });
        let set_up = set_up.collect();
        let mix = mine(sender.sign(plan.txs));
        let steady = mine(sender.sign(STEADY_PER_S * plan.seconds as usize));
        Self {
            number,
            set_up,
            transfers: transfers(plan, number, born),
            mix,
            steady,
        }
    }

    async fn phase(
        &mut self,
        phase: &str,
        plan: &Plan,
        handle: &Handle,
        folder: &std::path::Path,
    ) -> Vec<(&'static str, f64)> {
        match phase {
            "set_up" => {
                for wave in &self.set_up {
                    send::saturate(handle, wave).await;
                }
                if self.number == 0 {
                    send::saturate(handle, &issues(plan, handle)).await;
                }
                settled(handle, plan).await;
                Vec::new()
            }
            "idle" => {
                let before = Usage::now(folder);
                tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
                let used = Usage::now(folder).since(&before);
                vec![(
                    "idle_cpu_ratio",
                    used.cpu.as_secs_f64() / used.wall.as_secs_f64(),
                )]
            }
            "transfers" => {
                let load = self.transfers.clone();
                let used = saturated(handle, folder, &load).await;
                let count = load.len() as f64;
                vec![
                    ("tx_per_s", count / used.wall.as_secs_f64()),
                    ("cpu_us_per_tx", used.cpu.as_secs_f64() * 1e6 / count),
                ]
            }
            "mix" => {
                let load = self.mix.clone();
                let used = saturated(handle, folder, &load).await;
                vec![("mix_tx_per_s", load.len() as f64 / used.wall.as_secs_f64())]
            }
            "steady" => self.steady(plan, handle).await,
            _ => proof(handle, folder).await,
        }
    }

    /// At a fixed load.
    async fn steady(&self, plan: &Plan, handle: &Handle) -> Vec<(&'static str, f64)> {
        let per_s = STEADY_PER_S / plan.validators;
        // Small batches, so that each validator always has something on the way.
        let batch = (BATCH / plan.validators).max(1);
        let mut times = send::steadily(handle, &self.steady, batch, per_s).await;
        vec![
            ("finality_p50_ms", quantile_us(&mut times, 50) / 1e3),
            ("tx_latency_p99_ms", quantile_us(&mut times, 99) / 1e3),
        ]
    }
}

async fn saturated(handle: &Handle, folder: &std::path::Path, load: &Load) -> Usage {
    let before = Usage::now(folder);
    send::saturate(handle, load).await;
    Usage::now(folder).since(&before)
}

/// Waits until this validator has all accounts too.
async fn settled(handle: &Handle, plan: &Plan) {
    let last = payer(plan.people - 1);
    let there = async {
        while handle.read(|market| {
            market
                .account(AccountId::of(PublicKey::of(&last)))
                .is_none()
        }) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SETTLED_MAX, there)
        .await
        .expect("all validators follow");
}

/// Memory, and what a light client pays.
async fn proof(handle: &Handle, folder: &std::path::Path) -> Vec<(&'static str, f64)> {
    let key = RecordId::Account(AccountId::of(PublicKey::of(&payer(0)))).key();
    let bundle = handle.proof(key).await.expect("a proof");
    let pinned = handle.pinned();
    let begin = Instant::now();
    for _ in 0..PROOFS {
        light::verify(&bundle, &pinned).expect("the proof holds");
    }
    let verify = begin.elapsed() / PROOFS;
    vec![
        ("verify_ms", verify.as_secs_f64() * 1e3),
        ("proof_bytes", bundle.len() as f64),
        (
            "rss_mib",
            Usage::now(folder).resident as f64 / f64::from(1 << 20),
        ),
    ]
}

/// Returns the key of one who only transfers.
fn payer(number: usize) -> SigningKey {
    SigningKey::from_bytes(&Digest::of(&[b"bench payer", &number.to_le_bytes()]).0)
}

fn sign(key: &SigningKey, nonce: u64, call: Tx, born: Timestamp) -> Vec<u8> {
    let body = TxBody {
        signer: PublicKey::of(key),
        nonce,
        expires_at: born.after(Millis::from_secs(12 * 3_600)),
        call,
    };
    body.sign(&send::network(), key).encode()
}

/// Money for the payers, signed by the treasurer after all that the set-up had it sign.
fn issues(plan: &Plan, handle: &Handle) -> Load {
    let treasurer = send::secret(0);
    let born = Timestamp::from_unix_millis(plan.born_ms);
    let first = handle.next_nonce(&PublicKey::of(&treasurer));
    let first = first.expect("the treasurer may send");
    (0..plan.people)
        .map(|number| {
            let to = AccountId::of(PublicKey::of(&payer(number)));
            let reference = Digest::of(&[b"payer", &number.to_le_bytes()]);
            let call = Tx::Issue {
                to,
                amount: Money::from_dollars(100),
                reference,
            };
            (0, sign(&treasurer, first + number as u64, call, born))
        })
        .collect()
}

/// This validator's share of the transfers: its own payers, each in turn.
fn transfers(plan: &Plan, number: usize, born: Timestamp) -> Load {
    let mine: Vec<usize> = (number..plan.people).step_by(plan.validators).collect();
    let count = plan.txs / plan.validators;
    (0..count)
        .map(|at| {
            let payer_number = mine[at % mine.len()];
            let to = payer((payer_number + 1) % plan.people);
            let call = Tx::Transfer {
                to: AccountId::of(PublicKey::of(&to)),
                amount: Money::from_micros(1),
                memo: None,
            };
            let nonce = (at / mine.len()) as u64;
            let bytes = sign(&payer(payer_number), nonce, call, born);
            (payer_number as u64, bytes)
        })
        .collect()
}
