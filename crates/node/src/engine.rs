//! Wires the engine: simplex agrees on digests, marshal turns them into an ordered chain of blocks, `stateful` keeps
//! the authenticated store, and our [`App`] executes. Nothing outside this file knows how they are put together.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use commonware_broadcast::buffered;
use commonware_consensus::{
    Reporters,
    marshal::{
        self,
        core::{Actor as Marshal, Mailbox as MarshalMailbox},
        resolver::p2p as block_resolver,
        standard::{Deferred, Standard},
    },
    simplex::{
        self,
        config::{Floor, ForwardPolicy, SkipBudget, SkipPolicy},
        elector::RoundRobin,
    },
    types::{Epoch, FixedEpocher, ViewDelta},
};
use commonware_cryptography::{Digested, Digestible as _, Sha256, certificate::ConstantProvider};
use commonware_glue::stateful::{
    Config as StatefulConfig, Mailbox as StatefulMailbox, PruneConfig, Stateful, SyncPlan,
    db::SyncEngineConfig,
};
use commonware_p2p::{Blocker, Provider, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Handle, Metrics, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{archive::prunable, translator::EightCap};
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize};
use futures::{FutureExt as _, future::BoxFuture};
use light::{Digest, Scheme, Validator};

use crate::{
    app::{App, Paced},
    chain::Block,
    no_sync::NoSync,
    pace::Pace,
    state::{self, Databases},
};

/// Prefix of everything that the engine stores.
const PREFIX: &str = "tradewind";
/// One epoch for ever: the set of validators of a solo network does not change.
const EPOCH_BLOCKS: u64 = u64::MAX;
/// Page of the cache that all stores share.
const PAGE_BYTES: u16 = 4_096 - 12;
/// Pages of that cache: 8 MiB; the records themselves are in memory.
const PAGES: usize = 2_048;
/// Buffers of every journal.
const BUFFER_BYTES: usize = 128 * 1024;
/// Messages that may wait for an actor.
const MAILBOX: usize = 128;
/// Blocks or certificates in one file of an archive.
const ARCHIVE_SECTION: u64 = 4_096;
/// Views behind the final one that consensus remembers.
const VIEW_RETENTION: u64 = 256;
/// Blocks that may be executed and not yet durable: several share one barrier on a slow disk.
const PENDING_ACKS: usize = 16;
/// Blocks between prunings.
const PRUNE_INTERVAL: usize = 256;
/// Blocks kept for peers and for making the history again: three weeks of heartbeats.
const BLOCKS_RETAINED: usize = 200_000;
/// How long peers are given to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// Operations of the state log that one request of a syncing peer fetches.
const SYNC_OPS: u64 = 256;

/// What the engine's code needs of a runtime.
pub(crate) trait Env:
    Spawner + Metrics + Clock + Storage + rand_core::CryptoRng + Send + Sync + 'static
{
}
impl<E> Env for E where
    E: Spawner + Metrics + Clock + Storage + rand_core::CryptoRng + Send + Sync + 'static
{
}

/// One p2p channel.
type Channel<N> = (<N as Net>::Sender, <N as Net>::Receiver);

/// A network among validators.
pub(crate) trait Net {
    type Sender: Sender<PublicKey = Validator>;
    type Receiver: Receiver<PublicKey = Validator>;
    type Blocker: Blocker<PublicKey = Validator> + Sync;
    type Peers: Provider<PublicKey = Validator> + Sync;

    fn channel(&mut self, id: u64) -> Channel<Self>
    where
        Self: Sized;
    fn blocker(&self) -> Self::Blocker;
    fn peers(&self) -> Self::Peers;
}

/// Timeouts of a view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// A leader that has proposed nothing by then is skipped.
    pub(crate) leader: Duration,
    /// A view that is not certified by then is skipped.
    pub(crate) certification: Duration,
    /// A leader that was not heard of for so long is passed over at once; alone there is nobody to pass over.
    pub(crate) skip: Option<Duration>,
}

impl Timeouts {
    fn skip(self) -> SkipPolicy {
        match self.skip {
            None => SkipPolicy::Disabled,
            Some(timeout) => SkipPolicy::Enabled {
                timeout,
                budget: SkipBudget::Participants,
            },
        }
    }

