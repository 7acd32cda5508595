//! When a step is overdue, and who is to blame for it.
//!
//! A step is due after the sum over its hops of patience (the floor or four round trips) and expected compute. Then
//! every hop is probed. Whoever does not answer within its patience is lost. When all answer, the step is looked for
//! along the route: the first hop that has not finished it either has it, then it computes and is probed again later;
//! or it never got it from the hop before, and if no byte of it arrives within a further patience, it is lost.
//! In the normal case no probe is ever sent.

use std::time::Duration;

use tokio::time::Instant;

use super::StepTime;
use crate::peer::wire::State;

/// Longest a step may take, whatever the hops say about it.
pub(super) const STEP_CEILING: Duration = Duration::from_secs(120);

/// Watches the steps of one session.
#[derive(Debug)]
pub(super) struct Watch {
    hops: Vec<Allowance>,
    /// When the oldest step began to be the only one that is waited for.
    since: Instant,
    round: Option<Round>,
    probes: u64,
    next_probe: Option<Instant>,
    stuck: Option<Stuck>,
}

/// What one hop is granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// To answer a probe.
    pub(super) patience: Duration,
    /// To compute.
    pub(super) expected: StepTime,
}

/// The step that is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited {
    pub(super) seq: u64,
    pub(super) tokens: usize,
    pub(super) submitted: Instant,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again at this time.
    Wait(Instant),
    /// Send this probe to every hop, then look again.
    Probe(u64),
    /// A hop is lost.
    Lost {
        /// Which.
        at: usize,
        /// Why.
        reason: String,
    },
}

/// Probes that were sent at once.
#[derive(Debug)]
struct Round {
    number: u64,
    sent: Instant,
    answers: Vec<Option<State>>,
}

/// A link that did not deliver, and the last byte it did.
#[derive(Debug, PartialEq, Eq)]
struct Stuck {
    to: usize,
    seq: u64,
    received_bytes: u64,
    since: Instant,
}

impl Watch {
    pub(super) fn new(hops: Vec<Allowance>, now: Instant) -> Self {
        Self { hops, since: now, round: None, probes: 0, next_probe: None, stuck: None }
    }

    /// A step came back: the next one starts afresh.
    pub(super) fn progress(&mut self, now: Instant) {
        (self.since, self.round, self.next_probe, self.stuck) = (now, None, None, None);
    }

    /// A hop's answer to a probe.
    pub(super) fn answer(&mut self, at: usize, state: State) {
        if let Some(round) = &mut self.round
            && round.number == state.probe
        {
            round.answers[at] = Some(state);
        }
    }

    /// What to do about the oldest step that has not come back.
    pub(super) fn look(&mut self, now: Instant, step: Awaited) -> Verdict {
        let began = self.since.max(step.submitted);
        let Some(round) = self.round.take() else {
            let due = self.next_probe.unwrap_or_else(|| began + self.time_for(step.tokens));
            if now < due {
                return Verdict::Wait(due);
            }
            self.probes += 1;
            self.round = Some(Round { number: self.probes, sent: now, answers: vec![None; self.hops.len()] });
            return Verdict::Probe(self.probes);
        };
        let unanswered = |answer: &(usize, &Option<State>)| answer.1.is_none();
        if let Some((at, _)) = round
            .answers
            .iter()
            .enumerate()
            .filter(unanswered)
            .find(|(at, _)| now >= round.sent + self.hops[*at].patience)
        {
            let silent = self.hops[at].patience;
            return Verdict::Lost { at, reason: format!("it gave no sign of life for {silent:?}") };
        }
        let next_expiry = round
            .answers
            .iter()
            .enumerate()
            .filter(unanswered)
            .map(|(at, _)| round.sent + self.hops[at].patience)
            .min();
        if let Some(expiry) = next_expiry {
            self.round = Some(round);
            return Verdict::Wait(expiry);
        }
        let states: Vec<State> = round.answers.into_iter().flatten().collect();
        self.judge(now, began, step, &states)
    }

    /// All hops answered: finds the step.
    fn judge(&mut self, now: Instant, began: Instant, step: Awaited, states: &[State]) -> Verdict {
        let Awaited { seq, tokens, .. } = step;
        let holder = states.iter().position(|state| state.finished <= seq);
        if now >= began + STEP_CEILING {
            let at = holder.unwrap_or(states.len().saturating_sub(1));
            return Verdict::Lost { at, reason: format!("step {seq} is not done after {STEP_CEILING:?}") };
        }
        let (to, received_bytes, wait) = match holder {
            Some(at) if states[at].received > seq => {
                self.stuck = None;
                let patience = self.hops[at].patience;
                let wait = patience + self.hops[at].expected.of(tokens);
                return self.again((now + wait).min((began + STEP_CEILING).max(now + patience)));
            }
            Some(at) => (at, states[at].received_bytes, self.hops[at].patience),
            // The way back: the output goes before the answer to the probe, so it cannot be under way.
            None => (states.len(), 0, self.hops[states.len().saturating_sub(1)].patience),
        };
        match &self.stuck {
            Some(stuck) if (stuck.to, stuck.seq, stuck.received_bytes) == (to, seq, received_bytes) => {
                if now >= stuck.since + wait {
                    let at = to.min(states.len().saturating_sub(1));
                    let reason = match to {
                        0 => format!("step {seq} does not reach it"),
                        to if to == states.len() => format!("it says step {seq} is done but does not send it"),
                        to => format!("step {seq} left hop {} and does not reach it", to - 1),
                    };
                    return Verdict::Lost { at, reason };
                }
            }
            _ => self.stuck = Some(Stuck { to, seq, received_bytes, since: now }),
        }
        self.again(now + wait)
    }

    fn again(&mut self, at: Instant) -> Verdict {
        self.next_probe = Some(at);
        Verdict::Wait(at)
    }

    fn time_for(&self, tokens: usize) -> Duration {
        self.hops.iter().map(|hop| hop.patience + hop.expected.of(tokens)).sum::<Duration>().min(STEP_CEILING)
    }
}

#[cfg(test)]
mod tests;
