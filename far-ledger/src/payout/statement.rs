//! What providers are shown: what a node earned, and where each payment to a node or a wallet can be found on the chain.

use crate::{
    amount::Amount,
    field,
    payout::{epoch::Epoch, error::PayError},
    store::{
        Ledger,
        database::{Row, query, retry},
    },
    time::UnixMillis,
    wallet::WalletAddress,
};

/// Reads as many rows as the node has batches, whatever it earned them with.
const SUMS: &str = "
SELECT f.node_id, f.wallet_address, f.total_earned_far AS earned_far,
       CAST(COALESCE((SELECT SUM(n.amount_far) FROM payout_node n
                      JOIN far_payment_batches p ON p.id = n.batch_id
                      WHERE n.node_id = f.node_id AND p.status = 'confirmed'), 0) AS BIGINT) AS paid_far
FROM far_nodes f WHERE f.node_id = $1";

const OF_NODE: &str = "
SELECT b.batch_id, b.epoch, p.status, p.tx_hash, p.block_number, p.confirmed_at, n.amount_far
FROM payout_node n
JOIN payout_batch b ON b.batch_id = n.batch_id
JOIN far_payment_batches p ON p.id = b.batch_id
WHERE n.node_id = $1
ORDER BY b.epoch DESC, b.seq DESC
LIMIT $2";

const OF_WALLET: &str = "
SELECT b.batch_id, b.epoch, p.status, p.tx_hash, p.block_number, p.confirmed_at, i.amount_far, i.credited
FROM payout_item i
JOIN payout_batch b ON b.batch_id = i.batch_id
JOIN far_payment_batches p ON p.id = b.batch_id
WHERE i.address = $1
ORDER BY b.epoch DESC, b.seq DESC
LIMIT $2";

/// What a node has earned in all and was paid, without what it did for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeSums {
    /// The node.
    pub node_id: String,
    /// Where it is paid.
    pub wallet: Option<WalletAddress>,
    /// All it earned.
    pub earned: Amount,
    /// What of it settled batches paid.
    pub paid: Amount,
    /// What of it is still owed.
    pub unpaid: Amount,
}

/// What a node was paid by one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodePayment {
    /// The batch.
    pub batch_id: String,
    /// Its week.
    pub epoch: Epoch,
    /// How it stands.
    pub status: String,
    /// The node's part.
    pub amount: Amount,
    /// The transaction that paid it.
    pub tx_hash: Option<String>,
    /// The block.
    pub block_number: Option<u64>,
    /// When this ledger saw it settled.
    pub confirmed_at: Option<UnixMillis>,
}

/// What a wallet was paid by one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WalletPayment {
    /// The batch.
    pub batch_id: String,
    /// Its week.
    pub epoch: Epoch,
    /// How it stands.
    pub status: String,
    /// What the wallet gets.
    pub amount: Amount,
    /// Whether the amount could not be sent and waits in the contract as the wallet's credit.
    pub credited: bool,
    /// The transaction that paid it.
    pub tx_hash: Option<String>,
    /// The block.
    pub block_number: Option<u64>,
    /// When this ledger saw it settled.
    pub confirmed_at: Option<UnixMillis>,
}

impl Ledger {
    /// What a node earned and was paid; `None` for one that the ledger does not know.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn node_sums(&self, node_id: &str) -> Result<Option<NodeSums>, PayError> {
        // No node has a name that no column holds.
        if field::id("node_id", node_id).is_err() {
            return Ok(None);
        }
        let row = retry(|| async move {
            let mut connection = self.database().read().await?;
            Ok::<_, PayError>(query(SUMS).bind(node_id).fetch_optional(&mut connection).await?)
        });
        row.await?.as_ref().map(node_sums).transpose()
    }

    /// What a node was paid and is about to be paid: its newest `limit` batches with transaction and block, newest first.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn node_payments(&self, node_id: &str, limit: u32) -> Result<Vec<NodePayment>, PayError> {
        let rows = retry(|| async move {
            let mut connection = self.database().read().await?;
            Ok::<_, PayError>(query(OF_NODE).bind(node_id).bind(i64::from(limit)).fetch_all(&mut connection).await?)
        });
        rows.await?.iter().map(node_payment).collect()
    }

    /// What a wallet was paid and is about to be paid: its newest `limit` batches, newest first.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn wallet_payments(&self, wallet: WalletAddress, limit: u32) -> Result<Vec<WalletPayment>, PayError> {
        let rows = retry(|| async move {
            let mut connection = self.database().read().await?;
            let wallet = wallet.to_string();
            Ok::<_, PayError>(query(OF_WALLET).bind(wallet).bind(i64::from(limit)).fetch_all(&mut connection).await?)
        });
        rows.await?.iter().map(wallet_payment).collect()
    }
}

fn node_sums(row: &Row) -> Result<NodeSums, PayError> {
    let (earned, paid) = (row.amount("earned_far")?, row.amount("paid_far")?);
    let too_much =
        || PayError::Stored { what: "more payments than earnings of", value: row.get("node_id").unwrap_or_default() };
    Ok(NodeSums {
        node_id: row.get("node_id")?,
        wallet: row.wallet("wallet_address")?,
        earned,
        paid,
        unpaid: earned.checked_sub(paid).ok_or_else(too_much)?,
    })
}

fn node_payment(row: &Row) -> Result<NodePayment, PayError> {
    Ok(NodePayment {
        batch_id: row.get("batch_id")?,
        epoch: Epoch::new(row.number("epoch")?),
        status: row.get("status")?,
        amount: row.amount("amount_far")?,
        tx_hash: row.get("tx_hash")?,
        block_number: block(row)?,
        confirmed_at: row.optional_time("confirmed_at")?,
    })
}

fn wallet_payment(row: &Row) -> Result<WalletPayment, PayError> {
    Ok(WalletPayment {
        batch_id: row.get("batch_id")?,
        epoch: Epoch::new(row.number("epoch")?),
        status: row.get("status")?,
        amount: row.amount("amount_far")?,
        credited: row.get::<i64>("credited")? != 0,
        tx_hash: row.get("tx_hash")?,
        block_number: block(row)?,
        confirmed_at: row.optional_time("confirmed_at")?,
    })
}

/// The block of a batch.
pub(super) fn block(row: &Row) -> Result<Option<u64>, PayError> {
    Ok(row.get::<Option<i64>>("block_number")?.and_then(|number| u64::try_from(number).ok()))
}
