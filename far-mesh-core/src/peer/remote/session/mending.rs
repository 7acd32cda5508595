//! What a session does when a hop of it is lost: others take its place, and what they lack is sent again.
//!
//! Places that are lost beside each other are mended together, one stretch after the other. Whoever turns out to be lost
//! meanwhile is lost too, and the stretch that grew is planned anew; so in the end the session stands on nodes that answer,
//! or nobody serves the layers.

mod blame;
mod stretch;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;

use super::{Place, RemoteSession, allowances, pace};
use crate::{
    hop::{Account, HopError},
    id::{NodeId, Span},
    peer::{
        remote::{
            RemoteHop, RemoteRoute,
            mend::{Look, Mend, Progress, Silent},
            mender::Found,
            open::{Refusal, invitations, open_hop},
            pace::Slow,
            receipts::Receipts,
        },
        wire::{Frame, Link, Reroute},
    },
};

/// Most repairs without a result between them: each takes some nodes out of question, so they end anyway; the bound is for
/// a mesh that lies.
const MAX_REPAIRS: u32 = 12;

/// Most that are not counted, since nobody was there: adverts outlive who dies, and to find out takes a moment.
const MAX_UNREACHED: u32 = 128;

/// How long after the loss they are not.
const UNREACHED_WITHIN: Duration = Duration::from_secs(10);

/// More than this moves on a link only where something else than the probe and what it answers is on its way.
const SIGN_OF_LIFE_BYTES: u64 = 8 * 1024;

/// Tells probes of a repair from those of an overdue step.
const REPAIR: u64 = 1 << 63;

/// Repairs of one session.
pub(super) struct Mending {
    mend: Option<Mend>,
    /// Repairs so far.
    number: u64,
    /// Repairs since the last result that came as far as a node.
    tries: u32,
    /// And those that did not.
    unreached: u32,
    /// When the hops were lost that are being replaced.
    since: Option<Instant>,
    /// The new hops run earlier steps again.
    catching_up: bool,
    /// Nodes that were lost or declined since the last result.
    without: Vec<NodeId>,
    /// The kernel class that ran each layer first.
    classes: Vec<(Span, String)>,
    /// What is said when nobody can take the place.
    loss: Option<HopError>,
    /// A hop that is too slow, and whether others could take its place.
    suspect: Option<(Slow, Found)>,
    /// Nodes that lost their place for slowness alone: better than nobody.
    slow: Vec<NodeId>,
    /// Accounts of hops that were lost.
    pub(super) left: Vec<Account>,
}

impl Mending {
    pub(super) fn new(route: &RemoteRoute) -> Self {
        Self {
            mend: None,
            number: 0,
            tries: 0,
            unreached: 0,
            since: None,
            catching_up: false,
            without: Vec::new(),
            classes: route.hops.iter().map(|hop| (hop.span, hop.kernel_class.clone())).collect(),
            loss: None,
            suspect: None,
            slow: Vec::new(),
            left: Vec::new(),
        }
    }

    /// A result came. One that was beyond the lost hop already says nothing of the repair.
    pub(super) fn progress(&mut self) {
        if self.since.is_some() {
            return;
        }
        (self.tries, self.unreached, self.catching_up) = (0, 0, false);
        self.without.clear();
        self.slow.clear();
    }

    /// A survivor is there.
    pub(super) fn answered(&mut self, node: NodeId) {
        if let Some(mend) = &mut self.mend {
            mend.answered(node);
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.mend.is_some()
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up
    }

    /// Whether `hop` gives the bits of those who ran its layers first.
    fn is_exact(&self, hop: &RemoteHop) -> bool {
        self.classes_of(hop.span).all(|class| class == hop.kernel_class)
    }

    /// The kernel classes that ran these layers first.
    fn classes_of(&self, layers: Span) -> impl Iterator<Item = &str> {
        let meets = move |span: &Span| span.start() < layers.end() && layers.start() < span.end();
        self.classes.iter().filter(move |(span, _)| meets(span)).map(|(_, class)| class.as_str())
    }

    /// A repair did not come as far as a node.
    fn came_to_nobody(&mut self) {
        let soon = self.since.is_some_and(|since| since.elapsed() < UNREACHED_WITHIN);
        if soon && self.unreached < MAX_UNREACHED {
            self.unreached += 1;
            self.tries = self.tries.saturating_sub(1);
        }
    }
}

impl RemoteSession {
    /// The hop at `at` is lost: it is replaced where somebody mends the route, else that is the session's end.
    pub(super) fn lose(&mut self, at: usize, error: HopError) -> Result<(), HopError> {
        let Some(mender) = &self.route.mender else { return Err(error) };
        if self.places[at].link.is_none() {
            return Ok(());
        }
        let node = self.places[at].hop.node;
        tracing::info!(session = %self.request.session, %node, %error, "a hop is lost");
        mender.lost(node, &error);
        self.mending.without.push(node);
        self.mending.loss = Some(error);
        self.vacate(at);
        Ok(())
    }

