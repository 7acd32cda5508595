//! Where a tensor stands in the file.

use super::{Encoding, GgufError};
use crate::kernel::Format;

/// Name, shape and place of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Dimensions, the fastest first: a weight `[n, k]` of a linear layer has `dims == [k, n]`.
    pub dims: Vec<u64>,
    /// How its elements are stored.
    pub encoding: Encoding,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes; `None` when the encoding is unknown.
    pub bytes: Option<u64>,
}

impl TensorInfo {
    /// Checks a shape and computes its bytes.
    pub(super) fn measure(name: &str, dims: &[u64], encoding: Encoding) -> Result<Option<u64>, GgufError> {
        let shape = |reason| GgufError::Shape { tensor: name.to_owned(), dims: dims.to_vec(), encoding, reason };
        if dims.is_empty() || dims.len() > super::header::MAX_DIMS {
            return Err(shape("1 to 4 dimensions are allowed"));
        }
        let elements = dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
            .filter(|&elements| elements <= i64::MAX as u64)
            .ok_or_else(|| shape("the number of elements overflows"))?;
        if elements == 0 {
            return Err(shape("a dimension is 0"));
        }
        let Some((per_block, block_bytes)) = encoding.block() else { return Ok(None) };
        if !dims[0].is_multiple_of(per_block) {
            return Err(shape("rows do not fill whole blocks"));
        }
        let bytes = (elements / per_block).checked_mul(block_bytes);
        bytes.map(Some).ok_or_else(|| shape("the number of bytes overflows"))
    }

    /// The kernel format and the bytes of a tensor that is needed.
    ///
    /// # Errors
    /// [`GgufError::Unsupported`] when this version cannot read the encoding.
    pub fn readable(&self) -> Result<(Format, u64), GgufError> {
        self.encoding
            .format()
            .zip(self.bytes)
            .ok_or_else(|| GgufError::Unsupported { tensor: self.name.clone(), encoding: self.encoding })
    }

    /// The decoder layer it belongs to: `blk.N.`
    pub fn layer(&self) -> Option<u32> {
        self.name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
    }
}
