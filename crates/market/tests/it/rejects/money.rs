//! Money, keys and admission.

use market::{reject::FieldName as F, *};

use super::*;

#[test]
fn roles_are_enforced() {
    let mut s = scene();
    let to = account(STRANGER);
    s.no(
        DELEGATE,
        Tx::Transfer {
            to,
            amount: usd(1),
            memo: None,
        },
        Reject::NotAllowed,
    );
    s.no(
        DELEGATE,
        Tx::PlaceOffer(offer(s.machine, 1, Tier::Spot, 1)),
        Reject::NotAllowed,
    );
    s.no(MACHINE, Tx::OpenJob(spot(1)), Reject::NotAllowed);
    s.no(
        MACHINE,
        Tx::WithdrawBond { amount: usd(1) },
        Reject::NotAllowed,
    );
    s.no(
        PROVIDER,
        Tx::Issue {
            to,
            amount: usd(1),
            reference: Digest([9; 32]),
        },
        Reject::NotTreasurer,
    );
    s.no(
        PROVIDER,
        s.w.beat_call(s.machine, s.w.m.time(), &[]).1,
        Reject::NotAllowed,
    );
    s.no(
        DELEGATE,
        Tx::AuthorizeKey {
            key: key(41),
            role: KeyRole::Viewer,
            budget: None,
            expires_at: None,
        },
        Reject::NotAllowed,
    );
    s.no(
        TENANT,
        Tx::AuthorizeKey {
            key: key(41),
            role: KeyRole::Treasurer,
            budget: None,
            expires_at: None,
        },
        Reject::BadField { field: F::Role },
    );
}

#[test]
fn money_is_checked_before_it_moves() {
    let mut s = scene();
    let (to, reference) = (account(STRANGER), Digest([9; 32]));
    let available = usd(100);
    s.no(
        TENANT,
        Tx::Transfer {
            to,
            amount: usd(101),
            memo: None,
        },
        Reject::Funds {
            available,
            need: usd(101),
        },
    );
    s.no(
        TENANT,
        Tx::Transfer {
            to,
            amount: Money::ZERO,
            memo: None,
        },
        Reject::ZeroAmount,
    );
    let min = s.w.m.params().first_deposit_min;
    let small = Money::from_micros(min.micros() - 1);
    s.no(
        TENANT,
        Tx::Transfer {
            to: account(99),
            amount: small,
            memo: None,
        },
        Reject::DepositTooSmall { min },
    );
    s.no(
        TENANT,
        Tx::Transfer {
            to: account(MACHINE),
            amount: usd(1),
            memo: None,
        },
        Reject::KeyInUse,
    );
    s.no(
        TREASURER,
        Tx::Issue {
            to,
            amount: Money::MAX,
            reference,
        },
        Reject::Overflow,
    );
    s.w.ok(
        key(TREASURER),
        Tx::Issue {
            to,
            amount: usd(1),
            reference,
        },
    );
    s.no(
        TREASURER,
        Tx::Issue {
            to,
            amount: usd(1),
            reference,
        },
        Reject::ReferenceUsed,
    );
    s.no(
        DELEGATE,
        Tx::OpenJob(spot(6)),
        Reject::KeyBudget {
            left: usd(5),
            need: usd(6),
        },
    );
    s.no(
        TENANT,
        Tx::OpenJob(spot(101)),
        Reject::Funds {
            available,
            need: usd(101),
        },
    );
    s.w.job(DELEGATE, spot(4));
    s.no(
        DELEGATE,
        Tx::OpenJob(spot(2)),
        Reject::KeyBudget {
            left: usd(1),
            need: usd(2),
        },
    );
}