    /// The hop at `at` leaves the route. What it ran so far counts.
    fn vacate(&mut self, at: usize) {
        let Place { hop, link, exact, from, .. } = &mut self.places[at];
        // Its session ends with the stream.
        *link = None;
        let cut = Receipts::cut(self.done_tokens).max(*from);
        self.receipts.left(hop, std::mem::replace(from, cut)..cut);
        let (node, span, compute) = (Some(hop.node), hop.span, Duration::ZERO);
        self.mending.left.push(Account {
            node,
            span,
            tokens: 0,
            counted: 0,
            compute,
            exact: *exact,
            receipts: Vec::new(),
        });
        self.mending.since.get_or_insert_with(Instant::now);
        let touches = |mend: &Mend| mend.range.start <= at + 1 && at <= mend.range.end;
        if self.mending.mend.as_ref().is_some_and(touches) {
            self.mending.mend = None;
        }
    }

    /// A survivor has its new neighbour, or lacks what that would need.
    pub(super) fn on_rerouted(&mut self, at: usize, number: u64, attached: bool) {
        let asked = |mend: &&mut Mend| mend.number == number && (at + 1 == mend.range.start || at == mend.range.end);
        let Some(mend) = self.mending.mend.as_mut().filter(asked) else { return };
        if attached {
            mend.agreed(at);
        } else {
            let node = self.places[at].hop.node;
            tracing::debug!(session = %self.request.session, %node, "a hop no longer has all it sent: it is opened anew");
            self.vacate(at);
        }
    }

    /// Begins repairs, and brings the one under way further. True when streams are new or gone.
    pub(super) fn poll_mend(&mut self, cx: &mut Context<'_>) -> Result<bool, HopError> {
        if self.poll_suspect(cx) {
            return Ok(true);
        }
        if self.mending.mend.is_none() {
            let Some(start) = self.places.iter().position(|place| place.link.is_none()) else { return Ok(false) };
            // A hop whose stream is being replaced reads neither probes nor who its neighbours are.
            if self.is_switching() {
                return Ok(false);
            }
            self.mending.tries += 1;
            if self.mending.tries > MAX_REPAIRS {
                let reason = format!("{MAX_REPAIRS} repairs brought the session no further");
                return Err(self.hopeless(&HopError::Refused { reason }));
            }
            self.begin(self.lost_from(start), Look::First)?;
            // Its probes are to be sent.
            return Ok(true);
        }
        let Some(Poll::Ready(progress)) = self.mending.mend.as_mut().map(|mend| mend.poll(cx)) else {
            return Ok(false);
        };
        match progress {
            Progress::Found(hops) => self.open_new(hops)?,
            Progress::Mended(hops) => self.mended(hops),
            // Slow is better than not at all.
            Progress::Hopeless(_) if !self.mending.slow.is_empty() => {
                let slow = std::mem::take(&mut self.mending.slow);
                self.mending.without.retain(|node| !slow.contains(node));
                self.mending.mend = None;
            }
            Progress::Hopeless(why) => self.widen(&why)?,
            Progress::Refused(node, refusal) => self.refused(node, refusal)?,
            Progress::Silent(silent) => self.silent(silent)?,
        }
        Ok(true)
    }

    /// A survivor did not answer in time: it is lost, unless bytes still move on its link.
    fn silent(&mut self, silent: Silent) -> Result<(), HopError> {
        self.mending.answered(silent.node);
        let Some(at) = self.places.iter().position(|place| place.hop.node == silent.node) else { return Ok(()) };
        let patience = self.route.patience(silent.node);
        let moved = self.places[at].link.as_ref().map_or(0, Link::moved_bytes);
        if moved > silent.moved + SIGN_OF_LIFE_BYTES {
            if let Some(mend) = &mut self.mending.mend {
                mend.wait_for(Silent { until: Instant::now() + patience, moved, ..silent });
            }
            return Ok(());
        }
        let reason = format!("it gave no sign of life for {patience:?}");
        self.lose(at, self.places[at].hop.lost(reason))
    }

