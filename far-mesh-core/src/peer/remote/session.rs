//! A session over a chain of remote hops.

mod account;
mod mending;
mod moving;
mod steps;

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, Sleep, sleep_until};

use self::{mending::Mending, moving::Moving, steps::Flight};
use super::{
    history::History,
    pace::Pace,
    receipts::Receipts,
    route::{RemoteHop, RemoteRoute},
    watch::{Allowance, Awaited, Verdict, Watch},
};
use crate::{
    hop::{Account, Done, HopError, HopSession, OpenSession, Step},
    id::NodeId,
    peer::wire::{Frame, Link, LinkError, Rerouted},
};

/// Tells probes that look for a step from those of an overdue one.
const SAMPLE: u64 = 1 << 62;

/// Steps of one sequence on their way through a [`RemoteRoute`].
pub(super) struct RemoteSession {
    route: RemoteRoute,
    request: OpenSession,
    /// In the order of their layers, which they cover without a gap.
    places: Vec<Place>,
    mending: Mending,
    moving: Option<Moving>,
    watch: Watch,
    /// Fires when `watch` wants to look again, or earlier.
    alarm: Pin<Box<Sleep>>,
    pace: Pace,
    /// Fires when `pace` wants to know where the step is.
    sample: Option<Pin<Box<Sleep>>>,
    opened: Instant,
    hidden: Option<usize>,
    /// Rows of the largest result that was asked for: it bounds the frames that are read.
    most_rows: usize,
    history: History,
    receipts: Receipts,
    /// The first step that the first hop was not sent.
    unsent: u64,
    in_flight: VecDeque<Flight>,
    arrived: VecDeque<Done>,
    /// Results that came.
    answered: u64,
    done_tokens: u64,
    failed: Option<HopError>,
}

/// A hop of the route and its control stream; `None` when it is lost.
struct Place {
    hop: RemoteHop,
    link: Option<Link>,
    /// Its bits are those of the hop that ran its layers first.
    exact: bool,
    /// Its stream was opened over a relay.
    relayed: bool,
    /// How often it called a neighbour lost.
    accusations: u32,
    /// The last change of neighbours that it was told of.
    rerouted: u64,
    /// The nodes before and behind it that it was told of last.
    named: [Option<NodeId>; 2],
    /// First position that it is paid for; when it is lost, that which its successor is paid for.
    from: u32,
    /// How many it handed in.
    receipts: usize,
}

impl RemoteSession {
    /// `links[i]` is the open control stream of hop `i`, which reads control frames only.
    pub(super) fn new(route: RemoteRoute, links: Vec<Link>, request: OpenSession) -> Self {
        let now = Instant::now();
        let place = |(hop, link): (&RemoteHop, Link)| Place::new(&route, hop.clone(), link, true, 0);
        let places: Vec<Place> = route.hops.iter().zip(links).map(place).collect();
        Self {
            watch: Watch::new(allowances(&route, &places), now),
            mending: Mending::new(&route),
            moving: None,
            alarm: Box::pin(sleep_until(now)),
            pace: pace(&route, &places, &request),
            sample: None,
            opened: now,
            hidden: None,
            most_rows: 0,
            history: History::default(),
            receipts: Receipts::new(&request, route.hops.len(), route.dialer.key().clone()),
            unsent: 0,
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            answered: 0,
            done_tokens: 0,
            failed: None,
            route,
            request,
            places,
        }
    }

    /// Moves bytes both ways on every link, mends the route and looks at the clock. Remembers the first failure.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Result<(), HopError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let progress = self.poll_all(cx);
        if let Err(error) = &progress {
            self.failed = Some(error.clone());
        }
        progress
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Result<(), HopError> {
        loop {
            self.poll_links(cx)?;
            // What changed the route has new streams to be polled.
            if !self.poll_mend(cx)? && !self.poll_moving(cx)? && !self.poll_steps(cx)? && !self.poll_watch(cx)? {
                return Ok(());
            }
        }
    }

    fn poll_links(&mut self, cx: &mut Context<'_>) -> Result<(), HopError> {
        for at in 0..self.places.len() {
            while let Some(link) = &mut self.places[at].link
                && let Poll::Ready(frame) = link.poll_next(cx)
            {
                self.on_frame(at, frame)?;
            }
        }
        Ok(())
    }

    fn on_frame(&mut self, at: usize, frame: Result<Frame, LinkError>) -> Result<(), HopError> {
        let hop = &self.places[at].hop;
        let error = match frame {
            Ok(Frame::Output(done)) if at + 1 == self.places.len() => match self.on_output(done) {
                Ok(()) => return Ok(()),
                Err(reason) => self.places[at].hop.lost(reason),
            },
            Ok(Frame::State(state)) => {
                self.mending.answered(hop.node);
                self.pace.answer(at, &state);
                self.watch.answer(at, state);
                return Ok(());
            }
            Ok(Frame::Rerouted(Rerouted { number, attached })) => {
                self.on_rerouted(at, number, attached);
                return Ok(());
            }
            Ok(Frame::Lost(lost)) => return self.on_accusation(at, &lost),
            Ok(Frame::Switch) => return self.on_switched(at),
            Ok(frame @ (Frame::Receipt(_) | Frame::Work(_))) => match self.on_receipt(at, frame) {
                Ok(()) => return Ok(()),
                Err(reason) => self.places[at].hop.lost(reason),
            },
            Ok(Frame::Fault(fault)) => hop.at_fault(fault),
            Ok(frame) => hop.lost(format!("it sent a {:?} frame out of place", frame.kind())),
            Err(error) => hop.lost(error.to_string()),
        };
        self.lose(at, error)
    }

