//! Asks the chain what [`decide`](crate::payout::decide) has to know: everything in two blocks, each by its hash, so that no
//! reorganisation between two questions mixes two chains.

use std::collections::{BTreeMap, BTreeSet};

use ethers_core::types::{Address, H256};

use crate::{
    evm::{At, BatchPaid, Block, Blocks, Call, Chain, Log, LogFilter, RpcError, Unpaid, Window, payout as calls},
    payout::{book::Mined, decide::Seen, error::PayError, item::PayoutContract},
    wallet::WalletAddress,
};

/// How many blocks are looked through for a payment that this ledger did not make: about five days of Ethereum.
const SEARCHED: u64 = 36_000;

/// How often a node is asked for it at most: some take a few blocks at a time.
const SEARCHES: u32 = 72;

/// Refuses another chain than the one payouts are set up for.
pub(super) async fn check_chain(chain: &Chain, contract: &PayoutContract) -> Result<(), PayError> {
    let found = chain.id().await?;
    if found != contract.chain_id {
        return Err(PayError::OtherChain { found, expected: contract.chain_id });
    }
    Ok(())
}

/// The token that the contract pays in; an error where there is no such contract.
pub(super) async fn token(chain: &Chain, contract: &PayoutContract) -> Result<Address, PayError> {
    let none = no_contract(contract);
    match chain.call(&call(contract, calls::token()), At::Latest).await {
        Ok(answer) => calls::address(&answer).ok_or(none),
        Err(error) if error.is_revert() => Err(none),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn nonces(
    chain: &Chain,
    blocks: &Blocks,
    senders: BTreeSet<Address>,
) -> Result<BTreeMap<Address, Seen<u64>>, PayError> {
    let mut nonces = BTreeMap::new();
    for sender in senders {
        let latest = chain.nonce(sender, At::Hash(blocks.latest.hash)).await?;
        let deep = chain.nonce(sender, At::Hash(blocks.deep.hash)).await?;
        nonces.insert(sender, Seen { latest, deep });
    }
    Ok(nonces)
}

pub(super) async fn guard(
    chain: &Chain,
    contract: &PayoutContract,
    blocks: &Blocks,
    batch: H256,
) -> Result<Seen<H256>, PayError> {
    let latest = guard_in(chain, contract, batch, &blocks.latest).await?;
    let deep = guard_in(chain, contract, batch, &blocks.deep).await?;
    Ok(Seen { latest: latest.ok_or_else(|| no_contract(contract))?, deep: deep.unwrap_or_default() })
}

/// `None` where there is no contract in that block: a deep one may be older than the contract.
async fn guard_in(
    chain: &Chain,
    contract: &PayoutContract,
    batch: H256,
    block: &Block,
) -> Result<Option<H256>, PayError> {
    let answer = chain.call(&call(contract, calls::paid(batch)), At::Hash(block.hash)).await?;
    match calls::digest(&answer) {
        Some(digest) => Ok(Some(digest)),
        None if answer.is_empty() => Ok(None),
        None => Err(no_contract(contract)),
    }
}

/// Whether the contract has paid the batch, in whatever block.
pub(super) async fn is_paid(chain: &Chain, contract: &PayoutContract, batch: H256) -> Result<bool, PayError> {
    let answer = chain.call(&call(contract, calls::paid(batch)), At::Latest).await?;
    calls::digest(&answer).map(|digest| !digest.is_zero()).ok_or_else(|| no_contract(contract))
}

pub(super) fn no_contract(contract: &PayoutContract) -> PayError {
    PayError::NoContract { contract: contract.address, chain_id: contract.chain_id }
}

/// Where a batch that is paid was paid: in one of our transactions, or else in one that events tell of.
pub(super) async fn mined(
    chain: &Chain,
    contract: &PayoutContract,
    batch: H256,
    ours: impl Iterator<Item = H256>,
    deep: &Block,
) -> Result<Mined, PayError> {
    for tx in ours {
        if let Some(receipt) = chain.receipt(tx).await?
            && receipt.succeeded
            && receipt.block_number <= deep.number
            && receipt.logs.iter().any(|log| log.address == contract.address && pays(log, batch))
        {
            let credited = receipt.logs.iter().filter(|log| log.address == contract.address);
            let credited = credited.filter_map(|log| credit(log, batch)).collect();
            return Ok(Mined { tx: Some(tx), block: Some(receipt.block_number), credited });
        }
    }
    // Not ours. A node that does not tell must not keep a paid batch open: it is settled without a hash then, and looked for
    // later.
    let found = elsewhere(chain, contract, batch, deep).await.unwrap_or_else(|error| {
        tracing::warn!(?batch, "it is paid, and where is not known yet: {error}");
        None
    });
    Ok(found.unwrap_or_default())
}

/// Where events say that a batch was paid; `None` where those of the last days say nothing, or a node tells so few blocks of
/// them at a time that it was not asked for all.
pub(super) async fn elsewhere(
    chain: &Chain,
    contract: &PayoutContract,
    batch: H256,
    deep: &Block,
) -> Result<Option<Mined>, RpcError> {
    let (address, from) = (contract.address, deep.number.saturating_sub(SEARCHED));
    let mut left = LogFilter { address, from, to: deep.number, topics: vec![Some(BatchPaid::topic()), Some(batch)] };
    let mut window = Window::default();
    for _ in 0..SEARCHES {
        let (logs, first) = window.last(chain, &left).await?;
        if let Some(paid) = logs.iter().find(|log| pays(log, batch)) {
            let topics = vec![Some(Unpaid::topic()), Some(batch)];
            let block = paid.block_number;
            let unpaid = chain.logs(&LogFilter { address, from: block, to: block, topics }).await?;
            let credited = unpaid.iter().filter_map(|log| credit(log, batch)).collect();
            return Ok(Some(Mined { tx: Some(paid.tx_hash), block: Some(block), credited }));
        }
        match first.checked_sub(1).filter(|before| *before >= from) {
            Some(before) => left.to = before,
            None => return Ok(None),
        }
    }
    tracing::warn!(
        ?batch,
        block = left.to,
        "its payment was looked for down to this block: the node tells few at a time"
    );
    Ok(None)
}

fn pays(log: &Log, batch: H256) -> bool {
    BatchPaid::read(log).is_some_and(|event| event.batch_id == batch)
}

fn credit(log: &Log, batch: H256) -> Option<WalletAddress> {
    let event = Unpaid::read(log).filter(|event| event.batch_id == batch)?;
    WalletAddress::from_bytes(event.to.0).ok()
}

pub(super) fn call(contract: &PayoutContract, data: Vec<u8>) -> Call {
    Call { from: None, to: Some(contract.address), data }
}