    /// Opens the hops that were found and names them to the survivors beside them.
    fn open_new(&mut self, hops: Vec<RemoteHop>) -> Result<(), HopError> {
        let Some(mend) = self.mending.mend.take() else { return Ok(()) };
        let (range, number) = (mend.range.clone(), mend.number);
        let span = (self.places[range.start].hop.span.start(), self.places[range.end - 1].hop.span.end());
        let covered = RemoteRoute::new(self.route.dialer.clone(), hops.clone());
        let covered = covered.map(|route| crate::hop::Hop::span(&route));
        if !covered.is_ok_and(|got| (got.start(), got.end()) == span) {
            let reason = "the hops that were found do not cover the lost layers".to_owned();
            return Err(self.hopeless(&HopError::Refused { reason }));
        }
        // Where the stretch is wider than what was lost.
        for at in range.clone() {
            if self.places[at].link.is_some() {
                self.vacate(at);
            }
        }
        self.mending.mend = Some(mend);
        let (Some(first), Some(last)) = (hops.first(), hops.last()) else { return Ok(()) };
        let before = range.start.checked_sub(1);
        let told = [
            before.map(|at| (at, Reroute { number, source: None, next: Some(first.as_next()) })),
            Some((range.end, Reroute { number, source: Some(last.node), next: None })),
        ];
        // Results that came since the loss are those of the lost hops: theirs is what was run for them.
        let cut = Receipts::cut(self.done_tokens);
        for place in self.places[range.clone()].iter_mut().filter(|place| place.from < cut) {
            self.receipts.left(&place.hop, std::mem::replace(&mut place.from, cut)..cut);
        }
        let node = before.map(|at| self.places[at].hop.node);
        let after = self.places.get(range.end).map(|place| &place.hop);
        let invitations = invitations(&hops, &self.request, (self.answered, self.history.len()), node, after);
        let dialer = &self.route.dialer;
        let opening = hops.iter().zip(invitations).enumerate();
        let opening: Vec<_> =
            opening.map(|(at, (hop, open))| open_hop(dialer.clone(), at, hop.clone(), open)).collect();
        let round_trip = hops.iter().map(|hop| self.route.round_trip(hop.node)).max().unwrap_or_default();
        if let Some(mend) = &mut self.mending.mend {
            mend.open(hops, opening, round_trip, self.mending.tries.saturating_sub(1));
        }
        for (at, reroute) in told.into_iter().flatten() {
            let Some(Place { hop, link: Some(link), rerouted, named, .. }) = self.places.get_mut(at) else { continue };
            *rerouted = number;
            let told = [reroute.source, reroute.next.as_ref().map(|next| next.node)];
            *named = std::array::from_fn(|side| told[side].or(named[side]));
            if let Err(error) = link.queue(Frame::Reroute(Box::new(reroute))) {
                let error = hop.lost(error.to_string());
                self.lose(at, error)?;
            }
        }
        Ok(())
    }

    /// A hop that was found does not take the place: the next repair goes without it.
    fn refused(&mut self, node: NodeId, refusal: Refusal) -> Result<(), HopError> {
        tracing::info!(session = %self.request.session, %node, ?refusal, "a hop does not take the place of a lost one");
        self.mending.mend = None;
        self.mending.without.push(node);
        if matches!(refusal, Refusal::Unreached(_)) {
            self.mending.came_to_nobody();
        }
        match refusal {
            Refusal::Unreached(error) | Refusal::Own(error @ HopError::PeerLost { .. }) => {
                if let Some(mender) = &self.route.mender {
                    mender.lost(node, &error);
                }
            }
            Refusal::Own(_) => {}
            Refusal::Neighbour { node: beside, reason } => {
                let survivor = self.places.iter().position(|p| p.hop.node == beside && p.link.is_some());
                match survivor {
                    // One word against another: the second that cannot reach it settles it.
                    Some(at) if self.places[at].accusations > 0 => {
                        let error = self.places[at].hop.lost(format!("{reason} (seen by node {node})"));
                        self.lose(at, error)?;
                    }
                    Some(at) => self.places[at].accusations += 1,
                    None => self.mending.without.push(beside),
                }
            }
        }
        Ok(())
    }

    /// The new hops are in the route.
    fn mended(&mut self, hops: Vec<(RemoteHop, Link)>) {
        let Some(mend) = self.mending.mend.take() else { return };
        let from = self.places[mend.range.clone()].iter().map(|place| place.from).min().unwrap_or_default();
        let new: Vec<Place> = hops
            .into_iter()
            .map(|(hop, link)| {
                let exact = self.mending.is_exact(&hop);
                Place::new(&self.route, hop, link, exact, from)
            })
            .collect();
        let nodes: Vec<NodeId> = new.iter().map(|place| place.hop.node).collect();
        let exact = new.iter().all(|place| place.exact);
        if mend.range.start == 0 {
            self.unsent = 0;
        }
        if mend.range.end == self.places.len() {
            self.receipts.renew(self.request.session, self.done_tokens);
        }
        self.places.splice(mend.range, new);
        self.bound_results();
        self.watch.renew(allowances(&self.route, &self.places), Instant::now());
        self.alarm.as_mut().reset(Instant::now());
        self.pace = pace(&self.route, &self.places, &self.request);
        self.mending.suspect = None;
        self.mending.catching_up = true;
        let whole = self.places.iter().all(|place| place.link.is_some());
        let since = if whole { self.mending.since.take() } else { self.mending.since };
        let took = since.map(|since| since.elapsed());
        let session = self.request.session;
        tracing::info!(%session, ?nodes, exact, ?took, replayed = self.history.positions(), "the route is mended");
    }

    /// The session's end: what was lost, and why nobody takes its place.
    fn hopeless(&mut self, why: &HopError) -> HopError {
        match self.mending.loss.take() {
            Some(HopError::PeerLost { node, span, reason }) => {
                HopError::PeerLost { node, span, reason: format!("{reason}; nobody takes its place: {why}") }
            }
            Some(loss) => loss,
            None => why.clone(),
        }
    }
}
