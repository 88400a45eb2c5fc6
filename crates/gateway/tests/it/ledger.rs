//! Submitting and reading.

use api::{Code, OfferFilter, TxStatus, Wait};
use market::{Digest, MachineId, Money, PublicKey, Rate, RecordId, Tx};

use crate::world::{
    World, account, job_spec, keeper_keys, key, machine_keys, network, sign, transfer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_applied_once_however_often_it_is_sent() {
    let world = World::start().await;
    let (alice, bob) = (key(10), key(11));
    world.fund(&alice, 5).await;
    world.fund(&bob, 1).await;
    let tx = transfer(&alice, 0, account(&bob), 2_000_000);
    let first = world.client.submit(&tx, Wait::Final).await.unwrap();
    let second = world.client.submit(&tx, Wait::Final).await.unwrap();
    let third = world.client.receipt(&tx.id(), Wait::None).await.unwrap();
    assert_eq!(first.status, TxStatus::Applied);
    assert_eq!((&first, &first), (&second, &third));
    let view = world.client.account(&account(&bob)).await.unwrap();
    assert_eq!(view.available.0, Money::from_dollars(3));
    let postings = world.client.postings(&account(&bob), None).await.unwrap();
    let amounts: Vec<_> = postings
        .items
        .iter()
        .map(|posting| posting.amount.0)
        .collect();
    assert_eq!(amounts, [Money::from_dollars(1), Money::from_dollars(2)]);
    assert_eq!(postings.items[1].tx, Some(tx.id()));
    let end = world
        .client
        .postings(&account(&bob), postings.next.as_deref())
        .await
        .unwrap();
    assert!(end.items.is_empty() && end.next.is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_codes() {
    let world = World::start().await;
    let (alice, stranger) = (key(10), key(12));
    world.fund(&alice, 5).await;
    let client = &world.client;
    let refused = async |tx| client.submit(&tx, Wait::Final).await.unwrap_err().code();
    let to = account(&alice);
    assert_eq!(
        refused(transfer(&stranger, 0, to, 1)).await,
        Some(Code::UnknownKey)
    );
    let mut forged = transfer(&alice, 0, account(&stranger), 1);
    forged.signature.0[5] ^= 1;
    assert_eq!(refused(forged).await, Some(Code::BadSignature));
    let poor = client
        .submit(
            &transfer(&alice, 0, account(&stranger), 9_000_000),
            Wait::Final,
        )
        .await
        .unwrap();
    assert_eq!(poor.status, TxStatus::Rejected);
    let problem = poor.applied().unwrap_err();
    assert_eq!(problem.known(), Some(Code::Funds));
    assert_eq!(problem.charged_micros.as_deref(), Some("0"));
    assert_eq!(
        refused(transfer(&alice, 0, account(&stranger), 1)).await,
        Some(Code::Nonce)
    );
    let missing = client
        .receipt(&transfer(&alice, 7, to, 1).id(), Wait::Final)
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Some(Code::NoTransaction));
    assert_eq!(
        client
            .account(&account(&stranger))
            .await
            .unwrap_err()
            .code(),
        Some(Code::NoAccount)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonces_count_what_waits() {
    let world = World::start().await;
    let alice = key(10);
    let unknown = world.client.key(&PublicKey::of(&alice)).await.unwrap();
    assert_eq!((unknown.account, unknown.next_nonce), (None, 0));
    world.fund(&alice, 5).await;
    // The second waits for the first, which is not sent yet.
    let waiting = transfer(&alice, 1, account(&alice), 1);
    let receipt = world.client.submit(&waiting, Wait::None).await.unwrap();
    assert_eq!(receipt.status, TxStatus::Pending);
    let first = sign(
        &alice,
        0,
        Tx::OpenProvider {
            name: crate::world::name("Alice"),
        },
    );
    world.client.submit(&first, Wait::Final).await.unwrap();
    world
        .client
        .receipt(&waiting.id(), Wait::Final)
        .await
        .unwrap();
    let known = world.client.key(&PublicKey::of(&alice)).await.unwrap();
    assert_eq!(
        (known.account, known.role.as_deref()),
        (Some(account(&alice)), Some("owner"))
    );
    assert_eq!((known.finalized_nonce, known.next_nonce), (2, 2));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn supply_and_plan_show_what_a_job_would_meet() {
    let world = World::start().await;
    let (owner, tenant, sign_key) = (key(20), key(21), key(22));
    let (keys, _) = machine_keys(&sign_key, &key(23));
    let machine = world.machine(&owner, keys, &sign_key).await;
    let client = &world.client;
    let offers = client
        .offers(&OfferFilter {
            available: true,
            ..OfferFilter::default()
        })
        .await
        .unwrap();
    assert_eq!(offers.items.len(), 1);
    let offer = &offers.items[0];
    assert_eq!((offer.machine, offer.devices_free), (machine, 1));
    assert_eq!(
        offer.provider_name.as_ref().map(market::Name::as_str),
        Some("North")
    );
    let none = OfferFilter {
        model: Some(crate::world::name("h100")),
        ..OfferFilter::default()
    };
    assert!(client.offers(&none).await.unwrap().items.is_empty());
    assert_eq!(
        client
            .machines(Some(&account(&owner)), None)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(
        client
            .provider(&account(&owner))
            .await
            .unwrap()
            .name
            .as_str(),
        "North"
    );
    let nowhere = MachineId::from_bytes([1; 16]);
    assert_eq!(
        client.machine(&nowhere).await.unwrap_err().code(),
        Some(Code::NoMachine)
    );

    let mut spec = job_spec(Digest::default());
    let plan = client.explain_for(&spec, &account(&tenant)).await.unwrap();
    assert_eq!((plan.matching, plan.matches[0].offer), (1, offer.id));
    assert_eq!(plan.matches[0].worst_case.0, Money::from_dollars(1));
    spec.price_cap = Some(Rate::from_micros_per_hour(400_000));
    let plan = client.explain(&spec).await.unwrap();
    assert_eq!((plan.matching, plan.offers), (0, 1));
    assert_eq!(plan.funnel.len(), 1);
    assert_eq!((plan.funnel[0].turned_away, plan.funnel[0].left), (1, 0));
    assert_eq!(
        plan.relaxations[0].text,
        "raise the price cap to $1.000000 per device-hour"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_by_the_beginning_of_its_id() {
    let world = World::start().await;
    let tenant = key(30);
    world.fund(&tenant, 10).await;
    world
        .apply(&tenant, Tx::OpenJob(job_spec(Digest::default())))
        .await;
    let client = &world.client;
    let jobs = client
        .jobs(Some(&account(&tenant)), Some("live"), None)
        .await
        .unwrap();
    let job = &jobs.items[0];
    assert_eq!(
        (job.state.as_str(), job.held.0),
        ("open", Money::from_dollars(2))
    );
    let text = job.id.to_string();
    let beginning: String = text.chars().take(9).collect();
    assert_eq!(client.job(&beginning).await.unwrap().id, job.id);
    assert_eq!(
        client.job("job_").await.unwrap_err().code(),
        Some(Code::BadId)
    );
    assert_eq!(
        client.job("job_u!").await.unwrap_err().code(),
        Some(Code::NoJob)
    );
    let orders = client.orders(None).await.unwrap();
    assert_eq!(orders.items[0].job, job.id);
    assert_eq!(Some(orders.items[0].id), job.order);
    assert!(client.job_leases(&job.id).await.unwrap().items.is_empty());
    assert!(
        client
            .jobs(None, Some("ended"), None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_the_network_and_its_keeper() {
    let world = World::start().await;
    let alice = key(10);
    world.fund(&alice, 5).await;
    let status = world.client.status().await.unwrap();
    assert_eq!(status.network, network());
    assert!(status.ready, "{:?}", status.not_ready);
    assert_eq!(status.group_key.len(), 192);
    assert_eq!(status.issued.0, Money::from_dollars(5));
    let keeper = status.keeper.unwrap();
    assert_eq!(keeper.keeper(), keeper_keys());
    assert_eq!(keeper.dial, ["127.0.0.1:4000"]);
    let proof = world
        .client
        .proof(&RecordId::Account(account(&alice)))
        .await
        .unwrap();
    assert!(proof.len() > 200, "{} bytes", proof.len());
    world.stop().await;
}
