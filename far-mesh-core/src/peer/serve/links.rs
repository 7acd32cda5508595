//! The streams of one session at a hop: the coordinator's, the one that steps come from and the one that results go to.
//!
//! A neighbour that is lost does not end the session. The coordinator hears of it and names another: that one attaches, or is
//! attached to, and what it lacks is sent again.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Sleep, sleep};

use super::{
    control::Control,
    event::{End, Event, bad_step},
    intake::{Intake, Outcome, WrongResult},
    outlet::{Outlet, Sink},
    works::Works,
};
use crate::{
    hop::{Done, Input, Step},
    id::NodeId,
    limits::{MAX_CHUNK_TOKENS, MAX_HIDDEN},
    peer::wire::{Fault, Frame, Link, LinkError, Lost, Open, Reroute, State, Tally},
};

/// How long neighbours may take to hand each other the last receipts: the way to the farthest hop and on to the next.
pub(super) const SETTLE_DEADLINE: Duration = Duration::from_secs(1);

/// Streams of a session and what passes through them.
pub(super) struct Links {
    control: Control,
    source: StepSource,
    outlet: Outlet,
    /// Longest payload of a step.
    step_bytes: usize,
    intake: Intake,
    works: Works,
    coordinator: NodeId,
    answered: u64,
    reroutes: VecDeque<Box<Reroute>>,
    /// The node that steps come from said that they go on over another stream.
    switched: Option<NodeId>,
    /// The last of them that was acted on.
    rerouted: u64,
    /// The coordinator knows that the session is open: from now on a neighbour's loss does not end it.
    opened: bool,
    /// The session is over but for its receipts.
    closing: bool,
}

