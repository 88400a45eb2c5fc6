//! Whose a lease or an order is, for events that do not say so.
//!
//! Some events name a lease or an order but not the accounts on its two sides, although both want to hear of it. The
//! first event about the same thing does name them, and it is in the history already.

use std::collections::HashMap;

use market::{AccountId, Event, EventKind, LeaseId, OrderId};
use rusqlite::{Connection, params};

use super::{HistoryError, SCHEMA_VERSION, Subject, subjects};

/// Most leases and orders that are remembered; others are looked up, which costs a few microseconds.
const KNOWN_MAX: usize = 16_384;

/// Whose the leases and orders are that were met lately.
#[derive(Debug, Default)]
pub(super) struct Parties {
    leases: HashMap<LeaseId, [AccountId; 2]>,
    orders: HashMap<OrderId, AccountId>,
}

impl Parties {
    /// Returns what each event is about; `db` holds all that was before them.
    pub(super) fn about(
        &mut self,
        db: &Connection,
        events: &[Event],
    ) -> Result<Vec<Vec<Subject>>, HistoryError> {
        events
            .iter()
            .map(|event| {
                let mut about = subjects(&event.kind);
                for account in self.unsaid(db, &event.kind)? {
                    let account = Subject::Account(account);
                    if !about.contains(&account) {
                        about.push(account);
                    }
                }
                Ok(about)
            })
            .collect()
    }

    /// Returns the accounts that an event concerns without naming them, and learns from those that do.
    fn unsaid(
        &mut self,
        db: &Connection,
        kind: &EventKind,
    ) -> Result<Vec<AccountId>, HistoryError> {
        match *kind {
            EventKind::LeaseAwarded {
                lease,
                tenant,
                provider,
                ..
            } => {
                if self.leases.len() >= KNOWN_MAX {
                    self.leases.clear();
                }
                self.leases.insert(lease, [tenant, provider]);
                Ok(Vec::new())
            }
            EventKind::LeaseEnded { lease, .. } => {
                self.leases.remove(&lease);
                Ok(Vec::new())
            }
            EventKind::OrderOpened { order, tenant, .. } => {
                if self.orders.len() >= KNOWN_MAX {
                    self.orders.clear();
                }
                self.orders.insert(order, tenant);
                Ok(Vec::new())
            }
            EventKind::LeaseReady { lease, .. } | EventKind::LeaseChanged { lease, .. } => {
                match self.leases.get(&lease) {
                    Some(known) => Ok(known.to_vec()),
                    None => found(db, Subject::Lease(lease)),
                }
            }
            EventKind::OrderClosed { order, .. }
            | EventKind::BidPlaced { order, .. }
            | EventKind::BidClosed { order, .. } => match self.orders.get(&order) {
                Some(known) => Ok(vec![*known]),
                None => found(db, Subject::Order(order)),
            },
            _ => Ok(Vec::new()),
        }
    }
}

/// Returns the accounts that the first events about something name; none when there are no such events.
fn found(db: &Connection, subject: Subject) -> Result<Vec<AccountId>, HistoryError> {
    /// The first event about a lease or an order is the one that makes it.
    const FIRST: &str = "SELECT e.body FROM subjects s JOIN events e USING (seq)
         WHERE s.subject = ?1 ORDER BY s.seq LIMIT 1";
    let mut query = db.prepare_cached(FIRST)?;
    let mut rows = query.query([subject.key()])?;
    let Some(row) = rows.next()? else {
        return Ok(Vec::new());
    };
    let body: Vec<u8> = row.get(0)?;
    let event: Event = borsh::from_slice(&body).map_err(|_| HistoryError::Damaged)?;
    Ok(match event.kind {
        EventKind::LeaseAwarded {
            tenant, provider, ..
        } => vec![tenant, provider],
        EventKind::OrderOpened { tenant, .. } => vec![tenant],
        _ => Vec::new(),
    })
}

/// Completes a history of version 1, whose tables are the same: it lacks what [`Parties`] knows.
pub(super) fn complete(db: &mut Connection) -> Result<(), HistoryError> {
    let all = db.transaction()?;
    {
        let mut parties = Parties::default();
        let mut query = all.prepare("SELECT seq, body FROM events ORDER BY seq")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let event: Event = borsh::from_slice(&body).map_err(|_| HistoryError::Damaged)?;
            for account in parties.unsaid(&all, &event.kind)? {
                all.prepare_cached("INSERT OR IGNORE INTO subjects VALUES (?1, ?2)")?
                    .execute(params![Subject::Account(account).key(), seq])?;
            }
        }
    }
    all.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    all.commit()?;
    Ok(())
}
