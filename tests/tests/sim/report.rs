//! Figures of many sessions in one line.

use std::{fmt, time::Duration};

use crate::{
    cluster::Setup,
    drive::{Outcome, prompt},
    mock::undisturbed,
};

/// What a case came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sessions: usize,
    /// Came to their end.
    pub(crate) survived: usize,
    /// Said what an undisturbed session says.
    pub(crate) identical: usize,
    /// Tokens that never came.
    pub(crate) lost: usize,
    /// Steps that came twice.
    pub(crate) repeated: usize,
    /// Hops that were lost.
    pub(crate) failures: usize,
    /// Positions of hops, and those with receipts.
    pub(crate) counted: u64,
    pub(crate) receipted: u64,
    pauses: Vec<Duration>,
}

impl Tally {
    pub(crate) fn add(&mut self, setup: &Setup, outcomes: &[Outcome]) {
        for (session, outcome) in outcomes.iter().enumerate() {
            let want = undisturbed(&prompt(setup, session), setup.steps);
            self.sessions += 1;
            self.survived += usize::from(outcome.error.is_none());
            self.identical += usize::from(outcome.tokens == want);
            self.lost += want.len().saturating_sub(outcome.tokens.len());
            self.repeated += outcome.repeated;
            self.failures += outcome.failures;
            self.counted += outcome.counted;
            self.receipted += outcome.receipted;
            self.pauses.push(outcome.pause);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.survived += other.survived;
        self.identical += other.identical;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.failures += other.failures;
        self.counted += other.counted;
        self.receipted += other.receipted;
        self.pauses.extend(other.pauses);
    }

    /// Whether every session said all that it should, once.
    pub(crate) fn is_whole(&self) -> bool {
        let all = self.sessions;
        (self.survived, self.identical, self.lost, self.repeated) == (all, all, 0, 0)
    }

    /// Whether every hop has receipts for all that it is counted for.
    pub(crate) fn is_paid(&self) -> bool {
        self.counted == self.receipted
    }

    /// The pause that this share of sessions does not pass.
    pub(crate) fn pause(&self, share: f64) -> Duration {
        let mut pauses = self.pauses.clone();
        pauses.sort_unstable();
        let at = (share * pauses.len() as f64).ceil() as usize;
        pauses.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(crate) const HEAD: &str =
        "sessions survived identical  lost repeated failures receipts  pause p50      p99      max";
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, survived, identical, lost, repeated, failures, .. } = self;
        let receipts = 100.0 * self.receipted as f64 / self.counted.max(1) as f64;
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| self.pause(share).as_millis());
        write!(
            f,
            "{sessions:>8} {survived:>8} {identical:>9} {lost:>5} {repeated:>8} {failures:>8} {receipts:>6.1} % {p50:>7} ms {p99:>5} ms {max:>5} ms"
        )
    }
}
