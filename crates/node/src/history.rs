//! The queryable past: what final blocks said, projected into SQLite.
//!
//! The ledger's state does not need it; it can be made again from the blocks. One thread writes, one block a
//! transaction, durable before the store takes the block: so after any crash the history is as far as the state or
//! ahead, and a block that is here already when it is repeated is skipped. Queries read beside it through their own connections.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use market::{
    AccountId, BidId, Event, EventKind, JobId, LeaseId, MachineId, OfferId, OrderId, PublicKey,
    RedemptionId, Reject, codec::TxId, event::Slot,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, ToSql, params, params_from_iter};
use tokio::sync::{mpsc, oneshot};

use parties::{Parties, complete};

mod parties;

/// Version of the tables; another one is made again from the blocks.
const SCHEMA_VERSION: i64 = 2;
/// Blocks that may wait for the writer: it is as fast as the engine's own fsync.
const WRITES_MAX: usize = 16;
/// Connections kept open for queries.
const READERS_MAX: usize = 4;
/// How long a statement waits for SQLite's own locks, which are held for microseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most rows that one query returns.
pub const PAGE_MAX: usize = 1_000;
/// Most rows looked at by one filtered query before it returns what it has: bounds the time of rare matches.
const SCAN_MAX: usize = 20_000;

/// The history failed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite said no.
    #[error("the history database failed")]
    Sqlite(#[from] rusqlite::Error),
    /// A row is not what was written.
    #[error("the history database is damaged")]
    Damaged,
    /// The writer has stopped.
    #[error("the history has stopped")]
    Stopped,
}

/// What an event is about; for filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// An account.
    Account(AccountId),
    /// A machine.
    Machine(MachineId),
    /// An offer.
    Offer(OfferId),
    /// A job.
    Job(JobId),
    /// An order.
    Order(OrderId),
    /// A bid.
    Bid(BidId),
    /// A lease.
    Lease(LeaseId),
    /// A redemption.
    Redemption(RedemptionId),
}

/// Which events a query wants: those that fit all that is given.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// About all of these.
    pub subjects: Vec<Subject>,
    /// Of one of these kinds (see [`kind_tag`]); any when empty.
    pub kinds: Vec<u8>,
}

/// A transaction that is in a final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Its id.
    pub id: TxId,
    /// The block.
    pub height: u64,
    /// The block's time, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Its place in the block.
    pub index: u32,
    /// Who signed it.
    pub signer: PublicKey,
    /// With which nonce.
    pub nonce: u64,
    /// Whether it had its effect, or why not.
    pub result: Result<(), Reject>,
}

/// What a final block said.
#[derive(Clone, Debug)]
pub struct FinalBlock {
    /// Its number.
    pub height: u64,
    /// Its time, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Its digest.
    pub digest: [u8; 32],
    /// Its transactions, in order.
    pub txs: Vec<Included>,
    /// Its events, in order.
    pub events: Vec<Event>,
    /// What each of them is about, in the same order; the history fills it in when it takes the block.
    pub about: Vec<Vec<Subject>>,
}

/// Returns the stable tag of an event's kind: its position in [`EventKind`].
pub fn kind_tag(kind: &EventKind) -> u8 {
    market::codec::encode(kind)
        .first()
        .copied()
        .unwrap_or(u8::MAX)
}

/// The history; clones share it.
#[derive(Clone)]
pub(crate) struct History {
    path: Arc<Path>,
    writes: mpsc::Sender<Write>,
    readers: Arc<Mutex<Vec<Connection>>>,
}

enum Write {
    Block(FinalBlock, Written),
    Stop,
}

/// Takes the block as it was written.
type Written = oneshot::Sender<Result<Arc<FinalBlock>, HistoryError>>;

/// The writer's thread, to be joined once nothing is written any more.
pub(crate) struct Writer {
    thread: thread::JoinHandle<()>,
    writes: mpsc::Sender<Write>,
}

impl Writer {
    /// Stops the writer and waits until the database is closed.
    pub(crate) fn stop(self) {
        // A writer that is gone already needs no word; one that panicked has been heard of by who waited for it.
        drop(self.writes.blocking_send(Write::Stop));
        drop(self.thread.join());
    }
}

