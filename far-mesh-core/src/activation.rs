//! The tensor that crosses between hops.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_CHUNK_TOKENS, MAX_HIDDEN};

/// Element type of an [`Activation`]. A shard's own type is the wire's default, so that crossing changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary32, what CPU shards compute in.
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// bfloat16.
    Bf16 = 2,
}

/// Hidden states of consecutive positions of one session.
///
/// # Shapes
/// `[tokens, hidden]`, row-major, little-endian elements of [`Dtype`]. Cloning shares the bytes.
///
/// Invariant: `bytes.len() == tokens * hidden * dtype.bytes()`, `tokens` and `hidden` within [`crate::limits`].
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    tokens: usize,
    hidden: usize,
    dtype: Dtype,
    bytes: Bytes,
}

/// Why bytes are not an activation of the shape that was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// The shape is empty or beyond the limits.
    #[error(
        "activation of [{tokens}, {hidden}] is out of bounds: 1 to {MAX_CHUNK_TOKENS} tokens of 1 to {MAX_HIDDEN} values"
    )]
    Shape {
        /// Rows.
        tokens: usize,
        /// Columns.
        hidden: usize,
    },
    /// The number of bytes does not fit the shape.
    #[error("activation of [{tokens}, {hidden}] {dtype:?} has {got} bytes, needs {want}")]
    Length {
        /// Rows.
        tokens: usize,
        /// Columns.
        hidden: usize,
        /// Element type.
        dtype: Dtype,
        /// Bytes present.
        got: usize,
        /// Bytes needed.
        want: usize,
    },
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The type with this number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|dtype| *dtype as u8 == number)
    }
}

impl Activation {
    /// Checks `bytes` against the shape.
    ///
    /// # Errors
    /// [`ActivationError`] when the shape is out of bounds or the length does not fit it.
    pub fn new(tokens: usize, hidden: usize, dtype: Dtype, bytes: Bytes) -> Result<Self, ActivationError> {
        if !(1..=MAX_CHUNK_TOKENS).contains(&tokens) || !(1..=MAX_HIDDEN).contains(&hidden) {
            return Err(ActivationError::Shape { tokens, hidden });
        }
        let want = tokens * hidden * dtype.bytes();
        if bytes.len() != want {
            return Err(ActivationError::Length { tokens, hidden, dtype, got: bytes.len(), want });
        }
        Ok(Self { tokens, hidden, dtype, bytes })
    }

    /// Rows of `hidden` f32 values, without a copy on little-endian machines.
    ///
    /// # Errors
    /// As [`Activation::new`].
    pub fn from_f32(tokens: usize, hidden: usize, values: Vec<f32>) -> Result<Self, ActivationError> {
        let bytes = if cfg!(target_endian = "little") {
            Bytes::from_owner(F32Bytes(values))
        } else {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        Self::new(tokens, hidden, Dtype::F32, bytes)
    }

    /// The values as f32, in row-major order.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Dtype::F16 => self.bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::Bf16 => {
                self.bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
        }
    }

    /// Rows: positions.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Columns: width of the hidden state.
    pub fn hidden(&self) -> usize {
        self.hidden
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The elements as they go over the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

struct F32Bytes(Vec<f32>);

impl AsRef<[u8]> for F32Bytes {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_wire_form() {
        let values = vec![1.5, -2.0, 0.0, f32::MIN_POSITIVE, 3e38, -0.0];
        let activation = Activation::from_f32(2, 3, values.clone()).unwrap();
        let read = Activation::new(2, 3, Dtype::F32, activation.bytes().clone()).unwrap();
        assert_eq!(
            read.to_f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused() {
        for (tokens, hidden, bytes) in
            [(0, 4, 0), (1, 0, 0), (1, 4, 15), (1, 4, 17), (usize::MAX, 8, 4), (513, 1, 2052)]
        {
            assert!(Activation::new(tokens, hidden, Dtype::F32, vec![0; bytes].into()).is_err(), "{tokens} {hidden}");
        }
    }
}
