//! The HTTP client of a gateway: typed calls with deadlines, and retries that cannot do anything twice.
//!
//! Every call may be repeated: reads change nothing, a signed transaction is applied once however often it arrives,
//! and a manifest is stored by its job. So connection failures and "try again" answers are retried a few times before
//! they are returned. Plain HTTP: put a gateway that others reach behind whatever terminates TLS for it.

use std::time::Duration;

use bytes::Bytes;
use market::{
    AccountId, JobId, JobSpec, LeaseId, MachineId, Name, PublicKey, RecordId, SignedTx, Tier,
    codec::{TxId, encode},
};
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{
    claim::{CLAIM_HEADER, ManifestClaim},
    envelope::SealedJob,
    hook::SignedHookRequest,
    problem::{Code, Problem},
    view::{
        AccountView, EventView, ExplanationView, HooksView, JobView, KeyView, LeaseView,
        MachineView, OfferView, OrderView, Page, PostingView, ProviderView, RedemptionView,
        StatusView, TxView, WorkView, text::Text as _,
    },
};

mod events;
mod sse;

pub use events::{EventFilter, EventStream};

/// What the fuzz targets call: reads bytes as an event stream, and its data as events.
#[doc(hidden)]
pub fn fuzz_event_stream(bytes: &[u8]) {
    let mut parser = sse::Parser::default();
    if parser.push(bytes).is_err() {
        return;
    }
    while let Some(message) = parser.next() {
        drop(serde_json::from_str::<crate::EventView>(&message.data));
    }
}

/// Time to connect: a gateway is near, or it is not there.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Idle connections are dropped before the gateway does so after 30 s.
const POOL_IDLE: Duration = Duration::from_secs(20);
/// Time for an ordinary answer.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Time for an answer that waits for a block; the gateway itself gives up after 25 s.
const FINAL_DEADLINE: Duration = Duration::from_secs(35);
/// Time for an answer about hooks: a test waits for the receiver, for 10 s at most.
const HOOK_DEADLINE: Duration = Duration::from_secs(15);
/// Pauses before the second, third and fourth attempt.
const RETRY_AFTER: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1_600),
];
/// Longest pause before the next attempt that a gateway may ask for: longer ones are for the caller to decide.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);
/// Largest answer that is read; a page is far smaller.
const REPLY_BYTES_MAX: usize = 16 << 20;
/// Items of a page where all pages are read: the most that a gateway gives.
const PAGE_ITEMS: usize = 1_000;
/// Most pages of a list that is read whole: far more than a machine or a job has leases.
const PAGES_MAX: usize = 100;
/// Longest text of an unreadable answer that an error quotes.
const QUOTE_CHARS: usize = 200;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer: refused, reset, or not in time.
    #[error("cannot reach {endpoint}: {why}")]
    Unreachable {
        /// The gateway's address.
        endpoint: String,
        /// What happened.
        why: String,
    },
    /// The gateway refused, and says why.
    #[error(transparent)]
    Problem(Box<Problem>),
    /// The answer is not one of this API.
    #[error("{endpoint} gave an answer that cannot be read: {why}")]
    BadReply {
        /// The gateway's address.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// Returns the stable code.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Unreachable { .. } => Some(Code::Unreachable),
            Self::Problem(problem) => problem.known(),
            Self::BadReply { .. } => Some(Code::BadReply),
        }
    }

    /// Returns the error as a problem, to be shown or passed on.
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Problem(problem) => *problem,
            Self::Unreachable { .. } => Problem::new(Code::Unreachable, self.to_string()),
            Self::BadReply { .. } => Problem::new(Code::BadReply, self.to_string()),
        }
    }
}

impl From<Problem> for ClientError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// Whether a submission waits until its block is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it is final, or the gateway's deadline (25 s) has passed: then the answer is still `pending`.
    Final,
    /// Only until it is admitted.
    None,
}

/// Which offers to list; empty lists all.
#[derive(Clone, Debug, Default)]
pub struct OfferFilter {
    /// Device model.
    pub model: Option<Name>,
    /// How firmly.
    pub tier: Option<Tier>,
    /// Region.
    pub region: Option<Name>,
    /// Provider.
    pub provider: Option<AccountId>,
    /// Machine.
    pub machine: Option<MachineId>,
    /// Only offers of machines that take leases now and have a device free.
    pub available: bool,
    /// Cursor: [`Page::next`] of the page before.
    pub after: Option<String>,
    /// Most to return; the gateway's default is 100.
    pub limit: Option<u32>,
}

