//! How many layers fit a machine.

use burn_flex::{Flex, FlexDevice};

use crate::{
    activation::Dtype,
    id::Span,
    kernel::KernelOps,
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
        "no layer fits: the first needs {needed_bytes} bytes with an arena of {arena_tokens} tokens, {max_bytes} may be used; free memory or take a smaller arena"
    )]
    TooSmall {
        /// Bytes of the embedding, the first layer and its cache.
        needed_bytes: u64,
        /// Positions of the arena.
        arena_tokens: usize,
        /// What may be used.
        max_bytes: u64,
    },
}

/// The widest span from layer 0 whose packed weights and full arena take at most `max_bytes`.
///
/// # Errors
/// [`PlanError`].
pub fn plan_span(file: &Source, max_bytes: u64, arena_tokens: usize) -> Result<Span, PlanError> {
    let config = ModelConfig::read(file)?;
    let page = Flex::cache_bytes(&Flex::cache(1, 1, config.attention, Dtype::F32, &FlexDevice)) as u64;
    let cache = page.saturating_mul(arena_tokens.div_ceil(Flex::PAGE_TOKENS) as u64);
    let bytes = |name: &str| file.tensor_bytes(name);
    let mut sum = bytes("token_embd.weight");
    let mut fit = 0;
    for layer in 0..config.layers {
        let weights: u64 = config.block_tensors(layer).map(|name| bytes(&name)).sum();
        sum = sum.saturating_add(weights).saturating_add(cache);
        if sum > max_bytes {
            break;
        }
        fit = layer + 1;
    }
    Span::new(0, fit).map_err(|_| PlanError::TooSmall { needed_bytes: sum, arena_tokens, max_bytes })
}
