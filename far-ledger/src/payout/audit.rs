//! Compares the ledger's batches with themselves and with the chain's events, and tells of every difference.
//!
//! Nothing is decided by events: payments follow guards alone. The audit is for people, who want to see that both agree.

use std::{collections::BTreeMap, fmt};

use ethers_core::types::{H256, U256};

use crate::{
    evm::{BatchPaid, Chain, Depth, LogFilter, Window},
    payout::{
        book,
        error::PayError,
        item::{self, Item, PayoutContract},
        view,
    },
    store::{
        Ledger,
        database::{Database, Row, query, retry},
    },
};

const BATCHES: &str = "
SELECT b.batch_id, b.digest, p.status, p.total_amount_far, p.tx_hash, p.block_number,
       (SELECT CAST(COALESCE(SUM(c.payment_far), 0) AS BIGINT) FROM far_session_contributions c
        WHERE c.payment_batch_id = b.batch_id) AS claimed_far,
       (SELECT COUNT(*) FROM far_session_contributions c
        WHERE c.payment_batch_id = b.batch_id
          AND (c.paid_at IS NULL) = (p.status = 'confirmed')) AS marked_wrong,
       (SELECT COUNT(*) FROM (
            SELECT node_id FROM (
                SELECT n.node_id, n.amount_far AS part FROM payout_node n WHERE n.batch_id = b.batch_id
                UNION ALL
                SELECT c.node_id, -c.payment_far FROM far_session_contributions c WHERE c.payment_batch_id = b.batch_id
            ) AS parts
            GROUP BY node_id HAVING SUM(part) <> 0
        ) AS wrong) AS parts_wrong
FROM payout_batch b
JOIN far_payment_batches p ON p.id = b.batch_id
JOIN payout_epoch e ON e.epoch = b.epoch
WHERE $1 = 0 OR (e.chain_id = $1 AND e.contract = $2)
ORDER BY b.epoch, b.seq";

/// Something about a batch on which two sides do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The batch.
    pub batch: H256,
    /// What they do not agree on.
    pub about: About,
    /// What the ledger says, or says of the batch as a whole.
    pub ledger: String,
    /// What the other side says: the chain, or what the ledger's own rows come to.
    pub other: String,
}

/// What a [`Mismatch`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum About {
    /// The digest, against the batch's items.
    Items,
    /// The batch's total, against the sum of its items.
    Total,
    /// The batch's total, against the contributions that it claims.
    Claims,
    /// What each node gets of the batch, against its contributions: how many nodes' parts are wrong.
    Parts,
    /// Whether contributions are marked as paid, against the batch's status: how many are not as they should.
    Marks,
    /// Whether the batch is paid, against the chain.
    Paid,
    /// The digest, against the chain.
    Digest,
    /// The number of items, against the chain.
    Count,
    /// The total, against the chain.
    Amount,
    /// The transaction, against the chain.
    Transaction,
    /// The block, against the chain.
    Block,
}

struct Ours {
    digest: String,
    status: String,
    total: i64,
    claimed: i64,
    marked_wrong: i64,
    parts_wrong: i64,
    tx_hash: Option<String>,
    block: Option<i64>,
    items: Vec<Item>,
}

struct Theirs {
    event: BatchPaid,
    tx_hash: H256,
    block: u64,
}

/// Every difference within the ledger's batches, for whatever contract they are: needs no chain.
///
/// # Errors
/// [`PayError`].
pub async fn check_batches(ledger: &Ledger) -> Result<Vec<Mismatch>, PayError> {
    let database = ledger.database();
    let mut found = Vec::new();
    for (batch, ours) in &retry(|| batches(database, None)).await? {
        Mismatches { batch: *batch, found: &mut found }.within(ours);
    }
    Ok(found)
}

/// Every difference between the ledger's batches for `contract` and what the chain says of them, up to a block that is
/// `depth` deep; none, where all is well. `from_block` is the contract's own, or any before the first payment.
///
/// A payment that happens meanwhile may be told of as [`About::Paid`]: ask again.
///
/// # Errors
/// [`PayError`].
pub async fn reconcile(
    ledger: &Ledger,
    chain: &Chain,
    contract: &PayoutContract,
    depth: Depth,
    from_block: u64,
) -> Result<Vec<Mismatch>, PayError> {
    view::check_chain(chain, contract).await?;
    let deep = chain.blocks(depth).await?.deep.number;
    let theirs = paid(chain, contract, from_block, deep).await?;
    let database = ledger.database();
    let mut ours = retry(|| batches(database, Some(contract))).await?;
    let mut found = Vec::new();
    for (batch, ours) in &ours {
        let mut mismatches = Mismatches { batch: *batch, found: &mut found };
        mismatches.within(ours);
        mismatches.with_chain(ours, theirs.get(batch));
    }
    for (batch, theirs) in theirs {
        if ours.remove(&batch).is_none() {
            let paid = format!("paid in {:?}", theirs.tx_hash);
            found.push(Mismatch { batch, about: About::Paid, ledger: "no such batch".into(), other: paid });
        }
    }
    Ok(found)
}

