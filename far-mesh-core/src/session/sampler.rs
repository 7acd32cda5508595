//! The next token from the logits: penalties, temperature, top-k, top-p, min-p, draw.
//!
//! Invariant: the token depends on the logits, the [`Sampling`], the tokens so far and the number of the draw, on
//! nothing else: equal logits go by the lowest id, and each draw has a stream of its own in the seed's ChaCha.

use std::{cmp::Ordering, collections::HashMap, fmt};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{GenerateError, Sampling};

/// How many of the most likely tokens are sorted first in the search for top-p: mostly enough, and cheap.
const NUCLEUS_GUESS: usize = 64;

/// Chooses the tokens of one session.
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha12Rng,
    draws: u64,
    /// How often each token was generated; 0 for those of the prompt alone. Empty where no penalty needs it.
    seen: HashMap<u32, u32>,
    candidates: Vec<Candidate>,
    weights: Vec<f32>,
}

/// Why no token can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogitsError {
    /// A logit is not a number or is infinite.
    #[error("the logit of token {id} is {kind}: the route computed garbage")]
    NotFinite {
        /// The token.
        id: usize,
        /// What it is.
        kind: &'static str,
    },
    /// There are no logits, or all are minus infinity.
    #[error("no token has a finite logit among {count}: the route computed garbage")]
    None {
        /// Number of logits.
        count: usize,
    },
    /// The head gave another number of logits than it has tokens.
    #[error("the head gave {got} logits for a vocabulary of {want}")]
    Count {
        /// Logits given.
        got: usize,
        /// Tokens there are.
        want: usize,
    },
}

#[derive(Clone, Copy)]
struct Candidate {
    logit: f32,
    weight: f32,
    id: u32,
}

impl Sampler {
    /// A sampler at the start of a session with this prompt.
    ///
    /// # Errors
    /// [`GenerateError::Parameter`] when a parameter is out of range.
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Result<Self, GenerateError> {
        sampling.check()?;
        let seed = sampling.seed.unwrap_or_else(rand::random);
        let seen = if sampling.penalizes() { prompt.iter().map(|id| (*id, 0)).collect() } else { HashMap::new() };
        let random = ChaCha12Rng::seed_from_u64(seed);
        Ok(Self { sampling, random, draws: 0, seen, candidates: Vec::new(), weights: Vec::new() })
    }

    /// Chooses a token. `logits` (one a token) are changed where penalties apply.
    ///
    /// # Errors
    /// [`LogitsError`] when the logits are not numbers.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<u32, LogitsError> {
        // Before penalties too: they could hide what is not a number behind what is.
        let mut best = best(logits)?;
        if self.sampling.penalizes() {
            self.penalize(logits);
            best = self::best(logits)?;
        }
        let id = if self.sampling.temperature == 0.0 { best.id } else { self.draw(logits, best.logit) };
        if self.sampling.penalizes() {
            *self.seen.entry(id).or_default() += 1;
        }
        Ok(id)
    }

    fn penalize(&self, logits: &mut [f32]) {
        let Sampling { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        for (id, times) in &self.seen {
            let Some(logit) = logits.get_mut(*id as usize) else { continue };
            *logit = if *logit > 0.0 { *logit / repetition_penalty } else { *logit * repetition_penalty };
            if *times > 0 {
                *logit -= frequency_penalty * *times as f32 + presence_penalty;
            }
        }
    }

    /// Draws from the tokens that the filters leave. `max` is the greatest logit.
    fn draw(&mut self, logits: &[f32], max: f32) -> u32 {
        self.random.set_stream(self.draws);
        self.random.set_word_pos(0);
        self.draws += 1;
        let point: f64 = self.random.random();
        let Sampling { temperature, top_k, top_p, min_p, .. } = self.sampling;
        let weight = |logit: f32| ((logit - max) / temperature).exp();
        let top_k = if top_k == 0 { logits.len() } else { (top_k as usize).min(logits.len()) };

        if top_k == logits.len() && top_p >= 1.0 && min_p <= 0.0 {
            self.weights.clear();
            self.weights.extend(logits.iter().map(|logit| weight(*logit)));
            return pick(self.weights.iter().copied(), point) as u32;
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend((0u32..).zip(logits).map(|(id, logit)| Candidate { logit: *logit, weight: 0.0, id }));
        if top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, by_likelihood);
            candidates.truncate(top_k);
            candidates.sort_unstable_by(by_likelihood);
        }
        for candidate in candidates.iter_mut() {
            candidate.weight = weight(candidate.logit);
        }
        if top_p < 1.0 {
            let keep = nucleus(candidates, top_p);
            candidates.truncate(keep);
        }
        // The most likely token weighs exactly 1.
        candidates.retain(|candidate| candidate.weight >= min_p);
        candidates[pick(candidates.iter().map(|candidate| candidate.weight), point)].id
    }
}

