//! A node that answered, and transactions signed for its network.

use std::future::Future;

use api::{Client, ClientError, Code, Page, StatusView, TxStatus, TxView, Wait};
use market::{AccountId, JobId, LeaseId, Millis, NetworkName, Tx};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::wallet::Wallet;

/// How long a transaction may wait for inclusion; a block comes every second when there is work.
const TX_LIFETIME: Millis = Millis::from_secs(60);
/// Attempts when another command signs with the same key at the same time.
pub(crate) const NONCE_ATTEMPTS: u32 = 5;
/// Pages read when looking for something by name or prefix; beyond that the whole id is asked for.
const SEARCH_PAGES: u32 = 5;

/// A node that answered.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Its client.
    pub(crate) client: Client,
    /// What it said of itself when it was first asked.
    pub(crate) status: StatusView,
}

/// Tells whether another command that signs with the same key was faster.
pub(crate) fn is_nonce_race(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(Code::Nonce | Code::NonceTaken | Code::TxDropped)
    )
}

/// Runs a command's asynchronous part.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        Failure::new("io", "could not start the asynchronous runtime").causes(&error)
    })?;
    runtime.block_on(work)
}

impl Session {
    /// Asks the context's node who it is, and refuses one of another network than the stored.
    pub(crate) async fn open(context: &Context) -> Result<Self> {
        let client = Client::new(context.endpoint()?)?;
        let status = client.status().await?;
        if let Some(network) = context.network()?
            && network != status.network
        {
            let what = format!(
                "{} serves {}, not {network}",
                client.endpoint(),
                status.network
            );
            return Err(
                Failure::new("wrong-network", what).detail(format!("context: {}", context.name()))
            );
        }
        Ok(Self { client, status })
    }

    /// Returns the network's name.
    pub(crate) fn network(&self) -> &NetworkName {
        &self.status.network
    }

    /// Signs `call`, submits it, waits until its block is final and returns its receipt.
    pub(crate) async fn submit(&self, wallet: &Wallet, call: Tx) -> Result<TxView> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let nonce = self.client.next_nonce(&wallet.public()).await?;
            match self.submit_at(wallet, nonce, call.clone()).await {
                Err(error) if is_nonce_race(&error) && attempts < NONCE_ATTEMPTS => {}
                other => return Ok(other?),
            }
        }
    }

    /// Signs `call` with this very nonce, submits it and waits until its block is final.
    pub(crate) async fn submit_at(
        &self,
        wallet: &Wallet,
        nonce: u64,
        call: Tx,
    ) -> Result<TxView, ClientError> {
        let now = self.client.status().await?.now.0;
        let tx = wallet.sign(self.network(), nonce, now.after(TX_LIFETIME), call);
        let mut receipt = self.client.submit(&tx, Wait::Final).await?;
        // The node gives up waiting after 25 s; the transaction expires after 60.
        for _again in 0..3 {
            if receipt.status != TxStatus::Pending {
                break;
            }
            receipt = self.client.receipt(&tx.id(), Wait::Final).await?;
        }
        if receipt.status == TxStatus::Pending {
            let what = format!("transaction {} is not final yet", tx.id());
            return Err(api::Problem::new(Code::Timeout, what).into());
        }
        receipt.applied().map_err(ClientError::Problem)
    }

    /// Finds a job by id, by a unique beginning of it, or by the name that its tenant gave it; the newest wins.
    pub(crate) async fn find_job(&self, text: &str, tenant: Option<AccountId>) -> Result<JobId> {
        if text.starts_with(JobId::PREFIX) && text.get(3..4) == Some("_") {
            return Ok(self.client.job(text).await?.id);
        }
        let mut after: Option<String> = None;
        for _page in 0..SEARCH_PAGES {
            let page = self
                .client
                .jobs(tenant.as_ref(), None, after.as_deref())
                .await?;
            let named = |job: &&api::JobView| job.name.as_ref().is_some_and(|n| n.as_str() == text);
            if let Some(job) = page.items.iter().find(named) {
                return Ok(job.id);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Err(Failure::new("no-job", format!("there is no job {text:?}")))
    }

    /// Finds a lease by id, or by a unique beginning of it among the leases of this tenant's newest jobs.
    pub(crate) async fn find_lease(
        &self,
        text: &str,
        tenant: Option<AccountId>,
    ) -> Result<LeaseId> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        if !text.starts_with("lse_") {
            return Err(Failure::new("bad-id", format!("{text:?} is no lease's id")));
        }
        let mut found: Vec<LeaseId> = Vec::new();
        for job in self.client.jobs(tenant.as_ref(), None, None).await?.items {
            let leases: Page<api::LeaseView> = self.client.job_leases(&job.id).await?;
            let ids = leases.items.iter().map(|lease| lease.id);
            found.extend(ids.filter(|id| id.to_string().starts_with(text)));
        }
        match found.as_slice() {
            [] => Err(Failure::new(
                "no-lease",
                format!("there is no lease {text:?}"),
            )),
            [id] => Ok(*id),
            _ => Err(Failure::new(
                "ambiguous-id",
                format!("{} leases begin like {text:?}", found.len()),
            )),
        }
    }
}
