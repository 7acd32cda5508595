//! Ends an epoch: claims contributions, makes items and batches, all in one transaction.

use std::collections::HashMap;

use crate::{
    amount::Amount,
    payout::{
        book::{
            text::{address_text, hash_text},
            write::share,
        },
        epoch::Epoch,
        error::PayError,
        item::{self, PayoutContract},
        plan::{Balance, Plan, PlannedBatch, Rules},
    },
    store::database::{Database, Runs, Sql, Topic, Transaction, batch, query},
    time::UnixMillis,
};

/// What nodes have earned before a moment and was claimed by no batch.
const BALANCES: &str = "
SELECT n.node_id, n.wallet_address, CAST(SUM(c.payment_far) AS BIGINT) AS unpaid_far
FROM far_session_contributions c
JOIN far_mesh_sessions s ON s.id = c.session_id
JOIN far_nodes n ON n.node_id = c.node_id
WHERE c.payment_batch_id IS NULL AND c.paid_at IS NULL AND s.status = 'completed' AND s.completed_at < $1
GROUP BY n.node_id, n.wallet_address
HAVING SUM(c.payment_far) > 0
ORDER BY n.node_id";

/// Nothing where the epoch, or a later one, is closed: a payer with a clock that is behind closes none twice.
const CLOSE: &str = "
INSERT INTO payout_epoch (epoch, cutoff, chain_id, contract, closed_at)
SELECT CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS TEXT), CAST($5 AS BIGINT)
WHERE NOT EXISTS (SELECT 1 FROM payout_epoch WHERE epoch >= $1)
ON CONFLICT (epoch) DO NOTHING";

const NEWEST: &str = "SELECT COUNT(*) AS closed FROM payout_epoch WHERE epoch >= $1";

const LAST: &str = "SELECT MAX(epoch) AS epoch FROM payout_epoch";

/// When the first of what no batch has claimed was earned.
const EARLIEST: &str = "
SELECT MIN(s.completed_at) AS earliest
FROM far_session_contributions c
JOIN far_mesh_sessions s ON s.id = c.session_id
WHERE c.payment_batch_id IS NULL AND c.paid_at IS NULL AND s.status = 'completed'";

const PUBLISH: &str = "
INSERT INTO far_payment_batches (id, total_nodes, total_amount_far, status, created_at) VALUES ($1, 0, 0, 'planned', $2)";

const TOTALS: &str = "UPDATE far_payment_batches SET total_nodes = $2, total_amount_far = $3 WHERE id = $1";

/// Claims first and sums what was claimed: a session that completes meanwhile is either in or not, never half.
const CLAIM: Sql = Sql {
    sqlite: "
UPDATE far_session_contributions SET payment_batch_id = $1
WHERE payment_batch_id IS NULL AND paid_at IS NULL AND node_id IN (SELECT value FROM json_each($2))
  AND session_id IN (SELECT id FROM far_mesh_sessions WHERE status = 'completed' AND completed_at < $3)",
    postgres: "
UPDATE far_session_contributions SET payment_batch_id = $1
WHERE payment_batch_id IS NULL AND paid_at IS NULL AND node_id = ANY($2)
  AND session_id IN (SELECT id FROM far_mesh_sessions WHERE status = 'completed' AND completed_at < $3)",
};

const CLAIMED: &str = "SELECT node_id, amount_far FROM payout_node WHERE batch_id = $1";

const BATCH: &str = "INSERT INTO payout_batch (batch_id, epoch, seq, digest) VALUES ($1, $2, $3, $4)";

batch! {
    static ITEMS = "INSERT INTO payout_item (epoch, address, batch_id, place, amount_far)
        SELECT b.epoch, b.address, b.batch, b.place, b.amount FROM"
        (epoch: Int, address: Text, batch: Text, place: Int, amount: Int)
        "WHERE TRUE";
}

/// What an epoch is closed with.
#[derive(Clone, Debug)]
pub(in crate::payout) struct Closing {
    pub(in crate::payout) epoch: Epoch,
    pub(in crate::payout) contract: PayoutContract,
    pub(in crate::payout) rules: Rules,
    /// Addresses that cannot be paid.
    pub(in crate::payout) own: Vec<[u8; 20]>,
    pub(in crate::payout) now: UnixMillis,
}

/// The plan that closing would carry out now.
pub(in crate::payout) async fn preview(database: &Database, closing: &Closing) -> Result<Plan, PayError> {
    let balances = balances(&mut database.snapshot().await?, closing.epoch).await?;
    Ok(Plan::of(balances, &closing.rules, &closing.own))
}

