//! The one task that owns the speculative [`Market`]: positioned at a block, it executes that block's children.
//!
//! ```text
//!   final ── a ── b        the market stands at b; asked for a child of a, it undoes b first
//!              └─ c        asked for a child of c, it undoes b and executes c again
//! ```
//!
//! What was executed stays known until something at its height is final, so any branch that the engine asks for can be
//! reached again without the engine's help.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use light::{Digest, Header};
use market::{BlockCtx, BlockOutcome, ChangeSet, Height, Market, RecordKey, SignedTx, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::{
    chain::{BLOCK_TXS_MAX, BODY_BYTES_MAX},
    pool::Pool,
};

/// Requests that may wait: the engine has only a few in flight.
const REQUESTS_MAX: usize = 64;
/// How often a block is built again without a transaction that turned out to be inadmissible, before it is built empty.
const BUILD_RETRIES_MAX: usize = 64;
/// Stands for "nothing is due".
const NEVER: u64 = u64::MAX;

/// One executed block.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) ctx: BlockCtx,
    pub(crate) parent: Digest,
    pub(crate) txs: Vec<SignedTx>,
    pub(crate) outcome: BlockOutcome,
    /// What the store takes besides the outcome's changes: the records of genesis, in the first block.
    genesis: Vec<(RecordKey, Vec<u8>)>,
}

impl Executed {
    /// Returns what the store must write.
    pub(crate) fn writes(&self) -> Cow<'_, ChangeSet> {
        if self.genesis.is_empty() {
            return Cow::Borrowed(&self.outcome.changes);
        }
        let mut all: BTreeMap<RecordKey, Option<Vec<u8>>> = self
            .genesis
            .iter()
            .map(|(key, value)| (*key, Some(value.clone())))
            .collect();
        all.extend(self.outcome.changes.0.iter().cloned());
        // The store has none of them yet, so there is nothing to remove.
        all.retain(|_, value| value.is_some());
        Cow::Owned(ChangeSet(all.into_iter().collect()))
    }
}

/// Why a block could not be executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    #[error("the parent {0} was not executed here")]
    UnknownParent(Digest),
    #[error("block is invalid: {0}")]
    Invalid(String),
    #[error("the executor has stopped")]
    Stopped,
}

/// Where and when a block is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) parent: Digest,
    pub(crate) height: u64,
    pub(crate) time_ms: u64,
    pub(crate) seed: Option<[u8; 32]>,
}

type Reply<T> = oneshot::Sender<T>;

#[derive(Debug)]
enum Request {
    /// Build a block from the pool.
    Build(Position, Reply<Result<Arc<Executed>, ExecuteError>>),
    /// The block just built has this digest.
    Name(Arc<Executed>, Digest),
    /// Execute a given block.
    Execute(
        Position,
        Digest,
        Vec<SignedTx>,
        Reply<Result<Arc<Executed>, ExecuteError>>,
    ),
    /// A block is final.
    Finalize(Digest, Reply<Result<Arc<Executed>, ExecuteError>>),
}

/// Asks the executor; clones ask the same one.
#[derive(Clone, Debug)]
pub(crate) struct Executor {
    requests: mpsc::Sender<Request>,
    next_due: Arc<AtomicU64>,
}

/// The task's side, to be given to [`run`].
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Executor {
    /// Makes the executor's two sides.
    pub(crate) fn new() -> (Self, Requests) {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        (
            Self {
                requests,
                next_due: Arc::new(AtomicU64::new(NEVER)),
            },
            Requests(receiver),
        )
    }

    /// Returns when the block last executed has its next timer due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        match self.next_due.load(Ordering::Relaxed) {
            NEVER => None,
            due => Some(Timestamp::from_unix_millis(due)),
        }
    }

    /// Builds and executes a block from what waits in the pool.
    pub(crate) async fn build(&self, at: Position) -> Result<Arc<Executed>, ExecuteError> {
        self.ask(|reply| Request::Build(at, reply)).await?
    }

    /// Tells the digest of a block that was built.
    pub(crate) async fn name(
        &self,
        built: Arc<Executed>,
        digest: Digest,
    ) -> Result<(), ExecuteError> {
        self.requests
            .send(Request::Name(built, digest))
            .await
            .map_err(|_| ExecuteError::Stopped)
    }

    /// Executes a block.
    pub(crate) async fn execute(
        &self,
        at: Position,
        digest: Digest,
        txs: Vec<SignedTx>,
    ) -> Result<Arc<Executed>, ExecuteError> {
        self.ask(|reply| Request::Execute(at, digest, txs, reply))
            .await?
    }

    /// Marks an executed block as final and returns what it did.
    pub(crate) async fn finalize(&self, digest: Digest) -> Result<Arc<Executed>, ExecuteError> {
        self.ask(|reply| Request::Finalize(digest, reply)).await?
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, ExecuteError> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| ExecuteError::Stopped)?;
        answer.await.map_err(|_| ExecuteError::Stopped)
    }
}

