//! The addresses, one file a noun.

use api::{
    AccountView, Code, EventView, ExplanationView, HooksView, JobView, KeyView, LeaseView,
    MachineView, OfferView, OrderView, Page, PostingView, ProviderView, RedemptionView, StatusView,
    TxView, WorkView, envelope::SEALED_JOB_BYTES_MAX, hook::HOOK_REQUEST_BYTES_MAX,
};
use axum::Router;
use market::{
    AccountId, JobId, LeaseId, MachineId, PublicKey, Tier,
    codec::{TX_BYTES_MAX, TxId},
};

use crate::{
    metrics, openapi,
    refusal::{Answer, Refusal},
    server::App,
};

use table::{Route, get, post, put};

mod accounts;
mod events;
mod hooks;
mod jobs;
mod manifests;
mod plan;
mod proofs;
mod schema;
mod status;
mod supply;
pub(crate) mod table;
mod transactions;

/// Returns the router of every address.
pub(crate) fn router() -> Router<App> {
    all()
        .into_iter()
        .fold(Router::new(), |router, route| route.serve(router))
        .fallback(nowhere)
}

/// Returns every address, in the order of the description.
pub(crate) fn all() -> Vec<Route> {
    [own(), ledger(), supply(), demand(), past()]
        .into_iter()
        .flatten()
        .collect()
}

/// What the gateway says of itself.
fn own() -> Vec<Route> {
    const TEXT: Option<&str> = Some("text/plain; charset=utf-8");
    vec![
        get("/healthz", "healthz", status::healthz)
            .about("Says that the process serves")
            .other(200, "It does", TEXT),
        get("/readyz", "readyz", status::readyz)
            .about("Says whether the node follows its network")
            .other(200, "It does", TEXT)
            .refuses(&[Code::NotReady]),
        get("/status", "statusPage", status::page)
            .about("Shows the node to people, as plain text")
            .other(200, "The page", TEXT),
        get("/metrics", "metrics", metrics::route)
            .about("Returns the metrics of gateway, node and engine for Prometheus")
            .other(200, "The metrics", Some(metrics::MEDIA_TYPE)),
        get("/api/v1/openapi.json", "openapi", openapi::route)
            .about("Returns this description")
            .other(200, "An OpenAPI 3.1 document", Some("application/json")),
        get("/api/v1/schema/job", "jobSchema", schema::job)
            .about("Returns the JSON Schema of job files")
            .other(200, "A JSON Schema", Some("application/schema+json")),
        get("/api/v1/status", "status", status::status)
            .about("Returns what the gateway says of itself and its network")
            .json::<StatusView>("The status"),
    ]
}

