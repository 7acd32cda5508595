//! What computes: a model and its cache on a device, behind a trait that hides which.

use std::{fmt, ops::Range};

use burn::tensor::{DType, Tensor, TensorData};
use bytes::Bytes;

#[cfg(feature = "cuda")]
use crate::limits::MAX_CHUNK_TOKENS;
use crate::{
    activation::{Activation, Dtype},
    hop::{Input, Rows},
    kernel::{FarBackend, Sequence, Share},
    model::{Head, SpanModel},
};

/// Computes steps and logits. It may panic: the worker catches that.
pub(super) trait Engine: Send + fmt::Debug {
    /// Runs steps of different sessions over the same layers in one forward; one result a step, in order.
    fn forward(&mut self, layers: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String>;

    /// Logits of all rows, those of the first activation first.
    fn logits(&mut self, hidden: &[&Activation]) -> Result<Vec<f32>, String>;

    /// [`crate::kernel::KernelOps::STEPS_DIFFER`].
    fn steps_differ(&self) -> bool {
        false
    }
}

/// Numbers of rows that a device may have a kernel of its own for: steps of sessions together, and the positions of chunks.
#[cfg(feature = "cuda")]
const STEPS: [usize; 3] = [1, 4, 8];
#[cfg(feature = "cuda")]
const CHUNKS: [usize; 4] = [2, 33, 130, MAX_CHUNK_TOKENS];

/// A checked step and where its session's cache is.
#[derive(Debug)]
pub(super) struct EngineStep<'a> {
    pub(super) position: usize,
    pub(super) pages: &'a [u32],
    pub(super) input: &'a Input,
    pub(super) output: Rows,
    /// Whether it is of a step of several positions, of which this may be the last.
    pub(super) chunk: bool,
}

/// A model on a burn backend.
pub(super) struct ModelEngine<B: FarBackend> {
    /// Layers and their cache; `None` for a head alone.
    pub(super) span: Option<(SpanModel<B>, B::Cache)>,
    pub(super) head: Option<Head<B>>,
    pub(super) hidden: usize,
    /// What activations are made of.
    pub(super) dtype: Dtype,
    pub(super) device: B::Device,
}

impl<B: FarBackend> Engine for ModelEngine<B> {
    fn forward(&mut self, layers: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String> {
        let shares: Vec<Share> =
            steps.iter().map(|step| Share { rows: step.input.tokens(), chunk: step.chunk }).collect();
        B::compute(&shares, || self.forward_steps(layers, steps))
    }

    fn logits(&mut self, hidden: &[&Activation]) -> Result<Vec<f32>, String> {
        let head = self.head.as_ref().ok_or("the shard has no head")?;
        let shares: Vec<Share> = hidden.iter().map(|hidden| Share::step(hidden.tokens())).collect();
        B::compute(&shares, || {
            let x = hidden_states::<B>(hidden, self.hidden, self.dtype, &self.device)?;
            let logits = head.forward(x).into_data();
            logits.into_vec().map_err(|error| format!("cannot read logits back: {error:?}"))
        })
    }

    fn steps_differ(&self) -> bool {
        B::STEPS_DIFFER
    }
}

impl<B: FarBackend> ModelEngine<B> {
    /// Runs what there is once with rows of every kind, so that a device that compiles its kernels on first use has done so
    /// before the first request. It writes to the first pages of the cache, which nobody holds yet.
    #[cfg(feature = "cuda")]
    pub(super) fn warm_up(&mut self, arena_tokens: usize, context_tokens: usize) -> Result<(), String> {
        let most = arena_tokens.min(context_tokens);
        let pages: Vec<u32> = (0..arena_tokens.min(MAX_CHUNK_TOKENS).div_ceil(B::PAGE_TOKENS) as u32).collect();
        let steps = STEPS.map(|count| (count, 1)).into_iter().chain(CHUNKS.map(|rows| (1, rows)));
        for (count, rows) in steps {
            let zeros = || {
                Activation::new(rows, self.hidden, self.dtype, vec![0; rows * self.hidden * self.dtype.bytes()].into())
            };
            let hidden = zeros().map_err(|error| error.to_string())?;
            if let Some(layers) =
                self.span.as_ref().map(|(model, _)| model.span().len() as usize).filter(|_| rows <= most)
            {
                let embeds = self.span.as_ref().is_some_and(|(model, _)| model.span().start() == 0);
                let input = if embeds { Input::Tokens(vec![0; rows]) } else { Input::Activation(hidden.clone()) };
                let step =
                    || EngineStep { position: 0, pages: &pages, input: &input, output: Rows::Last, chunk: rows > 1 };
                self.forward(0..layers, &(0..count).map(|_| step()).collect::<Vec<_>>())?;
            }
            if self.head.is_some() {
                self.logits(&vec![&hidden; count])?;
            }
        }
        Ok(())
    }