    /// Takes in what a hop signed for the one before it, or what the last one did, to be signed here.
    fn on_receipt(&mut self, at: usize, frame: Frame) -> Result<(), String> {
        let (node, last) = (self.places[at].hop.node, at + 1 == self.places.len());
        self.places[at].receipts += 1;
        if self.places[at].receipts > self.receipts.of_a_hop() {
            return Err("it hands in more receipts than the session has room for".to_owned());
        }
        let known = |node, span| self.places.iter().any(|place| (place.hop.node, place.hop.span) == (node, span));
        match frame {
            Frame::Receipt(receipt) => self.receipts.take(node, *receipt, known),
            Frame::Work(signed) if last => self.receipts.witness(node, *signed),
            frame => return Err(format!("it sent a {:?} frame out of place", frame.kind())),
        }
        Ok(())
    }

    /// Probes or gives a hop up when the oldest step is overdue. The alarm is set anew only when it fires, not each step.
    /// True when there is something to send or to mend.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Result<bool, HopError> {
        if let (Some(sample), Some(flight)) = (&mut self.sample, self.in_flight.front())
            && sample.as_mut().poll(cx).is_ready()
        {
            let (number, seq) = (SAMPLE | flight.seq, flight.seq);
            self.sample = None;
            self.pace.probed(number, seq);
            self.probe(number)?;
            return Ok(true);
        }
        loop {
            let Some(&Flight { seq, tokens, submitted, .. }) = self.in_flight.front() else { return Ok(false) };
            if self.mending.is_under_way() || self.is_switching() || self.alarm.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            for (at, Place { hop, link, .. }) in self.places.iter().enumerate() {
                let moved = link.as_ref().map_or(0, Link::moved_bytes);
                self.watch.observe(at, self.route.patience(hop.node), moved);
            }
            // After a repair the new hops run the whole session again.
            let tokens = if self.mending.is_catching_up() { self.history.positions() } else { tokens };
            match self.watch.look(Instant::now(), Awaited { seq, tokens, submitted }) {
                Verdict::Wait(until) => self.alarm.as_mut().reset(until),
                Verdict::Probe(number) => {
                    self.probe(number)?;
                    return Ok(true);
                }
                Verdict::Silent(silent) => {
                    for (at, patience) in silent {
                        let reason = format!("it gave no sign of life for {patience:?}");
                        self.lose(at, self.places[at].hop.lost(reason))?;
                    }
                    return Ok(true);
                }
                Verdict::Lost { at, reason } => {
                    self.lose(at, self.places[at].hop.lost(reason))?;
                    return Ok(true);
                }
            }
        }
    }

    /// Asks every hop how far it is.
    fn probe(&mut self, number: u64) -> Result<(), HopError> {
        for at in 0..self.places.len() {
            let Place { hop, link, .. } = &mut self.places[at];
            if let Some(Err(error)) = link.as_mut().map(|link| link.queue(Frame::Probe { number })) {
                let error = hop.lost(error.to_string());
                self.lose(at, error)?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn new(route: &RemoteRoute, hop: RemoteHop, link: Link, exact: bool, from: u32) -> Self {
        let relayed = !route.dialer.is_direct(hop.node);
        Self { hop, link: Some(link), exact, relayed, accusations: 0, rerouted: 0, named: [None; 2], from, receipts: 0 }
    }
}

fn pace(route: &RemoteRoute, places: &[Place], request: &OpenSession) -> Pace {
    let promised = |Place { hop, .. }: &Place| match (hop.promised, route.dialer.rtt(hop.node)) {
        (Duration::ZERO, _) | (_, None) => Duration::ZERO,
        (promised, Some(round_trip)) => promised + round_trip / 2,
    };
    let seed = u64::from_le_bytes(std::array::from_fn(|at| request.session.0[at]));
    Pace::new(places.iter().map(promised).collect(), seed)
}

fn allowances(route: &RemoteRoute, places: &[Place]) -> Vec<Allowance> {
    let allowance =
        |place: &Place| Allowance { patience: route.patience(place.hop.node), expected: place.hop.expected };
    places.iter().map(allowance).collect()
}

impl HopSession for RemoteSession {
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>> {
        async move {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            self.queue(step)?;
            poll_fn(|cx| match self.poll_progress(cx) {
                Err(error) => Poll::Ready(Err(error)),
                // Everything else was drained above; this asks only whether the step is gone.
                Ok(()) => self.poll_sent(cx).map(Ok),
            })
            .await?;
            self.receipts.check();
            Ok(())
        }
        .boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        poll_fn(|cx| {
            // What arrived before a failure is still good.
            let progress = self.poll_progress(cx);
            if let Some(done) = self.arrived.pop_front() {
                return Poll::Ready(Ok(done));
            }
            match progress {
                Err(error) => Poll::Ready(Err(error)),
                Ok(()) if self.in_flight.is_empty() => {
                    Poll::Ready(Err(HopError::BadStep { reason: "no step is on its way".to_owned() }))
                }
                Ok(()) => Poll::Pending,
            }
        })
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        async move { Ok(account::close(*self).await) }.boxed()
    }
}

impl fmt::Debug for RemoteSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSession")
            .field("route", &self.route)
            .field("in_flight", &self.in_flight)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
