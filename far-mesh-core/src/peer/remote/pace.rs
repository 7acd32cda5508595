//! Whether a hop is much slower than its advert, found without believing anybody's clock.
//!
//! While steps take about what the adverts promise, nothing is asked. When most of some take twice as long, the next ones
//! are sampled: at a random moment of each every hop is probed, and the step is with the first that has not
//! finished it, or does not answer before the step is done. The lengths of the steps that were found with a hop, over the
//! number of samples, is the time that a step spends there: a hop cannot make that look shorter but by being quick, since both its
//! neighbours tell where the step is not.
//!
//! Pure: it gets times and moments from its caller.

use std::time::Duration;

use crate::peer::wire::State;

/// Steps are suspicious when they take this many times what was promised.
const SUSPICIOUS: u32 = 2;

/// A hop has lost its place when a step spends this many times in it what it promised.
const TOO_SLOW: u32 = 4;

/// Added to what was promised: a busy machine's scheduler.
const SLACK: Duration = Duration::from_millis(1);

/// Suspicious steps, less those that were not, before anybody is asked: one that was quick by chance starts nothing anew.
const PATIENCE: u32 = 6;

/// Steps that are sampled. Of three hops that are slow alike one seems to hold two thirds of the time once in a hundred times.
const SAMPLES: u32 = 16;

/// Steps without suspicion after a verdict: whoever was not replaced is not asked again at once.
const REST: u32 = 48;

/// The pace of one session's decoding.
#[derive(Debug)]
pub(super) struct Pace {
    /// What a step of one token takes at each hop, its way included; `None` where a hop promised nothing.
    promised: Option<Vec<Duration>>,
    slow_steps: u32,
    rest: u32,
    sampling: Option<Sampling>,
    random: u64,
}

#[derive(Debug)]
struct Sampling {
    /// How long the steps took lately: the moment of a sample lies within.
    length: Duration,
    taken: u32,
    /// Length of the steps that were found with each hop.
    found: Vec<Duration>,
    total: Duration,
    round: Option<Round>,
}

/// One sample.
#[derive(Debug)]
struct Round {
    number: u64,
    seq: u64,
    /// Whether each hop said that it is done with the step.
    done: Vec<bool>,
}

/// A hop that is much slower than it promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slow {
    pub(super) at: usize,
    /// How many times what it promised a step takes there.
    pub(super) factor: f64,
    /// How long a step takes there.
    pub(super) takes: Duration,
}

impl Pace {
    /// `promised` by each hop, zero where nothing is known; `seed` decides the moments of the samples.
    pub(super) fn new(promised: Vec<Duration>, seed: u64) -> Self {
        let promised = (!promised.iter().any(Duration::is_zero)).then_some(promised);
        Self { promised, slow_steps: 0, rest: 0, sampling: None, random: seed | 1 }
    }

    /// Whether nobody can be judged, since a hop's promise or the way to it is not known.
    pub(super) fn is_blind(&self) -> bool {
        self.promised.is_none()
    }

    /// A step of one token is sent. When to probe during it, if it is to be sampled.
    pub(super) fn begin(&mut self) -> Option<Duration> {
        let length = self.sampling.as_ref()?.length;
        // xorshift64 (Marsaglia 2003): only the moments need it, and nobody gains by guessing them a step ahead.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Some(length.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64))
    }

    /// Every hop was asked, with this number, where step `seq` is.
    pub(super) fn probed(&mut self, number: u64, seq: u64) {
        let hops = self.promised.as_ref().map_or(0, Vec::len);
        if let Some(sampling) = &mut self.sampling {
            sampling.round = Some(Round { number, seq, done: vec![false; hops] });
        }
    }

    /// A hop's answer.
    pub(super) fn answer(&mut self, at: usize, state: &State) {
        if let Some(round) = self.sampling.as_mut().and_then(|sampling| sampling.round.as_mut())
            && round.number == state.probe
            && let Some(done) = round.done.get_mut(at)
        {
            *done = state.finished > round.seq;
        }
    }

