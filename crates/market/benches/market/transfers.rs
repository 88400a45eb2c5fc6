//! Transfers between many accounts, in full blocks.

use market::*;

use crate::{
    crowd::{BLOCK_TXS, Crowd, Dice, account},
    figures::{Figures, Took, time},
};

/// Accounts that send and receive: their records do not fit a core's cache.
const ACCOUNTS: u64 = 100_000;
/// Blocks that are measured.
const BLOCKS: usize = 250;

pub(crate) fn measure(figures: &mut Figures) {
    let mut crowd = Crowd::new(Millis::from_secs(60));
    for n in 1..=ACCOUNTS {
        crowd.fund(n, 1_000);
    }
    crowd.flush();
    let mut dice = Dice(1);
    let mut took = Took::default();
    for _ in 0..BLOCKS {
        let txs: Vec<SignedTx> = (0..BLOCK_TXS)
            .map(|_| transfer(&mut crowd, &mut dice))
            .collect();
        let (outcome, one) = time(|| crowd.block(Millis::from_millis(8), &txs));
        assert!(
            outcome
                .receipts
                .iter()
                .all(|receipt| receipt.result.is_ok())
        );
        took += one;
    }
    figures.put_rate("transfers", BLOCKS * BLOCK_TXS, took);
}

fn transfer(crowd: &mut Crowd, dice: &mut Dice) -> SignedTx {
    let from = 1 + dice.below(ACCOUNTS);
    let to = account(1 + dice.below(ACCOUNTS));
    let amount = Money::from_micros(1 + dice.below(1_000));
    crowd.tx(
        from,
        Tx::Transfer {
            to,
            amount,
            memo: None,
        },
    )
}
