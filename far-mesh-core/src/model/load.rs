//! From tensors of a file to layers on a device, one tensor at a time.

use burn::tensor::{DType, Tensor, TensorData};

use super::{
    ModelConfig, Precision, Quantize, SourceError, SpanModel,
    attention::{Attention, HeadNorms},
    block::Block,
    config::{ConfigError, RopeScaling},
    dequantize::dequantize,
    experts::Experts,
    head::Head,
    linear::Linear,
    mlp::{FeedForward, Mlp},
    moe::Moe,
    norm::RmsNorm,
    quantize::{Unquantizable, quantize},
    rope,
    source::{Source, Tensor as Stored},
    tensors::{EMBEDDING, OUTPUT, ROPE_FACTORS},
};
use crate::{
    activation::Dtype,
    id::Span,
    kernel::{FarBackend, Format, PackError, RawMatrix, RopeTable},
};

/// Why a model cannot be brought to a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The metadata do not describe a model we run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A tensor is missing, unreadable or of an encoding we do not serve.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The kernel cannot take a tensor.
    #[error("tensor {tensor:?}: {source}")]
    Pack {
        /// The tensor, or the first of those that are stacked.
        tensor: String,
        /// What does not fit.
        #[source]
        source: PackError,
    },
    /// A value that quantization cannot keep.
    #[error("tensor {tensor:?} has the value {value}, which {kind} cannot hold: load it without --quantize", kind = kind.name())]
    Unquantizable {
        /// The tensor, or the first of those that are stacked.
        tensor: String,
        /// The value.
        value: f32,
        /// What it was to be quantized to.
        kind: Quantize,
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
    source: &'a Source,
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
    /// A loader that reports the bytes of tensors read so far to `progress`.
    pub fn new(
        source: &'a Source,
        config: &'a ModelConfig,
        precision: Precision,
        device: B::Device,
        progress: &'a mut dyn FnMut(u64),
    ) -> Self {
        let dtype = B::activation_dtype(precision == Precision::Exact, &device);
        Self { source, config, precision, dtype, device, embedding: None, device_bytes: 0, raw: Vec::new(), progress }
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

    /// The final norm and the output matrix, which is the embedding where the model ties them.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn head(&mut self) -> Result<Head<B>, ModelError> {
        let norm = self.norm("output_norm.weight")?;
        let output = match self.config.tied_head {
            true => {
                self.compare_tied()?;
                self.embedding()?
            }
            false => self.matrix(OUTPUT)?,
        };
        Ok(Head { norm, output: Linear::new(output, vec![]) })
    }

    /// What the activations are made of.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Some checkpoints hold a tied matrix twice. Which of two that differ is meant would be a guess.
    fn compare_tied(&mut self) -> Result<(), ModelError> {
        let Some(output) = self.source.find(OUTPUT) else { return Ok(()) };
        let (mut one, mut other) = (vec![], vec![]);
        self.source.read(&self.source.tensor(EMBEDDING)?, &mut one)?;
        self.source.read(&output, &mut other)?;
        match one == other {
            true => Ok(()),
            false => Err(ConfigError::NotApplied(format!(
                "a tensor {:?} that differs from the embedding it is said to be",
                output.name
            ))
            .into()),
        }
    }

    /// Bytes of weights brought to the device so far; what parts share counts once.
    pub fn device_bytes(&self) -> usize {
        self.device_bytes
    }

    fn block(&mut self, layer: u32) -> Result<Block<B>, ModelError> {
        let (config, architecture) = (self.config, self.config.architecture);
        let name = |part| ModelConfig::block_tensor(layer, part);
        let rotary = architecture.rotary_rows && matches!(self.source, Source::Gguf(_));
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
            mlp: match config.experts_in(layer) {
                Some(experts) => FeedForward::Experts(self.experts(layer, experts)?),
                None => FeedForward::Dense(Mlp {
                    gate_up: self.stack(&[(name("ffn_gate.weight"), false), (name("ffn_up.weight"), false)])?,
                    down: self.stack(&[(name("ffn_down.weight"), false)])?,
                }),
            },
        })
    }

    /// The experts of a layer, one packed matrix for each and its part, and their router in f32.
    fn experts(&mut self, layer: u32, experts: &Experts) -> Result<Moe<B>, ModelError> {
        let source = self.source;
        let tensor = |part| source.tensor(&ModelConfig::block_tensor(layer, part));
        let (gates, ups) = (tensor("ffn_gate_exps.weight")?, tensor("ffn_up_exps.weight")?);
        let downs = tensor("ffn_down_exps.weight")?;
        let of = |all: &Stored<'a>, number| {
            let missing = || ConfigError::NotApplied(format!("no expert {number} in a tensor {:?}", all.name));
            all.expert(number).ok_or_else(missing)
        };
        let mut layers = Vec::with_capacity(experts.count);
        for number in 0..experts.count {
            layers.push(Mlp {
                gate_up: self.stack_tensors(&[(of(&gates, number)?, false), (of(&ups, number)?, false)])?,
                down: self.stack_tensors(&[(of(&downs, number)?, false)])?,
            });
        }
        let router = self.exact(&ModelConfig::block_tensor(layer, "ffn_gate_inp.weight"))?;
        Ok(Moe { router, experts: layers, used: experts.used, normalized: experts.normalized })
    }

    /// Token ids to hidden states; loaded once, whoever asks.
    fn embedding(&mut self) -> Result<B::Packed, ModelError> {
        if let Some(embedding) = &self.embedding {
            return Ok(embedding.clone());
        }
        let embedding = self.matrix(EMBEDDING)?;
        Ok(self.embedding.insert(embedding).clone())
    }

    fn matrix(&mut self, name: &str) -> Result<B::Packed, ModelError> {
        self.raw.clear();
        let tensor = self.source.tensor(name)?;
        self.read(&tensor, false)?;
        self.pack(&tensor)
    }

    /// A matrix in f32, whatever the precision.
    fn exact(&mut self, name: &str) -> Result<B::Packed, ModelError> {
        let tensor = self.source.tensor(name)?;
        let bytes: Vec<u8> = self.values(name, false)?.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bring(&tensor, Format::F32, &bytes, Dtype::F32)
    }

    /// Matrices of one input, one above the other: a single one while neighbours share an encoding. The flag says that
    /// rows are in GGUF's rotary order.
    fn stack(&mut self, names: &[(String, bool)]) -> Result<Linear<B>, ModelError> {
        let source = self.source;
        let tensors = names
            .iter()
            .map(|(name, rotary)| Ok((source.tensor(name)?, *rotary)))
            .collect::<Result<Vec<_>, SourceError>>()?;
        self.stack_tensors(&tensors)
    }

    /// As [`Self::stack`].
    fn stack_tensors(&mut self, tensors: &[(Stored<'_>, bool)]) -> Result<Linear<B>, ModelError> {
        let formats = tensors.iter().map(|(tensor, _)| tensor.format()).collect::<Result<Vec<_>, _>>()?;
        let (mut parts, mut rest) = (Vec::new(), tensors);
        for run in formats.chunk_by(|a, b| a == b) {
            let (own, after) = rest.split_at(run.len());
            rest = after;
            self.raw.clear();
            for (tensor, rotary) in own {
                self.read(tensor, *rotary)?;
            }
            parts.push(self.pack(&own[0].0)?);
        }
        let rest = parts.split_off(1);
        Ok(Linear::new(parts.remove(0), rest))
    }

    /// Appends a tensor's rows to the buffer.
    fn read(&mut self, tensor: &Stored<'_>, rotary: bool) -> Result<(), ModelError> {
        let start = self.raw.len();
        self.source.read(tensor, &mut self.raw)?;
        if rotary {
            // A bias is a matrix of one column.
            let rows = tensor.dims[tensor.dims.len() - 1] as usize;
            let bytes = &mut self.raw[start..];
            let row_bytes = bytes.len() / rows;
            rope::unpermute_rows(bytes, self.config.attention.head_dim, row_bytes);
        }
        (self.progress)(self.source.bytes_read());
        Ok(())
    }

    /// Packs the buffer, which holds matrices of the width and encoding of `tensor`, as the precision has it.
    fn pack(&mut self, tensor: &Stored<'_>) -> Result<B::Packed, ModelError> {
        let format = tensor.format()?;
        let raw = std::mem::take(&mut self.raw);
        let packed = match self.precision {
            Precision::Exact => {
                let mut values = Vec::new();
                dequantize(format, &raw, &mut values);
                let dense: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.bring(tensor, Format::F32, &dense, self.dtype)
            }
            // Rows that do not fill blocks stay as they are.
            Precision::Quantized(kind) if format.block().0 == 1 && tensor.dims[0].is_multiple_of(32) => {
                match quantize(kind, format, &raw) {
                    Ok(blocks) => self.bring(tensor, kind.format(), &blocks, self.dtype),
                    Err(Unquantizable(value)) => {
                        Err(ModelError::Unquantizable { tensor: tensor.name.to_owned(), value, kind })
                    }
                }
            }
            Precision::Packed | Precision::Quantized(_) => self.bring(tensor, format, &raw, self.dtype),
        };
        self.raw = raw;
        packed
    }

    /// Brings rows of the width of `tensor` to the device, for activations of `dtype`.
    fn bring(
        &mut self,
        tensor: &Stored<'_>,
        format: Format,
        bytes: &[u8],
        dtype: Dtype,
    ) -> Result<B::Packed, ModelError> {
        let k = tensor.dims[0] as usize;
        let (per_block, block_bytes) = format.block();
        let n = bytes.len() / block_bytes * per_block / k;
        let packed = B::pack(RawMatrix { format, n, k, bytes }, dtype, &self.device)
            .map_err(|source| ModelError::Pack { tensor: tensor.name.to_owned(), source })?;
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
            RopeScaling::Llama3 { factor, low, high, context_tokens } => {
                let divisor = rope::llama3_divisor(head_dim, theta, (factor, low, high), context_tokens);
                rope::table(head_dim, theta, divisor, positions)
            }
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
        let tensor = self.source.tensor(name)?;
        let format = tensor.format()?;
        self.raw.clear();
        self.read(&tensor, rotary)?;
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
        f.debug_struct("Loader")
            .field("source", self.source)
            .field("precision", &self.precision)
            .finish_non_exhaustive()
    }
}
