//! What commands do with shards: how many layers a model has, loading a span where blocking is allowed.

use std::path::Path;

use far_mesh_core::{
    id::Span,
    model::{ModelConfig, Source},
    shard::{self, Shard},
};

use super::CommandError;
use crate::progress::Progress;

/// All layers of a model; only headers and settings are read.
pub(super) fn all_layers(path: &Path) -> Result<Span, CommandError> {
    Ok(ModelConfig::read(&Source::open(path)?)?.all_layers())
}

/// Loads a shard on a thread where blocking is allowed, with a progress bar called `label`.
pub(super) async fn load(config: shard::Config, label: &str) -> Result<Shard, CommandError> {
    let meter = Progress::detect().begin(label, None);
    let loading = tokio::task::spawn_blocking(move || {
        Shard::load(config, &mut |done, total| {
            meter.set_total(total);
            meter.set(done);
        })
    });
    Ok(loading.await.map_err(|_| CommandError::Aborted)??)
}
