//! Keys and values in pages of 32 positions.

use std::fmt;

use crate::kernel::{ops::AttentionShape, output::Parts, simd::LANES};

/// Positions in a page: two vectors of scores.
pub(in crate::kernel) const PAGE_TOKENS: usize = 32;

/// Keys and values of all layers of a span, f32. For each layer, page and key-value head a *slab*: the keys as
/// `[head_dim, 32]`, so that a vector holds one element of 16 positions and a score needs no sum across lanes, then the
/// values as `[32, head_dim rounded up to 16]`.
///
/// The memory is asked for as zeros and never touched before it is written, so an unused page costs nothing.
pub struct PagedCache {
    shape: AttentionShape,
    layers: usize,
    pages: usize,
    /// Starts at the first element that a cache line starts with. Never grows, so it never moves.
    memory: Vec<f32>,
    start: usize,
}

/// A slab's shape.
#[derive(Clone, Copy)]
pub(super) struct Slab {
    pub(super) head_dim: usize,
}

impl Slab {
    /// Elements of a value, with padding.
    pub(super) fn value_stride(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    pub(super) fn key_elements(self) -> usize {
        self.head_dim * PAGE_TOKENS
    }

    pub(super) fn elements(self) -> usize {
        self.key_elements() + self.value_stride() * PAGE_TOKENS
    }
}

impl PagedCache {
    /// Room for `pages` pages of `layers` layers.
    ///
    /// # Panics
    /// When the address space cannot hold it.
    pub(in crate::kernel) fn new(layers: usize, pages: usize, shape: AttentionShape) -> Self {
        let slab = Slab { head_dim: shape.head_dim };
        let elements = [pages, shape.kv_heads, slab.elements()].into_iter().try_fold(layers, usize::checked_mul);
        // Not `vec![0.0; n]` of an aligned type: the system's zeroed pages come only with plain alignment.
        let memory = vec![0.0f32; elements.and_then(|n| n.checked_add(LANES)).unwrap_or(usize::MAX)];
        let start = memory.as_ptr().align_offset(64).min(LANES);
        Self { shape, layers, pages, memory, start }
    }

    /// Bytes when every page is in use.
    pub fn bytes(&self) -> usize {
        self.layers * self.layer_elements() * size_of::<f32>()
    }

    pub(super) fn shape(&self) -> AttentionShape {
        self.shape
    }

    pub(super) fn slab(&self) -> Slab {
        Slab { head_dim: self.shape.head_dim }
    }

    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    fn layer_elements(&self) -> usize {
        self.pages * self.shape.kv_heads * self.slab().elements()
    }

    /// One layer's slabs, in order of page and head.
    pub(super) fn layer_mut(&mut self, layer: usize) -> Parts<'_> {
        let elements = self.layer_elements();
        Parts::of(&mut self.memory[self.start + layer * elements..][..elements])
    }

    /// One layer's slabs, in order of page and head.
    pub(super) fn layer(&self, layer: usize) -> &[f32] {
        let elements = self.layer_elements();
        &self.memory[self.start + layer * elements..][..elements]
    }
}

impl fmt::Debug for PagedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedCache")
            .field("shape", &self.shape)
            .field("layers", &self.layers)
            .field("pages", &self.pages)
            .finish()
    }
}
