//! A node that answered, and transactions signed for its network.

use std::collections::BTreeMap;
use std::future::Future;

use api::{Client, ClientError, Code, Page, StatusView, TxStatus, TxView, Wait};
use market::{AccountId, JobId, LeaseId, Millis, NetworkName, Tx};

use crate::context::Context;
use crate::error::{Failure, Result, nearest};
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

    /// Returns the account that a key acts for: its own, unless another account let it act.
    pub(crate) async fn acting_for(&self, wallet: &Wallet) -> Result<AccountId> {
        let view = self.client.key(&wallet.public()).await?;
        Ok(view.account.unwrap_or_else(|| wallet.account()))
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

    /// Returns the account whose names count: mine where I have a key, else nobody's, and all jobs are looked at.
    pub(crate) async fn tenant(&self, context: &Context) -> Option<AccountId> {
        let wallet = context.wallet().ok()?;
        self.acting_for(&wallet).await.ok()
    }

    /// Finds a job by id or the unique beginning of one, or by the name that its tenant gave it or the unique beginning
    /// of one; of several jobs of one name the newest.
    pub(crate) async fn find_job(&self, text: &str, tenant: Option<AccountId>) -> Result<JobId> {
        if text.starts_with(JobId::PREFIX) && text.get(3..4) == Some("_") {
            return Ok(self.client.job(text).await?.id);
        }
        let mut newest: BTreeMap<String, JobId> = BTreeMap::new();
        let mut after: Option<String> = None;
        for _page in 0..SEARCH_PAGES {
            let page = self
                .client
                .jobs(tenant.as_ref(), None, after.as_deref())
                .await?;
            for job in page.items {
                match job.name {
                    Some(name) if name.as_str() == text => return Ok(job.id),
                    Some(name) => drop(newest.entry(name.to_string()).or_insert(job.id)),
                    None => {}
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        by_name(text, &newest)
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

/// Finds the job whose name begins with `text`, where only one name does.
fn by_name(text: &str, newest: &BTreeMap<String, JobId>) -> Result<JobId> {
    let begin = newest.iter().filter(|(name, _)| name.starts_with(text));
    let found: Vec<(&String, &JobId)> = begin.collect();
    match found.as_slice() {
        [(_, id)] => Ok(**id),
        [] => {
            let failure = Failure::new("no-job", format!("there is no job {text:?}"));
            Err(match nearest(text, newest.keys().map(String::as_str)) {
                Some(name) => failure.hint(format!("did you mean: {name}")),
                None => failure,
            })
        }
        all => {
            let names: Vec<&str> = all.iter().take(5).map(|(name, _)| name.as_str()).collect();
            let what = format!("{} jobs' names begin with {text:?}", all.len());
            Err(Failure::new("ambiguous-id", what).detail(names.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_found_by_the_unique_beginning_of_a_name() {
        let id = |nonce| JobId::created_by(&market::PublicKey::from_bytes([1; 32]), nonce);
        let names = [("train-a", 1), ("train-b", 2), ("serve", 3)];
        let newest = names
            .map(|(name, nonce)| (name.to_owned(), id(nonce)))
            .into();
        assert_eq!(by_name("se", &newest).unwrap(), id(3));
        assert_eq!(by_name("train-a", &newest).unwrap(), id(1));
        assert_eq!(
            by_name("train", &newest).unwrap_err().code(),
            "ambiguous-id"
        );
        let failure = by_name("srve", &newest).unwrap_err();
        assert_eq!(
            (failure.code(), failure.hints()),
            ("no-job", vec!["did you mean: serve".to_owned()])
        );
    }
}
