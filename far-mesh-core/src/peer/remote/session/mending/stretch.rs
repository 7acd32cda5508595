//! Which places are given to others, and who is asked for them.

use std::ops::Range;

use tokio::time::Instant;

use super::{REPAIR, RemoteSession};
use crate::{
    hop::HopError,
    id::{NodeId, Span},
    limits::MAX_HOPS,
    peer::remote::{
        Loss,
        mend::{Look, Mend, Silent},
        session::Place,
    },
};

impl RemoteSession {
    /// The lost places beside each other from `start` on.
    pub(super) fn lost_from(&self, start: usize) -> Range<usize> {
        let lost = self.places[start..].iter().take_while(|place| place.link.is_none()).count();
        start..start + lost
    }

    /// Nobody can take the places. A hop beside them may serve their layers too: it gives up its own where that lets the wider
    /// stretch be served. Where no stretch can be, it is waited for somebody to come, and all are looked at once more.
    pub(super) fn widen(&mut self, why: &HopError) -> Result<(), HopError> {
        let Some(mend) = self.mending.mend.take() else { return Ok(()) };
        let is_lost = |at: usize| self.places.get(at).is_some_and(|place| place.link.is_none());
        let mut wide = mend.range.start.saturating_sub(1)..(mend.range.end + 1).min(self.places.len());
        while wide.start > 0 && is_lost(wide.start - 1) {
            wide.start -= 1;
        }
        while is_lost(wide.end) {
            wide.end += 1;
        }
        match (mend.look, self.places.iter().position(|place| place.link.is_none())) {
            (Look::First, _) if wide != mend.range => self.begin(wide, Look::First),
            (Look::First, Some(start)) => self.begin(self.lost_from(start), Look::Waiting),
            (Look::Waiting | Look::Last, _) if wide != mend.range => self.begin(wide, Look::Last),
            (Look::Waiting | Look::Last, _) => Err(self.hopeless(why)),
            (Look::First, None) => Ok(()),
        }
    }

    /// Asks who can take the places of `range`, and the others whether they are there.
    pub(super) fn begin(&mut self, range: Range<usize>, look: Look) -> Result<(), HopError> {
        let Some(mender) = self.route.mender.clone() else { return Err(HopError::Closed) };
        self.mending.number += 1;
        let loss = self.loss(range.clone(), look, None).ok_or(HopError::Closed)?;
        let sides = (loss.before.is_some(), loss.after.is_some());
        let (number, now) = (self.mending.number, Instant::now());
        let silent = |place: &Place| {
            let (node, moved) = (place.hop.node, place.link.as_ref()?.moved_bytes());
            Some(Silent { node, until: now + self.route.patience(node), moved })
        };
        let beside = self.places.iter().enumerate().filter(|(at, _)| !range.contains(at));
        let silent = beside.filter_map(|(_, place)| silent(place)).collect();
        self.mending.mend = Some(Mend::new(range, number, now, (mender.replace(loss), look), sides, silent));
        self.probe(REPAIR | number)
    }

    /// What is to be replaced at `range`, beside those that are there.
    pub(super) fn loss(&self, range: Range<usize>, look: Look, slow: Option<NodeId>) -> Option<Loss> {
        let (first, last) = (&self.places.get(range.start)?.hop, &self.places.get(range.end - 1)?.hop);
        let span = Span::new(first.span.start(), last.span.end()).ok()?;
        let node = |place: Option<&Place>| place.map(|place| place.hop.node);
        let (inside, others): (Vec<_>, Vec<_>) = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.link.is_some())
            .partition(|(at, _)| range.contains(at));
        let nodes =
            |places: Vec<(usize, &Place)>| places.into_iter().map(|(_, place)| place.hop.node).collect::<Vec<_>>();
        let (leaving, present) = (nodes(inside), nodes(others));
        let mut classes = self.mending.classes_of(span);
        let class = classes.next();
        Some(Loss {
            span,
            before: range.start.checked_sub(1).and_then(|at| node(self.places.get(at))),
            after: node(self.places.get(range.end)),
            max_hops: MAX_HOPS.saturating_sub(present.len()).max(1),
            without: present.into_iter().chain(self.mending.without.iter().copied()).chain(slow).collect(),
            leaving,
            kernel_class: class.filter(|first| classes.all(|other| other == *first)).map(str::to_owned),
            dtype: self.request.dtype,
            context_tokens: self.request.context_tokens,
            done_tokens: self.history.positions() as u32,
            wait: look == Look::Waiting,
        })
    }
}
