//! What Prometheus reads at `/metrics`: the gateway's own figures, the node's, and after them the engine's.
//!
//! One struct a role. What is counted is counted as it happens; what is a state is looked up when it is asked for.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::{
    extract::State,
    http::{Method, header},
    response::IntoResponse,
};
use market::{JobState, Market};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    clients::{Clients, Kind},
    refusal::{Answer, internal},
    server::App,
};

/// The format, as Prometheus asks for it.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The format's last line.
const END: &str = "# EOF\n";

/// The metrics of one gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) gateway: GatewayMetrics,
    node: NodeMetrics,
}

/// What a request was: labels with few values, so that no client can make more.
type RequestLabels = [(&'static str, String); 3];
/// Why a request was turned away.
type RefusedLabels = [(&'static str, &'static str); 1];

/// What the gateway does.
#[derive(Clone, Debug)]
pub(crate) struct GatewayMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    refused: Family<RefusedLabels, Counter>,
    replayed: Counter,
    connections: Gauge,
    under_way: Gauge,
    waiting: Gauge,
    streams: Gauge,
    staged: Gauge,
    stored: Gauge,
}

/// How the node stands.
#[derive(Clone, Debug)]
struct NodeMetrics {
    height: Gauge<u64, AtomicU64>,
    block_time: Gauge<u64, AtomicU64>,
    events: Gauge<u64, AtomicU64>,
    pool_txs: Gauge,
    validators: Gauge,
    issued: Gauge,
    machines: Gauge,
    offers: Gauge,
    orders: Gauge,
    jobs: Family<JobLabels, Gauge>,
}

/// A job's state.
type JobLabels = [(&'static str, &'static str); 1];

/// How a request ended, for the counters.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) method: Method,
    /// The route's pattern; `None` for an address that is none.
    pub(crate) route: Option<String>,
    pub(crate) status: u16,
    pub(crate) took: Duration,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("tradewind");
        let gateway = GatewayMetrics::new(registry.sub_registry_with_prefix("gateway"));
        let node = NodeMetrics::new(registry.sub_registry_with_prefix("node"));
        Arc::new(Self {
            registry,
            gateway,
            node,
        })
    }

    /// Returns the gateway's and the node's own metrics as text, without the last line.
    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        text.truncate(text.trim_end_matches(END).len());
        Ok(text)
    }
}

impl GatewayMetrics {
    fn new(registry: &mut Registry) -> Self {
        // From a millisecond to half a minute: the longest wait for a block is 25 s.
        let buckets = exponential_buckets(0.001, 2.0, 16);
        let all = Self {
            requests: Family::default(),
            duration: Histogram::new(buckets),
            refused: Family::default(),
            replayed: Counter::default(),
            connections: Gauge::default(),
            under_way: Gauge::default(),
            waiting: Gauge::default(),
            streams: Gauge::default(),
            staged: Gauge::default(),
            stored: Gauge::default(),
        };
        let mut add = Adding(registry);
        add.one(
            "requests",
            "Requests answered, by method, route and status",
            &all.requests,
        );
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to its answer's",
            Unit::Seconds,
            all.duration.clone(),
        );
        let mut add = Adding(registry);
        add.one(
            "refused",
            "Requests and connections turned away, by why",
            &all.refused,
        );
        add.one(
            "replayed",
            "Answers given again under an idempotency key",
            &all.replayed,
        );
        add.one("connections", "Connections open", &all.connections);
        add.one(
            "requests_under_way",
            "Requests being served",
            &all.under_way,
        );
        add.one(
            "requests_waiting",
            "Requests that wait for a block",
            &all.waiting,
        );
        add.one("event_streams", "Event streams open", &all.streams);
        add.one(
            "manifests_staged",
            "Manifests that wait for their jobs",
            &all.staged,
        );
        add.one(
            "manifests_stored",
            "Manifests on the keeper's disk",
            &all.stored,
        );
        all
    }

    /// Counts a request that was answered.
    pub(crate) fn ended(&self, ended: &Ended) {
        let labels = [
            ("method", method_word(&ended.method).to_owned()),
            (
                "route",
                ended.route.clone().unwrap_or_else(|| "none".to_owned()),
            ),
            ("status", ended.status.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
        self.duration.observe(ended.took.as_secs_f64());
    }

    /// Counts one that was turned away.
    pub(crate) fn refused(&self, why: &'static str) {
        self.refused.get_or_create(&[("why", why)]).inc();
    }

    /// Counts an answer that was given again.
    pub(crate) fn replayed(&self) {
        self.replayed.inc();
    }

    fn look(&self, clients: &Clients, kept: Option<(usize, usize)>) {
        self.connections.set(small(clients.used(Kind::Connection)));
        self.under_way.set(small(clients.used(Kind::Request)));
        self.waiting.set(small(clients.used(Kind::Waiting)));
        self.streams.set(small(clients.used(Kind::Stream)));
        let (staged, stored) = kept.unwrap_or_default();
        self.staged.set(small(staged));
        self.stored.set(small(stored));
    }
}

/// What the ledger holds, counted under one look.
struct Census {
    issued_micros: u64,
    next_event: u64,
    machines: usize,
    offers: usize,
    orders: usize,
    jobs: [usize; 3],
}

impl NodeMetrics {
    fn new(registry: &mut Registry) -> Self {
        let all = Self {
            height: Gauge::default(),
            block_time: Gauge::default(),
            events: Gauge::default(),
            pool_txs: Gauge::default(),
            validators: Gauge::default(),
            issued: Gauge::default(),
            machines: Gauge::default(),
            offers: Gauge::default(),
            orders: Gauge::default(),
            jobs: Family::default(),
        };
        let mut add = Adding(registry);
        add.one("height", "Number of the newest final block", &all.height);
        add.one(
            "block_time_ms",
            "Time of the newest final block, in milliseconds since the Unix epoch",
            &all.block_time,
        );
        add.one("next_event", "Number of the next event", &all.events);
        add.one(
            "pool_transactions",
            "Transactions that wait for a block",
            &all.pool_txs,
        );
        add.one("validators", "Validators of the network", &all.validators);
        add.one(
            "issued_micros",
            "Dollars issued minus dollars redeemed, in millionths",
            &all.issued,
        );
        add.one("machines", "Machines on the ledger", &all.machines);
        add.one("offers", "Standing offers", &all.offers);
        add.one("orders", "Orders in the book", &all.orders);
        add.one("jobs", "Jobs on the ledger, by state", &all.jobs);
        all
    }

    fn look(&self, status: &node::Status, census: &Census) {
        self.height.set(status.head.height);
        self.block_time.set(status.head.time_ms);
        self.events.set(census.next_event);
        self.pool_txs.set(small(status.pool_txs));
        self.validators.set(small(status.validators));
        self.issued
            .set(i64::try_from(census.issued_micros).unwrap_or(i64::MAX));
        self.machines.set(small(census.machines));
        self.offers.set(small(census.offers));
        self.orders.set(small(census.orders));
        for (state, count) in ["open", "running", "ended"].into_iter().zip(census.jobs) {
            self.jobs
                .get_or_create(&[("state", state)])
                .set(small(count));
        }
    }
}

/// Registers metrics that are kept as well.
struct Adding<'a>(&'a mut Registry);

