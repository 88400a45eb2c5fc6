//! Hooks: notices of an account's events, sent to an address that it named by a signed request.
//!
//! ```text
//! request ─► signature, time, key's authority ─► verb ─► file a hook
//!                                                   └──► task a hook: history from its cursor ─► sender ─► receiver
//! ```
//!
//! A hook's task reads events from the node's history, so nothing is queued: what is not delivered yet is where the
//! cursor stands. The cursor is written after each notice that is dealt with, so every notice is delivered at least
//! once, in order, and again after a crash in between. A receiver that fails is tried again with growing pauses; a
//! notice is given up after the last, and a hook with many of those in a row sends no more until a test of it works.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::{
    Code, EventKindView, EventView, HookTestView, HookView, HooksView, NoticeView, Problem,
    envelope::system_rng,
    hook::{HookCall, HookId, HookSecret, SignedHookRequest, TIME_SLACK_S},
};
use market::{AccountId, Event, KeyRole, NetworkName, PublicKey};
use node::{Filter, Subject};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::refusal::{Answer, Refusal, internal};

use address::BadAddress;
pub use address::Reach;
use file::{Failing, Stored};
use sender::{Sender, now_ms};

mod address;
mod file;
mod sender;

/// Most hooks of one account: a receiver each for people, a dashboard, a pager, and a few to try.
const ACCOUNT_HOOKS_MAX: usize = 8;
/// Most hooks in all; each looks at every block.
const HOOKS_MAX: usize = 1_024;
/// Notices given up in a row before a hook is suspended: a receiver that is gone, rather than one bad notice.
const IN_A_ROW_MAX: u32 = 10;
/// How long the ids of removed hooks are remembered, so that the request that added one adds it no more.
const REMOVED_KEPT_MS: u64 = 2 * TIME_SLACK_S * 1_000;
/// Most that are remembered.
const REMOVED_MAX: usize = 4_096;
/// Pause before the history is read again after it failed.
const HISTORY_PAUSE: Duration = Duration::from_secs(10);

/// How hooks are kept and notices sent.
#[derive(Clone, Debug)]
pub struct HooksConfig {
    /// Where hooks lie; made when it does not exist.
    pub folder: PathBuf,
    /// Where notices may go.
    pub reach: Reach,
    /// Pauses after each failed attempt but the last.
    pub pauses: Vec<Duration>,
    /// How long a notice is tried at most, restarts included.
    pub lifetime: Duration,
}

impl HooksConfig {
    /// Makes the usual configuration: ten attempts over some nine hours, a night's outage.
    pub fn new(folder: PathBuf, reach: Reach) -> Self {
        const PAUSES_S: [u64; 9] = [1, 5, 30, 120, 600, 1_800, 3_600, 10_800, 14_400];
        Self {
            folder,
            reach,
            pauses: PAUSES_S.map(Duration::from_secs).into(),
            lifetime: Duration::from_hours(12),
        }
    }
}

/// Hooks cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HooksError {
    /// The folder cannot be used.
    #[error("could not use the hooks' folder {folder}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Connections cannot be made.
    #[error("could not set up connections to receivers: {why}")]
    Tls {
        /// Why.
        why: String,
    },
}

/// Every hook of this gateway.
pub struct Hooks {
    node: node::Handle,
    network: NetworkName,
    config: HooksConfig,
    sender: Sender,
    table: Mutex<Table>,
    tasks: Mutex<JoinSet<()>>,
    /// One write at a time, so that the newest state of a hook is the one that stays.
    disk: Mutex<()>,
}

#[derive(Default)]
struct Table {
    hooks: BTreeMap<HookId, Entry>,
    /// Removed hooks and when.
    removed: BTreeMap<HookId, u64>,
}

struct Entry {
    stored: Stored,
    task: Option<AbortHandle>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks")
            .field("folder", &self.config.folder)
            .finish_non_exhaustive()
    }
}

impl Hooks {
    /// Opens the folder and begins to send. Blocks on the disk for a moment; must be called within a runtime.
    ///
    /// # Errors
    /// [`HooksError`].
    pub fn open(config: HooksConfig, node: node::Handle) -> Result<Arc<Self>, HooksError> {
        let all = file::read_all(&config.folder).map_err(|source| HooksError::Folder {
            folder: config.folder.clone(),
            source,
        })?;
        let sender = Sender::new(config.reach).map_err(|why| HooksError::Tls { why })?;
        let network = node.read(|market| market.network().clone());
        let hooks = Arc::new(Self {
            node,
            network,
            config,
            sender,
            table: Mutex::default(),
            tasks: Mutex::default(),
            disk: Mutex::default(),
        });
        for stored in all.into_iter().take(HOOKS_MAX) {
            let (id, suspended) = (stored.id, stored.suspended);
            let entry = Entry { stored, task: None };
            hooks.table().hooks.insert(id, entry);
            if !suspended {
                hooks.begin(id);
            }
        }
        Ok(hooks)
    }

