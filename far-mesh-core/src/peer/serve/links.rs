//! The streams of one session at a hop, and the checks on what comes over them.
//!
//! Invariant: a step that leaves [`Links::event`] has the next number and position, the session's dtype and width, fits
//! the context, and at most [`MAX_STEPS_IN_FLIGHT`] steps are between its arrival and its result.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use futures::future::BoxFuture;

use crate::{
    activation::Dtype,
    hop::{Done, Input, Rows, Step},
    id::NodeId,
    limits::{MAX_CHUNK_TOKENS, MAX_HIDDEN, MAX_STEPS_IN_FLIGHT},
    peer::wire::{Fault, Frame, Link, LinkError, Open, State, Tally},
};

/// Streams of a session and how far it is.
pub(super) struct Links {
    control: Link,
    source: StepSource,
    sink: Option<(NodeId, Link)>,
    contract: Contract,
    /// Longest payload of a step.
    step_bytes: usize,
    progress: Progress,
    /// Checked, not yet handed to the shard.
    arrived: VecDeque<Step>,
    /// Arrived, result not yet sent: the oldest first.
    pending: VecDeque<Pending>,
}

/// Where steps come from.
pub(super) enum StepSource {
    /// The control stream.
    Coordinator,
    /// A data stream that is still to come.
    Waiting(NodeId, BoxFuture<'static, Result<Box<Link>, String>>),
    /// A data stream.
    Peer(NodeId, Box<Link>),
}

/// What the driver of the session has to act on.
#[derive(Debug)]
pub(super) enum Event {
    /// A step to run.
    Step(Step),
    /// The session is over.
    End(End),
}

/// How a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The coordinator is gone: nobody is to be told.
    Gone(String),
    /// The coordinator asks for the account.
    Close,
    /// The coordinator must hear of this.
    Fault(Fault),
}

/// What `Open` fixed for all steps.
#[derive(Debug)]
struct Contract {
    embeds: bool,
    /// There is a next hop, which needs every row.
    forwards: bool,
    dtype: Dtype,
    context_tokens: u32,
    /// Width of the first activation; all others have it too.
    hidden: Option<usize>,
}

#[derive(Debug, Default)]
struct Progress {
    received: u64,
    finished: u64,
    received_tokens: u32,
    finished_tokens: u64,
}

#[derive(Debug)]
struct Pending {
    position: u32,
    tokens: usize,
    output: Rows,
}

impl Links {
    /// `hidden` is the width of the shard's activations, where it is known: it bounds the frames that are read.
    pub(super) fn new(mut control: Link, source: StepSource, open: &Open, hidden: Option<usize>) -> Self {
        let rows = MAX_CHUNK_TOKENS.min(open.context_tokens as usize);
        let step_bytes = rows * hidden.unwrap_or(MAX_HIDDEN) * open.dtype.bytes();
        if matches!(source, StepSource::Coordinator) {
            control.limit_payload(step_bytes);
        }
        let contract = Contract {
            embeds: open.span.start() == 0,
            forwards: open.next.is_some(),
            dtype: open.dtype,
            context_tokens: open.context_tokens,
            hidden: None,
        };
        Self {
            control,
            source,
            sink: None,
            contract,
            step_bytes,
            progress: Progress::default(),
            arrived: VecDeque::new(),
            pending: VecDeque::new(),
        }
    }

    /// The stream to the next hop is attached.
    pub(super) fn set_sink(&mut self, node: NodeId, link: Link) {
        self.sink = Some((node, link));
    }

    /// Queues a frame for the coordinator; a coordinator that reads none any more is gone.
    pub(super) fn tell(&mut self, frame: Frame) -> Result<(), End> {
        self.control.queue(frame).map_err(|error| End::Gone(error.to_string()))
    }

    /// Waits for a step, or for the end of the session. Meanwhile it sends what is queued and answers probes. Cancel-safe.
    pub(super) async fn event(&mut self) -> Event {
        poll_fn(|cx| match self.poll_links(cx) {
            Err(end) => Poll::Ready(Event::End(end)),
            Ok(()) => self.arrived.pop_front().map_or(Poll::Pending, |step| Poll::Ready(Event::Step(step))),
        })
        .await
    }