impl Adding<'_> {
    fn one<M: prometheus_client::registry::Metric + Clone>(
        &mut self,
        name: &str,
        help: &str,
        metric: &M,
    ) {
        self.0.register(name, help, metric.clone());
    }
}

pub(crate) async fn route(State(app): State<App>) -> Answer<impl IntoResponse> {
    let census = app.scan(census).await?;
    let kept = match &app.keeper {
        Some(keeper) => Some(keeper.counts().await),
        None => None,
    };
    app.metrics.gateway.look(&app.clients, kept);
    app.metrics.node.look(&app.node.status(), &census);
    let mut text = app.metrics.text().map_err(|error| internal(&error))?;
    let engine = app.node.metrics().await?;
    text.push_str(engine.trim_end_matches(END));
    text.push_str(END);
    Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text))
}

fn census(market: &Market) -> Census {
    let mut jobs = [0, 0, 0];
    for job in market.jobs() {
        let [open, running, ended] = &mut jobs;
        *match job.state {
            JobState::Open { .. } => open,
            JobState::Running { .. } => running,
            JobState::Ended { .. } => ended,
        } += 1;
    }
    Census {
        issued_micros: market.system().issued.micros(),
        next_event: market.system().next_event,
        machines: market.machines().count(),
        offers: market.offers().count(),
        orders: market.orders_open().count(),
        jobs,
    }
}

/// Returns the reference page of all metrics that are ours.
pub fn page() -> String {
    let metrics = Metrics::new();
    // A family shows itself only once it has a member; without labels every one does.
    metrics.gateway.ended(&Ended {
        method: Method::GET,
        route: None,
        status: 200,
        took: Duration::ZERO,
    });
    metrics.gateway.refused("rate");
    metrics.node.jobs.get_or_create(&[("state", "open")]).set(0);
    let text = metrics.text().unwrap_or_default();
    let mut page = "# Metrics\n\n\
        `/metrics` of a node gives these, and after them those of its engine, as OpenMetrics text. Labels stand in braces.\n\n\
        | metric | kind | what |\n|---|---|---|\n"
        .to_owned();
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, about) = help.split_once(' ').unwrap_or((help, ""));
        let kind = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# TYPE {name} ")))
            .unwrap_or_default();
        let suffix = if kind == "counter" { "_total" } else { "" };
        let labels = labels_of(&text, &format!("{name}{suffix}"));
        let about = about.trim_end_matches('.');
        writeln!(page, "| `{name}{suffix}{labels}` | {kind} | {about} |")
            .expect("writing to a string does not fail");
    }
    page
}

/// Returns the names of the labels of a metric's samples, in braces; nothing for one without labels.
fn labels_of(text: &str, sample: &str) -> String {
    let labels = text.lines().find_map(|line| {
        line.strip_prefix(sample)?
            .strip_prefix('{')?
            .split_once('}')
    });
    let names: Vec<&str> = labels
        .map(|(labels, _)| {
            labels
                .split(',')
                .filter_map(|one| one.split('=').next())
                .collect()
        })
        .unwrap_or_default();
    if names.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", names.join(","))
    }
}

/// Returns a method's name; one for all that no route takes, because clients may invent them.
fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    }
}

fn small(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_metric_with_its_labels() {
        let page = page();
        for line in [
            "| `tradewind_gateway_requests_total{method,route,status}` | counter |",
            "| `tradewind_gateway_request_duration_seconds` | histogram |",
            "| `tradewind_gateway_refused_total{why}` | counter |",
            "| `tradewind_node_height` | gauge |",
            "| `tradewind_node_jobs{state}` | gauge |",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
