//! Speaks to the ledger: beats and reports of the machine's key, one after the other.

use api::{Code, MachineView};
use market::{BeatBatch, Height, LeaseId, MachineId, Outcome, Tx};
use tokio::{sync::mpsc, task::JoinSet};

use super::{state::Input, tell};
use crate::{
    core::Report,
    submit::{SubmitError, Submitter},
};

/// What waits to be said: at most one batch of beats and one report a lease.
const OUTBOX_MAX: usize = 256;

/// Something to say.
#[derive(Clone, Debug)]
pub(super) enum Outgoing {
    Beats(BeatBatch),
    Report(LeaseId, Report),
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Sent {
    /// The ledger took it, in the block of this height.
    Taken(Height),
    /// The ledger refused it for good, which settles it as well.
    Settled,
    /// The ledger says that the limit has not come: the tenant added funds, and the workload was stopped too soon.
    TooSoon,
    /// The ledger refused it for a reason that may pass; it is said again.
    Refused,
    /// It may not have arrived.
    Unsent,
}

/// What became of a batch of beats.
#[derive(Debug)]
pub(super) enum BeatsSent {
    Accepted(BeatBatch),
    /// The ledger's chain is another one: here is its record.
    Align(Box<MachineView>),
    /// Nobody answered.
    Silence,
    /// They were refused for a reason that may pass.
    Unsent,
}

/// Starts the task, and returns where to put what shall be said.
pub(super) fn spawn(
    tasks: &mut JoinSet<()>,
    mut submitter: Submitter,
    machine: MachineId,
    inputs: mpsc::Sender<Input>,
) -> mpsc::Sender<Outgoing> {
    let (outbox, mut outgoing) = mpsc::channel(OUTBOX_MAX);
    tasks.spawn(async move {
        while let Some(next) = outgoing.recv().await {
            let input = match next {
                Outgoing::Beats(batch) => {
                    Input::BeatsSent(beats(&mut submitter, machine, batch).await)
                }
                Outgoing::Report(lease, what) => {
                    Input::Reported(lease, what, report(&mut submitter, lease, what).await)
                }
            };
            tell(&inputs, input).await;
        }
    });
    outbox
}

async fn beats(submitter: &mut Submitter, machine: MachineId, batch: BeatBatch) -> BeatsSent {
    match submitter.submit(&Tx::Beat(batch.clone())).await {
        Ok(_) => BeatsSent::Accepted(batch),
        Err(SubmitError::Unsent(error)) => {
            tracing::warn!(%error, "beats wait: no answer");
            BeatsSent::Silence
        }
        Err(error) if !speaks_of_the_chain(&error) => {
            tracing::warn!(%error, "beats wait: refused for now");
            BeatsSent::Unsent
        }
        Err(error) => {
            // After a restart or a lost answer that is how the chain is found again.
            if error.refusal() == Some(Code::BeatChain) {
                tracing::debug!(%error, "the chain of beats is aligned");
            } else {
                tracing::warn!(%error, "beats were refused");
            }
            match submitter.client().machine(&machine).await {
                Ok(view) => BeatsSent::Align(Box::new(view)),
                Err(_) => BeatsSent::Unsent,
            }
        }
    }
}

async fn report(submitter: &mut Submitter, lease: LeaseId, report: Report) -> Sent {
    let call = match report {
        Report::Ready { at } => Tx::LeaseReady { lease, at },
        Report::Ended { at, outcome } => Tx::LeaseEnded { lease, at, outcome },
    };
    match submitter.submit(&call).await {
        Ok((receipt, _)) => {
            tracing::info!(%lease, ?report, "reported");
            Sent::Taken(Height::from_number(receipt.height.unwrap_or_default()))
        }
        Err(SubmitError::Unsent(error)) => {
            tracing::warn!(%lease, %error, "a report waits: no answer");
            Sent::Unsent
        }
        Err(error) => {
            tracing::warn!(%lease, ?report, %error, "a report was refused");
            match (error.refusal(), report) {
                // The ledger has ended or moved the lease meanwhile; its own word comes with the next look.
                (Some(Code::NoLease | Code::LeaseState), _) => Sent::Settled,
                (
                    Some(Code::BadTime),
                    Report::Ended {
                        outcome: Outcome::LimitReached,
                        ..
                    },
                ) => Sent::TooSoon,
                // Anything else speaks of the transaction or the clock, not of the lease: it is said again.
                _ => Sent::Refused,
            }
        }
    }
}

/// Returns whether beats were refused for what they say, and not for how they came.
fn speaks_of_the_chain(error: &SubmitError) -> bool {
    matches!(
        error.refusal(),
        Some(
            Code::BeatChain
                | Code::BadTime
                | Code::OutOfBounds
                | Code::NoMachine
                | Code::MachineState
        )
    )
}
