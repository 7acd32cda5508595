//! From tensors of a file to layers on a device, one tensor at a time.

use burn::tensor::{DType, Tensor, TensorData};

use super::{
    ModelConfig, SpanModel,
    attention::{Attention, HeadNorms},
    block::Block,
    config::{ConfigError, RopeScaling},
    dequantize::dequantize,
    gguf::{self, GgufError, TensorInfo},
    head::Head,
    linear::Linear,
    mlp::Mlp,
    norm::RmsNorm,
    rope,
    tensors::ROPE_FACTORS,
};
use crate::{
    activation::Dtype,
    id::Span,
    kernel::{FarBackend, Format, PackError, RawMatrix, RopeTable},
};

/// What the weights become on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// They stay in the file's encoding; activations are rounded to int8 in blocks of 32 for each product.
    #[default]
    Packed,
    /// Dense f32: slow and large, for checking.
    Exact,
}

/// Why a model cannot be brought to a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The metadata do not describe a model we run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor is missing, unreadable or of an encoding we do not serve.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The kernel cannot take a tensor.
    #[error("tensor {tensor:?}: {source}")]
    Pack {
        /// The tensor, or the first of those that are stacked.
        tensor: String,
        /// What does not fit.
        #[source]
        source: PackError,
    },
    /// The span is not of this model.
    #[error("span {span} passes the model's {layers} layers: choose one within 0..{layers}")]
    Span {
        /// What was asked for.
        span: Span,
        /// What the model has.
        layers: u32,
    },
}