/// Transactions, accounts, keys and proofs.
fn ledger() -> Vec<Route> {
    const WAIT: &str = "`final` waits for the block, up to 25 s";
    vec![
        post("/api/v1/transactions", "submit", transactions::submit)
            .about("Takes a signed transaction; the same one again changes nothing")
            .query_words("wait", WAIT, &["final"])
            .takes("A signed transaction", "tx", TX_BYTES_MAX)
            .answer::<TxView>(200, "It is final: applied or rejected")
            .answer::<TxView>(202, "It waits for a block")
            .refuses(&[
                Code::BadTransaction,
                Code::BadSignature,
                Code::UnknownKey,
                Code::Nonce,
                Code::TxExpiry,
                Code::PoolFull,
                Code::KeyQueueFull,
                Code::NonceTaken,
                Code::TxDropped,
            ]),
        get(
            "/api/v1/transactions/{id}",
            "transaction",
            transactions::receipt,
        )
        .about("Returns what became of a transaction")
        .id::<TxId>("id", "The transaction")
        .query_words("wait", WAIT, &["final"])
        .answer::<TxView>(200, "It is final: applied or rejected")
        .answer::<TxView>(202, "It waits for a block")
        .refuses(&[Code::NoTransaction, Code::TxDropped]),
        get("/api/v1/accounts/{id}", "account", accounts::account)
            .about("Returns an account's balances")
            .id::<AccountId>("id", "The account")
            .json::<AccountView>("The account")
            .refuses(&[Code::NoAccount]),
        get(
            "/api/v1/accounts/{id}/postings",
            "postings",
            accounts::postings,
        )
        .about("Lists the movements of money that touched an account, older before newer")
        .id::<AccountId>("id", "The account")
        .paged()
        .json::<Page<PostingView>>("A page of movements"),
        get("/api/v1/redemptions", "redemptions", accounts::redemptions)
            .about("Lists redemptions under way, sooner before later end")
            .query::<PublicKey>("treasurer", "Only those that this treasurer is asked for")
            .query::<AccountId>("account", "Only those of this account")
            .paged()
            .json::<Page<RedemptionView>>("A page of redemptions"),
        get("/api/v1/keys/{key}", "key", accounts::key)
            .about("Returns a key's authority and its next nonce; also for a key that nobody knows")
            .id::<PublicKey>("key", "The key")
            .json::<KeyView>("The key"),
        get("/api/v1/proofs/{table}/{id}", "proof", proofs::proof)
            .about("Returns the proof of a record under a certified header, for light clients")
            .text_in_path(
                "table",
                "The record's table, as `account`, `job` or `lease`",
            )
            .text_in_path("id", "Its id; `-` for the table `system`")
            .other(200, "The proof", Some("application/octet-stream"))
            .refuses(&[Code::NoProof]),
    ]
}

/// Offers and who makes them.
fn supply() -> Vec<Route> {
    vec![
        get("/api/v1/offers", "offers", supply::offers)
            .about("Lists standing offers, cheaper before dearer")
            .query_text("model", "Only of this device model")
            .query::<Tier>("tier", "Only of this tier")
            .query_text("region", "Only in this region")
            .query::<AccountId>("provider", "Only of this provider")
            .query::<MachineId>("machine", "Only on this machine")
            .query_flag(
                "available",
                "Only of machines that take leases now, with a device free",
            )
            .paged()
            .json::<Page<OfferView>>("A page of offers"),
        get("/api/v1/machines", "machines", supply::machines)
            .about("Lists machines, older before newer")
            .query::<AccountId>("provider", "Only of this provider")
            .paged()
            .json::<Page<MachineView>>("A page of machines"),
        get("/api/v1/machines/{id}", "machine", supply::machine)
            .about("Returns a machine")
            .id::<MachineId>("id", "The machine")
            .json::<MachineView>("The machine")
            .refuses(&[Code::NoMachine]),
        get(
            "/api/v1/machines/{id}/leases",
            "machineLeases",
            supply::machine_leases,
        )
        .about("Lists a machine's live leases with all that it needs to serve them")
        .id::<MachineId>("id", "The machine")
        .paged()
        .json::<Page<WorkView>>("A page of leases")
        .refuses(&[Code::NoMachine]),
        get("/api/v1/providers/{id}", "provider", supply::provider)
            .about("Returns a provider")
            .id::<AccountId>("id", "The provider's account")
            .json::<ProviderView>("The provider")
            .refuses(&[Code::NoProvider]),
    ]
}

