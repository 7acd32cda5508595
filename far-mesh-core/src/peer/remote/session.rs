//! A session over a chain of remote hops.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::{
    route::RemoteRoute,
    watch::{Allowance, Awaited, Verdict, Watch},
};
use crate::{
    activation::Dtype,
    hop::{Account, Done, HopError, HopSession, Input, OpenSession, Rows, Step},
    limits::{MAX_HIDDEN, MAX_STEPS_IN_FLIGHT},
    peer::wire::{Frame, Link, LinkError, Tally},
};

/// How long hops get to account for a session beyond a round trip: a sum of what they already know.
const ACCOUNT_DEADLINE: Duration = Duration::from_secs(1);

/// Steps of one sequence on their way through a [`RemoteRoute`].
pub(super) struct RemoteSession {
    route: RemoteRoute,
    /// One control stream for each hop.
    links: Vec<Link>,
    watch: Watch,
    /// Fires when `watch` wants to look again, or earlier.
    alarm: Pin<Box<Sleep>>,
    opened: Instant,
    embeds: bool,
    dtype: Dtype,
    hidden: Option<usize>,
    /// Rows of the largest result that was asked for: it bounds the frames that are read.
    most_rows: usize,
    next_seq: u64,
    next_position: u32,
    context_tokens: u32,
    in_flight: VecDeque<Flight>,
    arrived: VecDeque<Done>,
    done_tokens: u64,
    sent_tokens: u64,
    failed: Option<HopError>,
}

/// A step on its way.
#[derive(Debug)]
struct Flight {
    seq: u64,
    tokens: usize,
    output: Rows,
    submitted: Instant,
}

impl Flight {
    /// Rows of its result.
    fn rows(&self) -> usize {
        match self.output {
            Rows::None => 0,
            Rows::Last => 1,
            Rows::All => self.tokens,
        }
    }
}

impl RemoteSession {
    /// `links[i]` is the open control stream of hop `i`, which reads control frames only.
    pub(super) fn new(route: RemoteRoute, links: Vec<Link>, request: &OpenSession) -> Self {
        let now = Instant::now();
        let allowances = route
            .hops
            .iter()
            .enumerate()
            .map(|(at, hop)| Allowance { patience: route.patience(at), expected: hop.expected })
            .collect();
        Self {
            watch: Watch::new(allowances, now),
            alarm: Box::pin(sleep_until(now)),
            opened: now,
            embeds: request.span.start() == 0,
            dtype: request.dtype,
            hidden: None,
            most_rows: 0,
            next_seq: 0,
            next_position: 0,
            context_tokens: request.context_tokens,
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            done_tokens: 0,
            sent_tokens: 0,
            failed: None,
            route,
            links,
        }
    }

    /// Takes a step if it follows the one before. Nothing is sent yet.
    fn queue(&mut self, step: Step) -> Result<(), HopError> {
        let bad = |reason| HopError::BadStep { reason };
        let tokens = step.input.tokens();
        if self.in_flight.len() + self.arrived.len() >= MAX_STEPS_IN_FLIGHT {
            return Err(bad(format!("{MAX_STEPS_IN_FLIGHT} steps are on their way: take one before the next")));
        }
        if (step.seq, step.position) != (self.next_seq, self.next_position) {
            return Err(bad(format!(
                "step {} at position {}, step {} at position {} is due",
                step.seq, step.position, self.next_seq, self.next_position
            )));
        }
        match &step.input {
            Input::Tokens(_) if !self.embeds => return Err(bad("token ids into a route that starts later".to_owned())),
            Input::Activation(_) if self.embeds => return Err(bad("hidden states into layer 0".to_owned())),
            Input::Activation(activation) if activation.dtype() != self.dtype => {
                let reason = format!("activation of {:?} in a session of {:?}", activation.dtype(), self.dtype);
                return Err(bad(reason));
            }
            _ => {}
        }
        let end = u32::try_from(tokens).ok().and_then(|tokens| self.next_position.checked_add(tokens));
        let Some(end) = end.filter(|end| *end <= self.context_tokens) else {
            let (position, room) = (self.next_position, self.context_tokens);
            return Err(bad(format!("{tokens} tokens at position {position} pass the session's {room}")));
        };
        let flight = Flight { seq: step.seq, tokens, output: step.output, submitted: Instant::now() };
        self.links[0].queue(Frame::Step(step)).map_err(|error| match error {
            LinkError::Frame(error) => bad(error.to_string()),
            error => self.route.lost(0, error.to_string()),
        })?;
        // The last hop alone sends activations, and not before it has a step.
        if flight.rows() > self.most_rows
            && let Some(last) = self.links.last_mut()
        {
            self.most_rows = flight.rows();
            last.limit_payload(self.most_rows * MAX_HIDDEN * self.dtype.bytes());
        }
        self.in_flight.push_back(flight);
        self.sent_tokens += tokens as u64;
        (self.next_seq, self.next_position) = (self.next_seq + 1, end);
        Ok(())
    }