    /// A block that a peer has not voted for may not have reached it.
    const fn forward(self) -> ForwardPolicy {
        match self.skip {
            None => ForwardPolicy::Disabled,
            Some(_) => ForwardPolicy::SilentVoters,
        }
    }
}

/// What the engine is started with.
pub(crate) struct Setup {
    pub(crate) scheme: Scheme,
    pub(crate) me: Validator,
    pub(crate) app: App,
    pub(crate) pace: Pace,
    pub(crate) timeouts: Timeouts,
}

pub(crate) type Blocks = MarshalMailbox<Scheme, Standard<Block>>;

/// A started engine.
pub(crate) struct Engine<E: Env> {
    /// Finished blocks and their certificates.
    pub(crate) blocks: Blocks,
    /// Resolves to the store, once it was opened and before any block is followed.
    pub(crate) databases: BoxFuture<'static, Databases<E>>,
    /// Ends when one of the engine's actors does.
    pub(crate) handles: Vec<Handle<()>>,
}

/// Starts every actor of the engine.
pub(crate) async fn start<E: Env, N: Net>(context: E, setup: Setup, mut net: N) -> Engine<E> {
    let genesis = Digested::precomputed(setup.app.genesis.clone(), setup.app.genesis.digest());
    let cache = CacheRef::new(NZU16!(PAGE_BYTES), NZUsize!(PAGES));
    let plan = SyncPlan::init(context.child("plan"), PREFIX).await;
    let (marshal, blocks, floor) = Marshal::<_, Standard<Block>, _, _, _, _, _>::init(
        context.child("marshal"),
        archive(&context, "certificates", &cache).await,
        archive(&context, "blocks", &cache).await,
        marshal_config(
            setup.scheme.clone(),
            plan.marshal_start(genesis.clone()),
            &cache,
        ),
    )
    .await;
    let (stateful, state) = start_state(
        &context,
        setup.app.clone(),
        plan,
        (blocks.clone(), floor),
        &cache,
    );
    let databases = ask_for_databases(state.clone());
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: setup.me.clone(),
            mailbox_size: NZUsize!(MAILBOX),
            deque_size: 16,
            priority: false,
            codec_config: (),
            peer_provider: net.peers(),
            strategy: Sequential,
        },
    );
    let resolver = block_resolver::init(
        context.child("block_resolver"),
        block_resolver::Config {
            public_key: setup.me.clone(),
            peer_provider: net.peers(),
            blocker: net.blocker(),
            mailbox_size: NZUsize!(MAILBOX),
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_TIMEOUT,
            priority_requests: false,
            priority_responses: false,
        },
        net.channel(3),
    );
    let mut handles = vec![
        broadcast.start(net.channel(4)),
        marshal.start(state.clone(), buffer, resolver),
        stateful.start(),
    ];
    handles.push(start_consensus(
        &context,
        setup,
        state,
        blocks.clone(),
        genesis.digest(),
        net,
        cache,
    ));
    Engine {
        blocks,
        databases,
        handles,
    }
}

/// Asks for the opened store before anything else can be asked of `stateful`.
///
/// So the answer comes before the first block, which waits for the market that is loaded from the store.
fn ask_for_databases<E: Env>(state: StatefulMailbox<E, App>) -> BoxFuture<'static, Databases<E>> {
    let mut databases: BoxFuture<'static, Databases<E>> =
        Box::pin(async move { state.subscribe_databases().await });
    // The first poll sends the question.
    let asked = (&mut databases).now_or_never();
    assert!(asked.is_none(), "the store opens only once the engine runs");
    databases
}

fn marshal_config(
    scheme: Scheme,
    start: marshal::Start<Scheme, Digest, Digested<Block>>,
    cache: &CacheRef,
) -> marshal::Config<
    ConstantProvider<Scheme, Epoch>,
    FixedEpocher,
    Sequential,
    Block,
    Digested<Block>,
> {
    marshal::Config {
        provider: ConstantProvider::new(scheme),
        epocher: FixedEpocher::new(NZU64!(EPOCH_BLOCKS)),
        start,
        partition_prefix: PREFIX.to_owned(),
        mailbox_size: NZUsize!(MAILBOX),
        view_retention: ViewDelta::new(VIEW_RETENTION),
        prunable_items_per_section: NZU64!(ARCHIVE_SECTION),
        page_cache: cache.clone(),
        replay_buffer: buffer(),
        key_write_buffer: buffer(),
        value_write_buffer: buffer(),
        block_codec_config: (),
        max_repair: NZUsize!(16),
        max_pending_acks: NZUsize!(PENDING_ACKS),
        strategy: Sequential,
    }
}

