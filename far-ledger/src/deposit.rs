//! Deposits: FAR that users send to the operator's address on a chain, credited once they are deep enough.
//!
//! [`scan`] reads the token's events up to a deep block and credits each to the account that its sender's wallet belongs to. A
//! deposit is named by chain, transaction and place in its block, and credited once: a scan may be repeated, may begin
//! anywhere before the last one ended, and several may run at once.

use ethers_core::types::{Address, U256};

use crate::{
    amount::Amount,
    evm::{Chain, Depth, Log, LogFilter, RpcError, Transfer, Window},
    journal::Posted,
    store::{Deposit, DepositError, Ledger, ReadError},
    time::UnixMillis,
    wallet::WalletAddress,
};

/// Units of the token in a nano-FAR.
const UNITS_PER_NANO: u64 = 1_000_000_000;

/// Where deposits come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbox {
    /// The chain.
    pub chain_id: u64,
    /// FAR on it.
    pub token: Address,
    /// Whom users send FAR to.
    pub address: Address,
    /// How deep a deposit must be.
    pub depth: Depth,
}

/// What a scan found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Scan {
    /// Deposits that were credited by this scan.
    pub credited: Vec<Deposit>,
    /// How many were credited before.
    pub known: usize,
    /// Transfers that nobody is credited for.
    pub unclaimed: Vec<Unclaimed>,
    /// Where the next scan may begin. An earlier block finds unclaimed transfers again: link their wallets first.
    pub next_block: u64,
}

/// A transfer that nobody is credited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclaimed {
    /// The transfer.
    pub transfer: Transfer,
    /// Its transaction.
    pub tx_hash: String,
    /// Why.
    pub why: Why,
}

/// Why nobody is credited for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// No account has the sender's wallet.
    NoAccount,
    /// It is less than a nano-FAR, or more than an amount can hold.
    NoAmount,
}

/// Why a scan ended early. What it credited stays; another one goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The node serves another chain.
    #[error(
        "the node serves chain {found}, deposits are looked for on chain {expected}: set rpc_url or chain_id right"
    )]
    OtherChain {
        /// What the node said.
        found: u64,
        /// What was set up.
        expected: u64,
    },
    /// The node failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// An account cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A deposit cannot be credited.
    #[error(transparent)]
    Deposit(#[from] DepositError),
}

/// Credits the deposits from a block on, up to one that is deep.
///
/// # Errors
/// [`ScanError`].
pub async fn scan(
    ledger: &Ledger,
    chain: &Chain,
    inbox: &Inbox,
    from_block: u64,
    now: UnixMillis,
) -> Result<Scan, ScanError> {
    let found = chain.id().await?;
    if found != inbox.chain_id {
        return Err(ScanError::OtherChain { found, expected: inbox.chain_id });
    }
    let deep = chain.blocks(inbox.depth).await?.deep.number;
    let mut scan = Scan { next_block: from_block, ..Scan::default() };
    let topics = vec![Some(Transfer::topic()), None, Some(Transfer::address_topic(inbox.address))];
    let mut left = LogFilter { address: inbox.token, from: from_block, to: deep, topics };
    let mut window = Window::default();
    while left.from <= deep {
        let (logs, last) = window.first(chain, &left).await?;
        for log in logs {
            if let Some(transfer) = Transfer::read(&log) {
                take(ledger, inbox, &log, transfer, now, &mut scan).await?;
            }
        }
        left.from = last.saturating_add(1);
        scan.next_block = left.from;
    }
    Ok(scan)
}

async fn take(
    ledger: &Ledger,
    inbox: &Inbox,
    log: &Log,
    transfer: Transfer,
    now: UnixMillis,
    scan: &mut Scan,
) -> Result<(), ScanError> {
    let tx_hash = format!("{:#x}", log.tx_hash);
    let mut unclaimed = |why| scan.unclaimed.push(Unclaimed { transfer, tx_hash: tx_hash.clone(), why });
    let Some(amount) = amount(transfer.amount) else {
        unclaimed(Why::NoAmount);
        return Ok(());
    };
    // The wallet may be another account's by now.
    if ledger.is_credited(inbox.chain_id, &tx_hash, log.index).await? {
        scan.known = scan.known.saturating_add(1);
        return Ok(());
    }
    let Ok(from) = WalletAddress::from_bytes(transfer.from.0) else {
        unclaimed(Why::NoAccount);
        return Ok(());
    };
    let Some(account) = ledger.account_of_wallet(from).await? else {
        unclaimed(Why::NoAccount);
        return Ok(());
    };
    let deposit = Deposit {
        chain_id: inbox.chain_id,
        tx_hash,
        log_index: log.index,
        account: account.name,
        from,
        amount,
        block_number: log.block_number,
        at: now,
    };
    match ledger.credit_deposit(&deposit).await? {
        Posted::Now => scan.credited.push(deposit),
        Posted::Before => scan.known = scan.known.saturating_add(1),
    }
    Ok(())
}

/// Whole nano-FAR; what is finer than that stays with the operator.
fn amount(units: U256) -> Option<Amount> {
    let nano = units.checked_div(U256::from(UNITS_PER_NANO))?;
    let nano = i64::try_from(u128::try_from(nano).ok()?).ok()?;
    Amount::from_nano(nano).ok().filter(|amount| !amount.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_become_whole_nano_far() {
        let nano = |units: U256| amount(units).map(Amount::nano);
        assert_eq!(nano(U256::exp10(18)), Some(1_000_000_000));
        assert_eq!(nano(U256::exp10(9) * 7 + 999_999_999), Some(7));
        assert_eq!(nano(U256::exp10(9) - 1), None);
        assert_eq!(nano(U256::exp10(9) * i64::MAX), Some(i64::MAX));
        assert_eq!(nano(U256::exp10(9) * (1_u64 << 63)), None);
        assert_eq!(nano(U256::MAX), None);
    }
}
