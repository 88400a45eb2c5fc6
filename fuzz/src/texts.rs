//! Texts: queries, JSON, event streams, ids.

use api::jobfile::JobFile;
use api::view::text::Text;
use market::{AccountId, BidId, JobId, LeaseId, MachineId, Name, NetworkName, OfferId, OrderId};

/// Reads a job file; one that is accepted must survive being written again.
pub(crate) fn job_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(file) = JobFile::read(text) {
        let again = JobFile::read(&file.write(None)).expect("a job file that we wrote can be read");
        assert_eq!(again, file, "a job file changes by being written");
    }
}

pub(crate) fn job_files() -> Vec<Vec<u8>> {
    let text = "name: finetune\nimage: 127.0.0.1:5000/app:v1\ncommand: python train.py\nresources: { gpu: h100:1, \
        vram: 80G, cpu: 8, memory: 64G }\nlimits: { max_price: 1.80, budget: 25, duration: 8h }\nenv: { A: b }\n";
    vec![
        text.as_bytes().to_vec(),
        b"a: &a [1]\nb: [*a, *a]\n".to_vec(),
    ]
}

/// Reads a query string as every route does.
pub(crate) fn query(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        gateway::fuzz::query(text);
    }
}

pub(crate) fn queries() -> Vec<Vec<u8>> {
    let texts = [
        "limit=10&after=7.2&live=true",
        "job=job_00000000000000000000000000&kind=a%20b+c&wait=5",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

/// Reads bytes as each answer that a client may get; what is accepted must survive being written again.
pub(crate) fn answers(bytes: &[u8]) {
    survives::<api::Problem>(bytes);
    survives::<api::StatusView>(bytes);
    survives::<api::Page<api::JobView>>(bytes);
    survives::<api::Page<api::LeaseView>>(bytes);
    survives::<api::Page<api::OfferView>>(bytes);
    survives::<api::EventView>(bytes);
    survives::<api::AccountView>(bytes);
    survives::<api::MachineView>(bytes);
    survives::<api::ExplanationView>(bytes);
    survives::<api::TxView>(bytes);
}

fn survives<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let text = serde_json::to_vec(&value).expect("views have no odd keys");
    let again: T = serde_json::from_slice(&text).expect("a view reads what it wrote");
    let same = serde_json::to_vec(&again).expect("views have no odd keys") == text;
    assert!(same, "a view changes by being written");
}

pub(crate) fn bodies() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"items":[],"next":"1.2"}"#,
        r#"{"seq":7,"height":3,"at":"2026-11-23T21:23:14.564Z","kind":"lease-ready","lease":"lse_00000000000000000000000000"}"#,
        r#"{"code":"no-match","title":"t","status":404,"detail":"d","hints":["h"]}"#,
        r#"{"available":{"micros":"12","display":"$0.000012"}}"#,
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub(crate) fn streams() -> Vec<Vec<u8>> {
    vec![
        b": beat\n\nid: 7\r\nevent: x\ndata: {\"a\":1}\n\nid:9\n\ndata:one\ndata: two\n\n".to_vec(),
    ]
}

/// Reads a text as every id and name; what is accepted has one spelling.
pub(crate) fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    one_spelling::<AccountId>(text);
    one_spelling::<MachineId>(text);
    one_spelling::<OfferId>(text);
    one_spelling::<JobId>(text);
    one_spelling::<OrderId>(text);
    one_spelling::<BidId>(text);
    one_spelling::<LeaseId>(text);
    one_spelling::<market::PublicKey>(text);
    one_spelling::<market::TxId>(text);
    one_spelling::<market::Digest>(text);
    one_spelling::<Name>(text);
    one_spelling::<NetworkName>(text);
}

fn one_spelling<T: Text>(text: &str) {
    if let Some(id) = T::from_text(text) {
        assert_eq!(id.to_text(), text, "one id, two spellings");
    }
}

pub(crate) fn id_seeds() -> Vec<Vec<u8>> {
    let account = AccountId::of(market::PublicKey::from_bytes([7; 32]));
    let job = JobId::created_by(&market::PublicKey::from_bytes([7; 32]), 0);
    let texts = [
        account.to_text(),
        job.to_text(),
        "h100-sxm".to_owned(),
        "ab".repeat(32),
    ];
    texts.map(String::into_bytes).into()
}