fn start_consensus<E: Env, N: Net>(
    context: &E,
    setup: Setup,
    state: StatefulMailbox<E, App>,
    blocks: Blocks,
    genesis: Digest,
    mut net: N,
    page_cache: CacheRef,
) -> Handle<()> {
    let Setup {
        scheme,
        app,
        pace,
        timeouts,
        ..
    } = setup;
    let automaton = Deferred::new(
        context.child("deferred"),
        Paced {
            inner: state,
            pace: Arc::new(pace),
            clock: app.clock,
        },
        blocks,
        FixedEpocher::new(NZU64!(EPOCH_BLOCKS)),
    );
    let consensus = simplex::Engine::new(
        context.child("simplex"),
        simplex::Config {
            scheme,
            elector: RoundRobin::<Sha256>::default(),
            blocker: net.blocker(),
            automaton: automaton.clone(),
            relay: automaton.clone(),
            reporter: Reporters::from((app.beacon, automaton)),
            strategy: Sequential,
            partition: format!("{PREFIX}-simplex"),
            mailbox_size: NZUsize!(MAILBOX),
            epoch: Epoch::zero(),
            floor: Floor::Genesis(genesis),
            replay_buffer: buffer(),
            write_buffer: buffer(),
            page_cache,
            leader_timeout: timeouts.leader,
            certification_timeout: timeouts.certification,
            timeout_retry: timeouts.leader / 2,
            view_retention: ViewDelta::new(VIEW_RETENTION),
            skip: timeouts.skip(),
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_TIMEOUT,
            forward: timeouts.forward(),
            track_historical_votes: false,
        },
    );
    consensus.start(net.channel(0), net.channel(1), net.channel(2))
}

type StateActor<E> = Stateful<E, App, Standard<Block>, NoSync<E>, Sequential>;

/// Sets up the store; the actor starts once marshal runs.
fn start_state<E: Env>(
    context: &E,
    app: App,
    plan: SyncPlan<E, Scheme, Standard<Block>>,
    marshal: (Blocks, marshal::core::Floor),
    cache: &CacheRef,
) -> (StateActor<E>, StatefulMailbox<E, App>) {
    Stateful::new(
        context.child("stateful"),
        StatefulConfig {
            application: app,
            db_config: state::config(PREFIX, cache.clone()),
            provider: (),
            marshal,
            mailbox_size: NZUsize!(MAILBOX),
            plan,
            resolvers: NoSync::new(),
            sync_config: SyncEngineConfig {
                fetch_batch_size: NZU64!(SYNC_OPS),
                apply_batch_size: NZU64!(1_024),
                max_outstanding_requests: NZUsize!(8),
            },
            prune_config: Some(PruneConfig {
                maintenance_interval: NZUsize!(PRUNE_INTERVAL),
                retained_marshal_blocks: BLOCKS_RETAINED,
                retained_qmdb_blocks: 0,
            }),
            strategy: Sequential,
        },
    )
}

async fn archive<E, V>(
    context: &E,
    name: &'static str,
    cache: &CacheRef,
) -> prunable::Archive<EightCap, E, Digest, V>
where
    E: Env,
    V: commonware_codec::CodecShared + commonware_codec::Read<Cfg = ()>,
{
    prunable::Archive::init(
        context.child(name),
        prunable::Config {
            translator: EightCap,
            metadata_partition: format!("{PREFIX}-{name}-meta"),
            key_partition: format!("{PREFIX}-{name}-key"),
            key_page_cache: cache.clone(),
            value_partition: format!("{PREFIX}-{name}-value"),
            compression: None,
            codec_config: (),
            items_per_section: NZU64!(ARCHIVE_SECTION),
            key_write_buffer: buffer(),
            value_write_buffer: buffer(),
            replay_buffer: buffer(),
        },
    )
    .await
    .expect("the archive opens: a node whose disk fails stops")
}

const fn buffer() -> NonZeroUsize {
    NZUsize!(BUFFER_BYTES)
}
