//! The market as the engine's application: the only place where blocks are built, executed and followed.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use commonware_consensus::{
    Application as ConsensusApplication, Handoff, marshal::ancestry::Ancestry,
    simplex::types::Context, types::Height,
};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_glue::stateful::{Application, Finality, Input, Mailbox, Proposed, db::DatabaseSet};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::{Context as StorageContext, qmdb::sync::Target};
use futures::StreamExt as _;
use light::{Digest, Header, Scheme, Validator};
use market::SignedTx;

use crate::{
    beacon::Beacon,
    chain::{Block, StateCommitment, events_root, tx_root},
    executor::{Executed, Executor, Position},
    history::FinalBlock,
    ledger::Ledger,
    pace::Pace,
    state::{self, Databases, Merkleized, Unmerkleized},
};

/// How long a wait for a block's time lasts before the clock is looked at again.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// What every block is built, executed and followed with.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) genesis: Block,
    pub(crate) executor: Executor,
    pub(crate) ledger: Ledger,
    pub(crate) beacon: Beacon,
    pub(crate) network: market::NetworkName,
    pub(crate) clock: LocalClock,
}

impl<E: Spawner + StorageContext> Application<E> for App {
    type SigningScheme = Scheme;
    type Context = Context<Digest, Validator>;
    type Block = Block;
    type Databases = Databases<E>;
    type Captured = (Arc<Executed>, Arc<FinalBlock>);
    type Provider = ();
    type Input = ();

    async fn genesis(&mut self) -> Block {
        self.genesis.clone()
    }

    fn sync_targets(block: &Block) -> <Self::Databases as DatabaseSet<E>>::SyncTargets {
        Target::new(block.header.ops_root, block.header.ops_range.clone())
    }

    async fn propose(
        &mut self,
        (runtime, context): (E, Self::Context),
        mut ancestry: impl Ancestry<Block>,
        batches: Unmerkleized<E>,
        _: Input<(), ()>,
    ) -> Option<Proposed<Self, E>> {
        let parent = ancestry.next().await?;
        let parent = &parent.inner().header;
        let seed = self.beacon.seed(parent.context.round);
        let at = Position {
            parent: context.parent.1,
            height: parent.height.get() + 1,
            time_ms: self.clock.now_ms(&runtime).max(parent.time_ms + 1),
            seed: seed.map(|seed| Header::hash_seed(&seed)),
        };
        let built = match self.executor.build(at).await {
            Ok(built) => built,
            Err(why) => {
                tracing::error!(%why, height = at.height, "could not build a block");
                return None;
            }
        };
        let merkleized = self.write(batches, &built).await?;
        let header = header(context, &built, state::commitment(&merkleized), seed);
        let block = Block::new(header, built.txs.clone());
        self.executor.name(built, block.digest()).await.ok()?;
        Some(Proposed { block, merkleized })
    }

    async fn process(
        &mut self,
        (_, context): (E, Self::Context),
        mut ancestry: impl Ancestry<Block>,
        batches: Unmerkleized<E>,
        finality: Finality,
    ) -> Option<Merkleized<E>> {
        let block = ancestry.next().await?;
        let digest = block.digest();
        if finality == Finality::Candidate {
            let parent = ancestry.next().await?;
            self.check(block.inner(), &parent.inner().header)?;
        }
        let header = &block.inner().header;
        let at = Position {
            parent: header.parent(),
            height: header.height.get(),
            time_ms: header.time_ms,
            seed: header.seed_hash(),
        };
        let executed = self
            .executor
            .execute(at, digest, block.inner().txs.clone())
            .await
            .inspect_err(|why| tracing::warn!(%why, height = at.height, "block refused"))
            .ok()?;
        let merkleized = self.write(batches, &executed).await?;
        let wanted = self::header(
            context,
            &executed,
            state::commitment(&merkleized),
            header.seed,
        );
        // Whether the engine names the same context is its check; ours is all that execution gives.
        let same = Header {
            context: header.context.clone(),
            ..wanted
        } == *header;
        if !same {
            tracing::warn!(
                height = at.height,
                "block refused: execution gives another header"
            );
        }
        same.then_some(merkleized)
    }

    async fn capture(
        &mut self,
        _: (E, Self::Context),
        block: &Block,
        _: &Merkleized<E>,
        _: <Self::Databases as DatabaseSet<E>>::Readers,
    ) -> Self::Captured {
        let digest = block.digest();
        let executed = self
            .executor
            .finalize(digest)
            .await
            .expect("a finalized block was executed before");
        // Before the state: a block that the store has is not delivered again after a crash.
        let block = self.ledger.record(&executed, digest).await;
        (executed, block)
    }

    async fn finalized(
        &mut self,
        _: (E, Self::Context),
        block: &Block,
        (executed, followed): Self::Captured,
        _: <Self::Databases as DatabaseSet<E>>::Readers,
    ) {
        self.beacon.forget_before(block.header.context.round);
        self.ledger.follow(&executed, followed);
    }
}

impl App {
    async fn write<E: Spawner + StorageContext>(
        &self,
        batches: Unmerkleized<E>,
        executed: &Executed,
    ) -> Option<Merkleized<E>> {
        let height = executed.ctx.height.number();
        match state::write::<E>(batches, height, &executed.writes()).await {
            Ok(merkleized) => Some(merkleized),
            // The branch went stale while it was built on; the engine asks again if it still matters.
            Err(why) => {
                tracing::warn!(%why, height, "could not compute the state root");
                None
            }
        }
    }