    /// A step of one token took `took`. Says who is too slow when enough is known.
    pub(super) fn end(&mut self, took: Duration) -> Option<Slow> {
        let promised = self.promised.as_ref()?;
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        let slow = took > promised.iter().sum::<Duration>() * SUSPICIOUS + SLACK;
        let Some(sampling) = &mut self.sampling else {
            self.slow_steps = if slow { self.slow_steps + 1 } else { self.slow_steps.saturating_sub(1) };
            if self.slow_steps >= PATIENCE {
                let found = vec![Duration::ZERO; promised.len()];
                self.sampling = Some(Sampling { length: took, taken: 0, found, total: Duration::ZERO, round: None });
            }
            return None;
        };
        sampling.length = (sampling.length * 3 + took) / 4;
        let Round { done, .. } = sampling.round.take()?;
        // Done everywhere: it was on its way back from the last.
        let at = done.iter().position(|done| !done).unwrap_or(done.len().saturating_sub(1));
        sampling.found[at] += took;
        sampling.taken += 1;
        sampling.total += took;
        if sampling.taken < SAMPLES {
            return None;
        }
        let verdict = sampling.verdict(promised);
        (self.sampling, self.slow_steps, self.rest) = (None, 0, REST);
        verdict
    }
}

impl Sampling {
    fn verdict(&self, promised: &[Duration]) -> Option<Slow> {
        let (at, found) = self.found.iter().copied().enumerate().max_by_key(|(_, found)| *found)?;
        let takes = found / self.taken;
        let slow = found * 3 >= self.total * 2 && takes > promised[at] * TOO_SLOW + SLACK;
        let factor = takes.as_secs_f64() / promised[at].as_secs_f64();
        slow.then_some(Slow { at, factor, takes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Runs steps that spend these times at the hops; who is called slow, and after how many steps.
    fn run(pace: &mut Pace, spent: &[Duration], steps: u64) -> Option<(Slow, u64)> {
        for seq in 0..steps {
            let total = spent.iter().sum::<Duration>();
            if let Some(after) = pace.begin() {
                pace.probed(seq, seq);
                let mut end = Duration::ZERO;
                for (at, spent) in spent.iter().enumerate() {
                    end += *spent;
                    let finished = if end <= after { seq + 1 } else { seq };
                    pace.answer(at, &State { probe: seq, finished, ..State::default() });
                }
            }
            if let Some(slow) = pace.end(total) {
                return Some((slow, seq + 1));
            }
        }
        None
    }

    #[test]
    fn a_hop_at_a_tenth_of_its_promise_is_found_soon() {
        for at in 0..3 {
            let mut spent = [MILLI; 3];
            spent[at] = 10 * MILLI;
            let mut pace = Pace::new(vec![MILLI; 3], at as u64 * 77);
            let (slow, steps) = run(&mut pace, &spent, 200).expect("one is slow");
            assert_eq!(slow.at, at);
            assert!(slow.factor > 5.0 && steps <= u64::from(2 * (PATIENCE + SAMPLES) + REST), "{slow:?} {steps}");
        }
    }

    #[test]
    fn a_mesh_that_keeps_its_promise_is_not_asked() {
        let mut pace = Pace::new(vec![MILLI; 3], 7);
        assert!(run(&mut pace, &[2 * MILLI; 3], 1000).is_none());
        assert!(pace.sampling.is_none());
        // All slow alike: nobody stands out.
        assert!(run(&mut pace, &[6 * MILLI; 3], 200).is_none());
    }

    #[test]
    fn a_hop_that_is_quick_now_and_then_is_found_all_the_same() {
        // A process that runs a tenth of the time, as it meets steps of a small model.
        let mut pace = Pace::new(vec![MILLI; 3], 7);
        let slow = (0..400).find_map(|round| {
            let spent = if round % 4 == 3 { [MILLI; 3] } else { [MILLI, 9 * MILLI, MILLI] };
            run(&mut pace, &spent, 1)
        });
        assert_eq!(slow.map(|(slow, _)| slow.at), Some(1));
    }

    #[test]
    fn who_does_not_answer_has_the_step() {
        let mut pace = Pace::new(vec![MILLI; 2], 7);
        let slow = (0..100).find_map(|seq| {
            if pace.begin().is_some() {
                pace.probed(seq, seq);
                pace.answer(0, &State { probe: seq, finished: seq + 1, ..State::default() });
            }
            pace.end(30 * MILLI)
        });
        assert_eq!(slow.map(|slow| slow.at), Some(1));
    }

    #[test]
    fn nobody_is_judged_where_one_promised_nothing() {
        let mut pace = Pace::new(vec![MILLI, Duration::ZERO], 7);
        assert!(run(&mut pace, &[90 * MILLI, MILLI], 1000).is_none());
    }
}
