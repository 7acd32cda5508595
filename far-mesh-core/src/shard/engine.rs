//! What computes: a model and its cache on a device, behind a trait that hides which.

use std::{fmt, ops::Range};

use burn::tensor::{Tensor, TensorData};

use crate::{
    activation::Activation,
    hop::{Input, Rows},
    kernel::{FarBackend, Sequence},
    model::{Head, SpanModel},
};

/// Computes steps and logits. It may panic: the worker catches that.
pub(super) trait Engine: Send + fmt::Debug {
    /// Runs steps of different sessions over the same layers in one forward; one result a step, in order.
    fn forward(&mut self, layers: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String>;

    /// Logits of all rows, those of the first activation first.
    fn logits(&mut self, hidden: &[&Activation]) -> Result<Vec<f32>, String>;
}

/// A checked step and where its session's cache is.
#[derive(Debug)]
pub(super) struct EngineStep<'a> {
    pub(super) position: usize,
    pub(super) pages: &'a [u32],
    pub(super) input: &'a Input,
    pub(super) output: Rows,
}

/// A model on a burn backend.
pub(super) struct ModelEngine<B: FarBackend> {
    /// Layers and their cache; `None` for a head alone.
    pub(super) span: Option<(SpanModel<B>, B::Cache)>,
    pub(super) head: Option<Head<B>>,
    pub(super) hidden: usize,
    pub(super) device: B::Device,
}

impl<B: FarBackend> Engine for ModelEngine<B> {
    fn forward(&mut self, layers: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String> {
        let (hidden, device) = (self.hidden, &self.device);
        let (model, cache) = self.span.as_mut().ok_or("the shard has no layers")?;
        let x = match steps {
            [EngineStep { input: Input::Tokens(_), .. }, ..] => {
                let ids: Vec<u32> = steps.iter().flat_map(|step| token_ids(step.input)).copied().collect();
                model.embed(&ids).ok_or("the shard has no embedding")?
            }
            _ => hidden_states(steps.iter().filter_map(|step| activation(step.input)), hidden, device),
        };
        let sequences: Vec<Sequence<'_>> = steps
            .iter()
            .map(|step| Sequence { rows: step.input.tokens(), position: step.position, pages: step.pages })
            .collect();
        let x = model.forward(x, layers, cache, &sequences);
        if steps.iter().all(|step| step.output == Rows::None) {
            return Ok(steps.iter().map(|_| None).collect());
        }
        split(values(x)?, hidden, steps)
    }

    fn logits(&mut self, hidden: &[&Activation]) -> Result<Vec<f32>, String> {
        let head = self.head.as_ref().ok_or("the shard has no head")?;
        values(head.forward(hidden_states::<B>(hidden.iter().copied(), self.hidden, &self.device)))
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
fn hidden_states<'a, B: FarBackend>(
    activations: impl Iterator<Item = &'a Activation>,
    hidden: usize,
    device: &B::Device,
) -> Tensor<B, 2> {
    let values: Vec<f32> = activations.flat_map(Activation::to_f32).collect();
    let rows = values.len() / hidden;
    Tensor::from_data(TensorData::new(values, [rows, hidden]), device)
}

fn values<B: FarBackend>(x: Tensor<B, 2>) -> Result<Vec<f32>, String> {
    x.into_data().into_vec().map_err(|error| format!("cannot read a result back: {error:?}"))
}

/// Gives each step the rows it wants.
fn split(values: Vec<f32>, hidden: usize, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String> {
    let make = |rows: Vec<f32>| {
        let made = Activation::from_f32(rows.len() / hidden, hidden, rows);
        made.map(Some).map_err(|error| error.to_string())
    };
    if let [EngineStep { output: Rows::All, .. }] = steps {
        return Ok(vec![make(values)?]);
    }
    let mut rest = values.as_slice();
    steps
        .iter()
        .map(|step| {
            let (rows, after) = rest.split_at(step.input.tokens() * hidden);
            rest = after;
            match step.output {
                Rows::None => Ok(None),
                Rows::Last => make(rows[rows.len() - hidden..].to_vec()),
                Rows::All => make(rows.to_vec()),
            }
        })
        .collect()
}
