//! What a transaction may cost (EIP-1559), and what it costs more when it is stuck.

use crate::evm::types::FeeHistory;

/// Nodes replace a waiting transaction only where both fees rise by at least this much; geth and most others: 10 %, some
/// 12.5 %.
const BUMP_PER_MILLE: u128 = 125;

/// Fees of a transaction, in wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Most that is paid, base fee and tip together.
    pub max_fee: u64,
    /// Most that goes to the proposer of the block.
    pub tip: u64,
}

/// What fees an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeePolicy {
    /// Cap on the whole fee. Where the chain asks for more, transactions wait until it asks for less.
    pub max_fee_cap: u64,
    /// Cap on the tip.
    pub tip_cap: u64,
    /// Least tip: proposers may pass over a transaction without one.
    pub least_tip: u64,
    /// Blocks that a transaction waits before its fees rise.
    pub bump_after_blocks: u64,
}

impl Default for FeePolicy {
    /// 200 gwei in all and 10 gwei of tip at most, 0.1 gwei of tip at least, a rise after 10 blocks (two minutes on Ethereum).
    fn default() -> Self {
        Self { max_fee_cap: 200_000_000_000, tip_cap: 10_000_000_000, least_tip: 100_000_000, bump_after_blocks: 10 }
    }
}

impl FeePolicy {
    /// Fees of a transaction that is signed for the first time: room for the base fee to double, which it cannot do in
    /// fewer than six blocks.
    pub fn first(&self, history: &FeeHistory) -> Fees {
        let mut tips = history.tips.clone();
        tips.sort_unstable();
        let median = tips.get(tips.len() / 2).copied().unwrap_or_default();
        let tip = clamp(median).max(self.least_tip).min(self.tip_cap).min(self.max_fee_cap);
        let wanted = history.next_base_fee.saturating_mul(2).saturating_add(tip.into());
        Fees { max_fee: clamp(wanted).min(self.max_fee_cap), tip }
    }

    /// Fees that replace `old`: both an eighth higher at least, or what [`FeePolicy::first`] asks for now; `None` where the
    /// caps leave no room.
    pub fn bump(&self, old: Fees, history: &FeeHistory) -> Option<Fees> {
        let now = self.first(history);
        let (least_fee, least_tip) = (raised(old.max_fee)?, raised(old.tip)?);
        if least_fee > self.max_fee_cap || least_tip > self.tip_cap {
            return None;
        }
        Some(Fees { max_fee: now.max_fee.max(least_fee), tip: now.tip.max(least_tip) })
    }
}

/// An eighth more, rounded up.
fn raised(fee: u64) -> Option<u64> {
    let more = u128::from(fee).checked_mul(BUMP_PER_MILLE)?.div_ceil(1000).max(1);
    u64::try_from(u128::from(fee).checked_add(more)?).ok()
}

/// Fees are stored as BIGINT.
fn clamp(fee: u128) -> u64 {
    u64::try_from(fee).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GWEI: u64 = 1_000_000_000;

    fn history(base: u64, tip: u64) -> FeeHistory {
        FeeHistory { next_base_fee: base.into(), tips: vec![tip.into(); 3] }
    }

    #[test]
    fn a_first_fee_leaves_room_and_stays_under_its_caps() {
        let policy = FeePolicy::default();
        assert_eq!(policy.first(&history(30 * GWEI, GWEI)), Fees { max_fee: 61 * GWEI, tip: GWEI });
        assert_eq!(policy.first(&history(30 * GWEI, 0)).tip, policy.least_tip);
        assert_eq!(policy.first(&history(30 * GWEI, 99 * GWEI)).tip, policy.tip_cap);
        assert_eq!(policy.first(&history(500 * GWEI, GWEI)).max_fee, policy.max_fee_cap);
        assert_eq!(policy.first(&FeeHistory { next_base_fee: u128::MAX, tips: vec![] }).max_fee, policy.max_fee_cap);
    }

    #[test]
    fn a_bump_follows_the_chain_and_ends_at_the_cap() {
        let policy = FeePolicy::default();
        let old = Fees { max_fee: 8 * GWEI, tip: GWEI };
        assert_eq!(policy.bump(old, &history(GWEI, 0)), Some(Fees { max_fee: 9 * GWEI, tip: 1_125_000_000 }));
        assert_eq!(policy.bump(old, &history(50 * GWEI, 2 * GWEI)), Some(Fees { max_fee: 102 * GWEI, tip: 2 * GWEI }));
        assert_eq!(policy.bump(Fees { max_fee: 190 * GWEI, ..old }, &history(GWEI, 0)), None);
    }

    proptest! {
        #[test]
        fn a_bump_is_always_enough_and_never_too_much(fee in 1..i64::MAX.unsigned_abs(), tip in 0..u64::MAX, base in any::<u128>()) {
            let policy = FeePolicy { max_fee_cap: i64::MAX.unsigned_abs(), tip_cap: i64::MAX.unsigned_abs(), ..FeePolicy::default() };
            let old = Fees { max_fee: fee, tip: tip.min(fee) };
            let history = FeeHistory { next_base_fee: base, tips: vec![] };
            if let Some(new) = policy.bump(old, &history) {
                prop_assert!(u128::from(new.max_fee) * 8 >= u128::from(fee) * 9);
                prop_assert!(u128::from(new.tip) * 8 >= u128::from(old.tip) * 9);
                prop_assert!(new.max_fee <= policy.max_fee_cap && new.tip <= new.max_fee);
            }
        }
    }
}