/// Names the process's TLS provider, unless something did before.
///
/// No request of ours is encrypted by it. But where the data plane is linked in, it switches on TLS in the HTTP library
/// that both share, and a client of that library is then not made before a provider is named.
fn name_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Two threads may come here at once; the second is refused, and either is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// A gateway's client. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// `http://host:port`, without a slash at the end.
    endpoint: String,
}

impl Client {
    /// Makes a client of the gateway at `host:port` or `http://host:port`; does not connect yet.
    pub fn new(endpoint: &str) -> Result<Self, ClientError> {
        let endpoint = endpoint.trim();
        let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", endpoint));
        if scheme != "http" {
            return Err(unreachable(
                endpoint,
                "only http:// addresses are supported",
            ));
        }
        let endpoint = format!("http://{}", rest.trim_end_matches('/'));
        if let Err(error) = reqwest::Url::parse(&endpoint) {
            return Err(unreachable(&endpoint, &error.to_string()));
        }
        name_tls_provider();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(POOL_IDLE)
            .no_proxy()
            .tcp_nodelay(true)
            // Only http:// addresses are supported: a machine without any authority's certificate must do.
            .tls_certs_only([])
            .user_agent(concat!("tradewind/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| unreachable(&endpoint, &error.to_string()))?;
        Ok(Self { http, endpoint })
    }

    /// Returns the gateway's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns what the gateway says of itself and its network.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get("/status", Query::new()).await
    }

    /// Returns an account.
    pub async fn account(&self, id: &AccountId) -> Result<AccountView, ClientError> {
        self.get(&format!("/accounts/{id}"), Query::new()).await
    }

    /// Returns the movements that touched an account, oldest first.
    pub async fn postings(
        &self,
        id: &AccountId,
        after: Option<&str>,
    ) -> Result<Page<PostingView>, ClientError> {
        self.get(
            &format!("/accounts/{id}/postings"),
            Query::new().text("after", after),
        )
        .await
    }

    /// Returns the redemptions under way, those that a treasurer is asked for or an account asks for; soonest end first.
    pub async fn redemptions(
        &self,
        treasurer: Option<&PublicKey>,
        account: Option<&AccountId>,
        after: Option<&str>,
    ) -> Result<Page<RedemptionView>, ClientError> {
        let query = Query::new()
            .value("treasurer", treasurer)
            .value("account", account)
            .text("after", after);
        self.get("/redemptions", query).await
    }

    /// Returns a signing key's authority and nonces; a key that the network does not know has no account.
    pub async fn key(&self, key: &PublicKey) -> Result<KeyView, ClientError> {
        self.get(&format!("/keys/{key}"), Query::new()).await
    }

    /// Returns the nonce to sign the key's next transaction with, those that wait for inclusion counted.
    pub async fn next_nonce(&self, key: &PublicKey) -> Result<u64, ClientError> {
        Ok(self.key(key).await?.next_nonce)
    }

    /// Submits a transaction; submitting the same one again gives the same receipt.
    pub async fn submit(&self, tx: &SignedTx, wait: Wait) -> Result<TxView, ClientError> {
        let body = Body::of(tx.encode());
        let (query, deadline) = wait_query(wait);
        self.call(Method::POST, "/transactions", query, Some(body), deadline)
            .await
    }

    /// Returns what became of a transaction; [`Wait::Final`] waits for it as [`Self::submit`] does.
    pub async fn receipt(&self, id: &TxId, wait: Wait) -> Result<TxView, ClientError> {
        let (query, deadline) = wait_query(wait);
        self.call(
            Method::GET,
            &format!("/transactions/{id}"),
            query,
            None,
            deadline,
        )
        .await
    }

    /// Returns standing offers, cheapest first.
    pub async fn offers(&self, filter: &OfferFilter) -> Result<Page<OfferView>, ClientError> {
        let query = Query::new()
            .text("model", filter.model.as_ref().map(Name::as_str))
            .value("tier", filter.tier.map(|tier| tier.to_text()))
            .text("region", filter.region.as_ref().map(Name::as_str))
            .value("provider", filter.provider)
            .value("machine", filter.machine)
            .value("available", filter.available.then_some("true"))
            .text("after", filter.after.as_deref())
            .value("limit", filter.limit);
        self.get("/offers", query).await
    }

    /// Returns machines, all or one provider's.
    pub async fn machines(
        &self,
        provider: Option<&AccountId>,
        after: Option<&str>,
    ) -> Result<Page<MachineView>, ClientError> {
        self.get(
            "/machines",
            Query::new()
                .value("provider", provider)
                .text("after", after),
        )
        .await
    }

    /// Returns a machine.
    pub async fn machine(&self, id: &MachineId) -> Result<MachineView, ClientError> {
        self.get(&format!("/machines/{id}"), Query::new()).await
    }

    /// Returns a machine's live leases with all that the machine needs to serve them.
    pub async fn machine_leases(&self, id: &MachineId) -> Result<Page<WorkView>, ClientError> {
        self.whole(&format!("/machines/{id}/leases")).await
    }

    /// Returns a provider.
    pub async fn provider(&self, id: &AccountId) -> Result<ProviderView, ClientError> {
        self.get(&format!("/providers/{id}"), Query::new()).await
    }

    /// Returns jobs, newest first; `state` is `open`, `running`, `ended` or, for all that have not ended, `live`.
    pub async fn jobs(
        &self,
        tenant: Option<&AccountId>,
        state: Option<&str>,
        after: Option<&str>,
    ) -> Result<Page<JobView>, ClientError> {
        let query = Query::new()
            .value("tenant", tenant)
            .text("state", state)
            .text("after", after);
        self.get("/jobs", query).await
    }

    /// Returns a job by its id or the beginning of it, if that is unique.
    pub async fn job(&self, id_or_prefix: &str) -> Result<JobView, ClientError> {
        self.get(&format!("/jobs/{}", escape(id_or_prefix)), Query::new())
            .await
    }

    /// Returns a job's leases, oldest first.
    pub async fn job_leases(&self, id: &JobId) -> Result<Page<LeaseView>, ClientError> {
        self.whole(&format!("/jobs/{id}/leases")).await
    }

    /// Returns a lease.
    pub async fn lease(&self, id: &LeaseId) -> Result<LeaseView, ClientError> {
        self.get(&format!("/leases/{id}"), Query::new()).await
    }

    /// Returns the orders in the book, oldest first.
    pub async fn orders(&self, after: Option<&str>) -> Result<Page<OrderView>, ClientError> {
        self.get("/orders", Query::new().text("after", after)).await
    }

    /// Returns a stream of the events after number `after` (`None`: from the first) that pass the filter.
    ///
    /// It connects on the first [`EventStream::next`] and resumes by itself where it was cut off.
    pub fn events(&self, after: Option<u64>, filter: EventFilter) -> EventStream {
        EventStream::new(self.clone(), after, filter)
    }

    /// Returns one page of past events, oldest first.
    pub async fn event_page(
        &self,
        after: Option<u64>,
        filter: &EventFilter,
    ) -> Result<Page<EventView>, ClientError> {
        let query = filter.query(after).value("follow", Some("false"));
        self.get("/events", query).await
    }

    /// Returns the proof of a record under a finalized header, as the bytes that the `light` crate checks.
    pub async fn proof(&self, record: &RecordId) -> Result<Bytes, ClientError> {
        let path = proof_path(record);
        self.bytes(Method::GET, &path, Query::new(), None, REQUEST_DEADLINE)
            .await
    }

    /// Returns what would happen to a job of nobody in particular: who matches at what price, or why nobody does.
    pub async fn explain(&self, spec: &JobSpec) -> Result<ExplanationView, ClientError> {
        self.plan(spec, None).await
    }

    /// Returns the same for a job of this tenant, whose leases elsewhere weigh in the ranking.
    pub async fn explain_for(
        &self,
        spec: &JobSpec,
        tenant: &AccountId,
    ) -> Result<ExplanationView, ClientError> {
        self.plan(spec, Some(tenant)).await
    }

    async fn plan(
        &self,
        spec: &JobSpec,
        tenant: Option<&AccountId>,
    ) -> Result<ExplanationView, ClientError> {
        let body = Body::of(encode(spec));
        let query = Query::new().value("tenant", tenant);
        self.call(Method::POST, "/plan", query, Some(body), REQUEST_DEADLINE)
            .await
    }

    /// Asks this gateway to add, list, remove or test hooks of the signer's account; may be repeated.
    pub async fn hooks(&self, request: &SignedHookRequest) -> Result<HooksView, ClientError> {
        let body = Body::of(request.encode());
        self.call(
            Method::POST,
            "/hooks",
            Query::new(),
            Some(body),
            HOOK_DEADLINE,
        )
        .await
    }

    /// Hands the sealed manifest of a job that is on the ledger to this gateway's keeper; may be repeated.
    pub async fn put_manifest(&self, job: &JobId, sealed: &SealedJob) -> Result<(), ClientError> {
        self.hand_in(job, sealed, None).await
    }

    /// Hands it in shortly before the job: the keeper holds it for a few minutes. May be repeated.
    pub async fn stage_manifest(
        &self,
        job: &JobId,
        sealed: &SealedJob,
        claim: &ManifestClaim,
    ) -> Result<(), ClientError> {
        self.hand_in(job, sealed, Some(claim)).await
    }

    async fn hand_in(
        &self,
        job: &JobId,
        sealed: &SealedJob,
        claim: Option<&ManifestClaim>,
    ) -> Result<(), ClientError> {
        let body = Body {
            claim: claim.map(ManifestClaim::to_text),
            ..Body::of(sealed.encode())
        };
        let path = format!("/manifests/{job}");
        self.bytes(
            Method::PUT,
            &path,
            Query::new(),
            Some(body),
            REQUEST_DEADLINE,
        )
        .await
        .map(drop)
    }

    /// Returns all pages of a list as one.
    async fn whole<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>, ClientError> {
        let (mut items, mut after) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let query = Query::new()
                .text("after", after.as_deref())
                .value("limit", Some(PAGE_ITEMS));
            let page: Page<T> = self.get(path, query).await?;
            items.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(Page::only(items));
            }
        }
        Err(ClientError::BadReply {
            endpoint: self.endpoint.clone(),
            why: format!("{path} has more than {PAGES_MAX} pages"),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: Query) -> Result<T, ClientError> {
        self.call(Method::GET, path, query, None, REQUEST_DEADLINE)
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: Query,
        body: Option<Body>,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let bytes = self.bytes(method, path, query, body, deadline).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.bad_reply(&error, &bytes))
    }

