//! Log-probabilities of a token and of the best alternatives.

use super::TokenLogprob;

/// Log-softmax of `logits` at `chosen`, then the `best` most likely tokens in descending order (of equals the lowest id
/// first). The logits are those of the model, before penalties and temperature.
///
/// Takes the maximum out before the exponential and sums in f64, so nothing overflows.
pub(super) fn logprobs(logits: &[f32], chosen: u32, best: u8) -> (f32, Vec<TokenLogprob>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from((logit - max).exp())).sum();
    let norm = f64::from(max) + sum.ln();
    let logprob = |logit: f32| (f64::from(logit) - norm) as f32;

    // Insertion into a short list: `best` is at most 20, and few logits get past the last of it.
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(usize::from(best) + 1);
    for (id, logit) in (0u32..).zip(logits.iter().copied()) {
        if top.len() < usize::from(best) || top.last().is_some_and(|(_, last)| logit > *last) {
            let place = top.partition_point(|(_, other)| *other >= logit);
            top.insert(place, (id, logit));
            top.truncate(usize::from(best));
        }
    }
    let own = logits.get(chosen as usize).map_or(f32::NEG_INFINITY, |logit| logprob(*logit));
    (own, top.into_iter().map(|(id, logit)| TokenLogprob { id, logprob: logprob(logit) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_a_plain_softmax() {
        let logits = [1.0f32, -2.0, 0.5, 1.0, 3.0];
        let sum: f32 = logits.iter().map(|l| l.exp()).sum();
        let (own, best) = logprobs(&logits, 2, 3);
        assert!((own - (0.5f32.exp() / sum).ln()).abs() < 1e-6);
        assert_eq!(best.iter().map(|b| b.id).collect::<Vec<_>>(), [4, 0, 3]);
        assert!((best[0].logprob - (3.0f32.exp() / sum).ln()).abs() < 1e-6);
        assert_eq!(logprobs(&logits, 2, 0).1, []);
        assert_eq!(logprobs(&logits, 2, 20).1.len(), 5);
    }

    #[test]
    fn great_logits_do_not_overflow() {
        let (own, best) = logprobs(&[3e38, 3e38, -3e38, f32::NEG_INFINITY], 0, 4);
        assert!(own == 0.0 || (own + std::f32::consts::LN_2).abs() < 1e-6, "{own}");
        assert!(best.iter().all(|b| !b.logprob.is_nan()));
        let (own, _) = logprobs(&[1000.0, 1000.0], 1, 0);
        assert!((own + std::f32::consts::LN_2).abs() < 1e-4, "{own}");
    }
}
