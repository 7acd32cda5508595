//! The mesh's accounts in the ledger's words.

use far_ledger::Work;
use far_mesh_core::{
    hop::Account,
    id::{NodeId, Span},
};

/// What the hops of a session did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performed {
    /// What is paid for.
    pub work: Vec<Work>,
    /// Token-layers that were asked for: more than those of `work` where receipts are missing.
    pub asked: u64,
}

/// The work that the hops account for; `own` is this machine's node, which ran the hops that name none.
///
/// None is counted for more than the session's `positions`.
pub fn of_accounts(accounts: &[Account], positions: u64, own: NodeId) -> Performed {
    let work = |account: &Account| Work {
        node_id: account.node.unwrap_or(own).to_string(),
        layers_start: account.span.start(),
        layers_end: account.span.end(),
        tokens: account.tokens.min(positions),
        compute_ms: u64::try_from(account.compute.as_millis()).unwrap_or(u64::MAX),
        exact: account.exact,
    };
    let asked = accounts.iter().map(|account| token_layers(account.span, account.counted.min(positions))).sum();
    Performed { work: accounts.iter().map(work).collect(), asked }
}

/// Positions and layers are bounded far below the square root of what fits.
fn token_layers(span: Span, positions: u64) -> u64 {
    u64::from(span.len()).saturating_mul(positions)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use far_ledger::{Amount, FeeRate, Outcome, UnixMillis, cost::Price};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_hop_without_a_name_is_this_machine() {
        let (own, other) = (NodeId::random(), NodeId::random());
        let account = |node, span: &str| Account {
            node,
            span: span.parse().unwrap(),
            tokens: 9,
            counted: 9,
            compute: Duration::from_micros(2500),
            exact: true,
            receipts: Vec::new(),
        };
        let Performed { work, asked } = of_accounts(&[account(None, "0..10"), account(Some(other), "10..30")], 8, own);
        assert_eq!(asked, 240);
        assert_eq!(work[0].node_id, own.to_string());
        assert_eq!(
            (work[0].layers_start, work[0].layers_end, work[0].tokens, work[0].compute_ms),
            (0, 10, 8, 2),
            "8 positions, not 9"
        );
        assert_eq!(work[1].node_id, other.to_string());
    }

    #[test]
    fn what_nobody_accounts_for_is_not_paid_by_guess() {
        let Performed { work, asked } = of_accounts(&[], 8, NodeId::random());
        let price = Price::new(Amount::from_nano(7).unwrap());
        let settled = Outcome::settle_vouched(price, FeeRate::ZERO, 3, &work, asked, UnixMillis::now());
        assert!(settled.is_err(), "{settled:?}");
    }

    proptest! {
        #[test]
        fn what_nodes_earn_is_what_the_session_cost(
            lengths in vec(1..40_u32, 1..12),
            positions in 1..100_000_u64,
            tokens in 0..100_000_u64,
            nano in 0..=1_000_000_000_i64,
        ) {
            let mut start = 0;
            let accounts: Vec<_> = lengths.iter().map(|length| {
                let span = Span::new(start, start + length).unwrap();
                start += length;
                Account {
                    node: Some(NodeId::random()),
                    span,
                    tokens: positions,
                    counted: positions,
                    compute: Duration::ZERO,
                    exact: true,
                    receipts: Vec::new(),
                }
            }).collect();
            let price = Price::new(Amount::from_nano(nano).unwrap());
            let Performed { work, asked } = of_accounts(&accounts, positions, NodeId::random());
            let outcome = Outcome::settle_vouched(price, FeeRate::ZERO, tokens, &work, asked, UnixMillis::now()).unwrap();
            let paid = Amount::checked_sum(outcome.contributions().iter().map(|part| part.payment));
            prop_assert_eq!(paid, Some(price.of(tokens).unwrap()));
            for (part, length) in outcome.contributions().iter().zip(&lengths) {
                prop_assert_eq!(part.token_layers, positions * u64::from(*length));
            }
        }
    }
}