/// What the executor starts from: the final state.
pub(crate) struct Base {
    pub(crate) market: Market,
    pub(crate) digest: Digest,
    /// The records of genesis, which the first block writes; empty later on.
    pub(crate) genesis: Vec<(RecordKey, Vec<u8>)>,
}

/// Serves requests until all askers are gone.
pub(crate) async fn run(base: Base, executor: Executor, mut requests: Requests, pool: Pool) {
    let next_due = Arc::clone(&executor.next_due);
    // The task must not keep itself alive.
    drop(executor);
    let mut chain = Chain {
        market: base.market,
        base: base.digest,
        path: Vec::new(),
        known: HashMap::new(),
        genesis: base.genesis,
        pool,
    };
    loop {
        let due = chain
            .market
            .next_due()
            .map_or(NEVER, Timestamp::unix_millis);
        next_due.store(due, Ordering::Relaxed);
        let Some(request) = requests.0.recv().await else {
            return;
        };
        chain.serve(request);
    }
}

/// The market and the blocks between the final one and where it stands.
struct Chain {
    market: Market,
    base: Digest,
    /// Executed on top of the final block, oldest first; only the last can still lack a name.
    path: Vec<Step>,
    known: HashMap<Digest, Arc<Executed>>,
    genesis: Vec<(RecordKey, Vec<u8>)>,
    pool: Pool,
}

struct Step {
    executed: Arc<Executed>,
    digest: Option<Digest>,
}

impl Chain {
    /// Answers one request; an asker that no longer waits loses nothing but the answer.
    fn serve(&mut self, request: Request) {
        match request {
            Request::Build(at, reply) => drop(reply.send(self.build(at))),
            Request::Name(built, digest) => self.name(&built, digest),
            Request::Execute(at, digest, txs, reply) => {
                drop(reply.send(self.execute(at, digest, txs)));
            }
            Request::Finalize(digest, reply) => drop(reply.send(self.finalize(digest))),
        }
    }

    fn build(&mut self, at: Position) -> Result<Arc<Executed>, ExecuteError> {
        self.stand_on(at.parent)?;
        let ctx = at.ctx();
        for _ in 0..BUILD_RETRIES_MAX {
            let txs = self.pick(&ctx);
            match self.run_block(at.parent, &ctx, txs) {
                Ok(executed) => {
                    self.pool.mark_proposed(at.height, &executed.txs);
                    self.path.push(Step {
                        executed: Arc::clone(&executed),
                        digest: None,
                    });
                    return Ok(executed);
                }
                // It was admissible when it came and no longer is.
                Err((txs, why)) => {
                    let Some(tx) = txs.get(why.index) else {
                        return Err(ExecuteError::Invalid(why.to_string()));
                    };
                    tracing::debug!(tx = %tx.id(), %why, "transaction left the pool");
                    self.pool.refuse(&tx.id());
                }
            }
        }
        let executed = self
            .run_block(at.parent, &ctx, Vec::new())
            .map_err(|(_, why)| ExecuteError::Invalid(why.to_string()))?;
        self.path.push(Step {
            executed: Arc::clone(&executed),
            digest: None,
        });
        Ok(executed)
    }

    fn pick(&self, ctx: &BlockCtx) -> Vec<SignedTx> {
        let market = &self.market;
        self.pool
            .pick(
                ctx.height.number(),
                ctx.time,
                (BLOCK_TXS_MAX, BODY_BYTES_MAX),
                |key| {
                    market
                        .admissible(key, ctx.time)
                        .ok()
                        .map(|admission| admission.next_nonce)
                },
            )
            .iter()
            .map(|tx| SignedTx::clone(tx))
            .collect()
    }

    fn name(&mut self, built: &Arc<Executed>, digest: Digest) {
        self.known.insert(digest, Arc::clone(built));
        if let Some(last) = self.path.last_mut()
            && Arc::ptr_eq(&last.executed, built)
        {
            last.digest = Some(digest);
        }
    }

