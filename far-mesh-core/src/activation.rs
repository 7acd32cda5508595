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

    /// The bits of an element's exponent.
    fn exponent(self) -> u32 {
        match self {
            Self::F32 => 0x7f80_0000,
            Self::F16 => 0x7c00,
            Self::Bf16 => 0x7f80,
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

    /// Some of its rows. Shares the bytes.
    ///
    /// # Errors
    /// [`ActivationError::Shape`] when the rows are none or not all there.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Result<Self, ActivationError> {
        let (tokens, hidden) = (rows.len(), self.hidden);
        if rows.is_empty() || rows.end > self.tokens {
            return Err(ActivationError::Shape { tokens, hidden });
        }
        let row = hidden * self.dtype.bytes();
        Self::new(tokens, hidden, self.dtype, self.bytes.slice(rows.start * row..rows.end * row))
    }

    /// The rows of several, one after another. Shares the bytes where it is only one.
    ///
    /// # Errors
    /// [`ActivationError::Shape`] when there is none, there are too many rows, or widths or types differ.
    pub fn concat(parts: &[Self]) -> Result<Self, ActivationError> {
        let (tokens, first) = (parts.iter().map(Self::tokens).sum(), parts.first());
        let shape = |hidden| ActivationError::Shape { tokens, hidden };
        let first = first.ok_or_else(|| shape(0))?;
        if parts.len() == 1 {
            return Ok(first.clone());
        }
        if parts.iter().any(|part| (part.hidden, part.dtype) != (first.hidden, first.dtype)) {
            return Err(shape(first.hidden));
        }
        let bytes = parts.iter().flat_map(|part| [&part.bytes[..]]).collect::<Vec<_>>().concat();
        Self::new(tokens, first.hidden, first.dtype, bytes.into())
    }

    /// Whether no value is infinite or not a number.
    pub fn is_finite(&self) -> bool {
        // All bits of the exponent are set in both, and in nothing else.
        let (words, exponent) = (self.bytes.chunks_exact(self.dtype.bytes()), self.dtype.exponent());
        match self.dtype {
            Dtype::F32 => {
                words.fold(true, |good, b| good & (u32::from_le_bytes([b[0], b[1], b[2], b[3]]) & exponent != exponent))
            }
            Dtype::F16 | Dtype::Bf16 => {
                words.fold(true, |good, b| good & (u32::from(u16::from_le_bytes([b[0], b[1]])) & exponent != exponent))
            }
        }
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
    fn rows_are_taken_out_and_put_together_again() {
        let whole = Activation::from_f32(3, 2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let parts = [whole.rows(0..1).unwrap(), whole.rows(1..3).unwrap()];
        assert_eq!(parts[1].to_f32(), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(Activation::concat(&parts).unwrap(), whole);
        let narrow = Activation::from_f32(1, 1, vec![0.0]).unwrap();
        assert!(Activation::concat(&[]).is_err() && Activation::concat(&[whole.clone(), narrow]).is_err());
        assert!(whole.rows(1..1).is_err() && whole.rows(2..4).is_err());
    }

    #[test]
    fn values_that_are_not_numbers_are_seen_in_every_type() {
        let good = [0.0, -1.5, 1e38, f32::MIN_POSITIVE];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..4 {
                let mut values = good;
                values[at] = bad;
                assert!(!Activation::from_f32(1, 4, values.to_vec()).unwrap().is_finite());
                let half: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(v / 1e38).to_le_bytes()).collect();
                assert!(!Activation::new(1, 4, Dtype::F16, half.into()).unwrap().is_finite());
                let brain: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(v / 2.0).to_le_bytes()).collect();
                assert!(!Activation::new(1, 4, Dtype::Bf16, brain.into()).unwrap().is_finite());
            }
        }
        assert!(Activation::from_f32(1, 4, good.to_vec()).unwrap().is_finite());
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
