//! Who is paid in which batch: pure.

use std::collections::BTreeMap;

use crate::{
    amount::Amount,
    payout::item::{Item, MAX_ITEMS},
    wallet::WalletAddress,
};

/// What an operator decides about batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Wallets with less carry over to the next week. Half of what a transfer costs is a good start.
    pub minimum: Amount,
    /// Items of a batch, at most [`MAX_ITEMS`].
    pub batch_items: usize,
}

impl Default for Rules {
    /// 1 FAR at least; 400 items a batch: paying that many new holders takes 13.9 million gas, and a transaction may take
    /// 16.8 million (EIP-7825).
    fn default() -> Self {
        Self { minimum: Amount::from_nano_u32(1_000_000_000), batch_items: 400 }
    }
}

/// What a node has earned and was not planned for payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) node_id: String,
    /// As stored: it is checked here.
    pub(crate) wallet: Option<String>,
    pub(crate) amount: Amount,
}

/// Who gets what in which batch, and who has to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are paid.
    pub batches: Vec<PlannedBatch>,
    /// Balances that carry over.
    pub carried: Vec<Carried>,
}

/// A batch of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBatch {
    /// In the order of wallets.
    pub items: Vec<Item>,
    /// For each item the nodes that it pays.
    pub nodes: Vec<Vec<String>>,
}

/// A balance that is not paid this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The node.
    pub node_id: String,
    /// What it has earned.
    pub amount: Amount,
    /// Why it waits.
    pub why: Why,
}

/// Why a balance is not paid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The node named no wallet.
    NoWallet,
    /// The stored address is not one: the text.
    BadWallet(String),
    /// The wallet is the token or the payout contract, where FAR would be lost.
    OwnContract,
    /// All nodes of the wallet together have less than the minimum.
    BelowMinimum,
    /// The nodes of the wallet together have more than an amount can hold.
    TooMuch,
}

impl Plan {
    /// Groups balances by wallet and cuts them into batches. `own` are addresses that cannot be paid.
    pub(crate) fn of(balances: Vec<Balance>, rules: &Rules, own: &[[u8; 20]]) -> Self {
        let mut plan = Self::default();
        let mut wallets: BTreeMap<WalletAddress, Vec<Balance>> = BTreeMap::new();
        for balance in balances {
            let why = match balance.wallet.as_deref().map(str::parse::<WalletAddress>) {
                None => Why::NoWallet,
                Some(Err(_)) => Why::BadWallet(balance.wallet.unwrap_or_default()),
                Some(Ok(wallet)) if own.contains(wallet.as_bytes()) => Why::OwnContract,
                Some(Ok(wallet)) => {
                    wallets.entry(wallet).or_default().push(balance);
                    continue;
                }
            };
            plan.carried.push(Carried { node_id: balance.node_id, amount: balance.amount, why });
        }
        let mut paid = Vec::new();
        for (wallet, balances) in wallets {
            let sum = Amount::checked_sum(balances.iter().map(|balance| balance.amount));
            let why = match sum {
                Some(amount) if amount >= rules.minimum && !amount.is_zero() => {
                    let nodes = balances.into_iter().map(|balance| balance.node_id).collect();
                    paid.push((Item { wallet, amount }, nodes));
                    continue;
                }
                Some(_) => Why::BelowMinimum,
                None => Why::TooMuch,
            };
            plan.carried.extend(balances.into_iter().map(|balance| Carried {
                node_id: balance.node_id,
                amount: balance.amount,
                why: why.clone(),
            }));
        }
        for chunk in paid.chunks(rules.batch_items.clamp(1, MAX_ITEMS)) {
            let (items, nodes) = chunk.iter().cloned().unzip();
            plan.batches.push(PlannedBatch { items, nodes });
        }
        plan
    }

    /// What all batches pay together; `None` beyond what an amount can hold.
    pub fn total(&self) -> Option<Amount> {
        Amount::checked_sum(self.batches.iter().flat_map(|batch| &batch.items).map(|item| item.amount))
    }