/// Whether the epoch, or a later one, is closed.
pub(in crate::payout) async fn closed_since(database: &Database, epoch: Epoch) -> Result<bool, PayError> {
    let row = query(NEWEST).bind(i64::from(epoch.number())).fetch_one(&mut database.read().await?).await?;
    Ok(row.number::<u64>("closed")? > 0)
}

/// The first epoch that is not closed: after the last that is, else the one in which something was earned first.
pub(in crate::payout) async fn first_open(database: &Database) -> Result<Option<Epoch>, PayError> {
    let mut snapshot = database.snapshot().await?;
    let last: Option<i64> = query(LAST).fetch_one(&mut snapshot).await?.get("epoch")?;
    if let Some(last) = last {
        return Ok(u32::try_from(last).ok().and_then(|last| last.checked_add(1)).map(Epoch::new));
    }
    let earliest = query(EARLIEST).fetch_one(&mut snapshot).await?.optional_time("earliest")?;
    Ok(earliest.map(|at| Epoch::new(Epoch::due(at).map_or(0, |before| before.number().saturating_add(1)))))
}

/// Closes the epoch; `None` where it, or a later one, was closed before.
pub(in crate::payout) async fn close(database: &Database, closing: &Closing) -> Result<Option<Plan>, PayError> {
    let mut transaction = database.begin().await?;
    // A week of a large mesh is many rows.
    transaction.unhurried().await?;
    transaction.exclusive(Topic::Payouts).await?;
    let closed = query(CLOSE)
        .bind(i64::from(closing.epoch.number()))
        .bind(closing.epoch.end().get())
        .bind(i64::try_from(closing.contract.chain_id).unwrap_or(i64::MAX))
        .bind(address_text(closing.contract.address))
        .bind(closing.now.get())
        .execute(&mut transaction)
        .await?;
    if closed == 0 {
        return Ok(None);
    }
    let mut plan = Plan::of(balances(&mut transaction, closing.epoch).await?, &closing.rules, &closing.own);
    for (seq, batch) in (0..).zip(&mut plan.batches) {
        write_batch(&mut transaction, closing, seq, batch).await?;
    }
    transaction.commit().await?;
    Ok(Some(plan))
}

async fn balances(on: &mut impl Runs, epoch: Epoch) -> Result<Vec<Balance>, PayError> {
    let rows = query(BALANCES).bind(epoch.end().get()).fetch_all(on).await?;
    rows.iter()
        .map(|row| {
            Ok(Balance {
                node_id: row.get("node_id")?,
                wallet: row.get("wallet_address")?,
                amount: row.amount("unpaid_far")?,
            })
        })
        .collect()
}

async fn write_batch(
    transaction: &mut Transaction,
    closing: &Closing,
    seq: u32,
    batch: &mut PlannedBatch,
) -> Result<(), PayError> {
    let id = hash_text(item::batch_id(&closing.contract, closing.epoch, seq));
    query(PUBLISH).bind(&id).bind(closing.now.get()).execute(transaction).await?;
    let nodes: Vec<String> = batch.nodes.iter().flatten().cloned().collect();
    query(CLAIM).bind(&id).bind(nodes).bind(closing.epoch.end().get()).execute(transaction).await?;
    share(transaction, &id).await?;
    let mut claimed = HashMap::new();
    for row in query(CLAIMED).bind(&id).fetch_all(transaction).await? {
        claimed.insert(row.get::<String>("node_id")?, row.amount("amount_far")?);
    }
    let too_much = || PayError::TooMuch { batch: seq };
    for (item, nodes) in batch.items.iter_mut().zip(&batch.nodes) {
        let amounts = nodes.iter().filter_map(|node| claimed.get(node)).copied();
        item.amount = Amount::checked_sum(amounts).ok_or_else(too_much)?;
    }
    let total = Amount::checked_sum(batch.items.iter().map(|item| item.amount)).ok_or_else(too_much)?;
    let epoch = i64::from(closing.epoch.number());
    query(BATCH)
        .bind(&id)
        .bind(epoch)
        .bind(i64::from(seq))
        .bind(hash_text(item::digest(&batch.items)))
        .execute(transaction)
        .await?;
    let mut rows = ITEMS.rows();
    for (place, item) in (0_i64..).zip(&batch.items) {
        rows.push((epoch, item.wallet.to_string(), id.clone(), place, item.amount.nano()));
    }
    rows.execute(transaction).await?;
    let nodes = i64::try_from(batch.nodes.iter().flatten().count()).unwrap_or(i64::MAX);
    query(TOTALS).bind(&id).bind(nodes).bind(total.nano()).execute(transaction).await?;
    Ok(())
}