/// The greatest logit, of the lowest id where several are equal.
fn best(logits: &[f32]) -> Result<Best, LogitsError> {
    // Lanes without a dependency between them let the compiler use vector instructions.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut number = [true; 16];
    let (rows, rest) = logits.as_chunks::<16>();
    for row in rows {
        for (lane, value) in row.iter().enumerate() {
            lanes[lane] = if *value > lanes[lane] { *value } else { lanes[lane] };
            number[lane] &= !value.is_nan();
        }
    }
    let logit = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, value| max.max(*value));
    if number.contains(&false) || rest.iter().any(|value| value.is_nan()) {
        let id = logits.iter().position(|value| value.is_nan()).unwrap_or_default();
        return Err(LogitsError::NotFinite { id, kind: "not a number" });
    }
    let id = logits.iter().position(|value| *value == logit).unwrap_or_default();
    match logit {
        f32::NEG_INFINITY => Err(LogitsError::None { count: logits.len() }),
        f32::INFINITY => Err(LogitsError::NotFinite { id, kind: "infinite" }),
        _ => Ok(Best { logit, id: id as u32 }),
    }
}

struct Best {
    logit: f32,
    id: u32,
}

/// Most likely first, then by id: no two are equal.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Brings the smallest set of candidates with at least `top_p` of the weight to the front, sorted, and says its size
/// (Holtzman et al. 2020). Sorts no more than needed.
fn nucleus(candidates: &mut [Candidate], top_p: f32) -> usize {
    let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
    let (goal, mut mass, mut sorted) = (total * f64::from(top_p), 0.0, 0);
    while sorted < candidates.len() {
        let end = (sorted * 8).max(NUCLEUS_GUESS).min(candidates.len());
        let rest = &mut candidates[sorted..];
        if end - sorted < rest.len() {
            rest.select_nth_unstable_by(end - sorted - 1, by_likelihood);
        }
        rest[..end - sorted].sort_unstable_by(by_likelihood);
        for (place, candidate) in candidates.iter().enumerate().take(end).skip(sorted) {
            mass += f64::from(candidate.weight);
            if mass >= goal {
                return place + 1;
            }
        }
        sorted = end;
    }
    candidates.len()
}

