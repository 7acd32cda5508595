//! Operations on nodes.

use crate::{
    account::Party,
    node::{Node, NodeEarnings, NodeModel, NodeRow},
    store::{
        database::{Database, query},
        error::{NodeError, ReadError},
        rows::Read,
    },
    time::UnixMillis,
    wallet::WalletAddress,
};

/// A wallet is never unset by silence, and a late message does not turn back the clock.
const UPSERT: &str = "
INSERT INTO far_nodes (node_id, wallet_address, gpu_model, vram_gb, location, is_active, last_seen)
VALUES ($1, $2, $3, $4, $5, 1, $6)
ON CONFLICT (node_id) DO UPDATE SET
    wallet_address = COALESCE(excluded.wallet_address, far_nodes.wallet_address),
    gpu_model = excluded.gpu_model,
    vram_gb = excluded.vram_gb,
    location = excluded.location,
    is_active = 1,
    last_seen = CASE WHEN excluded.last_seen > far_nodes.last_seen THEN excluded.last_seen ELSE far_nodes.last_seen END";

/// What it earns goes here.
const OPEN_ACCOUNT: &str = "
INSERT INTO far_accounts (id, kind, created_at) VALUES ($1, 'node', $2) ON CONFLICT (id) DO NOTHING";

/// Nothing where the node is unknown: the row comes from the node's own.
const UPSERT_MODEL: &str = "
INSERT INTO far_node_models (node_id, model_id, layers_start, layers_end, quantization, is_serving)
SELECT node_id, $2, $3, $4, $5, 1 FROM far_nodes WHERE node_id = $1
ON CONFLICT (node_id, model_id, layers_start, layers_end) DO UPDATE SET
    quantization = excluded.quantization,
    is_serving = 1";

const DEACTIVATE: &str = "UPDATE far_nodes SET is_active = 0 WHERE node_id = $1";

const STOP_SERVING: &str = "UPDATE far_node_models SET is_serving = 0 WHERE node_id = $1";

const SEEN: &str = "
UPDATE far_nodes SET last_seen = CASE WHEN $2 > last_seen THEN $2 ELSE last_seen END WHERE node_id = $1";

const ACTIVE: &str = "SELECT * FROM active_far_nodes WHERE last_seen >= $1 ORDER BY node_id";

const EARNINGS: &str = "SELECT * FROM node_earnings_summary WHERE node_id = $1";

const OF_WALLET: &str = "SELECT * FROM node_earnings_summary WHERE wallet_address = $1 ORDER BY node_id";

pub(super) async fn upsert(database: &Database, node: &Node) -> Result<(), NodeError> {
    node.check()?;
    let mut transaction = database.begin().await?;
    query(UPSERT)
        .bind(&node.node_id)
        .bind(node.wallet.map(|wallet| wallet.to_string()))
        .bind(&node.gpu_model)
        .bind(node.vram_gb.map(i64::from))
        .bind(&node.location)
        .bind(node.last_seen.get())
        .execute(&mut transaction)
        .await?;
    let account = Party::Node(node.node_id.clone()).to_string();
    query(OPEN_ACCOUNT).bind(account).bind(node.last_seen.get()).execute(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn upsert_model(database: &Database, model: &NodeModel) -> Result<(), NodeError> {
    model.check()?;
    let mut transaction = database.begin().await?;
    let done = query(UPSERT_MODEL)
        .bind(&model.node_id)
        .bind(&model.model_id)
        .bind(i64::from(model.layers_start))
        .bind(i64::from(model.layers_end))
        .bind(&model.quantization)
        .execute(&mut transaction)
        .await?;
    known(done, &model.node_id)?;
    Ok(transaction.commit().await?)
}

pub(super) async fn withdraw(database: &Database, node_id: &str) -> Result<(), NodeError> {
    let mut transaction = database.begin().await?;
    let done = query(DEACTIVATE).bind(node_id).execute(&mut transaction).await?;
    known(done, node_id)?;
    query(STOP_SERVING).bind(node_id).execute(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn seen(database: &Database, node_id: &str, seen: UnixMillis) -> Result<(), NodeError> {
    let mut transaction = database.begin().await?;
    let done = query(SEEN).bind(node_id).bind(seen.get()).execute(&mut transaction).await?;
    known(done, node_id)?;
    Ok(transaction.commit().await?)
}

pub(super) async fn active(database: &Database, since: UnixMillis) -> Result<Vec<NodeRow>, ReadError> {
    let rows = query(ACTIVE).bind(since.get()).fetch_all(&mut database.read().await?).await?;
    rows.iter().map(NodeRow::read).collect()
}

pub(super) async fn earnings(database: &Database, node_id: &str) -> Result<Option<NodeEarnings>, ReadError> {
    let row = query(EARNINGS).bind(node_id).fetch_optional(&mut database.read().await?).await?;
    row.as_ref().map(NodeEarnings::read).transpose()
}

pub(super) async fn earnings_of_wallet(
    database: &Database,
    wallet: WalletAddress,
) -> Result<Vec<NodeEarnings>, ReadError> {
    let rows = query(OF_WALLET).bind(wallet.to_string()).fetch_all(&mut database.read().await?).await?;
    rows.iter().map(NodeEarnings::read).collect()
}

fn known(rows: u64, node_id: &str) -> Result<(), NodeError> {
    if rows == 0 { Err(NodeError::Unknown { node_id: node_id.to_owned() }) } else { Ok(()) }
}
