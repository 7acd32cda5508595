//! Batches as people and programs read them.

use std::fmt::Write;

use far_ledger::{UnixMillis, payout::BatchStatus};
use serde_json::{Value, json};

/// A line for each batch.
pub(super) fn table(batches: &[BatchStatus]) -> String {
    let mut text = format!(
        "{:>6} {:>5}  {:9}  {:>7}  {:>20}  {:>10}  TRANSACTION\n",
        "EPOCH", "BATCH", "STATE", "WALLETS", "FAR", "BLOCK"
    );
    for batch in batches {
        let block = batch.block_number.map_or_else(|| "-".to_owned(), |block| block.to_string());
        let _ = writeln!(
            text,
            "{:>6} {:>5}  {:9}  {:>7}  {:>20}  {block:>10}  {}",
            batch.epoch,
            batch.seq,
            batch.status,
            batch.items,
            batch.total,
            batch.tx_hash.as_deref().unwrap_or("-")
        );
    }
    text
}

pub(super) fn json(batch: &BatchStatus) -> Value {
    json!({
        "batch_id": batch.batch_id,
        "epoch": batch.epoch.number(),
        "seq": batch.seq,
        "status": batch.status,
        "wallets": batch.items,
        "nodes": batch.nodes,
        "credited": batch.credited,
        "total_far": batch.total.to_string(),
        "tx_hash": batch.tx_hash,
        "block_number": batch.block_number,
        "confirmed_at_ms": batch.confirmed_at.map(UnixMillis::get),
        "halted": batch.halted,
    })
}
