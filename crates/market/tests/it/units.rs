//! Quantities, ids and names: laws that hold for every value.

use market::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_a_budget_affords_costs_no_more_than_it(
        rate in 0..=u64::MAX, units in 0..=64_u32, budget in 0..=u64::MAX,
    ) {
        let (rate, budget) = (Rate::from_micros_per_hour(rate), Money::from_micros(budget));
        let time = rate.affords(units, budget);
        if time < Millis::MAX {
            let cost = rate.charge(units, time);
            prop_assert!(cost.is_some_and(|cost| cost <= budget));
            let longer = time.saturating_add(Millis::from_millis(MILLIS_PER_HOUR));
            let dearer = rate.charge(units, longer);
            prop_assert!(dearer.is_none_or(|cost| cost > budget || rate.micros_per_hour() == 0));
        }
    }

    #[test]
    fn splitting_a_time_never_costs_more(
        rate in 0..=1_000_000_000_u64, units in 1..=64_u32, a in 0..=10_000_000_u64, b in 0..=10_000_000_u64,
    ) {
        let rate = Rate::from_micros_per_hour(rate);
        let cost = |ms| rate.charge(units, Millis::from_millis(ms)).map_or(0, Money::micros);
        prop_assert!(cost(a) + cost(b) <= cost(a + b));
        prop_assert!(cost(a + b) <= cost(a) + cost(b) + 1);
    }

    #[test]
    fn a_share_is_never_more_than_the_whole(amount in 0..=u64::MAX, bps in 0..=10_000_u16) {
        let amount = Money::from_micros(amount);
        prop_assert!(amount.share(BasisPoints::from_bps(bps)) <= amount);
        prop_assert_eq!(amount.share(BasisPoints::from_bps(10_000)), amount);
    }

    #[test]
    fn ids_and_keys_read_back_from_their_text(bytes in any::<[u8; 16]>(), long in any::<[u8; 32]>()) {
        let id = JobId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        let key = PublicKey::from_bytes(long);
        prop_assert_eq!(PublicKey::parse(&key.to_string()), Some(key));
        let account = AccountId::of(key);
        prop_assert_eq!(account.to_string().parse(), Ok(account));
        prop_assert!(id.to_string().parse::<LeaseId>().is_err(), "another kind of id");
    }

    #[test]
    fn bytes_that_are_no_transaction_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(tx) = SignedTx::decode(&bytes) {
            prop_assert_eq!(&tx.encode(), &bytes, "one value, one byte string");
        }
        let mut versioned = vec![market::codec::TX_VERSION];
        versioned.extend(bytes);
        if let Ok(tx) = SignedTx::decode(&versioned) {
            prop_assert_eq!(tx.encode(), versioned);
        }
    }
}

#[test]
fn names_are_short_plain_text() {
    for bad in ["", " a", "a ", "ä", "a\nb", &"x".repeat(65)] {
        assert_eq!(Name::parse(bad), None, "{bad:?}");
    }
    assert!(Name::parse("NVIDIA H100 80GB").is_some());
    for bad in ["", "Main", "a b", &"x".repeat(49)] {
        assert_eq!(NetworkName::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn money_is_written_with_all_its_decimals() {
    assert_eq!(Money::from_micros(1_320_000).to_string(), "$1.320000");
    assert_eq!(Money::ZERO.to_string(), "$0.000000");
}
