//! How many layers fit a device.

use super::footprint::{Footprint, Load};
use crate::{
    id::Span,
    model::{ConfigError, ModelConfig, Source},
};

/// Why no span can be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The file does not describe a model we run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not even one layer fits.
    #[error(
        "no layer fits: one needs {needed_bytes} bytes with an arena of {arena_tokens} tokens, {max_bytes} may be used; free memory, raise --max-memory or lower --max-sessions"
    )]
    TooSmall {
        /// Bytes of the greatest layer, its cache, the embedding where it is the first, and workspace.
        needed_bytes: u64,
        /// Positions of the arena.
        arena_tokens: usize,
        /// What may be used.
        max_bytes: u64,
    },
}

/// The widest span that takes at most `max_bytes`, counted from layer 0; one of the same length fits from any other layer too.
///
/// # Errors
/// [`PlanError`].
pub fn plan_span(source: &Source, load: &Load, max_bytes: u64) -> Result<Span, PlanError> {
    let config = ModelConfig::read(source)?;
    let footprint = Footprint::of(source, &config, load);
    let one = |layer| Span::new(layer, layer + 1).map_or(0, |span| footprint.bytes(Some(span), false));
    Span::new(0, footprint.widest(max_bytes)).map_err(|_| PlanError::TooSmall {
        needed_bytes: (0..config.layers).map(one).max().unwrap_or(0),
        arena_tokens: load.arena_tokens,
        max_bytes,
    })
}
