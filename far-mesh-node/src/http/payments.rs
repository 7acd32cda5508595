//! `GET /nodes/{node_id}/payments`: what a node earned, and where each payment of it can be found on the chain.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use far_ledger::{UnixMillis, payout::NodePayment};
use far_mesh_client::schema::{NodePayments, Payment};

use super::{app::App, error::ApiError};

/// Payments that are shown, the newest: four years of weeks.
const SHOWN: u32 = 208;

/// What a node earned and was paid. No key is needed: its owner has none, and what is paid is public on the chain.
pub(super) async fn payments(
    State(app): State<Arc<App>>,
    Path(node_id): Path<String>,
) -> Result<Json<NodePayments>, ApiError> {
    let found = app.meter.payments(&node_id, SHOWN).await;
    let (earned, payments) = found.map_err(|error| ApiError::ledger_failed(error.to_string()))?.ok_or_else(|| {
        let node: String = node_id.chars().take(64).collect();
        let message = format!("node {node:?} never served here: see GET /models/{{id}}/nodes for those that do");
        ApiError::new(StatusCode::NOT_FOUND, "node_not_found", message)
    })?;
    Ok(Json(NodePayments {
        node_id: earned.node_id,
        wallet: earned.wallet.map(|wallet| wallet.to_string()),
        earned_far: earned.earned.to_string(),
        paid_far: earned.paid.to_string(),
        unpaid_far: earned.unpaid.to_string(),
        payments: payments.into_iter().map(payment).collect(),
    }))
}

fn payment(paid: NodePayment) -> Payment {
    Payment {
        week_end_ms: paid.epoch.end().get(),
        batch_id: paid.batch_id,
        status: paid.status,
        amount_far: paid.amount.to_string(),
        tx_hash: paid.tx_hash,
        block_number: paid.block_number,
        confirmed_at_ms: paid.confirmed_at.map(UnixMillis::get),
    }
}