async fn paid(
    chain: &Chain,
    contract: &PayoutContract,
    from_block: u64,
    deep: u64,
) -> Result<BTreeMap<H256, Theirs>, PayError> {
    let mut paid = BTreeMap::new();
    let topics = vec![Some(BatchPaid::topic())];
    let mut left = LogFilter { address: contract.address, from: from_block, to: deep, topics };
    let mut window = Window::default();
    while left.from <= deep {
        let (logs, last) = window.first(chain, &left).await?;
        for log in logs {
            if let Some(event) = BatchPaid::read(&log) {
                paid.insert(event.batch_id, Theirs { event, tx_hash: log.tx_hash, block: log.block_number });
            }
        }
        left.from = last.saturating_add(1);
    }
    Ok(paid)
}

/// The batches for a contract, or all.
async fn batches(database: &Database, contract: Option<&PayoutContract>) -> Result<BTreeMap<H256, Ours>, PayError> {
    let mut snapshot = database.snapshot().await?;
    // No chain has the number 0.
    let chain_id = contract.map_or(0, |contract| i64::try_from(contract.chain_id).unwrap_or(i64::MAX));
    let address = contract.map_or_else(String::new, |contract| book::address_text(contract.address));
    let mut batches = BTreeMap::new();
    for row in query(BATCHES).bind(chain_id).bind(address).fetch_all(&mut snapshot).await? {
        let id = book::read_hash("a batch id", &row.get::<String>("batch_id")?)?;
        let items = book::stored_items(&mut snapshot, id).await?;
        batches.insert(id, batch(&row, items)?);
    }
    Ok(batches)
}

fn batch(row: &Row, items: Vec<Item>) -> Result<Ours, PayError> {
    Ok(Ours {
        digest: row.get("digest")?,
        status: row.get("status")?,
        total: row.get("total_amount_far")?,
        claimed: row.get("claimed_far")?,
        marked_wrong: row.get("marked_wrong")?,
        parts_wrong: row.get("parts_wrong")?,
        tx_hash: row.get("tx_hash")?,
        block: row.get("block_number")?,
        items,
    })
}

struct Mismatches<'a> {
    batch: H256,
    found: &'a mut Vec<Mismatch>,
}

impl Mismatches<'_> {
    fn compare(&mut self, about: About, ledger: impl ToString, other: impl ToString) {
        let (ledger, other) = (ledger.to_string(), other.to_string());
        if ledger != other {
            self.found.push(Mismatch { batch: self.batch, about, ledger, other });
        }
    }

    fn within(&mut self, ours: &Ours) {
        self.compare(About::Items, &ours.digest, book::hash_text(item::digest(&ours.items)));
        let sum: i128 = ours.items.iter().map(|item| i128::from(item.amount.nano())).sum();
        self.compare(About::Total, ours.total, sum);
        self.compare(About::Claims, ours.total, ours.claimed);
        self.compare(About::Parts, ours.parts_wrong, 0);
        self.compare(About::Marks, ours.marked_wrong, 0);
    }

    fn with_chain(&mut self, ours: &Ours, theirs: Option<&Theirs>) {
        let confirmed = ours.status == "confirmed";
        let Some(theirs) = theirs else {
            if confirmed {
                self.compare(About::Paid, &ours.status, "no event");
            }
            return;
        };
        if !confirmed {
            self.compare(About::Paid, &ours.status, format!("paid in {:?}", theirs.tx_hash));
        }
        self.compare(About::Digest, &ours.digest, book::hash_text(theirs.event.digest));
        self.compare(About::Count, ours.items.len(), theirs.event.count);
        let units: Option<U256> =
            ours.items.iter().map(Item::units).try_fold(U256::zero(), |sum, units| sum.checked_add(units.into()));
        self.compare(About::Amount, units.unwrap_or_default(), theirs.event.total);
        if confirmed {
            self.compare(
                About::Transaction,
                ours.tx_hash.as_deref().unwrap_or("none"),
                book::hash_text(theirs.tx_hash),
            );
            self.compare(About::Block, ours.block.unwrap_or_default(), theirs.block);
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, about, ledger, other } = self;
        let (what, whose) = match about {
            About::Items => ("digest", "its items"),
            About::Total => ("total in nano-FAR", "its items"),
            About::Claims => ("total in nano-FAR", "the contributions that it pays"),
            About::Parts => ("number of nodes whose part is wrong", "their contributions"),
            About::Marks => ("number of contributions marked wrongly", "its status"),
            About::Paid => ("state", "the chain"),
            About::Digest => ("digest", "the chain"),
            About::Count => ("number of items", "the chain"),
            About::Amount => ("total in units of the token", "the chain"),
            About::Transaction => ("transaction", "the chain"),
            About::Block => ("block", "the chain"),
        };
        write!(f, "batch {batch:?}: {what} {ledger} in the ledger, {other} by {whose}")
    }
}