    /// Returns whether the signature fits; the pool has only such.
    fn is_signed(&self, tx: &SignedTx) -> bool {
        self.ledger.pool().contains(&tx.id()) || tx.verify(&self.network).is_ok()
    }

    /// Checks what a vote for another validator's block depends on and execution does not show.
    fn check(&self, block: &Block, parent: &Header) -> Option<()> {
        let header = &block.header;
        let checks = [
            (
                header.time_ms > parent.time_ms,
                "its time is not after its parent's",
            ),
            (
                block.txs.iter().all(|tx| self.is_signed(tx)),
                "a signature does not fit",
            ),
            (
                header
                    .seed
                    .is_none_or(|seed| self.beacon.verify(parent.context.round, &seed)),
                "its seed is not the beacon's",
            ),
        ];
        for (fits, why) in checks {
            if !fits {
                tracing::warn!(height = header.height.get(), why, "block refused");
                return None;
            }
        }
        Some(())
    }
}

fn header(
    context: Context<Digest, Validator>,
    executed: &Executed,
    state: StateCommitment,
    seed: Option<light::Seed>,
) -> Header {
    Header {
        context,
        height: Height::new(executed.ctx.height.number()),
        time_ms: executed.ctx.time.unix_millis(),
        tx_root: tx_root(executed.outcome.receipts.iter().map(|receipt| receipt.tx)),
        events_root: events_root(&executed.outcome.receipts, &executed.outcome.events),
        state_root: state.state_root,
        ops_root: state.ops_root,
        ops_range: state.ops_range,
        seed,
    }
}

/// Returns the runtime's clock in milliseconds since the Unix epoch.
pub(crate) fn now_ms(clock: &impl Clock) -> u64 {
    let since = clock
        .current()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// This machine's clock, by which blocks are dated and awaited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalClock {
    /// How far it is ahead of the runtime's; see [`Lab`](crate::Lab).
    pub(crate) ahead: Duration,
}

impl LocalClock {
    fn now_ms(self, clock: &impl Clock) -> u64 {
        let ahead = u64::try_from(self.ahead.as_millis()).unwrap_or(u64::MAX);
        now_ms(clock).saturating_add(ahead)
    }

    /// Returns whether it has reached a block's time.
    fn reached(self, clock: &impl Clock, time_ms: u64) -> bool {
        time_ms <= self.now_ms(clock)
    }

    /// Waits until it has.
    async fn reach(self, clock: &impl Clock, time_ms: u64) {
        // In steps, because a clock may be put right meanwhile.
        while let Some(early) = time_ms.checked_sub(self.now_ms(clock)).filter(|ms| *ms > 0) {
            clock
                .sleep(Duration::from_millis(early).min(CLOCK_LOOK))
                .await;
        }
    }
}

/// What must wait, in front of the engine's own application: proposals until there is work, votes for a block whose time
/// has not come until it has.
///
/// The engine would propose as fast as it can; and while the application builds, nothing can be finalized. So that wait
/// must happen before the request reaches it.
///
/// # Blocks from the future
/// A block is early as long as its time is ahead of this machine's clock. No rule of the chain bounds it: after a halt the
/// next block may be hours after its parent. An early block gets no verdict, because verdicts are for ever (the engine
/// writes them down, and a validator that said no can leave the view by a quorum only, which two validators whose clocks
/// differ might then not find); it gets none until it is early no more. Meanwhile its view runs into the certification
/// timeout, everybody nullifies it, and the next leader builds on its parent. The wait ends with the next finalized
/// block, which makes the engine drop the question.
///
/// The wait must not happen inside [`Application::process`]: pruning waits for every such call, and the state's actor
/// answers nobody meanwhile. Validators that prune at one time would wait together for a block's time, however far, because
/// none of them could finalize another block that ends the wait. So [`Self::prepare`] executes no early parent either.
pub(crate) struct Paced<E: Send + 'static>
where
    App: Application<E>,
{
    pub(crate) inner: Mailbox<E, App>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) clock: LocalClock,
}

impl<E: Send + 'static> Clone for Paced<E>
where
    App: Application<E>,
{
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            pace: Arc::clone(&self.pace),
            clock: self.clock,
        }
    }
}

impl<E: Spawner + StorageContext> ConsensusApplication<E> for Paced<E> {
    type SigningScheme = Scheme;
    type Context = Context<Digest, Validator>;
    type Block = Block;
    type Input = ();

    async fn prepare(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<Block>,
        input: (),
    ) -> Handoff<Digested<Block>> {
        let parent = ancestry.peek().map(|parent| parent.inner().header.time_ms);
        if parent.is_some_and(|time_ms| !self.clock.reached(&context.0, time_ms)) {
            return Handoff::Wait;
        }
        self.inner.prepare(context, ancestry, input).await
    }

    async fn propose(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<Block>,
        input: (),
    ) -> Option<Digested<Block>> {
        let parent = ancestry
            .peek()
            .map(|parent| UNIX_EPOCH + Duration::from_millis(parent.inner().header.time_ms));
        self.pace.wait(&context.0, parent).await;
        self.inner.propose(context, ancestry, input).await
    }

    async fn verify(
        &mut self,
        context: (E, Self::Context),
        ancestry: impl Ancestry<Block>,
    ) -> bool {
        // Without the block at hand there is nothing to wait for, and no verdict either.
        if let Some(time_ms) = ancestry.peek().map(|block| block.inner().header.time_ms) {
            self.clock.reach(&context.0, time_ms).await;
        }
        self.inner.verify(context, ancestry).await
    }
}