    fn execute(
        &mut self,
        at: Position,
        digest: Digest,
        txs: Vec<SignedTx>,
    ) -> Result<Arc<Executed>, ExecuteError> {
        if let Some(known) = self.known.get(&digest) {
            return Ok(Arc::clone(known));
        }
        self.stand_on(at.parent)?;
        let executed = self
            .run_block(at.parent, &at.ctx(), txs)
            .map_err(|(_, why)| ExecuteError::Invalid(why.to_string()))?;
        // What another validator's block has is no work for one of ours, unless that block is abandoned.
        self.pool.mark_proposed(at.height, &executed.txs);
        self.path.push(Step {
            executed: Arc::clone(&executed),
            digest: Some(digest),
        });
        self.known.insert(digest, Arc::clone(&executed));
        Ok(executed)
    }

    fn finalize(&mut self, digest: Digest) -> Result<Arc<Executed>, ExecuteError> {
        let executed = self
            .known
            .get(&digest)
            .cloned()
            .ok_or(ExecuteError::UnknownParent(digest))?;
        let on_path = self
            .path
            .first()
            .is_some_and(|step| step.digest == Some(digest));
        if !on_path {
            self.stand_on(digest)?;
        }
        self.path.remove(0);
        self.base = digest;
        self.market.forget_before(executed.ctx.height.next());
        let height = executed.ctx.height;
        self.known.retain(|_, known| known.ctx.height > height);
        Ok(executed)
    }

    /// Moves the market to the state after `parent`: undoes what is not its ancestor, executes again what is.
    fn stand_on(&mut self, parent: Digest) -> Result<(), ExecuteError> {
        let mut again = Vec::new();
        let mut at = parent;
        let keep = loop {
            if at == self.base {
                break 0;
            }
            if let Some(found) = self.path.iter().position(|step| step.digest == Some(at)) {
                break found + 1;
            }
            let known = self.known.get(&at).ok_or(ExecuteError::UnknownParent(at))?;
            again.push((at, Arc::clone(known)));
            at = known.parent;
        };
        while self.path.len() > keep {
            self.path.pop();
            assert!(
                self.market.undo_block(),
                "every block since the final one can be undone"
            );
        }
        for (digest, executed) in again.into_iter().rev() {
            let repeated = self
                .market
                .execute(&executed.ctx, &executed.txs)
                .map_err(|why| ExecuteError::Invalid(why.to_string()))?;
            assert_eq!(
                repeated.events, executed.outcome.events,
                "executing a block again gives the same events"
            );
            self.path.push(Step {
                executed,
                digest: Some(digest),
            });
        }
        Ok(())
    }

    /// Executes on the current state; gives the transactions back when one is inadmissible.
    fn run_block(
        &mut self,
        parent: Digest,
        ctx: &BlockCtx,
        txs: Vec<SignedTx>,
    ) -> Result<Arc<Executed>, (Vec<SignedTx>, market::BlockError)> {
        match self.market.execute(ctx, &txs) {
            Ok(outcome) => {
                let first = ctx.height == Height::from_number(1);
                let genesis = if first {
                    self.genesis.clone()
                } else {
                    Vec::new()
                };
                Ok(Arc::new(Executed {
                    ctx: *ctx,
                    parent,
                    txs,
                    outcome,
                    genesis,
                }))
            }
            Err(why) => Err((txs, why)),
        }
    }
}

/// Executes a final block on its parent's state, outside the task: for what is made again from the blocks.
pub(crate) fn replay(
    market: &mut Market,
    header: &Header,
    txs: Vec<SignedTx>,
) -> Result<Executed, ExecuteError> {
    let at = Position {
        parent: header.parent(),
        height: header.height.get(),
        time_ms: header.time_ms,
        seed: header.seed_hash(),
    };
    let ctx = at.ctx();
    let outcome = market
        .execute(&ctx, &txs)
        .map_err(|why| ExecuteError::Invalid(why.to_string()))?;
    market.forget_before(ctx.height.next());
    Ok(Executed {
        ctx,
        parent: at.parent,
        txs,
        outcome,
        genesis: Vec::new(),
    })
}

impl Position {
    fn ctx(&self) -> BlockCtx {
        BlockCtx {
            height: Height::from_number(self.height),
            time: Timestamp::from_unix_millis(self.time_ms),
            seed: self.seed,
        }
    }
}