    fn forward_steps(
        &mut self,
        layers: Range<usize>,
        steps: &[EngineStep<'_>],
    ) -> Result<Vec<Option<Activation>>, String> {
        let (model, cache) = self.span.as_mut().ok_or("the shard has no layers")?;
        let x = match steps {
            [EngineStep { input: Input::Tokens(_), .. }, ..] => {
                let ids: Vec<u32> = steps.iter().flat_map(|step| token_ids(step.input)).copied().collect();
                model.embed(&ids).ok_or("the shard has no embedding")?
            }
            _ => {
                let hidden: Vec<&Activation> = steps.iter().filter_map(|step| activation(step.input)).collect();
                hidden_states(&hidden, self.hidden, self.dtype, &self.device)?
            }
        };
        let sequences: Vec<Sequence<'_>> = steps
            .iter()
            .map(|step| Sequence {
                rows: step.input.tokens(),
                position: step.position,
                pages: step.pages,
                chunk: step.chunk,
            })
            .collect();
        let x = model.forward(x, layers, cache, &sequences);
        if steps.iter().all(|step| step.output == Rows::None) {
            return Ok(steps.iter().map(|_| None).collect());
        }
        split(x.into_data(), self.hidden, self.dtype, steps)
    }
}

impl<B: FarBackend> fmt::Debug for ModelEngine<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelEngine")
            .field("span", &self.span.as_ref().map(|(model, _)| model.span()))
            .field("head", &self.head.is_some())
            .finish_non_exhaustive()
    }
}

fn token_ids(input: &Input) -> &[u32] {
    match input {
        Input::Tokens(ids) => ids,
        Input::Activation(_) => &[],
    }
}

fn activation(input: &Input) -> Option<&Activation> {
    match input {
        Input::Tokens(_) => None,
        Input::Activation(activation) => Some(activation),
    }
}

/// Rows of activations, one above the other, on the device.
fn hidden_states<B: FarBackend>(
    activations: &[&Activation],
    hidden: usize,
    dtype: Dtype,
    device: &B::Device,
) -> Result<Tensor<B, 2>, String> {
    if activations.iter().any(|activation| activation.dtype() != dtype) {
        // A head may get them from layers on another device.
        let values: Vec<f32> = activations.iter().flat_map(|activation| activation.to_f32()).collect();
        let rows = values.len() / hidden;
        let x: Tensor<B, 2> = Tensor::from_data(TensorData::new(values, [rows, hidden]), (device, DType::F32));
        return Ok(x.cast(element(dtype)));
    }
    let rows = activations.iter().map(|activation| activation.tokens()).sum();
    let bytes =
        || -> Vec<u8> { activations.iter().flat_map(|activation| activation.bytes().iter().copied()).collect() };
    let data = match dtype {
        // Not as bytes: numbers must stand where numbers may.
        Dtype::F32 => {
            let values: Vec<f32> = activations.iter().flat_map(|activation| activation.to_f32()).collect();
            TensorData::new(values, [rows, hidden])
        }
        _ => TensorData::from_bytes_vec(bytes(), [rows, hidden], element(dtype)),
    };
    Ok(Tensor::from_data(data, (device, element(dtype))))
}

fn element(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    }
}

/// Bytes of a tensor that an activation shares.
struct Owned(burn::tensor::Bytes);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Gives each step the rows it wants.
fn split(
    data: TensorData,
    hidden: usize,
    dtype: Dtype,
    steps: &[EngineStep<'_>],
) -> Result<Vec<Option<Activation>>, String> {
    if data.dtype != element(dtype) {
        return Err(format!("the model gave {:?}, should give {dtype:?}", data.dtype));
    }
    let row_bytes = hidden * dtype.bytes();
    let mut rest = Bytes::from_owner(Owned(data.bytes));
    let mut made = Vec::with_capacity(steps.len());
    for step in steps {
        let rows = step.input.tokens();
        if rest.len() < rows * row_bytes {
            return Err(format!(
                "the model gave {} bytes for the rest, {rows} rows need {}",
                rest.len(),
                rows * row_bytes
            ));
        }
        let own = rest.split_to(rows * row_bytes);
        let activation = match step.output {
            Rows::None => None,
            // A copy: the few bytes must not keep those of all rows.
            Rows::Last => Some((1, Bytes::copy_from_slice(&own[(rows - 1) * row_bytes..]))),
            Rows::All if steps.len() == 1 => Some((rows, own)),
            Rows::All => Some((rows, Bytes::copy_from_slice(&own))),
        };
        let activation = activation.map(|(rows, bytes)| Activation::new(rows, hidden, dtype, bytes));
        made.push(activation.transpose().map_err(|error| error.to_string())?);
    }
    Ok(made)
}
