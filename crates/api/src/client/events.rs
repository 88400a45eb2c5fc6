//! The stream of events that survives lost connections.

use std::time::Duration;

use market::{AccountId, JobId, MachineId};
use reqwest::header;

use super::{Client, ClientError, Failed, Query, sse::Parser};
use crate::view::EventView;

/// Silence after which a connection counts as lost: three of the gateway's heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Time for the gateway to begin its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after the first failed attempt; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a returning gateway is found again soon.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Attempts in a row, about half a minute, before [`EventStream::next`] returns the error; calling it again goes on.
const ATTEMPTS_MAX: u32 = 10;

/// Which events to receive; what is set must all fit, and an empty filter lets everything through.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Events that concern this account.
    pub account: Option<AccountId>,
    /// Events of this job, its orders and leases.
    pub job: Option<JobId>,
    /// Events of this machine and its leases.
    pub machine: Option<MachineId>,
    /// Events of these kinds, by their words; empty is all.
    pub kinds: Vec<String>,
}

impl EventFilter {
    /// Returns the filter for one job.
    pub fn job(job: JobId) -> Self {
        Self {
            job: Some(job),
            ..Self::default()
        }
    }

    /// Returns the filter for one machine.
    pub fn machine(machine: MachineId) -> Self {
        Self {
            machine: Some(machine),
            ..Self::default()
        }
    }

    /// Returns the filter for one account.
    pub fn account(account: AccountId) -> Self {
        Self {
            account: Some(account),
            ..Self::default()
        }
    }

    pub(super) fn query(&self, after: Option<u64>) -> Query {
        let kinds = (!self.kinds.is_empty()).then(|| self.kinds.join(","));
        Query::new()
            .value("after", after)
            .value("account", self.account)
            .value("job", self.job)
            .value("machine", self.machine)
            .value("kind", kinds)
    }
}

/// Events in order, each once, however often the connection is lost.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    filter: EventFilter,
    after: Option<u64>,
    connection: Option<Connection>,
    failures: u32,
}

#[derive(Debug)]
struct Connection {
    response: reqwest::Response,
    parser: Parser,
}

impl EventStream {
    pub(super) const fn new(client: Client, after: Option<u64>, filter: EventFilter) -> Self {
        Self {
            client,
            filter,
            after,
            connection: None,
            failures: 0,
        }
    }

    /// Returns the number of the last event that was passed over or returned: where a later stream resumes.
    pub const fn position(&self) -> Option<u64> {
        self.after
    }

    /// Returns the next event, reconnecting as needed.
    ///
    /// May be dropped at any await and called again without losing an event. After an error it may be called again as
    /// well; it goes on where it was.
    /// # Errors
    /// Returns the gateway's refusal at once, and the last failure after ten attempts in a row.
    pub async fn next(&mut self) -> Result<EventView, ClientError> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(event);
            }
            let step = match &mut self.connection {
                Some(connection) => receive(&self.client, connection).await,
                None => self.connect().await,
            };
            if let Err(failed) = step {
                self.connection = None;
                self.failures += 1;
                if !failed.retry || self.failures >= ATTEMPTS_MAX {
                    self.failures = 0;
                    return Err(failed.error);
                }
            }
        }
    }

    /// Returns the next event that has arrived and that was not returned before.
    fn buffered(&mut self) -> Result<Option<EventView>, ClientError> {
        let Some(connection) = &mut self.connection else {
            return Ok(None);
        };
        while let Some(message) = connection.parser.next() {
            self.failures = 0;
            if message.data.is_empty() {
                // Only a number: everything up to it was looked at and filtered out.
                self.after = self.after.max(message.id);
                continue;
            }
            let event: EventView = match serde_json::from_str(&message.data) {
                Ok(event) => event,
                Err(error) => {
                    let error = self.client.bad_reply(&error, message.data.as_bytes());
                    self.connection = None;
                    return Err(error);
                }
            };
            if self.after.is_some_and(|after| event.seq <= after) {
                continue;
            }
            self.after = Some(event.seq);
            return Ok(Some(event));
        }
        Ok(None)
    }

    async fn connect(&mut self) -> Result<(), Failed> {
        if self.failures > 0 {
            let pause = PAUSE_MIN
                .saturating_mul(1 << self.failures.min(10))
                .min(PAUSE_MAX);
            tokio::time::sleep(pause).await;
        }
        let client = &self.client;
        let url = format!(
            "{}/api/v1/events{}",
            client.endpoint,
            self.filter.query(self.after).text
        );
        let request = client
            .http
            .get(url)
            .header(header::ACCEPT, "text/event-stream")
            .send();
        let response = tokio::time::timeout(ANSWER_DEADLINE, request)
            .await
            .map_err(|_| silent(client))?
            .map_err(|error| client.unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            let reply = client.read(response).await?;
            return Err(client.refused(status, &reply));
        }
        self.connection = Some(Connection {
            response,
            parser: Parser::default(),
        });
        Ok(())
    }
}

async fn receive(client: &Client, connection: &mut Connection) -> Result<(), Failed> {
    let chunk = tokio::time::timeout(SILENCE_MAX, connection.response.chunk())
        .await
        .map_err(|_| silent(client))?
        .map_err(|error| client.unreachable(&error))?;
    let lost = |why| Failed {
        error: super::unreachable(&client.endpoint, why),
        retry: true,
        retry_after: None,
    };
    let chunk = chunk.ok_or_else(|| lost("the gateway closed the stream"))?;
    connection
        .parser
        .push(&chunk)
        .map_err(|_| lost("an event is longer than allowed"))
}

fn silent(client: &Client) -> Failed {
    Failed {
        error: super::unreachable(&client.endpoint, "no answer in time"),
        retry: true,
        retry_after: None,
    }
}
