//! Records by proof: group key, certificate, header, state root, record; the node that answers is not trusted.

use light::Pinned;
use market::{Record, RecordId};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::output::Style;
use crate::session::Session;
use crate::words;

/// A state older than this is said to be so: with one validator a block comes every ten seconds at least.
const FRESH_MS: u64 = 60_000;

/// What a proof showed.
#[derive(Debug)]
pub(crate) struct Proved {
    /// The record; `None` where it is proved that there is none.
    pub(crate) record: Option<Record>,
    /// One line that says what was checked.
    pub(crate) summary: String,
}

/// Fetches the proof of a record and checks all of it.
///
/// # Errors
/// `no-anchor` where no group key is stored; `bad-proof` where anything does not hold.
pub(crate) async fn record(context: &Context, session: &Session, id: RecordId) -> Result<Proved> {
    let group_key = context
        .stored()
        .and_then(|stored| stored.group_key.as_deref());
    let group_key = group_key.ok_or_else(|| {
        Failure::new("no-anchor", "there is no group key to check proofs against")
            .detail(format!("context {:?} has none stored", context.name()))
    })?;
    let group_key = hex::decode(group_key)
        .map_err(|_| Failure::new("bad-context", "the stored group key is no hexadecimal text"))?;
    let pinned = Pinned {
        network: session.network().to_string(),
        group_key,
    };
    let bytes = session.client.proof(&id).await?;
    let verified = light::verify(&bytes, &pinned).map_err(|error| {
        Failure::new("bad-proof", "the node's proof does not hold").causes(&error)
    })?;
    if verified.key != id.key().0 {
        return Err(Failure::new(
            "bad-proof",
            "the node proved another record than the one asked for",
        ));
    }
    let record = verified
        .value
        .as_deref()
        .map(borsh::from_slice::<Record>)
        .transpose();
    let record = record.map_err(|error| {
        Failure::new("bad-proof", "the proved record cannot be read").causes(&error)
    })?;
    if record.as_ref().is_some_and(|record| record.id() != id) {
        return Err(Failure::new(
            "bad-proof",
            "the proved record has another id",
        ));
    }
    let age_ms = session
        .status
        .now
        .0
        .unix_millis()
        .saturating_sub(verified.time_ms);
    let age = words::show_duration(market::Millis::from_millis(age_ms));
    let output = &context.output;
    let old = if age_ms > FRESH_MS {
        output.paint(Style::Warning, " (old)")
    } else {
        String::new()
    };
    let summary = format!(
        "{} verified   group key → certificate → block {} ({age} ago{old}) → state root → record",
        output.mark(Style::Good),
        verified.height,
    );
    Ok(Proved { record, summary })
}
