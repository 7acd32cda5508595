//! A repair under way: who takes the lost places, and whether everybody concerned has agreed.
//!
//! ```text
//! plan (mender) --> open all new hops, each with its neighbours      \
//!               --> Reroute to the hop before: another next          +--> all agreed: they are in the route
//!               --> Reroute to the hop after: another source        /
//! ```
//!
//! All three run side by side: whoever is attached to before it knows of it parks the stream. What each new neighbour
//! lacks it says when it is attached, so nothing here counts steps.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    RemoteHop,
    mender::Found,
    open::{Opened, Refusal},
};
use crate::{hop::HopError, id::NodeId, peer::wire::Link};

/// How long a new hop gets to open beyond eight round trips, at the first try of a repair; twice as long at each later one.
/// Long enough for a node whose cores are all computing, short enough that a node which fell silent with the lost one
/// costs no more than that one did.
const OPEN_PATIENCE: Duration = Duration::from_millis(600);

/// Most that the round trips count: of a node that was busy they say nothing.
const FAR_PATIENCE: Duration = Duration::from_secs(1);

/// A plan ends by itself.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// A repair of one stretch of the route.
pub(super) struct Mend {
    /// The places that others are to take.
    pub(super) range: Range<usize>,
    /// Of its `Reroute` frames and probes.
    pub(super) number: u64,
    pub(super) began: Instant,
    pub(super) look: Look,
    stage: Stage,
    before: Agreed,
    after: Agreed,
    /// Survivors that have not answered the probe.
    silent: Vec<Silent>,
    /// When the new hops are to be open.
    deadline: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

/// How hard it is looked for who can take the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// In what is known of the mesh.
    First,
    /// Until somebody comes, for a while.
    Waiting,
    /// In what was learned meanwhile.
    Last,
}

enum Stage {
    Planning(Found),
    Opening { hops: Vec<RemoteHop>, links: Vec<Option<Link>>, opening: FuturesUnordered<BoxFuture<'static, Opened>> },
    Over,
}

/// Whether a surviving neighbour has its new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agreed {
    /// There is none: the coordinator is the neighbour.
    Nobody,
    Waiting,
    Yes,
}

/// A survivor that is asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silent {
    pub(super) node: NodeId,
    /// When its time is over.
    pub(super) until: Instant,
    /// Bytes that had moved on its link.
    pub(super) moved: u64,
}

/// What a repair came to.
pub(super) enum Progress {
    /// Hops were found: open them, and tell their neighbours.
    Found(Vec<RemoteHop>),
    /// Nobody can take the places.
    Hopeless(HopError),
    /// A new hop cannot take its place.
    Refused(NodeId, Refusal),
    /// A survivor has not answered in time.
    Silent(Silent),
    /// All agreed.
    Mended(Vec<(RemoteHop, Link)>),
}

impl Mend {
    /// A repair of `range`, whose plan is to come. `before` and `after` tell whether there is a survivor beside it.
    pub(super) fn new(
        range: Range<usize>,
        number: u64,
        now: Instant,
        (plan, look): (Found, Look),
        (before, after): (bool, bool),
        silent: Vec<Silent>,
    ) -> Self {
        let agreed = |there| if there { Agreed::Waiting } else { Agreed::Nobody };
        let mut mend = Self {
            range,
            number,
            began: now,
            look,
            stage: Stage::Planning(plan),
            before: agreed(before),
            after: agreed(after),
            silent,
            deadline: None,
            alarm: Box::pin(sleep_until(now)),
        };
        mend.set_alarm();
        mend
    }

    /// The new hops are being opened. `round_trip` is the longest to any of them, `tries` counts the repairs before this one.
    pub(super) fn open(
        &mut self,
        hops: Vec<RemoteHop>,
        opening: impl IntoIterator<Item = BoxFuture<'static, Opened>>,
        round_trip: Duration,
        tries: u32,
    ) {
        let links = hops.iter().map(|_| None).collect();
        self.stage = Stage::Opening { hops, links, opening: opening.into_iter().collect() };
        let far = round_trip.saturating_mul(8).min(FAR_PATIENCE);
        let patience = OPEN_PATIENCE.saturating_mul(1 << tries.min(4)).saturating_add(far);
        self.deadline = Some(Instant::now() + patience);
        self.set_alarm();
    }

    /// A survivor is there.
    pub(super) fn answered(&mut self, node: NodeId) {
        self.silent.retain(|silent| silent.node != node);
    }

    /// A survivor gets more time: bytes move on its link, so a long frame may stand before the answer.
    pub(super) fn wait_for(&mut self, silent: Silent) {
        self.answered(silent.node);
        self.silent.push(silent);
        self.set_alarm();
    }

    /// The survivor at `place` has its new neighbour.
    pub(super) fn agreed(&mut self, place: usize) {
        let side = if place < self.range.start { &mut self.before } else { &mut self.after };
        *side = Agreed::Yes;
    }

    /// Whether the node is one of those being opened.
    pub(super) fn tries(&self, node: NodeId) -> bool {
        matches!(&self.stage, Stage::Opening { hops, .. } if hops.iter().any(|hop| hop.node == node))
    }

    /// The next thing to act on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        match &mut self.stage {
            Stage::Planning(plan) => {
                if let Poll::Ready(planned) = plan.as_mut().poll(cx) {
                    self.stage = Stage::Over;
                    return Poll::Ready(match planned {
                        Ok(hops) => Progress::Found(hops),
                        Err(error) => Progress::Hopeless(error),
                    });
                }
            }
            Stage::Opening { hops, links, opening } => {
                while let Poll::Ready(Some((at, opened))) = opening.poll_next_unpin(cx) {
                    match opened {
                        Ok(link) => links[at] = Some(link),
                        Err(refusal) => return Poll::Ready(Progress::Refused(hops[at].node, refusal)),
                    }
                }
                let agreed = self.before != Agreed::Waiting && self.after != Agreed::Waiting;
                if agreed && links.iter().all(Option::is_some) {
                    let links = std::mem::take(links).into_iter().flatten();
                    let mended = std::mem::take(hops).into_iter().zip(links).collect();
                    self.stage = Stage::Over;
                    return Poll::Ready(Progress::Mended(mended));
                }
            }
            Stage::Over => return Poll::Pending,
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if let Some(silent) = self.silent.iter().find(|silent| silent.until <= now) {
                return Poll::Ready(Progress::Silent(*silent));
            }
            if let Stage::Opening { hops, links, .. } = &self.stage
                && self.deadline.is_some_and(|deadline| deadline <= now)
            {
                // Each waits for the one after it, and the survivors are there: so the last one is what is waited for.
                let at = links.iter().rposition(Option::is_none).unwrap_or(links.len().saturating_sub(1));
                let Some(hop) = hops.get(at) else { return Poll::Pending };
                let late = Refusal::Own(hop.lost(format!("it did not open within {:?}", now - self.began)));
                return Poll::Ready(Progress::Refused(hop.node, late));
            }
            self.set_alarm();
        }
        Poll::Pending
    }

    /// Wakes when a survivor's time is over, and at the deadline.
    fn set_alarm(&mut self) {
        let silent = self.silent.iter().map(|silent| silent.until);
        let next = silent.chain(self.deadline).min().unwrap_or_else(|| Instant::now() + NEVER);
        self.alarm.as_mut().reset(next);
    }
}
