//! What a backend must do beyond burn: few, whole operations, each batch-invariant.
//!
//! Invariant: a row of any result has the same bits whatever other rows are in the call. Where a backend computes steps of
//! one position in another order than chunks, [`KernelOps::compute`] tells it which are which.

use std::fmt;

use burn::tensor::{Tensor, backend::Backend};

use crate::activation::Dtype;

/// A burn backend that can run our models.
pub trait FarBackend: KernelOps {}
impl<B: KernelOps> FarBackend for B {}

/// The operations a model needs that burn has not, or not fast enough.
pub trait KernelOps: Backend {
    /// A weight `[n, k]` in the layout of this backend's kernel. Cloning shares it.
    type Packed: Clone + fmt::Debug + Send + Sync;
    /// Keys and values of a span in pages of [`KernelOps::PAGE_TOKENS`] positions.
    type Cache: fmt::Debug + Send;
    /// The rotary table where [`KernelOps::attention`] reads it.
    type Rope: Clone + fmt::Debug + Send + Sync;
    /// Positions in a page.
    const PAGE_TOKENS: usize;
    /// Whether a position has other bits in a step of its own than in a chunk.
    const STEPS_DIFFER: bool = false;

    /// What activations are made of on this device; `exact` asks for f32.
    fn activation_dtype(exact: bool, device: &Self::Device) -> Dtype;

    /// Results of two nodes that name the same class are equal bit for bit: device family, activations, version of the
    /// kernels.
    fn kernel_class(dtype: Dtype, device: &Self::Device) -> String;

    /// Runs a forward, or a part of it, of these sequences; empty where there are none. What the backend computes with is
    /// its own between the calls of one `run`.
    fn compute<T>(shares: &[Share], run: impl FnOnce() -> T) -> T {
        let _ = shares;
        run()
    }

    /// Brings a matrix into the kernel's layout, for activations of `dtype`.
    ///
    /// # Errors
    /// [`PackError`] when the format has no kernel here or the bytes do not fit the shape.
    fn pack(matrix: RawMatrix<'_>, dtype: Dtype, device: &Self::Device) -> Result<Self::Packed, PackError>;

    /// Bytes the weight takes on the device.
    fn packed_bytes(weight: &Self::Packed) -> usize;

    /// # Shapes
    /// `x [t, k]` times `weight [n, k]` transposed is `[t, n]`, of the type of `x`.
    fn linear(x: Tensor<Self, 2>, weight: &Self::Packed) -> Tensor<Self, 2>;

    /// [`KernelOps::linear`] with a result in f32, whatever the activations are.
    fn logits(x: Tensor<Self, 2>, weight: &Self::Packed) -> Tensor<Self, 2> {
        <Self as KernelOps>::linear(x, weight)
    }

    /// Rows of a weight, dequantized: the embedding of token ids.
    ///
    /// # Shapes
    /// `[ids.len(), k]` of `dtype`. Every id must be less than `n`; the caller checks.
    fn embed(weight: &Self::Packed, ids: &[u32], dtype: Dtype, device: &Self::Device) -> Tensor<Self, 2>;

    /// Root mean square norm (Zhang & Sennrich 2019) of each row, times `weight [k]`.
    fn rms_norm(x: &Tensor<Self, 2>, weight: &Tensor<Self, 1>, eps: f32) -> Tensor<Self, 2>;

    /// `x + delta` with the bits that [`KernelOps::add_rms_norm`] gives it.
    fn add(x: Tensor<Self, 2>, delta: Tensor<Self, 2>) -> Tensor<Self, 2> {
        x + delta
    }

    /// `sum = x + delta`, and its norm: the residual connection and the norm after it. The norm is of the sum as it is
    /// rounded to the activations' type.
    fn add_rms_norm(
        x: Tensor<Self, 2>,
        delta: Tensor<Self, 2>,
        weight: &Tensor<Self, 1>,
        eps: f32,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>);

    /// `silu(gate) * up`.
    ///
    /// # Shapes
    /// `gate_up [t, 2 * f]`, gate first, to `[t, f]`.
    fn silu_mul(gate_up: Tensor<Self, 2>) -> Tensor<Self, 2>;

    /// Brings a rotary table to the device.
    fn rope(table: RopeTable, device: &Self::Device) -> Self::Rope;

    /// Room for `pages` pages of `layers` layers. The CPU touches the memory only when it is written.
    fn cache(layers: usize, pages: usize, shape: AttentionShape, dtype: Dtype, device: &Self::Device) -> Self::Cache;

    /// Tells the cache which sequences the next calls of [`KernelOps::attention`] are for, once for all layers.
    fn prepare(cache: &mut Self::Cache, sequences: &[Sequence<'_>], device: &Self::Device) {
        let _ = (cache, sequences, device);
    }

    /// Bytes the cache takes when every page is in use.
    fn cache_bytes(cache: &Self::Cache) -> usize;

    /// Rotates queries and keys, stores keys and values in the cache and attends. [`KernelOps::prepare`] has seen the sequences.
    ///
    /// Position of row `i` of a sequence is `position + i`; it sees the positions up to its own, those in the window where
    /// the cache's shape has one.
    /// Rotary embedding pairs element `i` with `i + head_dim / 2` (the half-split form of Hugging Face models).
    ///
    /// # Shapes
    /// `qkv [t, (heads + 2 * kv_heads) * head_dim]`, queries first, then keys, then values, rows as in `sequences`;
    /// the result is `[t, heads * head_dim]`.
    fn attention(
        qkv: Tensor<Self, 2>,
        cache: &mut Self::Cache,
        layer: usize,
        rope: &Self::Rope,
        sequences: &[Sequence<'_>],
    ) -> Tensor<Self, 2>;
}

/// Heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head, even.
    pub head_dim: usize,
    /// Positions that a query sees, the last ones up to its own; without a window all of them.
    pub window: Option<usize>,
}

/// Rows of a batch that belong to one session, at consecutive positions.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Position of the first.
    pub position: usize,
    /// Pages of the session, in order of position; enough for `position + rows`.
    pub pages: &'a [u32],
    /// As in [`Share`].
    pub chunk: bool,
}

/// What a sequence has of a forward's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Number of rows.
    pub rows: usize,
    /// Whether they are of a step of several positions, however it was cut: a backend that computes those in another order
    /// than steps of one position must not take the last row of one for such a step.
    pub chunk: bool,
}