    /// Ends every task; what was under way is delivered again by the next process.
    pub(crate) async fn stop(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    /// Does what a signed request asks.
    pub(crate) async fn serve(self: &Arc<Self>, signed: SignedHookRequest) -> Answer<HooksView> {
        let account = self.account_of(&signed)?;
        match &signed.request.call {
            HookCall::Add { url, kinds } => {
                let (url, kinds) = (self.checked(url)?, words(kinds)?);
                let whose = (account, signed.request.signer);
                let hook = self.add(signed.request.hook(), whose, url, kinds).await?;
                Ok(only(hook, None))
            }
            HookCall::List => {
                let table = self.table();
                let own = table.hooks.values().filter(|e| e.stored.account == account);
                Ok(HooksView {
                    items: own.map(|entry| entry.stored.view()).collect(),
                    test: None,
                })
            }
            HookCall::Remove { hook } => self.remove(account, *hook).await,
            HookCall::Test { hook } => self.test(account, *hook).await,
        }
    }

    /// Returns the account that the request's key acts for.
    fn account_of(&self, signed: &SignedHookRequest) -> Answer<AccountId> {
        let request = &signed.request;
        let apart = request.at.unix_millis().abs_diff(now_ms());
        if apart > TIME_SLACK_S * 1_000 {
            let text = format!(
                "the request was signed {} s from this node's time; {TIME_SLACK_S} s are allowed",
                apart / 1_000
            );
            return Err(Refusal::new(Code::BadTime, text));
        }
        let text = "the signature is not of this key, this request and this network";
        signed
            .verify(&self.network)
            .map_err(|_| Refusal::new(Code::BadSignature, text))?;
        let key = request.signer;
        let (signer, now) = self
            .node
            .read(|market| (market.signer(&key).cloned(), market.time()));
        let signer = signer
            .ok_or_else(|| Refusal::new(Code::UnknownKey, "the key belongs to no account"))?;
        if signer.revoked || signer.expires_at.is_some_and(|end| end <= now) {
            return Err(Refusal::new(
                Code::KeyEnded,
                "the key acts for nobody any more",
            ));
        }
        match signer.role {
            KeyRole::Owner | KeyRole::Treasurer | KeyRole::Tenant | KeyRole::Provider => {
                Ok(signer.account)
            }
            KeyRole::Machine(_) | KeyRole::Viewer => Err(Refusal::new(
                Code::NotAllowed,
                "hooks take a key that acts for the account, not a machine's or a viewer's",
            )),
        }
    }

    fn checked(&self, url: &str) -> Answer<String> {
        let url = address::parse(url, self.config.reach).map_err(|error| {
            let problem = Problem::new(Code::BadHook, error.to_string());
            match error {
                BadAddress::NotPublic(_) => problem.hint(
                    "name a receiver on the internet, or let the operator allow private networks: \
                     tradewind node start --private-hooks",
                ),
                _ => problem,
            }
        })?;
        Ok(url.into())
    }

    /// Adds a hook, from the next event on; one that is there already stays as it is.
    async fn add(
        self: &Arc<Self>,
        id: HookId,
        whose: (AccountId, PublicKey),
        url: String,
        kinds: Vec<String>,
    ) -> Answer<HookView> {
        let secret = HookSecret::generate(&mut system_rng());
        let next = self.node.head().borrow().next_seq;
        let after = next.and_then(|next| next.checked_sub(1));
        let stored = Stored::new(id, whose, url, kinds, &secret, (now_ms(), after));
        {
            let mut table = self.table();
            if let Some(entry) = table.hooks.get(&id) {
                return Ok(entry.stored.view_with_secret());
            }
            table.room_for(id, whose.0)?;
            let entry = Entry {
                stored: stored.clone(),
                task: None,
            };
            table.hooks.insert(id, entry);
        }
        if let Err(refusal) = self.save(id).await {
            self.table().hooks.remove(&id);
            return Err(refusal);
        }
        self.begin(id);
        Ok(stored.view_with_secret())
    }

    async fn remove(self: &Arc<Self>, account: AccountId, id: HookId) -> Answer<HooksView> {
        let entry = {
            let mut table = self.table();
            table.own(account, id)?;
            table.forget_old_removals();
            table.removed.insert(id, now_ms());
            table.hooks.remove(&id)
        };
        let entry = entry.ok_or_else(|| no_hook(id))?;
        if let Some(task) = &entry.task {
            task.abort();
        }
        // The file goes where the hook is no longer in the table.
        self.save(id).await?;
        Ok(only(entry.stored.view(), None))
    }

    async fn test(self: &Arc<Self>, account: AccountId, id: HookId) -> Answer<HooksView> {
        let stored = self.table().own(account, id)?.stored.clone();
        let notice = NoticeView {
            id: format!("test-{}", now_ms()),
            hook: id,
            network: self.network.clone(),
            event: None,
        };
        let begun = Instant::now();
        let outcome = self.attempt(&stored, &notice).await;
        let test = HookTestView {
            delivered: outcome.is_ok(),
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            why: outcome.err(),
        };
        if test.delivered && stored.suspended {
            self.change(id, |stored| {
                (stored.suspended, stored.in_a_row) = (false, 0);
                stored.failing = None;
            });
            self.save(id).await?;
            self.begin(id);
        }
        let view = self.table().own(account, id)?.stored.view();
        Ok(only(view, Some(test)))
    }

    /// Starts a hook's task.
    fn begin(self: &Arc<Self>, id: HookId) {
        let task = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(Arc::clone(self).run(id))
        };
        let before = self
            .table()
            .hooks
            .get_mut(&id)
            .map(|entry| entry.task.replace(task.clone()));
        match before {
            // Two tests at once may have come here: one task is enough.
            Some(Some(other)) => other.abort(),
            Some(None) => {}
            None => task.abort(),
        }
    }