/// Loads parts of a model; a matrix that two parts share is loaded once.
pub struct Loader<'a, B: FarBackend> {
    file: &'a gguf::File,
    config: &'a ModelConfig,
    precision: Precision,
    dtype: Dtype,
    device: B::Device,
    embedding: Option<B::Packed>,
    device_bytes: usize,
    /// Bytes of the matrix that is being loaded; one buffer for all of them.
    raw: Vec<u8>,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a, B: FarBackend> Loader<'a, B> {
    /// A loader that reports the file's bytes read so far to `progress`.
    pub fn new(
        file: &'a gguf::File,
        config: &'a ModelConfig,
        precision: Precision,
        device: B::Device,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        let dtype = B::activation_dtype(precision == Precision::Exact, &device);
        Self { file, config, precision, dtype, device, embedding: None, device_bytes: 0, raw: Vec::new(), progress }
    }

    /// The layers of `span`, with the embedding where it starts at 0. `positions` bounds the rotary table.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn span(&mut self, span: Span, positions: usize) -> Result<SpanModel<B>, ModelError> {
        let layers = self.config.layers;
        if span.end() > layers {
            return Err(ModelError::Span { span, layers });
        }
        let embedding = (span.start() == 0).then(|| self.embedding()).transpose()?;
        let blocks = (span.start()..span.end()).map(|layer| self.block(layer)).collect::<Result<_, _>>()?;
        let rope = B::rope(self.rope(positions)?, &self.device);
        Ok(SpanModel { span, embedding, blocks, rope, dtype: self.dtype, device: self.device.clone() })
    }

    /// The final norm and the output matrix, which is the embedding where the file has none of its own.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn head(&mut self) -> Result<Head<B>, ModelError> {
        let norm = self.norm("output_norm.weight")?;
        let output = match self.config.tied_head {
            true => self.embedding()?,
            false => self.matrix("output.weight")?,
        };
        Ok(Head { norm, output: Linear::new(output, vec![]) })
    }

    /// What the activations are made of.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of weights brought to the device so far; what parts share counts once.
    pub fn device_bytes(&self) -> usize {
        self.device_bytes
    }

    fn block(&mut self, layer: u32) -> Result<Block<B>, ModelError> {
        let (config, architecture) = (self.config, self.config.architecture);
        let name = |part| ModelConfig::block_tensor(layer, part);
        let rotary = architecture.rotary_rows;
        let bias = match architecture.qkv_bias {
            true => Some(self.bias(&[
                (name("attn_q.bias"), rotary),
                (name("attn_k.bias"), rotary),
                (name("attn_v.bias"), false),
            ])?),
            false => None,
        };
        let head_norms = match architecture.qk_norm {
            true => Some(HeadNorms {
                queries: self.norm(&name("attn_q_norm.weight"))?,
                keys: self.norm(&name("attn_k_norm.weight"))?,
                shape: config.attention,
            }),
            false => None,
        };
        let qkv = [(name("attn_q.weight"), rotary), (name("attn_k.weight"), rotary), (name("attn_v.weight"), false)];
        Ok(Block {
            attention_norm: self.norm(&name("attn_norm.weight"))?,
            attention: Attention {
                qkv: self.stack(&qkv)?.with_bias(bias),
                head_norms,
                output: self.stack(&[(name("attn_output.weight"), false)])?,
            },
            mlp_norm: self.norm(&name("ffn_norm.weight"))?,
            mlp: Mlp {
                gate_up: self.stack(&[(name("ffn_gate.weight"), false), (name("ffn_up.weight"), false)])?,
                down: self.stack(&[(name("ffn_down.weight"), false)])?,
            },
        })
    }

    /// Token ids to hidden states; loaded once, whoever asks.
    fn embedding(&mut self) -> Result<B::Packed, ModelError> {
        if let Some(embedding) = &self.embedding {
            return Ok(embedding.clone());
        }
        let embedding = self.matrix("token_embd.weight")?;
        Ok(self.embedding.insert(embedding).clone())
    }

    fn matrix(&mut self, name: &str) -> Result<B::Packed, ModelError> {
        self.raw.clear();
        let tensor = self.file.tensor(name)?;
        self.read(tensor, false)?;
        self.pack(tensor)
    }

    /// Matrices of one input, one above the other: a single one while neighbours share an encoding. The flag says that
    /// rows are in GGUF's rotary order.
    fn stack(&mut self, names: &[(String, bool)]) -> Result<Linear<B>, ModelError> {
        let tensors = names
            .iter()
            .map(|(name, rotary)| Ok((self.file.tensor(name)?, *rotary)))
            .collect::<Result<Vec<_>, GgufError>>()?;
        let mut parts = Vec::new();
        for run in tensors.chunk_by(|(a, _), (b, _)| a.encoding == b.encoding) {
            self.raw.clear();
            for (tensor, rotary) in run {
                self.read(tensor, *rotary)?;
            }
            parts.push(self.pack(run[0].0)?);
        }
        let rest = parts.split_off(1);
        Ok(Linear::new(parts.remove(0), rest))
    }

    /// Appends a tensor's rows to the buffer.
    fn read(&mut self, tensor: &TensorInfo, rotary: bool) -> Result<(), ModelError> {
        let start = self.raw.len();
        self.file.read(tensor, &mut self.raw)?;
        if rotary {
            // A bias is a matrix of one column.
            let rows = tensor.dims[tensor.dims.len() - 1] as usize;
            let bytes = &mut self.raw[start..];
            let row_bytes = bytes.len() / rows;
            rope::unpermute_rows(bytes, self.config.attention.head_dim, row_bytes);
        }
        (self.progress)(self.file.bytes_read());
        Ok(())
    }

    /// Packs the buffer, which holds matrices of the width and encoding of `tensor`.
    fn pack(&mut self, tensor: &TensorInfo) -> Result<B::Packed, ModelError> {
        let (format, _) = tensor.readable()?;
        let k = tensor.dims[0] as usize;
        let (per_block, block_bytes) = format.block();
        let n = self.raw.len() / block_bytes * per_block / k;
        let dense;
        let matrix = match self.precision {
            Precision::Packed => RawMatrix { format, n, k, bytes: &self.raw },
            Precision::Exact => {
                let mut values = Vec::new();
                dequantize(format, &self.raw, &mut values);
                dense = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
                RawMatrix { format: Format::F32, n, k, bytes: &dense }
            }
        };
        let packed = B::pack(matrix, self.dtype, &self.device)
            .map_err(|source| ModelError::Pack { tensor: tensor.name.clone(), source })?;
        self.device_bytes += B::packed_bytes(&packed);
        Ok(packed)
    }

    fn norm(&mut self, name: &str) -> Result<RmsNorm<B>, ModelError> {
        let weight = self.values(name, false)?;
        Ok(RmsNorm { weight: self.vector(weight), eps: self.config.norm_eps })
    }

    /// Biases of matrices that [`Self::stack`] stacks.
    fn bias(&mut self, names: &[(String, bool)]) -> Result<Tensor<B, 1>, ModelError> {
        let parts = names.iter().map(|(name, rotary)| self.values(name, *rotary)).collect::<Result<Vec<_>, _>>()?;
        let dtype = match self.dtype {
            Dtype::F16 => DType::F16,
            Dtype::Bf16 => DType::BF16,
            Dtype::F32 => DType::F32,
        };
        // Added to activations, so of their type.
        Ok(self.vector(parts.concat()).cast(dtype))
    }

    /// The rotary table of the first `positions` positions.
    fn rope(&mut self, positions: usize) -> Result<RopeTable, ModelError> {
        let (head_dim, theta) = (self.config.attention.head_dim, self.config.rope_theta);
        Ok(match self.config.rope_scaling {
            RopeScaling::None => rope::table(head_dim, theta, |_| 1.0, positions),
            RopeScaling::Linear(factor) => rope::table(head_dim, theta, |_| factor, positions),
            RopeScaling::Factors => {
                let factors = self.values(ROPE_FACTORS, false)?;
                if let Some(factor) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
                    return Err(ConfigError::Value {
                        key: ROPE_FACTORS.into(),
                        found: factor.to_string(),
                        want: "positive and finite".into(),
                    }
                    .into());
                }
                rope::table(head_dim, theta, |i| factors[i], positions)
            }
        })
    }

    /// A tensor's values; the flag as in [`Self::stack`].
    fn values(&mut self, name: &str, rotary: bool) -> Result<Vec<f32>, ModelError> {
        let tensor = self.file.tensor(name)?;
        let (format, _) = tensor.readable()?;
        self.raw.clear();
        self.read(tensor, rotary)?;
        let mut values = Vec::new();
        dequantize(format, &self.raw, &mut values);
        Ok(values)
    }

    fn vector(&mut self, values: Vec<f32>) -> Tensor<B, 1> {
        self.device_bytes += size_of_val(values.as_slice());
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &self.device)
    }
}

impl<B: FarBackend> std::fmt::Debug for Loader<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("file", self.file).field("precision", &self.precision).finish_non_exhaustive()
    }
}
