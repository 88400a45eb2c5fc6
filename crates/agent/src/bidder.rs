//! Bids on orders that collect bids, for one machine: needs a key that may speak for the provider.

use std::{collections::BTreeSet, time::Duration};

use api::{Client, ClientError, EventFilter, EventKindView, OrderView};
use ed25519_dalek::SigningKey;
use market::{MachineId, OrderId, Tx, event::LeasePhase};
use tokio::sync::watch;

use crate::{
    pricing::{self, Policy},
    submit::{SubmitError, Submitter, now},
};

/// Pages of the book that are searched for one order: the newest orders are on the last.
const PAGES_MAX: usize = 64;
/// Until the stream is opened anew after it failed for good; it tries for half a minute by itself.
const AGAIN: Duration = Duration::from_secs(5);

/// A machine that bids.
#[derive(Debug)]
pub struct Bidder {
    /// The gateway.
    pub client: Client,
    /// Speaks for the provider: its owner key, or one with the provider's role.
    pub key: SigningKey,
    /// The machine.
    pub machine: MachineId,
    /// At what prices, as they are now.
    pub policy: watch::Receiver<Policy>,
}

/// Bids on every order that opens with a window and fits, until it is dropped. Troubles are logged and tried again.
pub async fn run_bidder(bidder: Bidder) {
    let status = loop {
        match bidder.client.status().await {
            Ok(status) => break status,
            Err(error) => {
                tracing::debug!(%error, "no bids while the ledger cannot be reached");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let mut submitter = Submitter::new(bidder.client.clone(), status.network, bidder.key.clone());
    let filter = EventFilter {
        kinds: vec!["order-opened".to_owned()],
        ..EventFilter::default()
    };
    let mut stream = bidder
        .client
        .events(status.next_event.checked_sub(1), filter);
    loop {
        let event = stream.next().await;
        match event.map(|event| event.kind) {
            Ok(EventKindView::OrderOpened {
                order, closes_at, ..
            }) if closes_at.0 > now() => {
                if let Err(error) = bidder.consider(&mut submitter, order).await {
                    tracing::warn!(%order, %error, "no bid could be placed");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "orders cannot be heard");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

impl Bidder {
    async fn consider(&self, submitter: &mut Submitter, id: OrderId) -> Result<(), SubmitError> {
        let policy = self.policy.borrow().clone();
        if !policy.bids() {
            return Ok(());
        }
        let Some(order) = self.find(id).await.map_err(SubmitError::Unsent)? else {
            return Ok(());
        };
        let machine = self
            .client
            .machine(&self.machine)
            .await
            .map_err(SubmitError::Unsent)?;
        let leases = self
            .client
            .machine_leases(&self.machine)
            .await
            .map_err(SubmitError::Unsent)?;
        let busy: BTreeSet<u8> = leases
            .items
            .into_iter()
            // A paused lease has given its devices back.
            .filter(|work| work.lease.state.phase() != LeasePhase::Paused)
            .flat_map(|work| work.lease.devices)
            .collect();
        let Some(terms) = pricing::bid(&policy, &machine, &busy, &order, now()) else {
            tracing::debug!(%id, "does not fit, or not at this price");
            return Ok(());
        };
        let price = terms.prices.per_device_hour;
        submitter.submit(&Tx::PlaceBid(terms)).await?;
        tracing::info!(order = %id, ?price, "bid");
        Ok(())
    }

    async fn find(&self, id: OrderId) -> Result<Option<OrderView>, ClientError> {
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.client.orders(after.as_deref()).await?;
            let found = page.items.into_iter().find(|order| order.id == id);
            if found.is_some() || page.next.is_none() {
                return Ok(found);
            }
            after = page.next;
        }
        Ok(None)
    }
}