    /// As [`Links::event`], but steps are left waiting.
    pub(super) async fn ended(&mut self) -> End {
        poll_fn(|cx| self.poll_links(cx).err().map_or(Poll::Pending, Poll::Ready)).await
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

    /// Steps and positions whose results were queued.
    pub(super) fn finished(&self) -> (u64, u64) {
        (self.progress.finished, self.progress.finished_tokens)
    }

    /// Queues a result for the next hop or, at the end of the route, for the coordinator.
    pub(super) fn push(&mut self, done: Done) -> Result<(), End> {
        let broken = |reason: String| End::Fault(Fault::Device(reason));
        let Some(Pending { position, tokens, output }) = self.pending.pop_front() else {
            return Err(broken("the shard finished a step nobody asked for".to_owned()));
        };
        let seq = self.progress.finished;
        let due = match output {
            _ if self.contract.forwards => tokens,
            Rows::All => tokens,
            Rows::Last => 1,
            Rows::None => 0,
        };
        let rows = done.output.as_ref().map_or(0, |activation| activation.tokens());
        if done.seq != seq || rows != due {
            return Err(broken(format!(
                "the shard gave {rows} rows of step {}, {due} of step {seq} were due",
                done.seq
            )));
        }
        self.progress.finished += 1;
        self.progress.finished_tokens += tokens as u64;
        match (&mut self.sink, done.output) {
            (Some((node, link)), Some(activation)) => {
                let step = Step { seq, position, input: Input::Activation(activation), output };
                link.queue(Frame::Step(step)).map_err(|error| lost(*node, &error))
            }
            (_, output) => self.tell(Frame::Output(Done { seq, output })),
        }
    }

    fn poll_links(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Poll::Ready(frame) = self.control.poll_next(cx) {
            match frame {
                Ok(frame) => self.on_control(frame)?,
                Err(LinkError::Frame(error)) => return Err(bad_step(error.to_string())),
                Err(error) => return Err(End::Gone(error.to_string())),
            }
        }
        if let StepSource::Waiting(node, attach) = &mut self.source
            && let Poll::Ready(attached) = attach.as_mut().poll(cx)
        {
            let node = *node;
            let mut link = attached.map_err(|reason| End::Fault(Fault::PeerLost { node, reason }))?;
            link.limit_payload(self.step_bytes);
            self.source = StepSource::Peer(node, link);
        }
        while let StepSource::Peer(node, link) = &mut self.source {
            let node = *node;
            let Poll::Ready(frame) = link.poll_next(cx) else { break };
            let accepted = match frame.map_err(|error| lost(node, &error))? {
                Frame::Step(step) => self.accept(step),
                frame => Err(format!("{:?} frame where a step was due", frame.kind())),
            };
            accepted.map_err(|reason| End::Fault(Fault::PeerLost { node, reason }))?;
        }
        if let Some((node, link)) = &mut self.sink
            && let Poll::Ready(frame) = link.poll_next(cx)
        {
            return Err(match frame {
                Ok(Frame::Fault(Fault::PeerLost { reason, .. } | Fault::Refused(reason) | Fault::BadStep(reason))) => {
                    End::Fault(Fault::PeerLost { node: *node, reason })
                }
                Ok(frame) => {
                    let reason = format!("{:?} frame where none was due", frame.kind());
                    End::Fault(Fault::PeerLost { node: *node, reason })
                }
                Err(error) => lost(*node, &error),
            });
        }
        Ok(())
    }

    fn on_control(&mut self, frame: Frame) -> Result<(), End> {
        match frame {
            Frame::Probe { number } => {
                let Progress { received, finished, .. } = self.progress;
                let state = State { probe: number, received, finished, received_bytes: self.source_bytes() };
                self.tell(Frame::State(state))
            }
            Frame::Close => Err(End::Close),
            Frame::Step(step) if matches!(self.source, StepSource::Coordinator) => self.accept(step).map_err(bad_step),
            frame => Err(bad_step(format!("{:?} frame on a control stream", frame.kind()))),
        }
    }

    /// Checks a step against the session; says both values where one is wrong.
    fn accept(&mut self, step: Step) -> Result<(), String> {
        let Contract { embeds, forwards, dtype, context_tokens, hidden } = &mut self.contract;
        let Progress { received, received_tokens, .. } = &mut self.progress;
        if self.pending.len() >= MAX_STEPS_IN_FLIGHT {
            return Err(format!("step {} comes while {MAX_STEPS_IN_FLIGHT} are on their way", step.seq));
        }
        if step.seq != *received {
            return Err(format!("step {} where step {received} was due", step.seq));
        }
        if step.position != *received_tokens {
            return Err(format!("step at position {} where position {received_tokens} was due", step.position));
        }
        match &step.input {
            Input::Tokens(_) if !*embeds => return Err("token ids where hidden states were due".to_owned()),
            Input::Activation(_) if *embeds => return Err("hidden states where token ids were due".to_owned()),
            Input::Activation(activation) if activation.dtype() != *dtype => {
                return Err(format!("activation of {:?} in a session of {dtype:?}", activation.dtype()));
            }
            Input::Activation(activation) => {
                let want = *hidden.get_or_insert(activation.hidden());
                if activation.hidden() != want {
                    return Err(format!("activation of width {} after one of {want}", activation.hidden()));
                }
            }
            Input::Tokens(_) => {}
        }
        let tokens = step.input.tokens();
        let end = u32::try_from(tokens).ok().and_then(|tokens| received_tokens.checked_add(tokens));
        let Some(end) = end.filter(|end| end <= context_tokens) else {
            return Err(format!("{tokens} tokens at position {received_tokens} pass the session's {context_tokens}"));
        };
        (*received, *received_tokens) = (*received + 1, end);
        self.pending.push_back(Pending { position: step.position, tokens, output: step.output });
        let output = if *forwards { Rows::All } else { step.output };
        self.arrived.push_back(Step { output, ..step });
        Ok(())
    }

    fn source_bytes(&self) -> u64 {
        match &self.source {
            StepSource::Coordinator => self.control.received_bytes(),
            StepSource::Waiting(..) => 0,
            StepSource::Peer(_, link) => link.received_bytes(),
        }
    }
}

fn lost(node: NodeId, error: &LinkError) -> End {
    End::Fault(Fault::PeerLost { node, reason: error.to_string() })
}

fn bad_step(reason: String) -> End {
    End::Fault(Fault::BadStep(reason))
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("progress", &self.progress)
            .field("pending", &self.pending)
            .finish_non_exhaustive()
    }
}