impl History {
    /// Opens the database, made empty when it is new or of another version, and starts its writer.
    ///
    pub(crate) fn open(path: &Path) -> Result<(Self, Writer), HistoryError> {
        let connection = match prepare(path)? {
            Prepared::Ready(connection) => connection,
            Prepared::OtherVersion => {
                for suffix in ["", "-wal", "-shm"] {
                    let mut file = path.as_os_str().to_owned();
                    file.push(suffix);
                    drop(std::fs::remove_file(file));
                }
                match prepare(path)? {
                    Prepared::Ready(connection) => connection,
                    Prepared::OtherVersion => return Err(HistoryError::Damaged),
                }
            }
        };
        let (writes, receiver) = mpsc::channel(WRITES_MAX);
        let thread = thread::Builder::new()
            .name("history".to_owned())
            .spawn(move || write_all(connection, receiver))
            .map_err(|_| HistoryError::Stopped)?;
        let writer = Writer {
            thread,
            writes: writes.clone(),
        };
        let history = Self {
            path: path.into(),
            writes,
            readers: Arc::default(),
        };
        Ok((history, writer))
    }

    /// Writes a block unless it is there; returns it, with what its events are about, once it is durable.
    pub(crate) async fn append(&self, block: FinalBlock) -> Result<Arc<FinalBlock>, HistoryError> {
        let (done, written) = oneshot::channel();
        self.writes
            .send(Write::Block(block, done))
            .await
            .map_err(|_| HistoryError::Stopped)?;
        written.await.map_err(|_| HistoryError::Stopped)?
    }

    /// Returns the last block's number; `None` when there is none.
    pub(crate) fn height(&self) -> Result<Option<u64>, HistoryError> {
        self.read(|db| {
            let height: Option<i64> =
                db.query_row("SELECT max(height) FROM blocks", [], |row| row.get(0))?;
            Ok(height.map(i64::cast_unsigned))
        })
    }

    /// Returns a transaction that is in a final block.
    pub(crate) fn tx(&self, id: &TxId) -> Result<Option<Included>, HistoryError> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT t.height, b.time_ms, t.place, t.signer, t.nonce, t.reject
                 FROM txs t JOIN blocks b USING (height) WHERE t.id = ?1",
            )?;
            let row = query
                .query_row([id.0.0], |row| {
                    let reject: Option<Vec<u8>> = row.get(5)?;
                    Ok((
                        row.get(0)?,
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        reject,
                    ))
                })
                .optional()?;
            row.map(|(height, time_ms, index, signer, nonce, reject)| {
                let result = match reject {
                    None => Ok(()),
                    Some(bytes) => {
                        Err(borsh::from_slice(&bytes).map_err(|_| HistoryError::Damaged)?)
                    }
                };
                Ok(Included {
                    id: *id,
                    height: i64::cast_unsigned(height),
                    time_ms: i64::cast_unsigned(time_ms),
                    index,
                    signer: PublicKey::from_bytes(signer),
                    nonce: i64::cast_unsigned(nonce),
                    result,
                })
            })
            .transpose()
        })
    }

    /// Returns events after number `after` (from the first for `None`) in order, at most `limit` and [`PAGE_MAX`].
    ///
    /// The second value is where to go on: the number of the last event looked at.
    pub(crate) fn events(
        &self,
        filter: &Filter,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Event>, Option<u64>), HistoryError> {
        let limit = limit.min(PAGE_MAX);
        let after = after.map_or(-1, u64::cast_signed);
        self.read(|db| {
            let mut found = Vec::new();
            let mut scanned = 0;
            let mut query = db.prepare_cached(&events_query(filter.subjects.len()))?;
            let keys: Vec<Vec<u8>> = filter.subjects.iter().map(Subject::key).collect();
            let values = std::iter::once(&after as &dyn ToSql)
                .chain(keys.iter().map(|key| key as &dyn ToSql));
            let mut rows = query.query(params_from_iter(values))?;
            let mut seen = after;
            while let Some(row) = rows.next()? {
                let body: Vec<u8> = row.get(1)?;
                let event: Event = borsh::from_slice(&body).map_err(|_| HistoryError::Damaged)?;
                seen = row.get(0)?;
                scanned += 1;
                if filter.fits_kind(&event) {
                    found.push(event);
                }
                if found.len() >= limit || scanned >= SCAN_MAX {
                    break;
                }
            }
            Ok((found, u64::try_from(seen).ok()))
        })
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        let kept = self
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match kept {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let answer = query(&connection)?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS_MAX {
            readers.push(connection);
        }
        Ok(answer)
    }
}

