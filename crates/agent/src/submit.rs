//! Signs and submits transactions of one key, one after the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{Client, ClientError, Code, Problem, TxStatus, TxView, Wait};
use ed25519_dalek::SigningKey;
use market::{NetworkName, PublicKey, Timestamp, Tx, TxBody};

/// After this a transaction that was never included cannot be any more; longer than all tries together.
const EXPIRES_AFTER: Duration = Duration::from_mins(5);
/// Tries with the same or a fresh nonce: another process may use the key (setup does, at a restart).
const TRIES_MAX: u32 = 4;
/// For one try; the client itself repeats what was not answered.
const TRY_DEADLINE: Duration = Duration::from_secs(40);

/// A key that submits. One at a time: nonces are strictly sequential.
#[derive(Debug)]
pub struct Submitter {
    client: Client,
    network: NetworkName,
    key: SigningKey,
    nonce: Option<u64>,
}

/// A transaction had no effect.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The ledger or the gateway said no; saying it again would not help.
    #[error("refused: {}", .0.detail)]
    Refused(Box<Problem>),
    /// It may or may not have arrived.
    #[error("no answer")]
    Unsent(#[source] ClientError),
}

impl SubmitError {
    /// Returns the stable code of a refusal.
    pub fn refusal(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => problem.known(),
            Self::Unsent(_) => None,
        }
    }
}

/// Returns the machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Submitter {
    /// Makes a submitter for `key`; asks for its nonce when it first needs it.
    pub const fn new(client: Client, network: NetworkName, key: SigningKey) -> Self {
        Self {
            client,
            network,
            key,
            nonce: None,
        }
    }

    /// Returns the public key.
    pub fn key(&self) -> PublicKey {
        PublicKey::of(&self.key)
    }

    /// Returns the client.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Submits `call` and waits until it is final; returns its receipt and the nonce that it had.
    ///
    /// Our verbs may be said twice without harm (the second time is rejected), so an answer that was lost is handled
    /// by asking anew with a fresh nonce.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&mut self, call: &Tx) -> Result<(TxView, u64), SubmitError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(call).await {
                Ok(done) => return Ok(done),
                Err(SubmitError::Refused(problem))
                    if problem.known() == Some(Code::Nonce) && tries < TRIES_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&mut self, call: &Tx) -> Result<(TxView, u64), SubmitError> {
        // Whatever happens, a nonce is used once; it is known again only after a definite answer.
        let nonce = match self.nonce.take() {
            Some(nonce) => nonce,
            None => self.client.next_nonce(&self.key()).await.map_err(sort)?,
        };
        let expires_at = now().after(market::Millis::from_secs(EXPIRES_AFTER.as_secs()));
        let body = TxBody {
            signer: self.key(),
            nonce,
            expires_at,
            call: call.clone(),
        };
        let tx = body.sign(&self.network, &self.key);
        let submitted = tokio::time::timeout(TRY_DEADLINE, self.client.submit(&tx, Wait::Final));
        let receipt = submitted
            .await
            .map_err(|_| no_answer(&self.client))?
            .map_err(sort)?;
        if receipt.status == TxStatus::Pending {
            return Err(no_answer(&self.client));
        }
        self.nonce = Some(nonce + 1);
        let receipt = receipt.applied().map_err(SubmitError::Refused)?;
        Ok((receipt, nonce))
    }
}

fn sort(error: ClientError) -> SubmitError {
    match error {
        // What the gateway cannot do now, it may do later.
        ClientError::Problem(problem) if problem.status < 500 && problem.status != 429 => {
            SubmitError::Refused(problem)
        }
        error => SubmitError::Unsent(error),
    }
}

fn no_answer(client: &Client) -> SubmitError {
    SubmitError::Unsent(ClientError::Unreachable {
        endpoint: client.endpoint().to_owned(),
        why: "the transaction is not final yet".to_owned(),
    })
}
