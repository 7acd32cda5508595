//! Mixture of experts (Shazeer et al. 2017): a router sends each row through a few of many feed-forward layers.
//!
//! Invariant: a row's result has the same bits whatever other rows are in the call. Its experts are added in the order of
//! their numbers, as `transformers` adds them, and each expert's layers are batch-invariant.
//!
//! Routing is decided on the host, which reads back one f32 an expert and row, in each layer. On a CPU that costs nothing;
//! on a GPU it waits for the device once a layer and the launches of the experts begin anew, some tens of microseconds
//! that a kernel which routes on the device would save.

use burn::tensor::{Int, Tensor, TensorData};

use super::mlp::Mlp;
use crate::kernel::{FarBackend, Share};

/// The experts of a layer and what chooses among them.
#[derive(Clone, Debug)]
pub(super) struct Moe<B: FarBackend> {
    /// `[experts, hidden]`, f32.
    pub(super) router: B::Packed,
    pub(super) experts: Vec<Mlp<B>>,
    /// Experts a row passes.
    pub(super) used: usize,
    /// Whether their weights sum to one.
    pub(super) normalized: bool,
}

/// The experts a row passes with their weights, in the order of their numbers.
type Choice = Vec<(usize, f32)>;

impl<B: FarBackend> Moe<B> {
    /// # Shapes
    /// `x [t, hidden]`, already normed, to `[t, hidden]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let logits = B::logits(x.clone(), &self.router);
        let [rows, experts] = logits.dims();
        let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
        let choices: Vec<Choice> =
            logits.chunks_exact(experts).map(|row| choose(row, self.used, self.normalized)).collect();
        let device = x.device();
        // The rows of each expert, and where in `done` each row finds its experts' results.
        let mut places = vec![Vec::with_capacity(rows); self.used];
        let mut weights = vec![Vec::with_capacity(rows); self.used];
        let mut of_expert = vec![Vec::new(); experts];
        for (row, choice) in choices.iter().enumerate() {
            for (expert, _) in choice {
                of_expert[*expert].push(row);
            }
        }
        let (mut done, mut starts, mut next) = (Vec::new(), vec![0; experts], 0);
        for (expert, own) in of_expert.iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            starts[expert] = next;
            next += own.len();
            let own_rows = match own.len() == rows {
                true => x.clone(),
                false => x.clone().select(0, indices(own, &device)),
            };
            // Each row by itself, chunk or not: which others chose the expert must not decide how it is computed.
            let shares = vec![Share::step(1); own.len()];
            done.push(B::compute(&shares, || self.experts[expert].forward(own_rows)));
        }
        for choice in choices {
            for (slot, (expert, weight)) in choice.into_iter().enumerate() {
                places[slot].push(starts[expert]);
                weights[slot].push(weight);
                starts[expert] += 1;
            }
        }
        let done = match done.len() {
            0 => return x,
            1 => done.remove(0),
            _ => Tensor::cat(done, 0),
        };
        let mut sum: Option<Tensor<B, 2>> = None;
        for (places, weights) in places.iter().zip(weights) {
            let weights = Tensor::<B, 2>::from_data(TensorData::new(weights, [rows, 1]), &device).cast(done.dtype());
            let term = done.clone().select(0, indices(places, &device)) * weights;
            sum = Some(match sum {
                Some(sum) => sum + term,
                None => term,
            });
        }
        sum.unwrap_or(x)
    }
}

fn indices<B: FarBackend>(rows: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let length = rows.len();
    Tensor::from_data(TensorData::new(rows, [length]), device)
}

/// Softmax over all experts, the `used` largest; of equal ones the first. Where they are to sum to one that is the softmax
/// over those alone, which Mixtral's authors describe.
fn choose(logits: &[f32], used: usize, normalized: bool) -> Choice {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = shares.iter().sum();
    let mut choice: Choice = shares.iter().map(|share| share / sum).enumerate().collect();
    // By logits, since shares that differ may round to equal ones.
    choice.sort_by(|(a, _), (b, _)| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    choice.truncate(used);
    if normalized {
        let sum: f32 = choice.iter().map(|(_, share)| share).sum();
        choice.iter_mut().for_each(|(_, share)| *share /= sum);
    }
    choice.sort_unstable_by_key(|(expert, _)| *expert);
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_in_the_order_of_their_numbers() {
        let logits = [2f32.ln(), 4f32.ln(), 1f32.ln(), 1f32.ln()];
        assert_eq!(choose(&logits, 2, false), [(0, 0.25), (1, 0.5)]);
        let normalized = choose(&logits, 2, true);
        assert!((normalized[0].1 - 1.0 / 3.0).abs() < 1e-6 && (normalized[1].1 - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(choose(&logits, 3, false).iter().map(|(expert, _)| *expert).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(choose(&[0.0; 4], 1, true), [(0, 1.0)]);
    }

    #[test]
    fn hidden_states_that_are_no_numbers_choose_something() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(choose(&[bad, 1.0, bad], 2, true).len(), 2);
            assert_eq!(choose(&[bad; 3], 3, true).len(), 3);
        }
    }
}
