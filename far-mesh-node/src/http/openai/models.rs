//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::super::{app::App, error::ApiError, mesh};

/// Every model known.
pub(in crate::http) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let models = app.engine.models().await;
    let data: Vec<_> = models.iter().map(|model| card(&app, &model.name)).collect();
    Json(json!({ "object": "list", "data": data }))
}

/// One of them.
pub(in crate::http) async fn model(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let model = mesh::known(&app, Some(&id)).await?;
    Ok(Json(card(&app, &model.name)))
}

fn card(app: &App, name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": app.started, "owned_by": "far-mesh" })
}