impl Share {
    /// A whole step of so many positions.
    pub fn step(rows: usize) -> Self {
        Self { rows, chunk: rows > 1 }
    }
}

/// Cosines and sines of the rotary embedding (Su et al. 2021), computed once for all positions in f64 and rounded.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// `[positions, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[positions, head_dim / 2]`.
    pub sin: Vec<f32>,
    /// Elements of a head.
    pub head_dim: usize,
}

/// A matrix as it stands in a file: rows of blocks.
#[derive(Clone, Copy, Debug)]
pub struct RawMatrix<'a> {
    /// Encoding of the rows.
    pub format: Format,
    /// Rows (outputs).
    pub n: usize,
    /// Columns (inputs).
    pub k: usize,
    /// `n * k` elements.
    pub bytes: &'a [u8],
}

/// Encoding of a tensor's elements, as GGML defines it (`ggml-common.h` for the layouts, `ggml-quants.c` for the values).
///
/// Blocks of 32 begin with their f16 scale `d`, then the f16 minimum `m` where they have one, then the fifth bits where
/// they have them (a little-endian u32, bit `i` of element `i`), then the quants: one byte an element, or 16 bytes whose
/// low halves are elements 0 to 15 and whose high halves are 16 to 31.
///
/// Superblocks of 256 hold eight blocks of 32:
/// - Q4_K and Q5_K: f16 `d`, f16 `dmin`, 12 bytes with a 6-bit scale `s` and a 6-bit minimum `m` for each block (those of
///   blocks 0 to 3 in the low bits of bytes 0 to 3 and 4 to 7; of blocks 4 to 7 the low four bits in the halves of bytes 8
///   to 11, the high two atop bytes 0 to 3 and 4 to 7), for Q5_K 32 bytes of fifth bits (bit `b` of byte `i` is of element
///   `i` of block `b`), then 32 bytes for each two blocks, the first in the low halves.
/// - Q6_K: for each 128 elements 64 bytes with the low four bits (byte `i` holds elements `i` and `i + 64`), then for each
///   128 elements 32 bytes with the high two (byte `i` holds elements `i`, `i + 32`, `i + 64`, `i + 96`, lowest first), an
///   int8 scale `s` for each 16 elements, f16 `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(non_camel_case_types, reason = "GGML's names")]
pub enum Format {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Blocks of 32: f16 scale, 4-bit values minus 8.
    Q4_0,
    /// Blocks of 32: f16 scale and minimum, 4-bit values.
    Q4_1,
    /// Blocks of 32: `d * (q - 16)` with 5-bit `q`.
    Q5_0,
    /// Blocks of 32: `d * q + m` with 5-bit `q`.
    Q5_1,
    /// Blocks of 32: f16 scale, int8 values.
    Q8_0,
    /// Superblocks of 256: `d * s * q - dmin * m` with 4-bit `q`.
    Q4_K,
    /// Superblocks of 256: `d * s * q - dmin * m` with 5-bit `q`.
    Q5_K,
    /// Superblocks of 256: `d * s * (q - 32)` with 6-bit `q`.
    Q6_K,
}

/// Why a matrix cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// The kernel has no path for it.
    #[error("no kernel for a {format:?} matrix of [{n}, {k}]: {reason}")]
    Unsupported {
        /// Encoding.
        format: Format,
        /// Rows.
        n: usize,
        /// Columns.
        k: usize,
        /// What does not fit.
        reason: &'static str,
    },
    /// The bytes do not fit the shape.
    #[error("a {format:?} matrix of [{n}, {k}] needs {want} bytes, has {got}")]
    Length {
        /// Encoding.
        format: Format,
        /// Rows.
        n: usize,
        /// Columns.
        k: usize,
        /// Bytes present.
        got: usize,
        /// Bytes needed.
        want: usize,
    },
}

impl Format {
    /// Elements of a block and its bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }

    /// Bytes of `elements` elements; `None` when they do not fill whole blocks or overflow.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        let (per_block, bytes) = self.block();
        elements.is_multiple_of(per_block).then(|| (elements / per_block).checked_mul(bytes)).flatten()
    }

    /// The encoding with this number in a GGUF file.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            _ => return None,
        })
    }
}
