//! Hears the ledger: events of this machine at once, and a full look now and then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::{Client, ClientError, Code, EventFilter, EventStream, MachineView, StatusView, WorkView};
use market::{Height, LeaseId, MachineId, NetworkName, Timestamp};
use tokio::sync::{mpsc, watch};

use super::{state::Input, tell};
use crate::core::{Answer, Wanted};

/// Between two full looks while all is well: what the stream misses is made good within this time.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two looks while the ledger cannot be reached; the client itself tries for two seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Pages of one look: a machine has at most 64 leases.
const LEASES_ASKED_MAX: usize = 256;

/// What a look at the ledger gave.
#[derive(Debug)]
pub(super) struct Look {
    /// For the core.
    pub(super) answer: Answer,
    /// What the live leases need.
    pub(super) work: Vec<WorkView>,
    /// Of a full look.
    pub(super) full: Option<Box<(StatusView, MachineView)>>,
}

/// The task that hears the ledger.
pub(super) struct Watcher {
    pub(super) client: Client,
    pub(super) network: NetworkName,
    pub(super) machine: MachineId,
    pub(super) inputs: mpsc::Sender<Input>,
}

impl Watcher {
    /// Runs until it is cut. `interest` names the leases of which something is left on this machine.
    pub(super) async fn run(self, mut interest: watch::Receiver<BTreeSet<LeaseId>>) {
        let mut evict_at = None;
        let mut stream: Option<EventStream> = None;
        loop {
            let asked = interest.borrow_and_update().clone();
            let looked = self.look_fully(&asked).await;
            let pause = match looked {
                Ok(look) => {
                    if let Some(full) = &look.full {
                        let after = full.0.next_event.checked_sub(1);
                        let filter = EventFilter::machine(self.machine);
                        stream.get_or_insert_with(|| self.client.events(after, filter));
                        evict_at = full.1.evict_at.map(|at| at.0);
                    }
                    tell(&self.inputs, Input::Ledger(Box::new(look))).await;
                    LOOK_EVERY
                }
                Err(error) => {
                    tell(&self.inputs, Input::Silence(error)).await;
                    LOOK_AGAIN
                }
            };
            self.follow(stream.as_mut(), &mut interest, evict_at, pause)
                .await;
        }
    }

    /// Follows events for `pause`; returns early when a full look is due.
    async fn follow(
        &self,
        stream: Option<&mut EventStream>,
        interest: &mut watch::Receiver<BTreeSet<LeaseId>>,
        evict_at: Option<Timestamp>,
        pause: Duration,
    ) {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        let Some(stream) = stream else {
            return over.await;
        };
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = &mut over => return,
            };
            let event = match event {
                Ok(event) => event,
                Err(error) => return tell(&self.inputs, Input::Silence(error)).await,
            };
            if matches!(event.kind, api::EventKindView::MachineChanged { .. }) {
                return;
            }
            // The gateway has told of this height, so what it reads now is not older.
            let height = Height::from_number(event.height);
            let asked = interest.borrow_and_update().clone();
            match self.look(&asked, height, evict_at).await {
                Ok(look) => tell(&self.inputs, Input::Ledger(Box::new(look))).await,
                Err(error) => return tell(&self.inputs, Input::Silence(error)).await,
            }
        }
    }

    async fn look_fully(&self, asked: &BTreeSet<LeaseId>) -> Result<Look, ClientError> {
        let status = self.client.status().await?;
        if status.network != self.network {
            let why = format!("it serves network {}, not {}", status.network, self.network);
            let endpoint = self.client.endpoint().to_owned();
            return Err(ClientError::BadReply { endpoint, why });
        }
        let machine = self.client.machine(&self.machine).await?;
        let height = Height::from_number(status.height);
        let evict_at = machine.evict_at.map(|at| at.0);
        let mut look = self.look(asked, height, evict_at).await?;
        look.full = Some(Box::new((status, machine)));
        Ok(look)
    }

    async fn look(
        &self,
        asked: &BTreeSet<LeaseId>,
        height: Height,
        evict_at: Option<Timestamp>,
    ) -> Result<Look, ClientError> {
        let work = self.client.machine_leases(&self.machine).await?.items;
        let live = work
            .iter()
            .map(|w| (w.lease.id, Some(Wanted::of_work(w, evict_at))));
        let mut leases: BTreeMap<LeaseId, Option<Wanted>> = live.collect();
        let others: Vec<LeaseId> = asked
            .iter()
            .filter(|l| !leases.contains_key(l))
            .copied()
            .collect();
        for lease in others.into_iter().take(LEASES_ASKED_MAX) {
            leases.insert(lease, self.lease(&lease, evict_at).await?);
        }
        let answer = Answer { height, leases };
        Ok(Look {
            answer,
            work,
            full: None,
        })
    }

    async fn lease(
        &self,
        lease: &LeaseId,
        evict_at: Option<Timestamp>,
    ) -> Result<Option<Wanted>, ClientError> {
        match self.client.lease(lease).await {
            Ok(view) => Ok(Some(Wanted::of(&view, evict_at))),
            Err(error) if error.code() == Some(Code::NoLease) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
