//! A matrix in the kernels' layout.

use std::{fmt, sync::Arc};

use half::{bf16, f16};

use super::{
    dense::Element,
    five::{Q5_0, Q5_1},
    quant::{BLOCK, Q4_0, Q4_1, Q8_0, Tile},
    superblock::{Q4_K, Q5_K, Q6_K, SUPERBLOCK},
};
use crate::kernel::{
    ops::{Format, PackError, RawMatrix},
    simd::LANES,
};

/// A weight `[n, k]` packed for the CPU's kernels: as many bytes as in the file (for Q4_K and Q5_K 4 more to 256 elements,
/// whose scales are unpacked), the rows rounded up to 16.
#[derive(Clone)]
pub struct Packed(Arc<Weight>);

pub(super) struct Weight {
    pub(super) format: Format,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) tiles: Tiles,
}

/// For each 16 rows the tiles (or columns) from the first to the last.
#[expect(non_camel_case_types, reason = "GGML's names")]
pub(super) enum Tiles {
    Q4_0(Vec<Q4_0>),
    Q4_1(Vec<Q4_1>),
    Q5_0(Vec<Q5_0>),
    Q5_1(Vec<Q5_1>),
    Q8_0(Vec<Q8_0>),
    Q4_K(Vec<Q4_K>),
    Q5_K(Vec<Q5_K>),
    Q6_K(Vec<Q6_K>),
    F32(Vec<[f32; LANES]>),
    F16(Vec<[f16; LANES]>),
    BF16(Vec<[bf16; LANES]>),
}

/// Runs one of two expressions on [`Tiles`], whatever their type.
macro_rules! by_kind {
    ($tiles:expr, quantized $q:ident => $quantized:expr, dense $d:ident => $dense:expr) => {{
        use $crate::kernel::linear::weight::Tiles;
        match $tiles {
            Tiles::Q4_0($q) => $quantized,
            Tiles::Q4_1($q) => $quantized,
            Tiles::Q5_0($q) => $quantized,
            Tiles::Q5_1($q) => $quantized,
            Tiles::Q8_0($q) => $quantized,
            Tiles::Q4_K($q) => $quantized,
            Tiles::Q5_K($q) => $quantized,
            Tiles::Q6_K($q) => $quantized,
            Tiles::F32($d) => $dense,
            Tiles::F16($d) => $dense,
            Tiles::BF16($d) => $dense,
        }
    }};
}
pub(super) use by_kind;

impl Packed {
    /// # Errors
    /// [`PackError`] when the columns of a quantized matrix do not fill blocks or the bytes do not fit the shape.
    pub(in crate::kernel) fn new(matrix: RawMatrix<'_>) -> Result<Self, PackError> {
        let RawMatrix { format, n, k, bytes } = matrix;
        let unsupported = |reason| PackError::Unsupported { format, n, k, reason };
        if n == 0 || k == 0 {
            return Err(unsupported("it is empty"));
        }
        if !k.is_multiple_of(format.block().0) {
            return Err(unsupported(match format.block().0 {
                SUPERBLOCK => "its columns do not fill blocks of 256",
                _ => "its columns do not fill blocks of 32",
            }));
        }
        let want = n.checked_mul(k).and_then(|elements| format.bytes(elements));
        let want = want.ok_or_else(|| unsupported("its size overflows"))?;
        if bytes.len() != want {
            return Err(PackError::Length { format, n, k, got: bytes.len(), want });
        }
        let tiles = match format {
            Format::Q4_0 => Tiles::Q4_0(pack_blocks(n, bytes)),
            Format::Q4_1 => Tiles::Q4_1(pack_blocks(n, bytes)),
            Format::Q5_0 => Tiles::Q5_0(pack_blocks(n, bytes)),
            Format::Q5_1 => Tiles::Q5_1(pack_blocks(n, bytes)),
            Format::Q8_0 => Tiles::Q8_0(pack_blocks(n, bytes)),
            Format::Q4_K => Tiles::Q4_K(pack_blocks(n, bytes)),
            Format::Q5_K => Tiles::Q5_K(pack_blocks(n, bytes)),
            Format::Q6_K => Tiles::Q6_K(pack_blocks(n, bytes)),
            Format::F32 => Tiles::F32(pack_elements(n, bytes)),
            Format::F16 => Tiles::F16(pack_elements(n, bytes)),
            Format::BF16 => Tiles::BF16(pack_elements(n, bytes)),
        };
        Ok(Self(Arc::new(Weight { format, n, k, tiles })))
    }

    pub(super) fn weight(&self) -> &Weight {
        &self.0
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.0.n
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.0.k
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        by_kind!(&self.0.tiles, quantized tiles => size_of_val(&tiles[..]), dense columns => size_of_val(&columns[..]))
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packed({:?} [{}, {}])", self.0.format, self.0.n, self.0.k)
    }
}

fn pack_blocks<T: Tile>(n: usize, bytes: &[u8]) -> Vec<T> {
    let row_bytes = bytes.len() / n;
    let per_row = row_bytes / T::BYTES;
    let mut tiles = vec![T::ZERO; n.div_ceil(LANES) * per_row];
    for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
        let tiles = &mut tiles[row / LANES * per_row..][..per_row];
        for (tile, block) in tiles.iter_mut().zip(bytes.chunks_exact(T::BYTES)) {
            tile.fill(row % LANES, block);
        }
    }
    tiles
}

const _: () = {
    assert!(BLOCK == 32 && SUPERBLOCK == 256);
    // A tile is what 16 rows take in the file, without padding; unpacked scales are four bytes more.
    assert!(size_of::<Q4_0>() == LANES * Q4_0::BYTES && size_of::<Q4_1>() == LANES * Q4_1::BYTES);
    assert!(size_of::<Q5_0>() == LANES * Q5_0::BYTES && size_of::<Q5_1>() == LANES * Q5_1::BYTES);
    assert!(size_of::<Q8_0>() == LANES * Q8_0::BYTES && size_of::<Q6_K>() == LANES * Q6_K::BYTES);
    assert!(size_of::<Q4_K>() == LANES * (Q4_K::BYTES + 4) && size_of::<Q5_K>() == LANES * (Q5_K::BYTES + 4));
};

fn pack_elements<E: Element>(n: usize, bytes: &[u8]) -> Vec<[E; LANES]> {
    let row_bytes = bytes.len() / n;
    let k = row_bytes / size_of::<E>();
    let mut columns = vec![[E::zeroed(); LANES]; n.div_ceil(LANES) * k];
    for (row, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
        let columns = &mut columns[row / LANES * k..][..k];
        for (column, bytes) in columns.iter_mut().zip(bytes.chunks_exact(size_of::<E>())) {
            column[row % LANES] = E::read(bytes);
        }
    }
    columns
}