    /// Makes the call with its retries, and returns the body of a good answer.
    async fn bytes(
        &self,
        method: Method,
        path: &str,
        query: Query,
        body: Option<Body>,
        deadline: Duration,
    ) -> Result<Bytes, ClientError> {
        let url = format!("{}/api/v1{path}{}", self.endpoint, query.text);
        let mut pauses = RETRY_AFTER.iter();
        loop {
            let failed = match self
                .attempt(method.clone(), &url, body.as_ref(), deadline)
                .await
            {
                Err(failed) => failed,
                Ok(reply) => return Ok(reply),
            };
            match pauses.next() {
                Some(pause) if failed.retry => {
                    let asked = failed.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                    tokio::time::sleep(asked.max(*pause)).await;
                }
                _ => return Err(failed.error),
            }
        }
    }

    async fn attempt(
        &self,
        method: Method,
        url: &str,
        body: Option<&Body>,
        deadline: Duration,
    ) -> Result<Bytes, Failed> {
        let mut request = self.http.request(method, url).timeout(deadline);
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(body.bytes.clone());
            if let Some(claim) = &body.claim {
                request = request.header(CLAIM_HEADER, claim);
            }
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let reply = self.read(response).await?;
        if status.is_success() {
            return Ok(reply);
        }
        Err(Failed {
            retry_after,
            ..self.refused(status, &reply)
        })
    }