    /// Moves bytes both ways on every link, then looks at the clock. Remembers the first failure.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Result<(), HopError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let progress = self.poll_links(cx).and_then(|()| self.poll_watch(cx));
        if let Err(error) = &progress {
            self.failed = Some(error.clone());
        }
        progress
    }

    fn poll_links(&mut self, cx: &mut Context<'_>) -> Result<(), HopError> {
        for at in 0..self.links.len() {
            while let Poll::Ready(frame) = self.links[at].poll_next(cx) {
                match frame {
                    Ok(Frame::Output(done)) if at + 1 == self.links.len() => self.on_output(done)?,
                    Ok(Frame::State(state)) => self.watch.answer(at, state),
                    Ok(Frame::Fault(fault)) => return Err(self.route.blame(at, fault)),
                    Ok(frame) => {
                        return Err(self.route.lost(at, format!("it sent a {:?} frame out of place", frame.kind())));
                    }
                    Err(error) => return Err(self.route.lost(at, error.to_string())),
                }
            }
        }
        Ok(())
    }

    /// Checks an output against the step it belongs to.
    fn on_output(&mut self, done: Done) -> Result<(), HopError> {
        let last = self.links.len() - 1;
        let lost = |reason: String| self.route.lost(last, reason);
        let Some(flight) = self.in_flight.front() else {
            return Err(lost(format!("it sent step {}, which nobody asked for", done.seq)));
        };
        let due = flight.rows();
        let rows = done.output.as_ref().map_or(0, |activation| activation.tokens());
        if done.seq != flight.seq || rows != due {
            let seq = flight.seq;
            return Err(lost(format!("it sent {rows} rows of step {} where {due} of step {seq} were due", done.seq)));
        }
        if let Some(activation) = &done.output {
            let hidden = self.hidden.unwrap_or(activation.hidden());
            if (activation.dtype(), activation.hidden()) != (self.dtype, hidden) {
                return Err(lost(format!(
                    "it sent {:?} of width {}, the session has {:?} of width {hidden}",
                    activation.dtype(),
                    activation.hidden(),
                    self.dtype
                )));
            }
            self.hidden = Some(hidden);
        }
        self.done_tokens += flight.tokens as u64;
        self.in_flight.pop_front();
        self.arrived.push_back(done);
        self.watch.progress(Instant::now());
        Ok(())
    }

    /// Probes or gives up when the oldest step is overdue. The alarm is set anew only when it fires, not each step.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Result<(), HopError> {
        loop {
            let Some(&Flight { seq, tokens, submitted, .. }) = self.in_flight.front() else { return Ok(()) };
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            for (at, link) in self.links.iter().enumerate() {
                self.watch.observe(at, self.route.patience(at), link.moved_bytes());
            }
            match self.watch.look(Instant::now(), Awaited { seq, tokens, submitted }) {
                Verdict::Wait(until) => self.alarm.as_mut().reset(until),
                Verdict::Probe(number) => {
                    for at in 0..self.links.len() {
                        let probed = self.links[at].queue(Frame::Probe { number });
                        probed.map_err(|error| self.route.lost(at, error.to_string()))?;
                    }
                    self.poll_links(cx)?;
                }
                Verdict::Lost { at, reason } => return Err(self.route.lost(at, reason)),
            }
        }
    }

    /// Ends the session at every hop and takes their accounts.
    async fn account(mut self) -> Vec<Account> {
        let patience = (0..self.links.len()).map(|at| self.route.patience(at)).max().unwrap_or_default();
        let deadline = Instant::now() + ACCOUNT_DEADLINE + patience;
        let waits = self.links.iter_mut().map(|link| async {
            link.send(Frame::Close).await.ok()?;
            loop {
                // Before it come outputs of steps that were under way, or the word of a neighbour that left earlier.
                if let Frame::Tally(tally) = link.recv().await.ok()? {
                    return Some(tally);
                }
            }
        });
        let waits = waits.map(|wait| async move { timeout_at(deadline, wait).await.ok().flatten() });
        let tallies = futures::future::join_all(waits).await;
        let wall = self.opened.elapsed();
        let own = self.done_tokens..=self.sent_tokens;
        self.route.hops.iter().zip(tallies).map(|(hop, tally)| settle(hop, tally, &own, wall)).collect()
    }
}

/// A hop's account as far as it can be believed: it ran every step that came back and none that was not sent, and was
/// not busy for longer than the session lived. A hop that is silent is known to have run what came back.
fn settle(
    hop: &super::RemoteHop,
    tally: Option<Tally>,
    own: &std::ops::RangeInclusive<u64>,
    wall: Duration,
) -> Account {
    let (tokens, compute) = tally.map_or((*own.start(), Duration::ZERO), |tally| {
        (tally.tokens.clamp(*own.start(), *own.end()), Duration::from_micros(tally.compute_us).min(wall))
    });
    Account { node: Some(hop.node), span: hop.span, tokens, compute }
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
                Ok(()) => self.links[0].poll_drain(cx).map(|drained| {
                    drained.map_err(|error| self.failed.insert(self.route.lost(0, error.to_string())).clone())
                }),
            })
            .await
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
        async move { Ok(self.account().await) }.boxed()
    }
}

impl fmt::Debug for RemoteSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSession")
            .field("route", &self.route)
            .field("next_seq", &self.next_seq)
            .field("in_flight", &self.in_flight)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
