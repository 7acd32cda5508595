//! The steps of the state machine.

use ethers_core::types::{Address, H256};

use crate::{
    account::Party,
    evm::SignedTx,
    journal::{Kind, Line, Posting},
    payout::{
        book::{
            read::FILL,
            text::{address_text, hash_text},
        },
        decide::{Owner, Status},
        error::PayError,
    },
    store::{
        books::post,
        database::{Database, Topic, Transaction, query},
    },
    time::UnixMillis,
    wallet::WalletAddress,
};

const NEXT_NONCE: &str =
    "SELECT COALESCE(MAX(nonce) + 1, 0) AS next FROM nonce_owner WHERE chain_id = $1 AND sender = $2";

/// Only for a batch that is under way: a payer that was asleep does not sign for one that is settled.
const OWN: &str = "
INSERT INTO nonce_owner (sender, nonce, batch_id, try_no, chain_id)
SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT)
WHERE NOT EXISTS (SELECT 1 FROM far_payment_batches WHERE id = $3 AND status IN ('confirmed', 'halted'))
ON CONFLICT DO NOTHING";

/// Another attempt only on a nonce that is still this owner's.
const STORE: &str = "
INSERT INTO payout_tx (hash, chain_id, sender, nonce, attempt, raw, max_fee, tip, signed_block, signed_at)
SELECT CAST($1 AS TEXT), chain_id, sender, nonce, CAST($4 AS BIGINT), CAST($5 AS TEXT), CAST($6 AS BIGINT), CAST($7 AS BIGINT),
       CAST($8 AS BIGINT), CAST($9 AS BIGINT)
FROM nonce_owner WHERE chain_id = $11 AND sender = $2 AND nonce = $3 AND batch_id = $10
ON CONFLICT DO NOTHING";

const MARK: &str = "
UPDATE far_payment_batches SET status = $2 WHERE id = $1 AND status NOT IN ('confirmed', 'halted')";

const CONFIRM: &str = "
UPDATE far_payment_batches SET status = 'confirmed', tx_hash = $2, block_number = $3, confirmed_at = $4
WHERE id = $1 AND status NOT IN ('confirmed', 'halted')";

const PAY: &str = "
UPDATE far_session_contributions SET paid_at = $2, payment_tx_hash = $3
WHERE payment_batch_id = $1 AND paid_at IS NULL";

/// Where a batch was paid that was settled without that.
const TELL: &str = "
UPDATE far_payment_batches SET tx_hash = $2, block_number = $3
WHERE id = $1 AND status = 'confirmed' AND tx_hash IS NULL";

const TELL_CONTRIBUTIONS: &str = "
UPDATE far_session_contributions SET payment_tx_hash = $2 WHERE payment_batch_id = $1 AND payment_tx_hash IS NULL";

/// What each node gets of what a batch claimed.
const SHARES: &str = "
INSERT INTO payout_node (batch_id, node_id, amount_far)
SELECT payment_batch_id, node_id, CAST(SUM(payment_far) AS BIGINT)
FROM far_session_contributions WHERE payment_batch_id = $1 GROUP BY payment_batch_id, node_id
ON CONFLICT DO NOTHING";

const EARNED: &str = "SELECT node_id, amount_far FROM payout_node WHERE batch_id = $1 ORDER BY node_id";

const CREDIT: &str = "UPDATE payout_item SET credited = 1 WHERE batch_id = $1 AND address = $2";

const HALT: &str = "UPDATE payout_batch SET halted = $2 WHERE batch_id = $1";

/// A transaction that is to be stored.
#[derive(Clone, Debug)]
pub(in crate::payout) struct NewTx {
    pub(in crate::payout) tx: SignedTx,
    pub(in crate::payout) owner: Owner,
    pub(in crate::payout) try_no: u32,
    /// Zero takes the nonce; more use it again.
    pub(in crate::payout) attempt: u32,
    pub(in crate::payout) head: u64,
    pub(in crate::payout) now: UnixMillis,
}

/// Where a batch was paid, as far as events tell; only shown to people.
#[derive(Clone, Debug, Default)]
pub(in crate::payout) struct Mined {
    pub(in crate::payout) tx: Option<H256>,
    pub(in crate::payout) block: Option<u64>,
    pub(in crate::payout) credited: Vec<WalletAddress>,
}

/// The nonce after all that this ledger gave out for `sender` on a chain.
pub(in crate::payout) async fn next_nonce(
    database: &Database,
    chain_id: u64,
    sender: Address,
) -> Result<u64, PayError> {
    let next = query(NEXT_NONCE).bind(bigint(chain_id)).bind(address_text(sender));
    let row = next.fetch_one(&mut database.read().await?).await?;
    Ok(row.number("next")?)
}

