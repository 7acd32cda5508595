//! Loads what is under way.

use std::collections::{BTreeMap, HashMap};

use ethers_core::types::{Address, H256};

use crate::{
    evm::SignedTx,
    payout::{
        book::text::{address_text, hash_text, read_address, read_hash},
        decide::{Attempt, Batch, Owner, Slot, State, Status},
        epoch::Epoch,
        error::PayError,
        item::{self, Item, PayoutContract},
    },
    store::database::{Database, Row, Runs, Transaction, query},
    time::UnixMillis,
};

const OPEN: &str = "
SELECT b.batch_id, b.digest, p.status, e.epoch, e.chain_id, e.contract
FROM payout_batch b
JOIN far_payment_batches p ON p.id = b.batch_id
JOIN payout_epoch e ON e.epoch = b.epoch
WHERE p.status NOT IN ('confirmed', 'halted')
ORDER BY b.epoch, b.seq";

const COUNT: &str = "
SELECT COUNT(*) AS open FROM payout_batch b JOIN far_payment_batches p ON p.id = b.batch_id
WHERE p.status NOT IN ('confirmed', 'halted')";

/// Accounts that ever signed for a chain: a handful.
const SENDERS: &str = "SELECT DISTINCT sender FROM nonce_owner WHERE chain_id = $1 ORDER BY sender";

/// Of one account all that is not spent for good, and all of open batches.
const TRANSACTIONS: &str = "
SELECT t.hash, t.nonce, t.raw, t.signed_block, o.batch_id, o.try_no
FROM payout_tx t
JOIN nonce_owner o ON o.chain_id = t.chain_id AND o.sender = t.sender AND o.nonce = t.nonce
WHERE t.chain_id = $3 AND t.sender = $1 AND (t.nonce >= $2 OR o.batch_id IN (
    SELECT b.batch_id FROM payout_batch b JOIN far_payment_batches p ON p.id = b.batch_id
    WHERE p.status NOT IN ('confirmed', 'halted')))
ORDER BY t.nonce, t.attempt";

const OF_BATCH: &str = "
SELECT t.raw FROM payout_tx t
JOIN nonce_owner o ON o.chain_id = t.chain_id AND o.sender = t.sender AND o.nonce = t.nonce
WHERE o.batch_id = $1 ORDER BY t.nonce DESC, t.attempt DESC";

/// Newest first: their events are looked for in the last days.
const UNTOLD: &str = "
SELECT b.batch_id FROM payout_batch b
JOIN far_payment_batches p ON p.id = b.batch_id
JOIN payout_epoch e ON e.epoch = b.epoch
WHERE p.status = 'confirmed' AND p.tx_hash IS NULL AND e.chain_id = $1 AND e.contract = $2 AND p.confirmed_at >= $4
ORDER BY b.epoch DESC, b.seq DESC LIMIT $3";

const ITEMS: &str = "SELECT address, amount_far FROM payout_item WHERE batch_id = $1 ORDER BY place";

/// What stands before chain and sender in the owner of a nonce that pays nobody.
pub(super) const FILL: &str = "fill/";

/// What is under way, with the bytes of every transaction.
#[derive(Debug, Default)]
pub(in crate::payout) struct Stored {
    pub(in crate::payout) state: State,
    pub(in crate::payout) raw: HashMap<H256, SignedTx>,
}

/// How many batches are neither confirmed nor halted.
pub(in crate::payout) async fn open_batches(database: &Database) -> Result<usize, PayError> {
    Ok(query(COUNT).fetch_one(&mut database.read().await?).await?.number("open")?)
}

/// Who ever signed a payment of this ledger on a chain.
pub(in crate::payout) async fn senders(database: &Database, chain_id: u64) -> Result<Vec<Address>, PayError> {
    let rows = query(SENDERS).bind(bigint(chain_id)).fetch_all(&mut database.read().await?).await?;
    rows.iter().map(|row| read_address("a sender", &row.get::<String>("sender")?)).collect()
}

/// Loads it, all of it from one moment. `contract` is where this payer pays; `spent` tells for each sender the nonces below
/// which everything is spent for good.
pub(in crate::payout) async fn stored(
    database: &Database,
    contract: &PayoutContract,
    spent: &BTreeMap<Address, u64>,
) -> Result<Stored, PayError> {
    let mut snapshot = database.snapshot().await?;
    let mut stored = Stored::default();
    for row in query(OPEN).fetch_all(&mut snapshot).await? {
        stored.state.batches.push(batch(&row, contract)?);
    }
    if !stored.state.batches.is_empty() {
        for (sender, nonce) in spent {
            transactions(&mut snapshot, contract.chain_id, *sender, *nonce, &mut stored).await?;
        }
    }
    Ok(stored)
}