impl Filter {
    /// Returns whether an event about these subjects is wanted.
    pub fn fits(&self, event: &Event, about: &[Subject]) -> bool {
        self.subjects.iter().all(|subject| about.contains(subject)) && self.fits_kind(event)
    }

    fn fits_kind(&self, event: &Event) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind_tag(&event.kind))
    }
}

impl Subject {
    /// Returns the bytes it is found by: a tag and the id.
    fn key(&self) -> Vec<u8> {
        let (tag, id): (u8, &[u8]) = match self {
            Self::Account(id) => (0, id.owner_key().as_bytes()),
            Self::Machine(id) => (1, &id.to_bytes()),
            Self::Offer(id) => (2, &id.to_bytes()),
            Self::Job(id) => (3, &id.to_bytes()),
            Self::Order(id) => (4, &id.to_bytes()),
            Self::Bid(id) => (5, &id.to_bytes()),
            Self::Lease(id) => (6, &id.to_bytes()),
            Self::Redemption(id) => (7, &id.to_bytes()),
        };
        [&[tag], id].concat()
    }
}

/// Returns what an event is about by its own words; see [`Parties`] for what it leaves unsaid.
#[expect(clippy::too_many_lines, reason = "one match over every kind of event")]
fn subjects(kind: &EventKind) -> Vec<Subject> {
    use EventKind as K;
    use Subject as S;
    match *kind {
        K::Posted { from, to, .. } => {
            let mut both: Vec<Subject> = [from, to].into_iter().filter_map(slot_subject).collect();
            both.dedup();
            both
        }
        K::AccountOpened { account }
        | K::KeyAuthorized { account, .. }
        | K::KeyRevoked { account, .. } => vec![S::Account(account)],
        K::RedemptionRequested {
            redemption,
            account,
            ..
        }
        | K::RedemptionClosed {
            redemption,
            account,
            ..
        } => {
            vec![S::Redemption(redemption), S::Account(account)]
        }
        K::ProviderOpened { provider } => vec![S::Account(provider)],
        K::MachineAdded { machine, provider } | K::MachineChanged { machine, provider } => {
            vec![S::Machine(machine), S::Account(provider)]
        }
        K::OfferPlaced {
            offer,
            provider,
            machine,
        } => {
            vec![S::Offer(offer), S::Account(provider), S::Machine(machine)]
        }
        K::OfferClosed {
            offer, provider, ..
        } => vec![S::Offer(offer), S::Account(provider)],
        K::JobOpened { job, tenant, .. }
        | K::JobToppedUp { job, tenant, .. }
        | K::JobExtended { job, tenant, .. }
        | K::JobEnded { job, tenant, .. } => vec![S::Job(job), S::Account(tenant)],
        K::OrderOpened {
            order, job, tenant, ..
        } => {
            vec![S::Order(order), S::Job(job), S::Account(tenant)]
        }
        K::OrderClosed { order, job, .. } => vec![S::Order(order), S::Job(job)],
        K::BidPlaced {
            bid,
            order,
            provider,
        }
        | K::BidClosed {
            bid,
            order,
            provider,
            ..
        } => {
            vec![S::Bid(bid), S::Order(order), S::Account(provider)]
        }
        K::LeaseAwarded {
            lease,
            job,
            tenant,
            provider,
            machine,
            ..
        }
        | K::LeaseEnded {
            lease,
            job,
            tenant,
            provider,
            machine,
            ..
        } => vec![
            S::Lease(lease),
            S::Job(job),
            S::Account(tenant),
            S::Account(provider),
            S::Machine(machine),
        ],
        K::LeaseReady {
            lease,
            job,
            machine,
            ..
        }
        | K::LeaseChanged {
            lease,
            job,
            machine,
            ..
        } => {
            vec![S::Lease(lease), S::Job(job), S::Machine(machine)]
        }
        K::LeasePaid {
            lease, provider, ..
        } => vec![S::Lease(lease), S::Account(provider)],
    }
}

