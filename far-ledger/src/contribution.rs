//! Who did what in a session, and what each gets of its cost.
//!
//! The unit of work is the token-layer: one layer run for one position. A hop that ran 10 layers for 60 positions did
//! 600, wherever in the model its layers lie.

use std::collections::BTreeMap;

use crate::{
    amount::Amount,
    field::{self, FieldError},
    share::{SplitError, split},
    time::UnixMillis,
};

/// What one hop did in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The node.
    pub node_id: String,
    /// First layer it ran.
    pub layers_start: u32,
    /// Layer after the last.
    pub layers_end: u32,
    /// Positions it is paid for, prompt included.
    pub tokens: u64,
    /// Time its device spent on them, in ms, as the node says itself: for show, never for pay.
    pub compute_ms: u64,
    /// False where it took the place of a lost hop and may have given other bits.
    pub exact: bool,
}

/// A node's part in a session and its pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The node.
    pub node_id: String,
    /// First layer it ran.
    pub layers_start: u32,
    /// Layer after the last. Where a route was repaired so that the node ran several ranges from one start: the greatest.
    pub layers_end: u32,
    /// Positions it ran them for.
    pub tokens: u64,
    /// The weight of its share: layers run, summed over positions.
    pub token_layers: u64,
    /// Time its device spent, in ms.
    pub compute_ms: u64,
    /// False where it took the place of a lost hop and may have given other bits.
    pub exact: bool,
    /// Its share of the session's cost.
    pub payment: Amount,
}

/// A contribution as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContributionRow {
    /// The session.
    pub session_id: String,
    /// The part and its pay.
    pub contribution: Contribution,
    /// When it was paid out; `None` while it is owed.
    pub paid_at: Option<UnixMillis>,
    /// The transaction that paid it.
    pub payment_tx_hash: Option<String>,
}

/// Why work cannot be turned into contributions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareOutError {
    /// An account that no row can hold.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Tokens, layers or milliseconds of a node beyond 2^63.
    #[error("{field} of node {node_id} is more than can be counted: its account is not plausible, leave it out")]
    Overflow {
        /// The node.
        node_id: String,
        /// What overflowed.
        field: &'static str,
    },
    /// The cost cannot be split.
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// Splits `total` over the work that was done, by token-layers.
///
/// Accounts of one node that start at the same layer become one contribution. The payments sum to `total` exactly and
/// do not depend on the order of `work`; the contributions come in the order of layers, then of nodes.
///
/// # Errors
/// [`ShareOutError`] when an account is not plausible or when there is a cost and no work to split it by.
pub fn share_out(total: Amount, work: &[Work]) -> Result<Vec<Contribution>, ShareOutError> {
    let mut parts = BTreeMap::<(u32, &str), Contribution>::new();
    for done in work {
        field::id("node_id", &done.node_id)?;
        field::layers(done.layers_start, done.layers_end)?;
        let overflow = |field| ShareOutError::Overflow { node_id: done.node_id.clone(), field };
        let layers = done.layers_end.abs_diff(done.layers_start);
        let part = parts.entry((done.layers_start, &done.node_id)).or_insert_with(|| Contribution {
            node_id: done.node_id.clone(),
            layers_start: done.layers_start,
            layers_end: done.layers_end,
            tokens: 0,
            token_layers: 0,
            compute_ms: 0,
            exact: true,
            payment: Amount::ZERO,
        });
        let token_layers = done.tokens.checked_mul(layers.into()).ok_or_else(|| overflow("token_layers"))?;
        part.layers_end = part.layers_end.max(done.layers_end);
        part.exact &= done.exact;
        part.tokens = counted(part.tokens, done.tokens).ok_or_else(|| overflow("tokens"))?;
        part.token_layers = counted(part.token_layers, token_layers).ok_or_else(|| overflow("token_layers"))?;
        part.compute_ms = counted(part.compute_ms, done.compute_ms).ok_or_else(|| overflow("compute_ms"))?;
    }
    let weights: Vec<_> = parts.iter().map(|(key, part)| (*key, part.token_layers)).collect();
    let shares = split(total, &weights)?;
    Ok(parts.into_values().zip(shares).map(|(part, payment)| Contribution { payment, ..part }).collect())
}

/// A sum that a BIGINT holds.
fn counted(a: u64, b: u64) -> Option<u64> {
    a.checked_add(b).filter(|sum| i64::try_from(*sum).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn work(node_id: &str, layers: (u32, u32), tokens: u64) -> Work {
        Work {
            node_id: node_id.into(),
            layers_start: layers.0,
            layers_end: layers.1,
            tokens,
            compute_ms: 3,
            exact: true,
        }
    }

    fn nano(nano: i64) -> Amount {
        Amount::from_nano(nano).unwrap()
    }

    #[test]
    fn pay_goes_by_token_layers() {
        let parts = share_out(nano(1000), &[work("b", (10, 30), 50), work("a", (0, 10), 50)]).unwrap();
        let row = |part: &Contribution| (part.node_id.clone(), part.token_layers, part.payment.nano());
        assert_eq!(parts.iter().map(row).collect::<Vec<_>>(), [("a".into(), 500, 333), ("b".into(), 1000, 667)]);
    }

    #[test]
    fn accounts_from_one_start_become_one() {
        let parts =
            share_out(nano(90), &[work("a", (0, 10), 5), work("b", (10, 20), 8), work("a", (0, 20), 2)]).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].layers_end, parts[0].tokens, parts[0].token_layers), (20, 7, 90));
        assert_eq!(parts[0].compute_ms, 6);
        assert_eq!(parts[0].payment.nano() + parts[1].payment.nano(), 90);
    }

    #[test]
    fn one_account_with_other_bits_tells_of_them() {
        let other = Work { exact: false, ..work("a", (0, 10), 2) };
        let parts = share_out(nano(90), &[work("a", (0, 10), 5), other, work("b", (10, 20), 7)]).unwrap();
        assert_eq!(parts.iter().map(|part| part.exact).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn implausible_accounts_are_refused() {
        let refuse = |done: Work| share_out(nano(1), &[done]).unwrap_err();
        assert!(matches!(refuse(work("a", (3, 3), 1)), ShareOutError::Field(FieldError::NoLayers { .. })));
        assert!(matches!(refuse(work("", (0, 3), 1)), ShareOutError::Field(FieldError::Empty { .. })));
        assert!(matches!(refuse(work("a", (0, 3), u64::MAX)), ShareOutError::Overflow { field: "token_layers", .. }));
        assert!(matches!(refuse(work("a", (0, 1), 1 << 63)), ShareOutError::Overflow { field: "tokens", .. }));
        assert!(matches!(refuse(work("a", (0, 3), 0)), ShareOutError::Split(SplitError::NoWeight { .. })));
        assert_eq!(share_out(nano(0), &[]), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn payments_sum_to_the_cost_in_any_order(
            total in 0..=i64::MAX,
            mut accounts in vec(("[a-e]", 0..4_u32, 1..9_u32, 1..1_000_000_u64), 1..20),
        ) {
            let of = |accounts: &[(String, u32, u32, u64)]| {
                let work: Vec<_> = accounts.iter().map(|(n, start, len, t)| work(n, (*start, start + len), *t)).collect();
                share_out(nano(total), &work).unwrap()
            };
            let parts = of(&accounts);
            prop_assert_eq!(Amount::checked_sum(parts.iter().map(|part| part.payment)), Some(nano(total)));
            accounts.reverse();
            prop_assert_eq!(of(&accounts), parts);
        }
    }
}