/// Where steps come from.
pub(super) enum StepSource {
    /// The control stream.
    Coordinator,
    /// A data stream that is still to come.
    Waiting(NodeId, BoxFuture<'static, Result<Box<Link>, String>>),
    /// A data stream.
    Peer(NodeId, Box<Link>),
    /// A data stream of a node that has nothing more to send, and how long the coordinator may take to say the same.
    Done(NodeId, Box<Link>, Pin<Box<Sleep>>),
    /// A node that is gone or breaks the protocol, until another is named. Its stream stays open: closed, it would tell the
    /// node that this one is gone, and each would blame the other.
    Lost(#[expect(dead_code, reason = "held open, never read")] Option<Box<Link>>),
}

impl Links {
    /// `hidden` is the width of the shard's activations, where it is known: it bounds the frames that are read.
    pub(super) fn new(
        (coordinator, mut control): (NodeId, Control),
        source: StepSource,
        outlet: Outlet,
        open: &Open,
        (intake, works): (Intake, Works),
        hidden: Option<usize>,
    ) -> Self {
        let rows = MAX_CHUNK_TOKENS.min(open.context_tokens as usize);
        let step_bytes = rows * hidden.unwrap_or(MAX_HIDDEN) * open.dtype.bytes();
        if matches!(source, StepSource::Coordinator) {
            control.limit_payload(step_bytes);
        }
        Self {
            control,
            source,
            outlet,
            step_bytes,
            intake,
            works,
            coordinator,
            answered: open.answered,
            reroutes: VecDeque::new(),
            switched: None,
            rerouted: 0,
            opened: false,
            closing: false,
        }
    }

    /// Queues a frame for the coordinator; a coordinator that reads none any more is gone.
    pub(super) fn tell(&mut self, frame: Frame) -> Result<(), End> {
        self.control.queue(frame).map_err(|error| End::Gone(error.to_string()))
    }

    /// Ready when the next hop is attached.
    pub(super) fn poll_attached(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        match self.poll_links(cx) {
            Err(end) => Poll::Ready(Err(end)),
            Ok(()) if self.outlet.is_attached() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
        }
    }

    /// Tells the coordinator that the session is open.
    pub(super) fn open(&mut self) -> Result<(), End> {
        self.opened = true;
        self.tell(Frame::Opened)
    }

    /// Waits for a step, where one `may_run`, for another neighbour or for the end of the session. Meanwhile it sends what
    /// is queued and answers probes. Cancel-safe.
    pub(super) async fn event(&mut self, may_run: bool) -> Event {
        poll_fn(|cx| {
            if let Err(end) = self.poll_links(cx) {
                return Poll::Ready(Event::End(end));
            }
            if let Some(reroute) = self.reroutes.pop_front() {
                self.rerouted = reroute.number;
                return Poll::Ready(Event::Reroute(reroute));
            }
            if let Some(node) = self.switched.take() {
                return Poll::Ready(Event::Switch(node));
            }
            match may_run.then(|| self.intake.take()).flatten() {
                Some(step) => Poll::Ready(Event::Step(step)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// As [`Links::event`], but all else is left waiting.
    pub(super) async fn ended(&mut self) -> End {
        poll_fn(|cx| self.poll_links(cx).err().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// After the coordinator's `Close`: hands on what is left to be signed and signs what the hop before hands on, until
    /// nothing more comes, or until that one goes on over another stream, which is to be taken first. Cancel-safe.
    pub(super) async fn settle(&mut self) -> Result<Option<NodeId>, End> {
        if !std::mem::replace(&mut self.closing, true) {
            self.works.finish();
        }
        poll_fn(|cx| {
            if let Err(end) = self.poll_links(cx) {
                return Poll::Ready(Err(end));
            }
            let sent = self.outlet.is_over() && !self.is_witnessed_by_coordinator();
            if let Some(node) = self.switched.take() {
                return Poll::Ready(Ok(Some(node)));
            }
            let heard = !matches!(self.source, StepSource::Peer(..) | StepSource::Waiting(..));
            if sent && heard && !self.works.has_receipt() { Poll::Ready(Ok(None)) } else { Poll::Pending }
        })
        .await
    }

    /// After the end: waits until the coordinator hangs up, answering `Close` with `tally` once. Cancel-safe but for
    /// that answer.
    pub(super) async fn linger(&mut self, mut tally: Option<Tally>) {
        loop {
            match self.control.recv().await {
                Ok(Frame::Close) => {
                    if let Some(tally) = tally.take()
                        && self.tell(Frame::Tally(tally)).is_err()
                    {
                        return;
                    }
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Bytes that came over all streams: grows while the session is alive.
    pub(super) fn received_bytes(&self) -> u64 {
        self.control.received_bytes() + self.source_bytes()
    }

    /// Steps and positions that are done.
    pub(super) fn finished(&self) -> (u64, u64) {
        self.intake.finished()
    }

    /// The first step that has not arrived: what a new source is to begin with.
    pub(super) fn received(&self) -> u64 {
        self.intake.received()
    }

    /// Steps come from another node from now on.
    pub(super) fn take_from(&mut self, node: NodeId, attach: BoxFuture<'static, Result<Box<Link>, String>>) {
        self.source = StepSource::Waiting(node, attach);
        self.switched = None;
        self.works.renew_source();
    }

    /// Results go to another node from now on.
    pub(super) fn send_to(&mut self, sink: Sink) {
        self.outlet.sink = sink;
    }

    /// Passes the shard's results on to the next hop or, at the end of the route, to the coordinator.
    pub(super) fn finish(&mut self, done: Done) -> Result<(), End> {
        let Self { control, outlet, works, answered, intake, .. } = self;
        intake.finish(done, |outcome| {
            works.gave(&outcome);
            let Outcome { seq, position, output, rows, .. } = outcome;
            match (&outlet.sink, rows) {
                (Sink::Coordinator, _) if seq < *answered => Ok(()),
                (Sink::Coordinator, rows) => {
                    let queued = control.queue(Frame::Output(Done { seq, output: rows }));
                    queued.map_err(|error| End::Gone(error.to_string()))
                }
                (_, Some(rows)) => {
                    outlet.push(Step { seq, position, input: Input::Activation(rows), output });
                    Ok(())
                }
                (_, None) => Err(WrongResult(format!("it gave no rows of step {seq}")).into()),
            }
        })
    }

    fn poll_links(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Poll::Ready(frame) = self.control.poll_next(cx) {
            match frame {
                Ok(frame) => self.on_control(frame)?,
                Err(LinkError::Frame(error)) => return Err(bad_step(error.to_string())),
                Err(error @ LinkError::TooFast) => return Err(End::Fault(Fault::Refused(error.to_string()))),
                Err(error) => return Err(End::Gone(error.to_string())),
            }
        }
        if let Err((node, reason)) = self.poll_source(cx) {
            self.source = match std::mem::replace(&mut self.source, StepSource::Lost(None)) {
                StepSource::Peer(_, link) | StepSource::Done(_, link, _) => StepSource::Lost(Some(link)),
                _ => StepSource::Lost(None),
            };
            self.lose(node, reason)?;
        }
        match self.outlet.poll(cx, &mut self.works, self.closing) {
            Ok(None) => {}
            Ok(Some(rerouted)) => self.tell(Frame::Rerouted(rerouted))?,
            Err((node, reason)) => {
                self.outlet.sink = Sink::Lost;
                self.lose(node, reason)?;
            }
        }
        // What the last lines queued for the coordinator, and receipts behind it.
        loop {
            // The first word is that the session is open.
            while self.opened
                && self.control.has_room_to_spare()
                && let Some(frame) = self.receipt_frame()
            {
                self.tell(frame)?;
            }
            match self.control.poll_drain(cx) {
                Poll::Ready(Err(error)) => return Err(End::Gone(error.to_string())),
                // While the stream is being replaced there is room for nothing.
                Poll::Ready(Ok(()))
                    if self.opened
                        && self.control.has_room_to_spare()
                        && (self.works.has_receipt() || self.is_witnessed_by_coordinator()) => {}
                _ => return Ok(()),
            }
        }
    }

    /// What the coordinator is to know or to sign next.
    fn receipt_frame(&mut self) -> Option<Frame> {
        if let Some(receipt) = self.works.receipt() {
            return Some(Frame::Receipt(Box::new(receipt)));
        }
        let signed = self.is_witnessed_by_coordinator().then(|| self.works.next(self.coordinator, u64::MAX))??;
        Some(Frame::Work(Box::new(signed)))
    }

    /// Whether there is work of the last hop to be signed.
    fn is_witnessed_by_coordinator(&self) -> bool {
        matches!(self.outlet.sink, Sink::Coordinator) && self.works.is_due(u64::MAX)
    }

    /// A neighbour is gone: while the session opens that is its end, later it waits for another.
    fn lose(&mut self, node: NodeId, reason: String) -> Result<(), End> {
        match self.opened {
            true => self.tell(Frame::Lost(Lost { node, reason, number: self.rerouted })),
            false => Err(End::Fault(Fault::PeerLost { node, reason })),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Result<(), (NodeId, String)> {
        if let StepSource::Waiting(node, attach) = &mut self.source
            && let Poll::Ready(attached) = attach.as_mut().poll(cx)
        {
            let node = *node;
            let mut link = attached.map_err(|reason| (node, reason))?;
            link.limit_payload(self.step_bytes);
            self.source = StepSource::Peer(node, link);
        }
        while let StepSource::Peer(node, link) = &mut self.source {
            if !self.intake.has_room() {
                break;
            }
            let node = *node;
            let Poll::Ready(frame) = link.poll_next(cx) else { break };
            let accepted = match frame.map_err(|error| (node, error.to_string()))? {
                Frame::Step(step) => self.intake.accept(step, |step| self.works.took(step)),
                Frame::Work(signed) => self.works.witness(node, *signed),
                Frame::Switch => {
                    // Its old stream is of no more use, and the new one waits to be asked for.
                    self.switched = Some(node);
                    self.source = StepSource::Lost(None);
                    break;
                }
                Frame::Close => {
                    if let StepSource::Peer(_, link) = std::mem::replace(&mut self.source, StepSource::Lost(None)) {
                        self.source = StepSource::Done(node, link, Box::pin(sleep(SETTLE_DEADLINE)));
                    }
                    break;
                }
                frame => Err(format!("{:?} frame where a step was due", frame.kind())),
            };
            accepted.map_err(|reason| (node, reason))?;
        }
        if let StepSource::Done(node, _, patience) = &mut self.source
            && !self.closing
            && patience.as_mut().poll(cx).is_ready()
        {
            return Err((*node, "it ended a session that goes on".to_owned()));
        }
        Ok(())
    }

    fn on_control(&mut self, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Probe { number } => {
                let state = State {
                    probe: number,
                    received: self.intake.received(),
                    finished: self.intake.finished().0,
                    received_bytes: self.source_bytes(),
                    busy: self.intake.busy(),
                };
                self.tell(Frame::State(state))
            }
            Frame::Close => Err(End::Close),
            Frame::Step(step) if matches!(self.source, StepSource::Coordinator) => {
                self.intake.accept(step, |step| self.works.took(step)).map_err(bad_step)
            }
            Frame::Reroute(reroute) => {
                let source = reroute.source.is_some() && matches!(self.source, StepSource::Coordinator);
                let next = reroute.next.is_some() && matches!(self.outlet.sink, Sink::Coordinator);
                if source || next {
                    return Err(bad_step("Reroute frame for an end of the route".to_owned()));
                }
                // Those that wait name neighbours that are not to be any more.
                self.reroutes.retain(|waits| {
                    waits.source.is_some() && reroute.source.is_none() || waits.next.is_some() && reroute.next.is_none()
                });
                self.reroutes.push_back(reroute);
                Ok(())
            }
            frame => Err(bad_step(format!("{:?} frame on a control stream", frame.kind()))),
        }
    }

    fn source_bytes(&self) -> u64 {
        match &self.source {
            StepSource::Coordinator => self.control.received_bytes(),
            StepSource::Waiting(..) | StepSource::Lost(_) => 0,
            StepSource::Peer(_, link) | StepSource::Done(_, link, _) => link.received_bytes(),
        }
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("intake", &self.intake).field("outlet", &self.outlet).finish_non_exhaustive()
    }
}