fn batch(row: &Row, contract: &PayoutContract) -> Result<Batch, PayError> {
    let (planned, planned_chain) = (row.get::<String>("contract")?, row.number::<u64>("chain_id")?);
    if planned != address_text(contract.address) || planned_chain != contract.chain_id {
        let epoch = Epoch::new(row.number("epoch")?);
        return Err(PayError::OtherContract { epoch, planned, planned_chain });
    }
    let status: String = row.get("status")?;
    Ok(Batch {
        id: read_hash("a batch id", &row.get::<String>("batch_id")?)?,
        digest: read_hash("a digest", &row.get::<String>("digest")?)?,
        status: match status.as_str() {
            "planned" => Status::Planned,
            "signed" => Status::Signed,
            "submitted" => Status::Submitted,
            "mined" => Status::Mined,
            _ => return Err(PayError::Stored { what: "a batch's status", value: status }),
        },
    })
}

async fn transactions(
    snapshot: &mut Transaction,
    chain_id: u64,
    sender: Address,
    from: u64,
    stored: &mut Stored,
) -> Result<(), PayError> {
    let rows = query(TRANSACTIONS).bind(address_text(sender)).bind(bigint(from)).bind(bigint(chain_id));
    for row in rows.fetch_all(snapshot).await? {
        let tx = transaction(&row)?;
        let (nonce, owner) = (row.number::<u64>("nonce")?, row.get::<String>("batch_id")?);
        let of_slot = (tx.body().chain_id, tx.sender(), tx.body().nonce) == (chain_id, sender, nonce);
        if !of_slot || hash_text(tx.hash()) != row.get::<String>("hash")? {
            return Err(PayError::Stored { what: "the bytes of another transaction for", value: row.get("hash")? });
        }
        let attempt = Attempt { hash: tx.hash(), fees: tx.body().fees, signed_block: row.number("signed_block")? };
        stored.raw.insert(tx.hash(), tx);
        match stored.state.slots.last_mut() {
            Some(slot) if (slot.sender, slot.nonce) == (sender, nonce) => slot.attempts.push(attempt),
            _ => stored.state.slots.push(Slot {
                sender,
                nonce,
                owner: match owner.strip_prefix(FILL) {
                    Some(_) => Owner::Fill,
                    None => Owner::Batch(read_hash("a nonce's batch", &owner)?),
                },
                try_no: row.number("try_no")?,
                attempts: vec![attempt],
            }),
        }
    }
    Ok(())
}

/// A number beyond what a column holds is in no row.
fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn transaction(row: &Row) -> Result<SignedTx, PayError> {
    let raw: String = row.get("raw")?;
    let bytes = raw.strip_prefix("0x").and_then(|digits| hex::decode(digits).ok());
    let tx = bytes.and_then(|bytes| SignedTx::decode(&bytes).ok());
    tx.ok_or_else(|| PayError::Stored { what: "a transaction", value: raw.chars().take(80).collect() })
}

/// What was ever signed for a batch, newest first.
pub(in crate::payout) async fn transactions_of(database: &Database, batch: H256) -> Result<Vec<SignedTx>, PayError> {
    let rows = query(OF_BATCH).bind(hash_text(batch)).fetch_all(&mut database.read().await?).await?;
    rows.iter().map(transaction).collect()
}

/// The newest `limit` batches that were settled at `since` or after without a word where they were paid.
pub(in crate::payout) async fn untold(
    database: &Database,
    contract: &PayoutContract,
    since: UnixMillis,
    limit: u32,
) -> Result<Vec<H256>, PayError> {
    let untold = query(UNTOLD).bind(bigint(contract.chain_id)).bind(address_text(contract.address));
    let rows = untold.bind(i64::from(limit)).bind(since.get()).fetch_all(&mut database.read().await?).await?;
    rows.iter().map(|row| read_hash("a batch id", &row.get::<String>("batch_id")?)).collect()
}

/// The items of a batch, as they were planned: their digest is checked.
pub(in crate::payout) async fn items(database: &Database, batch: &Batch) -> Result<Vec<Item>, PayError> {
    let items = stored_items(&mut database.read().await?, batch.id).await?;
    if item::digest(&items) != batch.digest {
        return Err(PayError::Stored { what: "other items than were planned for batch", value: hash_text(batch.id) });
    }
    Ok(items)
}

/// The items of a batch, as they are stored.
pub(in crate::payout) async fn stored_items(on: &mut impl Runs, batch: H256) -> Result<Vec<Item>, PayError> {
    let rows = query(ITEMS).bind(hash_text(batch)).fetch_all(on).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let none = || PayError::Stored { what: "an item without a wallet in batch", value: hash_text(batch) };
        items.push(Item { wallet: row.wallet("address")?.ok_or_else(none)?, amount: row.amount("amount_far")? });
    }
    Ok(items)
}