fn slot_subject(slot: Slot) -> Option<Subject> {
    match slot {
        Slot::Available(account) | Slot::Bond(account) => Some(Subject::Account(account)),
        Slot::Hold(job) => Some(Subject::Job(job)),
        Slot::Redemption(redemption) => Some(Subject::Redemption(redemption)),
        Slot::Payable(lease) => Some(Subject::Lease(lease)),
        Slot::Outside | Slot::Fees | Slot::Insurance => None,
    }
}

/// Returns the query for events about that many subjects: the first leads, the others are looked up.
fn events_query(subjects: usize) -> String {
    if subjects == 0 {
        return "SELECT seq, body FROM events WHERE seq > ?1 ORDER BY seq".to_owned();
    }
    let mut text = "SELECT e.seq, e.body FROM subjects s JOIN events e USING (seq)
         WHERE s.subject = ?2 AND s.seq > ?1"
        .to_owned();
    for n in 1..subjects {
        let also = format!(
            " AND EXISTS (SELECT 1 FROM subjects o WHERE o.subject = ?{} AND o.seq = s.seq)",
            n + 2
        );
        text.push_str(&also);
    }
    text.push_str(" ORDER BY s.seq");
    text
}

enum Prepared {
    Ready(Connection),
    OtherVersion,
}

fn prepare(path: &Path) -> Result<Prepared, HistoryError> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // A block must be durable here before the engine forgets that it delivered it.
    db.pragma_update(None, "synchronous", "FULL")?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        SCHEMA_VERSION => Ok(Prepared::Ready(db)),
        // The same tables, but it was not written there whose leases became ready or changed.
        1 => {
            complete(&mut db)?;
            Ok(Prepared::Ready(db))
        }
        0 => {
            db.execute_batch(
                "BEGIN;
                 CREATE TABLE blocks(
                   height INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, digest BLOB NOT NULL);
                 CREATE TABLE txs(
                   id BLOB PRIMARY KEY, height INTEGER NOT NULL, place INTEGER NOT NULL,
                   signer BLOB NOT NULL, nonce INTEGER NOT NULL, reject BLOB) WITHOUT ROWID;
                 CREATE TABLE events(seq INTEGER PRIMARY KEY, height INTEGER NOT NULL, body BLOB NOT NULL);
                 CREATE TABLE subjects(
                   subject BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(subject, seq)) WITHOUT ROWID;
                 PRAGMA user_version = 2;
                 COMMIT;",
            )?;
            Ok(Prepared::Ready(db))
        }
        _ => Ok(Prepared::OtherVersion),
    }
}

fn open_reader(path: &Path) -> Result<Connection, HistoryError> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    Ok(db)
}

fn write_all(mut db: Connection, mut writes: mpsc::Receiver<Write>) {
    let mut parties = Parties::default();
    while let Some(Write::Block(block, done)) = writes.blocking_recv() {
        let written = write_block(&mut db, &mut parties, block);
        // An asker that went away loses only the answer.
        drop(done.send(written.map(Arc::new)));
    }
}

fn write_block(
    db: &mut Connection,
    parties: &mut Parties,
    mut block: FinalBlock,
) -> Result<FinalBlock, HistoryError> {
    let height = u64::cast_signed(block.height);
    block.about = parties.about(db, &block.events)?;
    let all = db.transaction()?;
    let new = all
        .prepare_cached("INSERT OR IGNORE INTO blocks VALUES (?1, ?2, ?3)")?
        .execute(params![
            height,
            u64::cast_signed(block.time_ms),
            block.digest
        ])?;
    if new == 0 {
        return Ok(block);
    }
    for tx in &block.txs {
        let reject = tx.result.as_ref().err().map(market::codec::encode);
        all.prepare_cached("INSERT INTO txs VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                tx.id.0.0,
                height,
                tx.index,
                tx.signer.as_bytes(),
                u64::cast_signed(tx.nonce),
                reject
            ])?;
    }
    for (event, about) in block.events.iter().zip(&block.about) {
        let seq = u64::cast_signed(event.seq);
        all.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3)")?
            .execute(params![seq, height, market::codec::encode(event)])?;
        for subject in about {
            all.prepare_cached("INSERT OR IGNORE INTO subjects VALUES (?1, ?2)")?
                .execute(params![subject.key(), seq])?;
        }
    }
    all.commit()?;
    Ok(block)
}