    /// Sends a hook's notices until it is suspended or removed, or the node ends.
    async fn run(self: Arc<Self>, id: HookId) {
        let Some(stored) = self.stored(id) else {
            return;
        };
        let filter = Filter {
            subjects: vec![Subject::Account(stored.account)],
            kinds: tags(&stored.kinds),
        };
        let mut events = self.node.subscribe(filter, stored.after);
        loop {
            match events.next().await {
                Ok(Some(event)) => {
                    if !self.deliver(id, &event).await {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, hook = %id, "a hook cannot read the history");
                    sleep(HISTORY_PAUSE).await;
                }
            }
        }
    }

    /// Delivers a notice, or gives it up; false where the hook sends no more.
    async fn deliver(self: &Arc<Self>, id: HookId, event: &Event) -> bool {
        loop {
            let Some(stored) = self.stored(id).filter(|stored| !stored.suspended) else {
                return false;
            };
            let failing = stored.failing.as_ref().filter(|f| f.event == event.seq);
            if let Some(next_at) = failing.and_then(|failing| failing.next_at_ms) {
                sleep(Duration::from_millis(next_at.saturating_sub(now_ms()))).await;
            }
            let notice = NoticeView {
                id: format!("{}-{}", self.network, event.seq),
                hook: id,
                network: self.network.clone(),
                event: Some(EventView::from(event)),
            };
            let outcome = self.attempt(&stored, &notice).await;
            let done = self
                .change(id, |stored| self.note(stored, event.seq, outcome))
                .unwrap_or(true);
            if let Err(refusal) = self.save(id).await {
                // Worth a repeat after a restart, not worth stopping for.
                tracing::warn!(?refusal, hook = %id, "a hook's state could not be written");
            }
            if done {
                return true;
            }
        }
    }

    async fn attempt(&self, stored: &Stored, notice: &NoticeView) -> Result<(), String> {
        let secret = stored.secret().ok_or("the hook's secret is damaged")?;
        self.sender.send(&stored.url, &secret, notice).await
    }

