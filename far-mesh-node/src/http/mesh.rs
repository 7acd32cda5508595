//! State of the mesh: health, models, nodes, sessions.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use far_ledger::Status;
use far_mesh_client::schema::{
    Coverage, Health, MeshStatus, ModelInfo, ModelList, ModelStatus, NodeInfo, NodeList, PartHealth, SessionAccount,
    SessionState,
};
use far_mesh_core::{
    hop::HopError,
    id::{SessionId, Span},
    route::PlanError,
};

use super::{access::Caller, app::App, engine::ServedModel, error::ApiError, far::contribution};
use crate::metering::Holder;

/// `GET /health`.
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let (mesh, ledger) = futures::future::join(app.engine.health(), app.meter.health()).await;
    let ledger = match ledger {
        Ok(health) => PartHealth { ok: true, detail: format!("schema {}", health.schema_version) },
        Err(error) => PartHealth { ok: false, detail: error.to_string() },
    };
    let (code, status) = match mesh.ok && ledger.ok {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (code, Json(Health { status: status.to_owned(), mesh, ledger })).into_response()
}

/// `GET /mesh/status`.
pub(super) async fn status(State(app): State<Arc<App>>) -> Json<MeshStatus> {
    let models = app.engine.models().await;
    let nodes: BTreeSet<_> = models.iter().flat_map(ServedModel::nodes).collect();
    Json(MeshStatus {
        models: models.iter().map(model_status).collect(),
        nodes: nodes.len(),
        live_sessions: app.live_sessions(),
        tokens_per_second: app.rate.per_second(),
        price_per_token_far: app.meter.price().per_token().to_string(),
    })
}

/// `GET /models`.
pub(super) async fn models(State(app): State<Arc<App>>) -> Json<ModelList> {
    let info = |model: &ServedModel| ModelInfo {
        id: model.name.clone(),
        hash: model.hash.to_string(),
        layers: model.layers,
        context_tokens: model.context_tokens,
        complete: model.gaps().is_empty(),
        nodes: model.nodes().len(),
    };
    Json(ModelList { models: app.engine.models().await.iter().map(info).collect() })
}

/// `GET /models/{id}/nodes`.
pub(super) async fn nodes(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<NodeList>, ApiError> {
    let mut model = known(&app, Some(&id)).await?;
    model.offers.sort_by_key(|offer| (offer.span, offer.node));
    let info = |offer: &super::engine::Offer| NodeInfo {
        node_id: offer.node.to_string(),
        layers: inclusive(offer.span),
        tokens_per_second: offer.tokens_per_second,
        region: offer.region.clone(),
        region_refuted: offer.region_refuted,
    };
    Ok(Json(NodeList { nodes: model.offers.iter().map(info).collect(), model: model.name }))
}

/// `GET /sessions/{id}`.
pub(super) async fn session(
    State(app): State<Arc<App>>,
    Extension(Caller(holder)): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<SessionAccount>, ApiError> {
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "session_not_found", format!("session {id:?} is not known"));
    let parsed: SessionId = id.parse().map_err(|_| unknown())?;
    let live = app.live_tokens(parsed);
    let (session, rows) = app
        .meter
        .session(parsed)
        .await
        .map_err(|error| ApiError::ledger_failed(error.to_string()))?
        // Whether there is one of somebody else's is not told.
        .filter(|(session, _)| belongs(session, holder.as_ref()))
        .ok_or_else(unknown)?;
    let status = match session.status {
        Status::Running => SessionState::Running,
        Status::Completed => SessionState::Completed,
        _ => SessionState::Failed,
    };
    let (tokens, cost) = match (status, live) {
        // The ledger learns the tokens at the end.
        (SessionState::Running, Some(tokens)) => {
            (u64::from(tokens), app.meter.price().of(tokens.into()).unwrap_or(session.total_cost))
        }
        _ => (session.tokens_generated, session.total_cost),
    };
    Ok(Json(SessionAccount {
        session_id: parsed.to_string(),
        model: session.begun.model_id,
        status,
        failure: session.failure,
        completion_tokens: tokens,
        cost_far: cost.to_string(),
        started_at_ms: session.begun.started_at.get(),
        completed_at_ms: session.completed_at.map(far_ledger::UnixMillis::get),
        contributions: rows.iter().map(|row| contribution(&row.contribution)).collect(),
    }))
}

/// Whether a session may be seen: one that an account pays for by its holders alone.
fn belongs(session: &far_ledger::Session, holder: Option<&Holder>) -> bool {
    session.begun.payer.as_ref().is_none_or(|payer| holder.is_some_and(|holder| holder.account == payer.account))
}

/// The model that a request names, or the only one; every layer of it is served.
///
/// # Errors
/// 404 with the models there are, 503 with the layers that no one serves.
pub(super) async fn find(app: &App, name: Option<&str>) -> Result<ServedModel, ApiError> {
    let model = known(app, name).await?;
    let gaps = model.gaps();
    if gaps.is_empty() {
        return Ok(model);
    }
    let uncovered = HopError::NoRoute(PlanError::Uncovered { model: model.name, missing: gaps });
    Err(ApiError::from_generation(&uncovered.into(), "prompt"))
}

/// The model of this name or hash, or the only one.
///
/// # Errors
/// 404 with the models there are; 400 when none is named and there are several.
pub(super) async fn known(app: &App, name: Option<&str>) -> Result<ServedModel, ApiError> {
    let mut models = app.engine.models().await;
    let names = models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
    let served = if names.is_empty() { "none yet: start a provider".to_owned() } else { names };
    let Some(name) = name else {
        return match models.pop() {
            Some(model) if models.is_empty() => Ok(model),
            Some(_) => Err(ApiError::field("missing_field", "model", format!("model is missing; served: {served}"))),
            None => Err(not_found(format!("there is no model; served: {served}"))),
        };
    };
    let found = models.into_iter().find(|model| model.name == name || model.hash.to_string() == name);
    found.ok_or_else(|| {
        let name: String = name.chars().take(120).collect();
        not_found(format!("model {name:?} is not served; served: {served}"))
    })
}

fn not_found(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model")
}

fn model_status(model: &ServedModel) -> ModelStatus {
    let coverage = model.coverage();
    ModelStatus {
        id: model.name.clone(),
        hash: model.hash.to_string(),
        layers: model.layers,
        complete: coverage.iter().all(|(_, nodes)| *nodes > 0),
        coverage: coverage.iter().map(|(span, nodes)| Coverage { layers: inclusive(*span), nodes: *nodes }).collect(),
        nodes: model.nodes().len(),
    }
}

/// First and last layer, both included.
fn inclusive(span: Span) -> [u32; 2] {
    [span.start(), span.end() - 1]
}
