//! One attempt to deliver one notice.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::hook::{HookSecret, NOTICE_ID_HEADER, NOTICE_SIGNATURE_HEADER, NOTICE_TIME_HEADER};
use api::{Code, NoticeView};
use reqwest::{header, redirect};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;

use super::address::{self, Reach, Resolver};

/// Time to connect, the name's resolution included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Time for an attempt: a receiver should store the notice and answer, and work afterwards.
pub(super) const ATTEMPT_DEADLINE: Duration = Duration::from_secs(10);
/// Attempts at once over all hooks, so that slow receivers cost a bounded number of sockets.
const ATTEMPTS_AT_ONCE: usize = 32;
/// Longest reason that is kept.
const WHY_CHARS: usize = 200;

/// Sends notices.
pub(super) struct Sender {
    http: reqwest::Client,
    reach: Reach,
    places: Semaphore,
}

impl Sender {
    /// Makes a sender; fails where the system's TLS cannot be set up.
    pub(super) fn new(reach: Reach) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // One that is broken is no reason to do without the others; without any, only http:// receivers work.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // A redirect could lead where the address itself may not.
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::new(Resolver(reach)))
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ATTEMPT_DEADLINE)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("tradewind/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            reach,
            places: Semaphore::new(ATTEMPTS_AT_ONCE),
        })
    }

    /// Makes one attempt; an error says what went wrong.
    pub(super) async fn send(
        &self,
        url: &str,
        secret: &HookSecret,
        notice: &NoticeView,
    ) -> Result<(), String> {
        let url = address::parse(url, self.reach).map_err(|error| error.to_string())?;
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| Code::Stopping.title().to_owned())?;
        let at_s = now_ms() / 1_000;
        let answer = self
            .http
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(NOTICE_ID_HEADER, &notice.id)
            .header(NOTICE_TIME_HEADER, at_s)
            .header(
                NOTICE_SIGNATURE_HEADER,
                secret.sign(&notice.id, at_s, &body),
            )
            .body(body)
            .send()
            .await
            .map_err(|error| why(&error))?;
        // The body is nobody's concern, and might never end.
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let redirected = if status.is_redirection() {
            ", and redirects are not followed"
        } else {
            ""
        };
        Err(format!(
            "the receiver answered {}{redirected}",
            status.as_u16()
        ))
    }
}

/// Returns the innermost cause: the outer ones only repeat the address.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ATTEMPT_DEADLINE.as_secs());
    }
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().chars().take(WHY_CHARS).collect()
}

/// Returns this machine's time.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