    /// Writes down an attempt's outcome; true when the event is dealt with.
    fn note(&self, stored: &mut Stored, event: u64, outcome: Result<(), String>) -> bool {
        let now = now_ms();
        let Err(why) = outcome else {
            stored.delivered = stored.delivered.saturating_add(1);
            (stored.after, stored.failing, stored.in_a_row) = (Some(event), None, 0);
            return true;
        };
        let before = stored.failing.take().filter(|f| f.event == event);
        let attempts = before
            .as_ref()
            .map_or(0, |before| before.attempts)
            .saturating_add(1);
        let since_ms = before.map_or(now, |before| before.since_ms);
        let lifetime = u64::try_from(self.config.lifetime.as_millis()).unwrap_or(u64::MAX);
        let pause = usize::try_from(attempts)
            .ok()
            .and_then(|attempts| self.config.pauses.get(attempts.checked_sub(1)?));
        let next_at_ms = pause
            .map(|pause| now.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)))
            .filter(|next| *next <= since_ms.saturating_add(lifetime));
        stored.failing = Some(Failing {
            event,
            attempts,
            since_ms,
            next_at_ms,
            why,
        });
        if next_at_ms.is_some() {
            return false;
        }
        stored.given_up = stored.given_up.saturating_add(1);
        stored.in_a_row = stored.in_a_row.saturating_add(1);
        stored.after = Some(event);
        stored.suspended = stored.in_a_row >= IN_A_ROW_MAX;
        true
    }

    fn stored(&self, id: HookId) -> Option<Stored> {
        let table = self.table();
        table.hooks.get(&id).map(|entry| entry.stored.clone())
    }

    fn change<T>(&self, id: HookId, change: impl FnOnce(&mut Stored) -> T) -> Option<T> {
        let mut table = self.table();
        table
            .hooks
            .get_mut(&id)
            .map(|entry| change(&mut entry.stored))
    }

    /// Brings a hook's file to its present state: written, or removed with the hook.
    async fn save(self: &Arc<Self>, id: HookId) -> Answer<()> {
        let hooks = Arc::clone(self);
        let write = move || {
            let _turn = hooks.disk.lock().unwrap_or_else(PoisonError::into_inner);
            match hooks.stored(id) {
                Some(stored) => file::write(&hooks.config.folder, &stored),
                None => file::remove(&hooks.config.folder, id),
            }
        };
        let written = tokio::task::spawn_blocking(write).await;
        written
            .map_err(|error| internal(&error))?
            .map_err(|error| internal(&error))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Returns an account's hook.
    fn own(&self, account: AccountId, id: HookId) -> Answer<&Entry> {
        let entry = self.hooks.get(&id);
        entry
            .filter(|entry| entry.stored.account == account)
            .ok_or_else(|| no_hook(id))
    }

    /// Tells whether one more may be added.
    fn room_for(&mut self, id: HookId, account: AccountId) -> Answer<()> {
        self.forget_old_removals();
        if self.removed.contains_key(&id) {
            let text = format!("{id} was removed; sign a new request");
            return Err(Refusal::new(Code::NoHook, text));
        }
        let of_account = self.hooks.values().filter(|e| e.stored.account == account);
        if of_account.count() >= ACCOUNT_HOOKS_MAX {
            let text =
                format!("the account has {ACCOUNT_HOOKS_MAX} hooks here, as many as one may have");
            return Err(Refusal::new(Code::TooMany, text));
        }
        if self.hooks.len() >= HOOKS_MAX {
            return Err(Refusal::new(
                Code::Overloaded,
                "the node has as many hooks as it can serve",
            ));
        }
        Ok(())
    }

    fn forget_old_removals(&mut self) {
        let now = now_ms();
        self.removed
            .retain(|_, at| now.saturating_sub(*at) <= REMOVED_KEPT_MS);
        while self.removed.len() >= REMOVED_MAX {
            self.removed.pop_first();
        }
    }
}

fn only(hook: HookView, test: Option<HookTestView>) -> HooksView {
    HooksView {
        items: vec![hook],
        test,
    }
}

fn no_hook(id: HookId) -> Refusal {
    Refusal::new(
        Code::NoHook,
        format!("the account has no {id} at this node"),
    )
}

/// Returns the words of kinds.
fn words(kinds: &[u8]) -> Answer<Vec<String>> {
    if kinds.is_empty() {
        return Err(Refusal::new(
            Code::BadHook,
            "a hook names at least one kind of event",
        ));
    }
    let mut words: Vec<String> = Vec::new();
    for kind in kinds {
        let word = EventKindView::WORDS.get(usize::from(*kind));
        let word = word.ok_or_else(|| {
            Refusal::new(
                Code::BadHook,
                format!("there is no kind of event number {kind}"),
            )
        })?;
        if !words.iter().any(|known| known == word) {
            words.push((*word).to_owned());
        }
    }
    Ok(words)
}

/// Returns the tags of words; one that this build does not know has none.
fn tags(words: &[String]) -> Vec<u8> {
    let place = |word: &String| EventKindView::WORDS.iter().position(|known| known == word);
    let places = words.iter().filter_map(place);
    places
        .filter_map(|place| u8::try_from(place).ok())
        .collect()
}
