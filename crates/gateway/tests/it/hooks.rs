//! Notices over real HTTP, to receivers that answer, fail, and go away.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use api::{
    ClientError, Code, EventKindView, HookState, HookView, HooksView, NoticeView,
    hook::{
        HookCall, HookRequest, HookSecret, NOTICE_ID_HEADER, NOTICE_SIGNATURE_HEADER,
        NOTICE_TIME_HEADER,
    },
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use ed25519_dalek::SigningKey;
use market::{Digest, JobId, Millis, PublicKey, Tx};
use tokio::net::TcpListener;

use crate::world::{PATIENCE, World, job_spec, key, network, now};

/// What was received: headers and body of each attempt.
type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that keeps what it gets.
struct Receiver {
    address: SocketAddr,
    seen: Seen,
    /// What it answers.
    status: Arc<AtomicU16>,
}

impl Receiver {
    async fn start() -> Self {
        let (seen, status) = (Seen::default(), Arc::new(AtomicU16::new(204)));
        let take = |State((seen, status)): State<(Seen, Arc<AtomicU16>)>,
                    headers: HeaderMap,
                    body: Bytes| async move {
            seen.lock().unwrap().push((headers, body));
            StatusCode::from_u16(status.load(Ordering::SeqCst)).unwrap()
        };
        let router = Router::new()
            .route("/x", post(take))
            .with_state((Arc::clone(&seen), Arc::clone(&status)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            address,
            seen,
            status,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/x", self.address)
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Waits for so many attempts, and returns all notices, each checked as a receiver would.
    async fn notices(&self, at_least: usize, secret: &HookSecret) -> Vec<NoticeView> {
        until(|| self.attempts() >= at_least).await;
        let seen = self.seen.lock().unwrap();
        let checked = seen.iter().map(|(headers, body)| {
            let header = |name: &str| headers[name].to_str().unwrap();
            let at_s = header(NOTICE_TIME_HEADER).parse().unwrap();
            let (id, signature) = (header(NOTICE_ID_HEADER), header(NOTICE_SIGNATURE_HEADER));
            let now_s = now().unix_millis() / 1_000;
            assert!(secret.verify(id, at_s, body, signature, now_s));
            let notice: NoticeView = serde_json::from_slice(body).unwrap();
            assert_eq!(notice.id, id);
            notice
        });
        checked.collect()
    }
}

async fn until(mut so: impl FnMut() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

fn place(word: &str) -> u8 {
    let place = EventKindView::WORDS.iter().position(|known| *known == word);
    u8::try_from(place.unwrap()).unwrap()
}

fn add(url: &str, kinds: &[&str]) -> HookCall {
    HookCall::Add {
        url: url.to_owned(),
        kinds: kinds.iter().map(|word| place(word)).collect(),
    }
}

async fn ask(world: &World, key: &SigningKey, call: HookCall) -> Result<HooksView, ClientError> {
    let request = HookRequest {
        signer: PublicKey::of(key),
        at: now(),
        call,
    };
    world.client.hooks(&request.sign(&network(), key)).await
}

async fn refused(world: &World, key: &SigningKey, call: HookCall) -> Code {
    ask(world, key, call).await.unwrap_err().code().unwrap()
}

/// Adds a hook and returns it with its secret.
async fn hook(
    world: &World,
    key: &SigningKey,
    url: &str,
    kinds: &[&str],
) -> (HookView, HookSecret) {
    let view = ask(world, key, add(url, kinds)).await.unwrap();
    let view = view.items.into_iter().next().unwrap();
    let secret = HookSecret::parse(view.secret.as_ref().unwrap()).unwrap();
    (view, secret)
}

async fn shown(world: &World, key: &SigningKey) -> HookView {
    let all = ask(world, key, HookCall::List).await.unwrap();
    all.items.into_iter().next().unwrap()
}

/// Opens a job and cancels it: two events of it that are told of.
async fn job(world: &World, tenant: &SigningKey, n: u8) -> JobId {
    let signer = PublicKey::of(tenant);
    let nonce = world.client.next_nonce(&signer).await.unwrap();
    let job = JobId::created_by(&signer, nonce);
    world
        .apply(tenant, Tx::OpenJob(job_spec(Digest([n; 32]))))
        .await;
    world.apply(tenant, Tx::CancelJob { job }).await;
    job
}

const KINDS: [&str; 2] = ["job-opened", "job-ended"];

#[tokio::test(flavor = "multi_thread")]
async fn notices_come_signed_in_order_and_at_least_once_over_failures_and_restarts() {
    let world = World::start().await;
    let (tenant, other) = (key(10), key(11));
    world.fund(&tenant, 100).await;
    world.fund(&other, 100).await;
    let before = job(&world, &tenant, 1).await;
    let receiver = Receiver::start().await;
    let (hook, secret) = hook(&world, &tenant, &receiver.url(), &KINDS).await;
    assert_eq!(shown(&world, &tenant).await.secret, None, "shown once");

    let first = job(&world, &tenant, 2).await;
    job(&world, &other, 3).await;
    let notices = receiver.notices(2, &secret).await;
    let words: Vec<&str> = notices
        .iter()
        .map(|notice| notice.event.as_ref().unwrap().kind.word())
        .collect();
    assert_eq!(words, KINDS);
    assert!(notices.iter().all(|notice| notice.hook == hook.id));
    let text = serde_json::to_string(&notices).unwrap();
    assert!(text.contains(&first.to_string()), "{text}");
    assert!(!text.contains(&before.to_string()), "only from then on");

    receiver.answer(503);
    let second = job(&world, &tenant, 4).await;
    until(|| receiver.attempts() >= 3).await;
    let world = world.restart_gateway().await;
    let failing = shown(&world, &tenant).await.failing.unwrap();
    assert_eq!(failing.why, "the receiver answered 503");
    receiver.answer(200);
    let view = loop {
        let view = shown(&world, &tenant).await;
        if view.delivered + view.given_up >= 4 {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((view.delivered, view.failing), (4, None));
    let notices = receiver.notices(5, &secret).await;
    let mut later: Vec<_> = notices.iter().skip(2).collect();
    later.dedup();
    assert_eq!(later.len(), 2, "the same on every repeat: {later:?}");
    assert!(
        serde_json::to_string(&later)
            .unwrap()
            .contains(&second.to_string())
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_is_given_up_and_taken_up_again_by_a_test() {
    let world = World::start().await;
    let tenant = key(10);
    world.fund(&tenant, 100).await;
    let receiver = Receiver::start().await;
    let (hook, secret) = hook(&world, &tenant, &receiver.url(), &KINDS).await;
    receiver.answer(302);
    for n in 0..6 {
        job(&world, &tenant, n).await;
    }
    let view = loop {
        let view = shown(&world, &tenant).await;
        if view.state == HookState::Suspended {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((view.delivered, view.given_up), (0, 10));
    assert_eq!(receiver.attempts(), 40, "four attempts each, then no more");
    let why = view.failing.unwrap().why;
    assert!(why.contains("redirects are not followed"), "{why}");
    let call = HookCall::Test { hook: hook.id };
    let failed = ask(&world, &tenant, call.clone()).await.unwrap();
    assert!(!failed.test.unwrap().delivered);

    let world = world.restart_gateway().await;
    assert_eq!(shown(&world, &tenant).await.state, HookState::Suspended);
    receiver.answer(200);
    let tested = ask(&world, &tenant, call).await.unwrap();
    assert!(tested.test.unwrap().delivered);
    // The test, and the two events after the ten that were given up.
    let notices = receiver.notices(44, &secret).await;
    assert_eq!(notices[41].event, None);
    assert!(notices[42].event.as_ref().unwrap().seq < notices[43].event.as_ref().unwrap().seq);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_taken_from_the_account_only() {
    let world = World::start().await;
    let (tenant, other, stranger) = (key(10), key(11), key(12));
    world.fund(&tenant, 100).await;
    world.fund(&other, 100).await;
    let url = "http://127.0.0.1:9999/x".to_owned();
    let (hook, _) = hook(&world, &tenant, &url, &KINDS).await;
    assert_eq!(
        refused(&world, &stranger, HookCall::List).await,
        Code::UnknownKey
    );
    let remove = HookCall::Remove { hook: hook.id };
    assert_eq!(refused(&world, &other, remove).await, Code::NoHook);
    assert!(
        ask(&world, &other, HookCall::List)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    for bad in [
        "ftp://example.org/",
        "http://a:b@example.org/",
        "http://example.org:22/",
        "x",
    ] {
        assert_eq!(
            refused(&world, &tenant, add(bad, &KINDS)).await,
            Code::BadHook,
            "{bad}"
        );
    }
    assert_eq!(
        refused(&world, &tenant, add(&url, &[])).await,
        Code::BadHook
    );
    let kinds = vec![250];
    let call = HookCall::Add {
        url: url.clone(),
        kinds,
    };
    assert_eq!(refused(&world, &tenant, call).await, Code::BadHook);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_hold_once_for_a_while_and_within_bounds() {
    let world = World::start().await;
    let (tenant, other) = (key(10), key(11));
    world.fund(&tenant, 100).await;
    let url = "http://127.0.0.1:9999/x".to_owned();
    let (hook, _) = hook(&world, &tenant, &url, &KINDS).await;
    let remove = HookCall::Remove { hook: hook.id };
    let mut request = HookRequest {
        signer: PublicKey::of(&tenant),
        at: now(),
        call: add(&url, &KINDS),
    };
    let added = request.clone().sign(&network(), &tenant);
    let [once, again] = [
        world.client.hooks(&added).await,
        world.client.hooks(&added).await,
    ];
    let (once, again) = (once.unwrap().items, again.unwrap().items);
    assert_eq!(once, again, "the same request adds one hook");
    let call = HookCall::Remove { hook: once[0].id };
    ask(&world, &tenant, call).await.unwrap();
    let code = world.client.hooks(&added).await.unwrap_err().code();
    assert_eq!(code, Some(Code::NoHook), "a replay adds nothing");
    request.at = now().after(Millis::from_secs(600));
    let stale = request.clone().sign(&network(), &tenant);
    assert_eq!(
        world.client.hooks(&stale).await.unwrap_err().code(),
        Some(Code::BadTime)
    );
    request.at = now();
    let forged = request.sign(&network(), &other);
    assert_eq!(
        world.client.hooks(&forged).await.unwrap_err().code(),
        Some(Code::BadSignature)
    );

    for n in 0..7 {
        ask(&world, &tenant, add(&format!("{url}{n}"), &KINDS))
            .await
            .unwrap();
    }
    assert_eq!(
        refused(&world, &tenant, add(&url, &KINDS)).await,
        Code::TooMany
    );
    ask(&world, &tenant, remove).await.unwrap();
    let world = world.restart_gateway().await;
    assert_eq!(
        ask(&world, &tenant, HookCall::List)
            .await
            .unwrap()
            .items
            .len(),
        7
    );
    world.stop().await;
}
