//! Hops that others call lost, and hops that are slow: whom to believe, and when a place is given away.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::RemoteSession;
use crate::{
    hop::HopError,
    peer::{
        remote::{RemoteHop, mend::Look, pace::Slow},
        wire::Lost,
    },
};

/// How often a hop may call a neighbour lost that another node then replaced, before it is replaced itself.
const MAX_ACCUSATIONS: u32 = 3;

impl RemoteSession {
    /// A hop calls a neighbour lost. A hop is believed about itself and its neighbours only, and not again and again.
    pub(in crate::peer::remote::session) fn on_accusation(
        &mut self,
        at: usize,
        Lost { node, reason, number }: &Lost,
    ) -> Result<(), HopError> {
        let node = *node;
        // It had not heard yet who its neighbour is now.
        if *number < self.places[at].rerouted {
            return Ok(());
        }
        if self.mending.mend.as_ref().is_some_and(|mend| mend.tries(node)) {
            self.mending.without.push(node);
            self.mending.mend = None;
            self.mending.came_to_nobody();
            return Ok(());
        }
        let beside = [at.checked_sub(1), Some(at + 1)];
        let accused = beside.into_iter().flatten().find(|&at| self.places.get(at).is_some_and(|p| p.hop.node == node));
        let accuser = &mut self.places[at];
        match accused {
            Some(_) if self.route.mender.is_some() && accuser.accusations >= MAX_ACCUSATIONS => {
                let reason = format!("it blames one neighbour after the other, now node {node}: {reason}");
                let error = accuser.hop.lost(reason);
                self.lose(at, error)
            }
            Some(accused) => {
                accuser.accusations += 1;
                let RemoteHop { node: by, span, .. } = accuser.hop;
                let error = self.places[accused].hop.lost(format!("{reason} (seen by node {by} with layers {span})"));
                self.lose(accused, error)
            }
            // It did not take the place that it was named for, and is no neighbour any more.
            None if accuser.named.contains(&Some(node)) => Ok(()),
            None => {
                let error = accuser.hop.lost(format!("it blames node {node}, which is not beside it: {reason}"));
                self.lose(at, error)
            }
        }
    }

    /// A hop is much slower than it promised: others are looked for.
    pub(in crate::peer::remote::session) fn suspect(&mut self, slow: Option<Slow>) {
        let (Some(slow), Some(mender)) = (slow, self.route.mender.clone()) else { return };
        let node = self.places[slow.at].hop.node;
        tracing::info!(session = %self.request.session, %node, factor = slow.factor, takes = ?slow.takes, "a hop is slow");
        mender.slow(node, slow.factor);
        if self.mending.mend.is_none()
            && let Some(loss) = self.loss(slow.at..slow.at + 1, Look::First, Some(node))
        {
            self.mending.suspect = Some((slow, mender.replace(loss)));
        }
    }

    /// Gives a slow hop's place away where somebody else has promised to be twice as quick, between two steps. Until
    /// then it keeps it: a slow hop is better than none.
    pub(super) fn poll_suspect(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((slow, plan)) = &mut self.mending.suspect else { return false };
        let Poll::Ready(planned) = plan.as_mut().poll(cx) else { return false };
        let slow = *slow;
        self.mending.suspect = None;
        let quicker = planned.is_ok_and(|hops| hops.iter().map(|hop| hop.promised).sum::<Duration>() * 2 < slow.takes);
        if !quicker || self.mending.mend.is_some() || self.places[slow.at].link.is_none() {
            return false;
        }
        let node = self.places[slow.at].hop.node;
        self.mending.without.push(node);
        self.mending.slow.push(node);
        self.vacate(slow.at);
        true
    }
}