/// Stores a transaction before anybody sends it. `false`: another payer was first, or the batch is settled; then nothing is
/// stored and nothing may be sent.
pub(in crate::payout) async fn store_signed(database: &Database, new: &NewTx) -> Result<bool, PayError> {
    let tx = &new.tx;
    let (sender, chain_id) = (address_text(tx.sender()), bigint(tx.body().chain_id));
    let (owner, try_no) = match new.owner {
        Owner::Batch(id) => (hash_text(id), i64::from(new.try_no)),
        // One filler for each nonce: its number is its try.
        Owner::Fill => (format!("{FILL}{chain_id}/{sender}"), bigint(tx.body().nonce)),
    };
    let mut transaction = database.begin().await?;
    transaction.exclusive(Topic::Payouts).await?;
    if new.attempt == 0 {
        let own = query(OWN).bind(&sender).bind(bigint(tx.body().nonce)).bind(&owner).bind(try_no).bind(chain_id);
        if own.execute(&mut transaction).await? == 0 {
            return Ok(false);
        }
    }
    let stored = query(STORE)
        .bind(hash_text(tx.hash()))
        .bind(&sender)
        .bind(bigint(tx.body().nonce))
        .bind(i64::from(new.attempt))
        .bind(format!("0x{}", hex::encode(tx.raw())))
        .bind(bigint(tx.body().fees.max_fee))
        .bind(bigint(tx.body().fees.tip))
        .bind(bigint(new.head))
        .bind(new.now.get())
        .bind(&owner)
        .bind(chain_id)
        .execute(&mut transaction)
        .await?;
    if stored == 0 {
        return Ok(false);
    }
    if new.attempt == 0 {
        query(MARK).bind(&owner).bind("signed").execute(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

/// Writes how far a batch is. A settled one stays as it is.
pub(in crate::payout) async fn mark(database: &Database, batch: H256, status: Status) -> Result<(), PayError> {
    let status = match status {
        Status::Planned => "planned",
        Status::Signed => "signed",
        Status::Submitted => "submitted",
        Status::Mined => "mined",
    };
    let mut transaction = database.begin().await?;
    query(MARK).bind(hash_text(batch)).bind(status).execute(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

/// Settles a batch: the contributions it pays, and in the journal what its nodes do not have here any more. `false` where that
/// was done before.
pub(in crate::payout) async fn confirm(
    database: &Database,
    batch: H256,
    mined: &Mined,
    now: UnixMillis,
) -> Result<bool, PayError> {
    let (id, tx) = (hash_text(batch), mined.tx.map(hash_text));
    let mut transaction = database.begin().await?;
    // A week of a large mesh is many rows.
    transaction.unhurried().await?;
    transaction.exclusive(Topic::Payouts).await?;
    let done = query(CONFIRM).bind(&id).bind(&tx).bind(mined.block.map(bigint)).bind(now.get());
    if done.execute(&mut transaction).await? == 0 {
        return Ok(false);
    }
    query(PAY).bind(&id).bind(now.get()).bind(&tx).execute(&mut transaction).await?;
    credit(&mut transaction, &id, mined).await?;
    // A payer of an earlier version, which runs on beside this one, plans batches without it.
    share(&mut transaction, &id).await?;
    let mut lines = Vec::new();
    for row in query(EARNED).bind(&id).fetch_all(&mut transaction).await? {
        let node = Party::Node(row.get("node_id")?);
        lines.push(Line { debit: node, credit: Party::Outside, amount: row.amount("amount_far")? });
    }
    post(&mut transaction, &Posting::new(Kind::Payout, &id, lines, now)).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Writes where a settled batch was paid, where that is not written yet.
pub(in crate::payout) async fn tell(database: &Database, batch: H256, mined: &Mined) -> Result<(), PayError> {
    let (id, tx) = (hash_text(batch), mined.tx.map(hash_text));
    let mut transaction = database.begin().await?;
    transaction.unhurried().await?;
    transaction.exclusive(Topic::Payouts).await?;
    if query(TELL).bind(&id).bind(&tx).bind(mined.block.map(bigint)).execute(&mut transaction).await? > 0 {
        query(TELL_CONTRIBUTIONS).bind(&id).bind(&tx).execute(&mut transaction).await?;
        credit(&mut transaction, &id, mined).await?;
    }
    Ok(transaction.commit().await?)
}

/// Writes what each node gets of what a batch claimed.
pub(super) async fn share(transaction: &mut Transaction, batch: &str) -> Result<(), PayError> {
    query(SHARES).bind(batch).execute(transaction).await?;
    Ok(())
}

async fn credit(transaction: &mut Transaction, batch: &str, mined: &Mined) -> Result<(), PayError> {
    for wallet in &mined.credited {
        query(CREDIT).bind(batch).bind(wallet.to_string()).execute(transaction).await?;
    }
    Ok(())
}

/// Stops a batch for good, with the reason.
pub(in crate::payout) async fn halt(database: &Database, batch: H256, reason: &str) -> Result<(), PayError> {
    let id = hash_text(batch);
    let mut transaction = database.begin().await?;
    transaction.exclusive(Topic::Payouts).await?;
    if query(MARK).bind(&id).bind("halted").execute(&mut transaction).await? > 0 {
        query(HALT).bind(&id).bind(reason).execute(&mut transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// Chains, nonces, fees and block numbers stay far below 2^63; one beyond would not fit its column and is refused there.
fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}
