//! What the weights become on the device.

use sha2::{Digest, Sha256};

use crate::{id::ModelHash, kernel::Format};

/// What the weights become on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// They stay in the file's encoding; for a product with a quantized one the CPU rounds activations to int8 in blocks
    /// of 32, a GPU computes on them in 16 bits.
    #[default]
    Packed,
    /// Dense f32: slow and large, for checking.
    Exact,
    /// Matrices of floating-point numbers are quantized while they are loaded, all else is as in
    /// [`Precision::Packed`]. What nodes load so is another model: see [`Precision::hash`].
    Quantized(Quantize),
}

/// What dense matrices are quantized to, as GGML's reference does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantize {
    /// Blocks of 32: f16 scale, int8 values.
    Q8_0,
    /// Blocks of 32: f16 scale, 4-bit values minus 8.
    Q4_0,
}

impl Precision {
    /// What nodes agree on for a model that is loaded with this precision: quantizing makes another model of it, so that
    /// its shards have another hash in adverts and sessions, and are never mixed with those of the file as it is.
    #[must_use]
    pub fn hash(self, model: ModelHash) -> ModelHash {
        let Self::Quantized(kind) = self else { return model };
        let mut digest = Sha256::new();
        digest.update(b"far-mesh quantized model 1\0");
        digest.update(model.0);
        digest.update(kind.name());
        ModelHash(digest.finalize().into())
    }
}

impl Quantize {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The encoding.
    pub fn format(self) -> Format {
        match self {
            Self::Q8_0 => Format::Q8_0,
            Self::Q4_0 => Format::Q4_0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantizing_makes_another_model_and_nothing_else_does() {
        let model = ModelHash([3; 32]);
        assert_eq!((Precision::Packed.hash(model), Precision::Exact.hash(model)), (model, model));
        let [q8, q4] = [Quantize::Q8_0, Quantize::Q4_0].map(|kind| Precision::Quantized(kind).hash(model));
        assert!(q8 != model && q4 != model && q8 != q4);
        assert_ne!(Precision::Quantized(Quantize::Q8_0).hash(ModelHash([4; 32])), q8);
    }
}