/// The place where the running sum of `weights` passes `point` (0 to 1) of the whole.
fn pick(weights: impl Iterator<Item = f32> + Clone, point: f64) -> usize {
    let mut left = point * weights.clone().map(f64::from).sum::<f64>();
    let mut last = 0;
    for (place, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
        left -= f64::from(weight);
        last = place;
        if left < 0.0 {
            break;
        }
    }
    last
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").field("sampling", &self.sampling).field("draws", &self.draws).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(change: impl FnOnce(&mut Sampling)) -> Sampler {
        let mut sampling = Sampling { seed: Some(7), ..Sampling::default() };
        change(&mut sampling);
        Sampler::new(sampling, &[1]).unwrap()
    }

    /// How often each of the logits is drawn in 4000 draws.
    fn counts(logits: &[f32], change: impl FnOnce(&mut Sampling)) -> Vec<u32> {
        let mut sampler = sampler(change);
        let mut counts = vec![0; logits.len()];
        for _ in 0..4000 {
            counts[sampler.sample(&mut logits.to_vec()).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn greedy_takes_the_best_and_of_equals_the_first() {
        let mut logits: Vec<f32> = (0..100).map(|i| ((i * 37) % 50) as f32).collect();
        let first = logits.iter().position(|l| *l == 49.0).unwrap();
        assert!(logits.iter().filter(|l| **l == 49.0).count() == 2);
        assert_eq!(sampler(|s| s.temperature = 0.0).sample(&mut logits).unwrap() as usize, first);
        assert_eq!(sampler(|s| s.temperature = 0.0).sample(&mut [-5.0, -1.0, f32::NEG_INFINITY]), Ok(1));
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        for place in [0, 5, 16, 33] {
            for (bad, kind) in [(f32::NAN, "not a number"), (f32::INFINITY, "infinite")] {
                let mut logits = vec![0.5; 34];
                logits[place] = bad;
                for temperature in [0.0, 1.0] {
                    let error = sampler(|s| s.temperature = temperature).sample(&mut logits).unwrap_err();
                    assert_eq!(error, LogitsError::NotFinite { id: place, kind });
                }
            }
        }
        assert_eq!(sampler(|_| ()).sample(&mut []), Err(LogitsError::None { count: 0 }));
        assert_eq!(sampler(|_| ()).sample(&mut [f32::NEG_INFINITY; 3]), Err(LogitsError::None { count: 3 }));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln(), f32::NEG_INFINITY];
        let near = |counts: Vec<u32>, shares: [f64; 4]| {
            for (count, share) in counts.iter().zip(shares) {
                // Five standard deviations of a binomial distribution.
                let spread = 5.0 * (4000.0 * share * (1.0 - share)).sqrt();
                assert!((f64::from(*count) - 4000.0 * share).abs() <= spread, "{counts:?} {shares:?}");
            }
        };
        near(counts(&logits, |_| ()), [0.6, 0.3, 0.1, 0.0]);
        near(counts(&logits, |s| s.top_k = 2), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        near(counts(&logits, |s| s.top_k = 1), [1.0, 0.0, 0.0, 0.0]);
        near(counts(&logits, |s| s.top_p = 0.7), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        near(counts(&logits, |s| s.top_p = 1e-6), [1.0, 0.0, 0.0, 0.0]);
        near(counts(&logits, |s| s.min_p = 0.4), [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        near(counts(&logits, |s| s.temperature = 0.5), [36.0 / 46.0, 9.0 / 46.0, 1.0 / 46.0, 0.0]);
        near(counts(&logits, |s| s.temperature = f32::MIN_POSITIVE), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn the_nucleus_found_in_parts_is_that_of_a_full_sort() {
        let candidates: Vec<Candidate> = (0..5000u32)
            .map(|id| (id, (id.wrapping_mul(2_654_435_761) >> 16) as f32 / 16384.0))
            .map(|(id, logit)| Candidate { logit, weight: logit.exp(), id })
            .collect();
        let mut sorted = candidates.clone();
        sorted.sort_by(by_likelihood);
        let total: f64 = sorted.iter().map(|c| f64::from(c.weight)).sum();
        for top_p in [0.0001, 0.01, 0.3, 0.9, 0.999] {
            let mut mass = 0.0;
            let want = 1 + sorted
                .iter()
                .position(|c| {
                    mass += f64::from(c.weight);
                    mass >= total * f64::from(top_p)
                })
                .unwrap();
            let mut found = candidates.clone();
            assert_eq!(nucleus(&mut found, top_p), want);
            assert!(found[..want].iter().zip(&sorted).all(|(a, b)| a.id == b.id));
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let logits = vec![0.0; 1000];
        let draw = |seed| {
            let mut sampler = sampler(|s| s.seed = Some(seed));
            (0..20).map(|_| sampler.sample(&mut logits.clone()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1).windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn penalties_weigh_what_was_said() {
        // The prompt is token 1.
        let greedy = |s: &mut Sampling| s.temperature = 0.0;
        let mut repeats = sampler(|s| (greedy(s), s.repetition_penalty = 2.0).1);
        assert_eq!(repeats.sample(&mut [1.5, 2.0, -1.0]), Ok(0), "2.0 of the prompt's token is halved");
        let mut negative = sampler(|s| (greedy(s), s.repetition_penalty = 2.0).1);
        assert_eq!(negative.sample(&mut [-1.5, -1.0, -9.0]), Ok(0), "-1.0 is doubled");

        let mut presence = sampler(|s| (greedy(s), s.presence_penalty = 1.0).1);
        let logits = [2.0, 2.5, 0.5];
        let said: Vec<u32> = (0..4).map(|_| presence.sample(&mut logits.to_vec()).unwrap()).collect();
        assert_eq!(said, [1, 0, 1, 1], "once said, each counts one less, the prompt does not");

        let mut frequency = sampler(|s| (greedy(s), s.frequency_penalty = 1.0).1);
        let said: Vec<u32> = (0..6).map(|_| frequency.sample(&mut logits.to_vec()).unwrap()).collect();
        assert_eq!(said, [1, 0, 1, 0, 1, 2], "each time counts");
    }
}