    /// Reads a body up to the bound.
    async fn read(&self, mut response: reqwest::Response) -> Result<Bytes, Failed> {
        let mut reply = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if reply.len() + chunk.len() > REPLY_BYTES_MAX {
                let why = format!("more than {REPLY_BYTES_MAX} bytes");
                let error = ClientError::BadReply {
                    endpoint: self.endpoint.clone(),
                    why,
                };
                return Err(Failed {
                    error,
                    retry: false,
                    retry_after: None,
                });
            }
            reply.extend_from_slice(&chunk);
        }
        Ok(reply.into())
    }

    /// Returns the error of an answer that is not a good one.
    fn refused(&self, status: StatusCode, reply: &[u8]) -> Failed {
        let retry = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let error = match serde_json::from_slice::<Problem>(reply) {
            Ok(problem) => problem.into(),
            Err(_) => self.bad_reply(&format_args!("status {status}"), reply),
        };
        Failed {
            error,
            retry,
            retry_after: None,
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failed {
        Failed {
            error: unreachable(&self.endpoint, &causes(error)),
            retry: !error.is_builder(),
            retry_after: None,
        }
    }

    fn bad_reply(&self, why: &dyn std::fmt::Display, reply: &[u8]) -> ClientError {
        let quote: String = String::from_utf8_lossy(reply)
            .chars()
            .take(QUOTE_CHARS)
            .collect();
        ClientError::BadReply {
            endpoint: self.endpoint.clone(),
            why: format!("{why}: {quote}"),
        }
    }
}

/// A failed attempt, and whether another may succeed.
struct Failed {
    error: ClientError,
    retry: bool,
    /// When, if the gateway says so.
    retry_after: Option<Duration>,
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Canonical bytes, and whose they are where that must be shown.
struct Body {
    bytes: Bytes,
    claim: Option<String>,
}

impl Body {
    fn of(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            claim: None,
        }
    }
}

fn unreachable(endpoint: &str, why: &str) -> ClientError {
    ClientError::Unreachable {
        endpoint: endpoint.to_owned(),
        why: why.to_owned(),
    }
}

/// Returns the innermost cause: the outer ones only repeat the address.
fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn wait_query(wait: Wait) -> (Query, Duration) {
    match wait {
        Wait::Final => (Query::new().value("wait", Some("final")), FINAL_DEADLINE),
        Wait::None => (Query::new(), REQUEST_DEADLINE),
    }
}

/// Returns the path of a record's proof: its table, and its id where the table has more than one record.
fn proof_path(record: &RecordId) -> String {
    match record {
        RecordId::System => "/proofs/system/-".to_owned(),
        RecordId::Signer(key) => format!("/proofs/signer/{key}"),
        RecordId::Account(id) => format!("/proofs/account/{id}"),
        RecordId::Reference(digest) => format!("/proofs/reference/{digest}"),
        RecordId::Redemption(id) => format!("/proofs/redemption/{id}"),
        RecordId::Provider(id) => format!("/proofs/provider/{id}"),
        RecordId::Machine(id) => format!("/proofs/machine/{id}"),
        RecordId::Offer(id) => format!("/proofs/offer/{id}"),
        RecordId::Job(id) => format!("/proofs/job/{id}"),
        RecordId::Order(id) => format!("/proofs/order/{id}"),
        RecordId::Bid(id) => format!("/proofs/bid/{id}"),
        RecordId::Lease(id) => format!("/proofs/lease/{id}"),
        RecordId::Hold(id) => format!("/proofs/hold/{id}"),
        RecordId::Payable(id) => format!("/proofs/payable/{id}"),
    }
}

/// A query string under construction; absent values leave no trace.
struct Query {
    text: String,
}

impl Query {
    const fn new() -> Self {
        Self {
            text: String::new(),
        }
    }

    fn text(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.text.push(if self.text.is_empty() { '?' } else { '&' });
            self.text.push_str(name);
            self.text.push('=');
            self.text.push_str(&escape(value));
        }
        self
    }

    fn value(self, name: &str, value: Option<impl ToString>) -> Self {
        self.text(name, value.map(|value| value.to_string()).as_deref())
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::view::text::to_hex(&[byte]).to_ascii_uppercase());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_or_refused() {
        assert_eq!(
            Client::new("127.0.0.1:9100/").unwrap().endpoint(),
            "http://127.0.0.1:9100"
        );
        assert_eq!(
            Client::new("http://[::1]:9100").unwrap().endpoint(),
            "http://[::1]:9100"
        );
        for bad in ["https://example.org", "ftp://x", "", "http://", "a b"] {
            assert!(
                matches!(Client::new(bad), Err(ClientError::Unreachable { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn queries_are_escaped() {
        let query = Query::new()
            .text("a", Some("x y&z"))
            .text("b", None)
            .value("c", Some(7));
        assert_eq!(query.text, "?a=x%20y%26z&c=7");
        assert_eq!(escape("../é"), "..%2F%C3%A9");
    }
}