    /// How many wallets are paid.
    pub fn wallets(&self) -> usize {
        self.batches.iter().map(|batch| batch.items.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nano(nano: i64) -> Amount {
        Amount::from_nano(nano).unwrap()
    }

    fn wallet(index: u8) -> WalletAddress {
        WalletAddress::from_bytes([index; 20]).unwrap()
    }

    fn balance(node: &str, wallet: Option<String>, amount: i64) -> Balance {
        Balance { node_id: node.into(), wallet, amount: nano(amount) }
    }

    fn rules(minimum: i64, batch_items: usize) -> Rules {
        Rules { minimum: nano(minimum), batch_items }
    }

    #[test]
    fn nodes_of_a_wallet_are_paid_together_and_the_rest_waits() {
        let of = |index| Some(wallet(index).to_string());
        let plan = Plan::of(
            vec![
                balance("a", of(1), 6),
                balance("b", of(2), 9),
                balance("c", of(1), 4),
                balance("d", None, 50),
                balance("e", Some("0x123".into()), 60),
                balance("f", of(9), 70),
                balance("g", of(3), i64::MAX),
                balance("h", of(3), 1),
            ],
            &rules(10, 10),
            &[[9; 20]],
        );
        assert_eq!(plan.batches.len(), 1);
        assert_eq!(plan.batches[0].items, [Item { wallet: wallet(1), amount: nano(10) }]);
        assert_eq!(plan.batches[0].nodes, [["a", "c"]]);
        let why = |node: &str| plan.carried.iter().find(|carried| carried.node_id == node).map(|c| c.why.clone());
        assert_eq!(why("b"), Some(Why::BelowMinimum));
        assert_eq!(why("d"), Some(Why::NoWallet));
        assert_eq!(why("e"), Some(Why::BadWallet("0x123".into())));
        assert_eq!(why("f"), Some(Why::OwnContract));
        assert_eq!((why("g"), why("h")), (Some(Why::TooMuch), Some(Why::TooMuch)));
    }

    #[test]
    fn nothing_is_never_paid() {
        let plan = Plan::of(vec![balance("a", Some(wallet(1).to_string()), 0)], &rules(0, 10), &[]);
        assert_eq!((plan.wallets(), plan.carried.len()), (0, 1));
    }

    proptest! {
        /// Every balance is in one item or carried, no wallet is twice in a plan, no batch is too large.
        #[test]
        fn a_plan_loses_nothing(
            balances in proptest::collection::vec((0_u8..40, 0..1_000_000_i64), 0..200),
            minimum in 0..2_000_000_i64,
            batch_items in 0_usize..600,
        ) {
            let given: Vec<Balance> = balances
                .iter()
                .enumerate()
                .map(|(index, (who, amount))| {
                    balance(&index.to_string(), (*who > 0).then(|| wallet(*who).to_string()), *amount)
                })
                .collect();
            let rules = rules(minimum, batch_items);
            let plan = Plan::of(given.clone(), &rules, &[[7; 20]]);
            let carried: i64 = plan.carried.iter().map(|carried| carried.amount.nano()).sum();
            prop_assert_eq!(plan.total().unwrap().nano() + carried, balances.iter().map(|(_, amount)| amount).sum::<i64>());
            let mut nodes: Vec<&String> = plan.batches.iter().flat_map(|batch| batch.nodes.iter().flatten()).collect();
            nodes.extend(plan.carried.iter().map(|carried| &carried.node_id));
            nodes.sort();
            nodes.dedup();
            prop_assert_eq!(nodes.len(), given.len());
            let mut wallets: Vec<_> = plan.batches.iter().flat_map(|batch| &batch.items).map(|item| item.wallet).collect();
            wallets.sort();
            wallets.dedup();
            prop_assert_eq!(wallets.len(), plan.wallets());
            for batch in &plan.batches {
                prop_assert!(!batch.items.is_empty() && batch.items.len() <= batch_items.clamp(1, MAX_ITEMS));
                prop_assert!(batch.items.iter().all(|item| item.amount >= rules.minimum));
                prop_assert_eq!(batch.items.len(), batch.nodes.len());
            }
        }
    }
}