#[test]
fn redemptions_are_the_named_treasurers() {
    let mut s = scene();
    let (treasurer, destination) = (key(TREASURER), Digest([8; 32]));
    let request = |treasurer| Tx::RequestRedemption {
        treasurer,
        amount: usd(10),
        destination,
    };
    s.no(TENANT, request(key(STRANGER)), Reject::NotTreasurer);
    let redemption = RedemptionId::created_by(&key(TENANT), s.w.nonce(key(TENANT)));
    s.w.ok(key(TENANT), request(treasurer));
    assert_eq!(
        s.w.m.account(account(TENANT)).expect("an account").held,
        usd(10)
    );
    s.no(
        STRANGER,
        Tx::RefuseRedemption { redemption },
        Reject::NotTreasurer,
    );
    let reference = Digest([7; 32]);
    s.w.ok(
        key(TREASURER),
        Tx::ConfirmRedemption {
            redemption,
            reference,
        },
    );
    s.no(
        TREASURER,
        Tx::RefuseRedemption { redemption },
        Reject::NoRedemption(redemption),
    );
    assert_eq!(s.w.available(TENANT), usd(90));

    let second = RedemptionId::created_by(&key(TENANT), s.w.nonce(key(TENANT)));
    s.w.ok(key(TENANT), request(treasurer));
    s.no(
        TREASURER,
        Tx::ConfirmRedemption {
            redemption: second,
            reference,
        },
        Reject::ReferenceUsed,
    );
    s.w.wait(secs(3_600));
    assert_eq!(
        s.w.available(TENANT),
        usd(90),
        "nobody paid: the dollars return by themselves"
    );
}

#[test]
fn keys_belong_to_one_account() {
    let mut s = scene();
    let grant = |k, expires_at| Tx::AuthorizeKey {
        key: key(k),
        role: KeyRole::Tenant,
        budget: None,
        expires_at,
    };
    s.no(STRANGER, grant(DELEGATE, None), Reject::KeyInUse);
    s.no(TENANT, grant(STRANGER, None), Reject::KeyInUse);
    s.no(
        STRANGER,
        Tx::RevokeKey { key: key(DELEGATE) },
        Reject::NoKey,
    );
    s.no(TENANT, Tx::RevokeKey { key: key(TENANT) }, Reject::NoKey);
    let at = s.w.m.time();
    s.no(TENANT, grant(41, Some(at)), Reject::BadTime { at });
    s.w.ok(key(TENANT), Tx::RevokeKey { key: key(DELEGATE) });
    s.no(TENANT, Tx::RevokeKey { key: key(DELEGATE) }, Reject::NoKey);
    assert!(
        !s.w.m
            .may_act(&key(DELEGATE), account(TENANT), RoleNeeded::Tenant)
    );
    s.w.ok(key(TENANT), grant(DELEGATE, None));
    assert!(
        s.w.m
            .may_act(&key(DELEGATE), account(TENANT), RoleNeeded::Tenant)
    );
}

#[test]
fn inadmissible_transactions_make_no_block() {
    let mut s = scene();
    let before: Vec<_> = s.w.m.records().collect();
    let body = |signer, nonce, call| TxBody {
        signer: key(signer),
        nonce,
        expires_at: Timestamp::MAX,
        call,
    };
    let beat = Tx::Beat(BeatBatch {
        machine: s.machine,
        first_seq: 0,
        prev: Digest::default(),
        beats: vec![
            Beat {
                at: Timestamp::ZERO,
                leases: vec![]
            };
            361
        ],
    });
    let fine = Tx::OpenProvider { name: name("x") };
    let nonce = s.w.nonce(key(TENANT));
    let expired = TxBody {
        expires_at: Timestamp::ZERO,
        ..body(TENANT, nonce, fine.clone())
    };
    for (body, why) in [
        (body(99, 0, fine.clone()), Inadmissible::UnknownKey),
        (
            body(TENANT, nonce + 1, fine.clone()),
            Inadmissible::Nonce {
                expected: nonce,
                got: nonce + 1,
            },
        ),
        (expired, Inadmissible::Expired),
        (
            body(MACHINE, 1, beat),
            Inadmissible::OutOfBounds { field: "beats" },
        ),
    ] {
        let good = unsigned(TxBody {
            signer: key(TENANT),
            nonce,
            expires_at: Timestamp::MAX,
            call: fine.clone(),
        });
        let txs = match &why {
            // After a good transaction of the same block, to show that it is taken back.
            Inadmissible::UnknownKey => vec![good, unsigned(body)],
            _ => vec![unsigned(body)],
        };
        let ctx = s.w.ctx(secs(1));
        let index = txs.len() - 1;
        assert_eq!(s.w.m.execute(&ctx, &txs), Err(BlockError { index, why }));
        assert_eq!(
            s.w.m.records().collect::<Vec<_>>(),
            before,
            "nothing happened"
        );
        invariants::check(&s.w.m).expect("every invariant holds");
    }
    let wrong = BlockCtx {
        height: Height::from_number(999),
        ..s.w.ctx(secs(1))
    };
    assert!(s.w.m.execute(&wrong, &[]).is_err());
}
