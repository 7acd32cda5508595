//! What operators are shown: the plan of a week that is not closed, and how batches stand.

use crate::{
    amount::Amount,
    payout::{
        book, epoch::Epoch, error::PayError, funds::Funds, gas::CannotPay, item, payer::Payer, plan::Plan,
        statement::block, view,
    },
    store::{
        Ledger,
        database::{Row, query, retry},
    },
    time::UnixMillis,
};

const BATCHES: &str = "
SELECT b.batch_id, b.epoch, b.seq, b.halted, p.status, p.total_nodes, p.total_amount_far, p.tx_hash, p.block_number,
       p.confirmed_at,
       (SELECT COUNT(*) FROM payout_item i WHERE i.batch_id = b.batch_id) AS items,
       (SELECT COUNT(*) FROM payout_item i WHERE i.batch_id = b.batch_id AND i.credited = 1) AS credited
FROM payout_batch b
JOIN far_payment_batches p ON p.id = b.batch_id
ORDER BY b.epoch DESC, b.seq DESC
LIMIT $1";

const TOTALS: &str = "
SELECT p.status, COUNT(*) AS batches, CAST(SUM(p.total_amount_far) AS BIGINT) AS amount_far
FROM payout_batch b JOIN far_payment_batches p ON p.id = b.batch_id
GROUP BY p.status ORDER BY p.status";

/// What the next closing would do: nothing is written, signed or sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PayoutStatus {
    /// The newest week that is over.
    pub epoch: Epoch,
    /// Whether it is closed: then the plan holds what came in late, for the next one.
    pub closed: bool,
    /// Who would be paid.
    pub plan: Plan,
    /// For each batch the gas it would take, or why it cannot be paid now.
    pub gas: Vec<Result<u64, CannotPay>>,
    /// What there is to pay from.
    pub funds: Funds,
    /// Whether the key may pay.
    pub is_payer: bool,
}

/// How a batch stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchStatus {
    /// Its name.
    pub batch_id: String,
    /// Its week.
    pub epoch: Epoch,
    /// Its place in the week.
    pub seq: u32,
    /// `planned`, `signed`, `submitted`, `mined`, `confirmed` or `halted`.
    pub status: String,
    /// Wallets paid.
    pub items: u32,
    /// Of them, those that could not be sent their amount and have it as a credit in the contract.
    pub credited: u32,
    /// Nodes paid.
    pub nodes: u32,
    /// What it pays in all.
    pub total: Amount,
    /// The transaction that paid it.
    pub tx_hash: Option<String>,
    /// The block.
    pub block_number: Option<u64>,
    /// When this ledger saw it settled.
    pub confirmed_at: Option<UnixMillis>,
    /// Why it is halted.
    pub halted: Option<String>,
}

/// All batches that stand alike.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatusTotal {
    /// As [`BatchStatus::status`].
    pub status: String,
    /// How many.
    pub batches: u64,
    /// What they pay together.
    pub amount: Amount,
}

impl Payer {
    /// A dry run: what would be paid if the week that is over at `now` were closed now, and what it would take.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn plan(&self, now: UnixMillis) -> Result<PayoutStatus, PayError> {
        let contract = self.config().contract;
        view::check_chain(self.chain(), &contract).await?;
        let epoch = Epoch::due_every(self.config().weeks, now).unwrap_or(Epoch::new(0));
        let (database, closing) = (self.ledger().database(), self.closing(epoch, now).await?);
        let closed = retry(|| book::closed_since(database, epoch)).await?;
        let plan = retry(|| book::preview(database, &closing)).await?;
        let mut gas = Vec::with_capacity(plan.batches.len());
        for (seq, batch) in (0..).zip(&plan.batches) {
            gas.push(self.estimate(item::batch_id(&contract, epoch, seq), &batch.items).await?);
        }
        Ok(PayoutStatus {
            epoch,
            closed,
            plan,
            gas,
            funds: Funds::read(self.chain(), &contract).await?,
            is_payer: contract.is_payer(self.chain(), self.address()).await?,
        })
    }
}

impl Ledger {
    /// The newest `limit` payout batches, newest first.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn payout_batches(&self, limit: u32) -> Result<Vec<BatchStatus>, PayError> {
        let rows = retry(|| async move {
            let mut connection = self.database().read().await?;
            Ok::<_, PayError>(query(BATCHES).bind(i64::from(limit)).fetch_all(&mut connection).await?)
        });
        rows.await?.iter().map(batch_status).collect()
    }

    /// How many batches stand how, over all weeks.
    ///
    /// # Errors
    /// [`PayError`].
    pub async fn payout_totals(&self) -> Result<Vec<StatusTotal>, PayError> {
        let rows =
            retry(
                || async move { Ok::<_, PayError>(query(TOTALS).fetch_all(&mut self.database().read().await?).await?) },
            );
        let total = |row: &Row| {
            Ok(StatusTotal {
                status: row.get("status")?,
                batches: row.number("batches")?,
                amount: row.amount("amount_far")?,
            })
        };
        rows.await?.iter().map(total).collect()
    }
}

fn batch_status(row: &Row) -> Result<BatchStatus, PayError> {
    Ok(BatchStatus {
        batch_id: row.get("batch_id")?,
        epoch: Epoch::new(row.number("epoch")?),
        seq: row.number("seq")?,
        status: row.get("status")?,
        items: row.number("items")?,
        credited: row.number("credited")?,
        nodes: row.number("total_nodes")?,
        total: row.amount("total_amount_far")?,
        tx_hash: row.get("tx_hash")?,
        block_number: block(row)?,
        confirmed_at: row.optional_time("confirmed_at")?,
        halted: row.get("halted")?,
    })
}
