//! The mesh's accounts in the ledger's words.

use far_ledger::Work;
use far_mesh_core::{
    hop::Account,
    id::{NodeId, Span},
};

/// The work that the hops account for; `own` is this machine's node, which ran the hops that name none.
///
/// A hop's account is its own word, and shares go by it: none is counted for more than the session's `positions`.
pub fn of_accounts(accounts: &[Account], positions: u64, own: NodeId) -> Vec<Work> {
    let work = |account: &Account| Work {
        compute_ms: u64::try_from(account.compute.as_millis()).unwrap_or(u64::MAX),
        exact: account.exact,
        ..one(account.node, account.span, account.tokens.min(positions), own)
    };
    accounts.iter().map(work).collect()
}

/// The work of a route that was left before its hops could account for it: each ran its layers for all `positions`.
pub fn of_route(route: impl IntoIterator<Item = (Option<NodeId>, Span)>, positions: u64, own: NodeId) -> Vec<Work> {
    route.into_iter().map(|(node, span)| one(node, span, positions, own)).collect()
}

fn one(node: Option<NodeId>, span: Span, tokens: u64, own: NodeId) -> Work {
    Work {
        node_id: node.unwrap_or(own).to_string(),
        layers_start: span.start(),
        layers_end: span.end(),
        tokens,
        compute_ms: 0,
        exact: true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use far_ledger::{Amount, Outcome, UnixMillis, cost::Price};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_hop_without_a_name_is_this_machine() {
        let (own, other) = (NodeId::random(), NodeId::random());
        let account = |node, span: &str| Account {
            node,
            span: span.parse().unwrap(),
            tokens: 9,
            compute: Duration::from_micros(2500),
            exact: true,
        };
        let work = of_accounts(&[account(None, "0..10"), account(Some(other), "10..30")], 8, own);
        assert_eq!(work[0].node_id, own.to_string());
        assert_eq!(
            (work[0].layers_start, work[0].layers_end, work[0].tokens, work[0].compute_ms),
            (0, 10, 8, 2),
            "8 positions, not 9"
        );
        assert_eq!(work[1].node_id, other.to_string());
        assert_eq!(of_route([(None, "0..10".parse().unwrap())], 8, own)[0], Work { compute_ms: 0, ..work[0].clone() });
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
                Account { node: Some(NodeId::random()), span, tokens: positions, compute: Duration::ZERO, exact: true }
            }).collect();
            let price = Price::new(Amount::from_nano(nano).unwrap());
            let outcome =
                Outcome::settle(price, tokens, &of_accounts(&accounts, positions, NodeId::random()), UnixMillis::now()).unwrap();
            let paid = Amount::checked_sum(outcome.contributions().iter().map(|part| part.payment));
            prop_assert_eq!(paid, Some(price.of(tokens).unwrap()));
            for (part, length) in outcome.contributions().iter().zip(&lengths) {
                prop_assert_eq!(part.token_layers, positions * u64::from(*length));
            }
        }
    }
}
