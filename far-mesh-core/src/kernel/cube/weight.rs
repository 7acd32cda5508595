//! A matrix on the device.

use std::fmt;

use burn::tensor::Bytes;
use burn_cubecl::CubeRuntime;
use cubecl::{prelude::*, server::Handle};
use half::{bf16, f16};

use super::{
    device::keep,
    layout::{self, TILE_COLUMNS, TILE_ROWS},
    tile::Encoding,
};
use crate::{
    activation::Dtype,
    kernel::ops::{Format, PackError, RawMatrix},
};

/// A weight `[n, k]` in the device's memory: tiles of quants with their scales apart, or dense rows. Cloning shares it.
#[derive(Clone)]
pub struct CubePacked {
    pub(super) encoding: Encoding,
    pub(super) n: usize,
    pub(super) k: usize,
    quants: Array,
    high: Array,
    scales: Array,
    supers: Array,
}

/// Words on the device.
#[derive(Clone)]
struct Array {
    handle: Handle,
    words: usize,
}

/// A weight as the first arguments of a kernel.
pub(super) struct Arguments<R: CubeRuntime> {
    pub(super) quants: ArrayArg<R>,
    pub(super) high: ArrayArg<R>,
    pub(super) scales: ArrayArg<R>,
    pub(super) supers: ArrayArg<R>,
}

impl CubePacked {
    /// Packs a matrix for activations of `dtype`: dense f32 is rounded to it.
    ///
    /// # Errors
    /// [`PackError`] when the columns do not fill blocks or tiles, or the bytes do not fit the shape.
    pub(super) fn new<R: CubeRuntime>(
        client: &ComputeClient<R>,
        matrix: RawMatrix<'_>,
        dtype: Dtype,
    ) -> Result<Self, PackError> {
        layout::check(&matrix)?;
        let RawMatrix { format, n, k, bytes } = matrix;
        let upload =
            |words: &[u32]| Array { handle: keep(client, Bytes::from_elems(words.to_vec())), words: words.len() };
        let dense = |format, bytes: Vec<u8>| {
            let words = bytes.len() / 4;
            let quants = Array { handle: keep(client, Bytes::from_bytes_vec(bytes)), words };
            let none = quants.clone();
            let none = || Array { handle: none.handle.clone(), words: 0 };
            Self { encoding: Encoding { format }, n, k, high: none(), scales: none(), supers: none(), quants }
        };
        let values = || bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok(match (format, dtype) {
            (Format::F32, Dtype::Bf16) => {
                dense(Format::BF16, values().flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect())
            }
            (Format::F32, Dtype::F16) => {
                dense(Format::F16, values().flat_map(|v| f16::from_f32(v).to_le_bytes()).collect())
            }
            (Format::F32 | Format::F16 | Format::BF16, _) => dense(format, bytes.to_vec()),
            _ => {
                let planes = layout::planes(&matrix);
                let quants = upload(&planes.quants);
                let or_none = |words: &[u32]| match words {
                    [] => Array { handle: quants.handle.clone(), words: 0 },
                    words => upload(words),
                };
                let (high, scales, supers) = (or_none(&planes.high), or_none(&planes.scales), or_none(&planes.supers));
                Self { encoding: Encoding { format }, n, k, quants, high, scales, supers }
            }
        })
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn columns(&self) -> usize {
        self.k
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        4 * [&self.quants, &self.high, &self.scales, &self.supers].map(|array| array.words).iter().sum::<usize>()
    }

    /// The rows as a dense tensor of the activations' type, where they are one.
    pub(super) fn dense(&self, dtype: Dtype) -> Option<Handle> {
        let same = matches!(
            (self.encoding.format, dtype),
            (Format::F32, Dtype::F32) | (Format::F16, Dtype::F16) | (Format::BF16, Dtype::Bf16)
        );
        same.then(|| self.quants.handle.clone())
    }

    /// Groups of 4 rows.
    pub(super) fn groups(&self) -> usize {
        self.n.div_ceil(TILE_ROWS)
    }

    /// Columns of tiles.
    pub(super) fn tile_columns(&self) -> usize {
        self.k / TILE_COLUMNS
    }

    pub(super) fn arguments<R: CubeRuntime>(&self) -> Arguments<R> {
        // An array of no words is never read; it lends the quants' handle, since a kernel's arguments must be there.
        let arg = |array: &Array, per_vector: usize| {
            let words = if array.words == 0 { self.quants.words } else { array.words };
            // SAFETY: the handle was made with this many words.
            unsafe { ArrayArg::from_raw_parts(array.handle.clone(), words / per_vector) }
        };
        Arguments {
            quants: arg(&self.quants, 4),
            high: arg(&self.high, 1),
            scales: arg(&self.scales, 1),
            supers: arg(&self.supers, 1),
        }
    }
}

impl fmt::Debug for CubePacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CubePacked({:?} [{}, {}])", self.encoding.format, self.n, self.k)
    }
}
