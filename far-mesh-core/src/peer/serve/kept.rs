//! What a session's hop sent on, kept for the node that may take the place of the next hop.
//!
//! All or nothing: a new hop starts with empty caches and needs every result from the first on. A session that passes its
//! bound, or finds the node's spent, keeps only what is not sent yet from then on; when its next hop is lost, this hop is
//! opened anew as well, and the one before it replays.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    activation::Activation,
    hop::{Input, Step},
};

/// Bytes that all sessions of a node may keep.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    per_session: u64,
}

/// Results of one session, by step.
#[derive(Debug)]
pub(super) struct Kept {
    budget: Arc<Budget>,
    bytes: u64,
    /// Number of the oldest step that is there.
    first: u64,
    steps: VecDeque<Step>,
    whole: bool,
}

impl Budget {
    pub(super) fn new(per_node: u64, per_session: u64) -> Self {
        Self { left: AtomicU64::new(per_node), per_session }
    }

    fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::AcqRel);
    }
}

impl Kept {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, bytes: 0, first: 0, steps: VecDeque::new(), whole: true }
    }

    /// Keeps the result of the next step; `sent` is the number of the first that is still to be sent.
    pub(super) fn push(&mut self, mut step: Step, sent: u64) {
        if let (true, Input::Activation(rows)) = (self.whole, &mut step.input) {
            let bytes = rows.bytes().len() as u64;
            if self.bytes + bytes <= self.budget.per_session && self.budget.take(bytes) {
                self.bytes += bytes;
                // A copy of its own: a slice would keep the results of a whole batch.
                let own = Bytes::copy_from_slice(rows.bytes());
                if let Ok(own) = Activation::new(rows.tokens(), rows.hidden(), rows.dtype(), own) {
                    *rows = own;
                }
            } else {
                self.whole = false;
                self.budget.give_back(std::mem::take(&mut self.bytes));
            }
        }
        self.steps.push_back(step);
        self.sent(sent);
    }

    /// The result of a step, where it is there.
    pub(super) fn get(&self, seq: u64) -> Option<&Step> {
        self.steps.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Whether the results from `seq` on are there or still to come.
    pub(super) fn reaches(&self, seq: u64) -> bool {
        self.first <= seq
    }

    /// Steps before `seq` were sent.
    pub(super) fn sent(&mut self, seq: u64) {
        while !self.whole && self.first < seq && self.steps.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Dtype, hop::Rows};

    fn step(seq: u64) -> Step {
        let rows = Activation::new(1, 4, Dtype::F32, vec![seq as u8; 16].into()).unwrap();
        Step { seq, position: seq as u32, input: Input::Activation(rows), output: Rows::Last }
    }

    #[test]
    fn a_session_keeps_all_or_only_what_is_not_sent() {
        let budget = Arc::new(Budget::new(100, 64));
        let mut kept = Kept::new(Arc::clone(&budget));
        (0..4).for_each(|seq| kept.push(step(seq), seq));
        assert!(kept.reaches(0) && kept.get(3).is_some_and(|step| step.seq == 3) && kept.get(4).is_none());
        kept.push(step(4), 3);
        assert!(!kept.reaches(2) && kept.reaches(3), "past its bound");
        assert_eq!(kept.get(4).map(|step| step.seq), Some(4));
        assert_eq!(budget.left.load(Ordering::Relaxed), 100, "what it does not keep it does not hold");
        kept.sent(5);
        assert!(kept.get(4).is_none() && kept.reaches(5));
        kept.push(step(5), 5);
        assert_eq!(kept.get(5).map(|step| step.seq), Some(5));
    }

    #[test]
    fn sessions_share_what_the_node_has() {
        let budget = Arc::new(Budget::new(40, 32));
        let [mut one, mut other] = [(); 2].map(|()| Kept::new(Arc::clone(&budget)));
        (0..2).for_each(|seq| one.push(step(seq), seq));
        other.push(step(0), 1);
        assert!(one.reaches(0) && !other.reaches(0));
        drop(one);
        assert_eq!(budget.left.load(Ordering::Relaxed), 40);
    }
}
