//! When a step is overdue, and who is to blame for it.
//!
//! A step is due after the greatest patience of its hops (the floor or four round trips) and the sum of their expected
//! compute. Then every hop is probed: where the step is only late that costs a frame or two a hop. Whoever does not answer within its patience is lost, unless bytes still move on its link: a
//! long frame may stand before the probe or its answer. When all answer, the step is looked for
//! along the route: the first hop that has not finished it either has it, or is busy with steps before it, then it computes and is probed again later;
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
    /// Bytes that moved on each hop's link.
    moved: Vec<u64>,
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
    /// These hops gave no sign of life for as long as they had.
    Silent(Vec<(usize, Duration)>),
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
    hops: Vec<Probed>,
}

/// One hop in a round.
#[derive(Clone, Copy, Debug)]
struct Probed {
    answer: Option<State>,
    /// Bytes that had moved when it last gave a sign of life, and when that was.
    alive: Option<(u64, Instant)>,
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
        let moved = vec![0; hops.len()];
        Self { hops, since: now, round: None, probes: 0, next_probe: None, stuck: None, moved }
    }

    /// Watches other hops from now on. Probes are counted on, so that no late answer to an old one is taken for a new one's.
    pub(super) fn renew(&mut self, hops: Vec<Allowance>, now: Instant) {
        *self = Self { probes: self.probes, ..Self::new(hops, now) };
    }

    /// What is known of hop `at` now. Call it for every hop before [`Watch::look`].
    pub(super) fn observe(&mut self, at: usize, patience: Duration, moved_bytes: u64) {
        self.hops[at].patience = patience;
        self.moved[at] = moved_bytes;
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
            round.hops[at].answer = Some(state);
        }
    }

    /// What to do about the oldest step that has not come back.
    pub(super) fn look(&mut self, now: Instant, step: Awaited) -> Verdict {
        let began = self.since.max(step.submitted);
        let Some(round) = &mut self.round else {
            let due = self.next_probe.unwrap_or_else(|| began + self.time_for(step.tokens));
            if now < due {
                return Verdict::Wait(due);
            }
            self.probes += 1;
            let hops = vec![Probed { answer: None, alive: None }; self.hops.len()];
            self.round = Some(Round { number: self.probes, sent: now, hops });
            return Verdict::Probe(self.probes);
        };
        let mut first_expiry: Option<Instant> = None;
        // Machines of one room fall silent together.
        let mut silent = Vec::new();
        for (at, hop) in round.hops.iter_mut().enumerate().filter(|(_, hop)| hop.answer.is_none()) {
            let patience = self.hops[at].patience;
            let alive = match hop.alive {
                // The probe itself has moved by now: what counts is what moves after it.
                None => round.sent,
                Some((bytes, since)) if bytes == self.moved[at] => since,
                Some(_) => now,
            };
            hop.alive = Some((self.moved[at], alive));
            let expiry = alive + patience;
            if now >= expiry {
                silent.push((at, patience));
                continue;
            }
            if now >= began + STEP_CEILING + patience {
                return Verdict::Lost { at, reason: format!("step {} is not done after {STEP_CEILING:?}", step.seq) };
            }
            first_expiry = Some(first_expiry.map_or(expiry, |first| first.min(expiry)));
        }
        if !silent.is_empty() {
            return Verdict::Silent(silent);
        }
        if let Some(expiry) = first_expiry {
            return Verdict::Wait(expiry);
        }
        let states: Vec<State> = round.hops.iter().filter_map(|hop| hop.answer).collect();
        self.round = None;
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
            Some(at) if states[at].received > seq || states[at].busy > 0 => {
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
        let patience = self.hops.iter().map(|hop| hop.patience).max().unwrap_or_default();
        let compute = self.hops.iter().map(|hop| hop.expected.of(tokens)).sum::<Duration>();
        patience.saturating_add(compute).min(STEP_CEILING)
    }
}

#[cfg(test)]
mod tests;
