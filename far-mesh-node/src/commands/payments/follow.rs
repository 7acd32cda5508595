//! What ticks of a payer did, told once each.

use std::collections::BTreeSet;

use far_ledger::{
    payout::{Closed, Plan, StatusTotal, Tick},
    store::BackendError,
};

use super::text::{count, moment};

/// Remembers what was said: an alert comes with every tick for as long as its cause lasts.
#[derive(Debug, Default)]
pub(super) struct News {
    alerts: BTreeSet<String>,
    states: String,
}

impl News {
    /// What a tick did.
    pub(super) fn done(tick: &Tick) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(tick.closed.as_ref().map(closed));
        lines.extend(tick.signed.iter().map(|tx| format!("signed transaction {tx:?}")));
        lines.extend(tick.confirmed.iter().map(|batch| format!("batch {batch:?} is settled")));
        lines
    }

    /// Alerts that the tick before did not have.
    pub(super) fn alerts(&mut self, tick: &Tick) -> Vec<String> {
        self.changed(tick.alerts.iter().map(ToString::to_string))
    }

    /// The same of an error that keeps a tick from its end.
    pub(super) fn waits(&mut self, error: &impl ToString) -> Vec<String> {
        self.changed([format!("payouts wait: {}", error.to_string())])
    }

    fn changed(&mut self, alerts: impl IntoIterator<Item = String>) -> Vec<String> {
        let now: BTreeSet<String> = alerts.into_iter().collect();
        let new = now.difference(&self.alerts).cloned().collect();
        self.alerts = now;
        new
    }

    /// How open batches stand, where that is not what was said last.
    pub(super) fn states(&mut self, totals: &[StatusTotal]) -> Option<String> {
        let open = totals.iter().filter(|total| is_open(&total.status));
        let states: Vec<String> = open.map(|total| format!("{} {}", total.batches, total.status)).collect();
        let states = states.join(", ");
        if states.is_empty() || states == self.states {
            return None;
        }
        self.states.clone_from(&states);
        Some(format!("batches: {states}"))
    }
}

pub(super) fn is_open(status: &str) -> bool {
    !matches!(status, "confirmed" | "halted")
}

/// What closing a week came to.
pub(super) fn closed(closed: &Closed) -> String {
    format!("closed the week up to {}: {}", moment(closed.epoch.end()), summary(&closed.plan))
}

/// What a plan comes to.
pub(super) fn summary(plan: &Plan) -> String {
    let total = plan.total().map_or_else(|| "more than an amount can hold".to_owned(), |total| total.to_string());
    let wallets = count(plan.wallets(), "wallet", "wallets");
    let batches = count(plan.batches.len(), "batch", "batches");
    let carried = count(plan.carried.len(), "node carries over", "nodes carry over");
    format!("{wallets} in {batches}, {total} FAR; {carried}")
}

/// Whether a ledger that failed may answer a moment later.
pub(super) fn may_pass(error: &BackendError) -> bool {
    matches!(error, BackendError::Busy(_) | BackendError::Conflict(_) | BackendError::Lost(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_said_when_it_comes_and_when_it_comes_again() {
        let mut news = News::default();
        assert_eq!(news.changed(["a".to_owned(), "b".to_owned()]), ["a", "b"]);
        assert_eq!(news.changed(["b".to_owned(), "c".to_owned()]), ["c"]);
        assert_eq!(news.changed(["a".to_owned()]), ["a"]);
    }
}
