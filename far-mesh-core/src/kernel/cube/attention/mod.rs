//! Rotary embedding, the paged cache and attention over it.
//!
//! ```text
//! Plan (once a step): positions, page tables and tiles of queries, in one upload
//! each layer:  write (rotate, store) -> attend (a cube for each tile, key-value head and stretch of the past) -> combine
//! ```
//!
//! Rows that decode (one to a sequence) share out their past in stretches of [`plan::STRETCH`] positions, so that a single
//! long sequence fills the device; rows of a chunk read it in one piece, many queries at a time. Invariant: stretches and
//! pieces begin at multiples of a fixed number of positions, so the order of summation is that of the position alone.

mod attend;
mod cache;
mod plan;
mod write;

pub(super) use cache::attention;
pub use cache::{CubeCache, CubeRope};
pub(super) use plan::Plan;

/// Positions in a page.
pub(super) const PAGE_TOKENS: usize = 32;