/// Jobs, and all that comes of them.
fn demand() -> Vec<Route> {
    let manifest = |route: Route| {
        route
            .about("Hands a job's sealed manifest to this node's keeper")
            .id::<JobId>("job", "The job")
            .header(
                "Tradewind-Claim",
                "KEY.NONCE.SIGNATURE of the key that opens the job, needed before the job is final",
            )
            .takes("A sealed manifest", "sealed", SEALED_JOB_BYTES_MAX)
            .other(202, "It waits for its job", None)
            .other(204, "It is stored", None)
            .refuses(&[
                Code::NotKeeper,
                Code::UnsignedManifest,
                Code::BadManifest,
                Code::JobEnded,
                Code::KeeperFull,
            ])
    };
    vec![
        get("/api/v1/jobs", "jobs", jobs::jobs)
            .about("Lists jobs, newer before older")
            .query::<AccountId>("tenant", "Only of this account")
            .query_words(
                "state",
                "Only in this state; `live` is open or running",
                &["open", "running", "ended", "live"],
            )
            .paged()
            .json::<Page<JobView>>("A page of jobs"),
        get("/api/v1/jobs/{id}", "job", jobs::job)
            .about("Returns a job by its id or the beginning of it")
            .text_in_path("id", "The job, or enough of its id")
            .json::<JobView>("The job")
            .refuses(&[Code::NoJob, Code::AmbiguousId]),
        get("/api/v1/jobs/{id}/leases", "jobLeases", jobs::job_leases)
            .about("Lists a job's leases, older before newer")
            .id::<JobId>("id", "The job")
            .paged()
            .json::<Page<LeaseView>>("A page of leases")
            .refuses(&[Code::NoJob]),
        get("/api/v1/leases/{id}", "lease", jobs::lease)
            .about("Returns a lease")
            .id::<LeaseId>("id", "The lease")
            .json::<LeaseView>("The lease")
            .refuses(&[Code::NoLease]),
        get("/api/v1/orders", "orders", jobs::orders)
            .about("Lists the orders in the book, older before newer")
            .paged()
            .json::<Page<OrderView>>("A page of orders"),
        post("/api/v1/plan", "plan", plan::plan)
            .about("Says what would happen to a job: who matches, or why nobody does")
            .query::<AccountId>("tenant", "Whose job it would be")
            .takes("A job's specification", "spec", plan::SPEC_BYTES_MAX)
            .json::<ExplanationView>("The plan"),
        manifest(put(
            "/api/v1/manifests/{job}",
            "putManifest",
            manifests::put,
        )),
        manifest(post(
            "/api/v1/manifests/{job}",
            "postManifest",
            manifests::put,
        )),
    ]
}

/// Events, and notices of them.
fn past() -> Vec<Route> {
    vec![
        get("/api/v1/events", "events", events::events)
            .about(
                "Streams events from any point on as server-sent events, or lists a page of them",
            )
            .query_flag("follow", "`false` for one page of JSON instead of a stream")
            .query::<AccountId>("account", "Only events that concern this account")
            .query::<JobId>("job", "Only events of this job")
            .query::<LeaseId>("lease", "Only events of this lease")
            .query::<MachineId>("machine", "Only events of this machine")
            .query_text(
                "kind",
                "Only of these kinds, with commas between, as `lease-ready,lease-ended`",
            )
            .paged()
            .header(
                "Last-Event-ID",
                "Number of the last event seen; wins over `after`",
            )
            .json::<Page<EventView>>("A page of events, where `follow` is `false`")
            .other(
                200,
                "Each message has an event's number, kind and JSON",
                Some("text/event-stream"),
            ),
        post("/api/v1/hooks", "hooks", hooks::serve)
            .about("Adds, lists, removes or tests an account's hooks, as a signed request asks")
            .takes("A signed request", "request", HOOK_REQUEST_BYTES_MAX)
            .json::<HooksView>("The hooks that it was about")
            .refuses(&[
                Code::BadTime,
                Code::BadSignature,
                Code::UnknownKey,
                Code::KeyEnded,
                Code::NotAllowed,
                Code::NoHook,
                Code::BadHook,
                Code::TooMany,
                Code::HooksOff,
            ]),
    ]
}

async fn nowhere() -> Refusal {
    std::future::ready(Refusal::new(
        Code::NotFound,
        "there is nothing at this address",
    ))
    .await
}

/// Returns what was found, or the refusal with `code`.
fn found<T>(thing: Option<T>, code: Code, id: impl std::fmt::Display) -> Answer<T> {
    thing.ok_or_else(|| Refusal::new(code, format!("the ledger has no {id}")))
}
