//! The steps of one session at a hop, from their arrival to their results.
//!
//! Invariant: a step that leaves [`Intake::take`] follows the one before, has the session's dtype and width, holds numbers
//! only and fits the context.
//!
//! A hop that takes the place of a lost one gets all earlier steps again. Their results are wanted by nobody but the hop
//! behind it, so, where the shard gives the same bits, those that wait are run as one: a replay has the speed of a prompt.

use std::collections::VecDeque;

use crate::{
    activation::{Activation, Dtype},
    hop::{Done, Input, Rows, Step},
    limits::{MAX_CHUNK_TOKENS, MAX_STEPS_IN_FLIGHT},
    peer::wire::Open,
};

/// What `Open` fixed for all steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contract {
    pub(super) embeds: bool,
    /// There is a next hop, which needs every row.
    pub(super) forwards: bool,
    pub(super) dtype: Dtype,
    pub(super) context_tokens: u32,
    /// The results of earlier steps are with the coordinator.
    pub(super) answered: u64,
    /// Steps that the route had when this hop was asked.
    submitted: u64,
    /// Steps run as one have the bits of each alone.
    pub(super) merges: bool,
}

/// Steps of a session and how far it is.
#[derive(Debug)]
pub(super) struct Intake {
    contract: Contract,
    /// Width of the first activation; all others have it too.
    hidden: Option<usize>,
    received: u64,
    received_tokens: u32,
    finished: u64,
    finished_tokens: u64,
    /// Checked, not yet handed to the shard.
    arrived: VecDeque<Batch>,
    /// Steps of each batch that the shard has.
    handed: VecDeque<usize>,
    /// Arrived, result not yet there: the oldest first.
    pending: VecDeque<Pending>,
    /// Batches handed to the shard.
    batches: u64,
}

/// Steps that the shard runs as one.
#[derive(Debug)]
struct Batch {
    position: u32,
    tokens: usize,
    output: Rows,
    input: Input,
    /// What follows it; almost always nothing.
    more: Vec<Input>,
}

#[derive(Debug)]
struct Pending {
    position: u32,
    tokens: usize,
    output: Rows,
}

/// A step's result.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) seq: u64,
    pub(super) position: u32,
    pub(super) tokens: usize,
    /// What the end of the route gives back.
    pub(super) output: Rows,
    pub(super) rows: Option<Activation>,
}

/// The shard gave what was not due.
#[derive(Debug)]
pub(super) struct WrongResult(pub(super) String);

impl Intake {
    pub(super) fn new(open: &Open, merges: bool) -> Self {
        let contract = Contract {
            embeds: open.span.start() == 0,
            forwards: open.next.is_some(),
            dtype: open.dtype,
            context_tokens: open.context_tokens,
            answered: open.answered,
            submitted: open.submitted,
            merges,
        };
        Self {
            contract,
            hidden: None,
            received: 0,
            received_tokens: 0,
            finished: 0,
            finished_tokens: 0,
            arrived: VecDeque::new(),
            handed: VecDeque::new(),
            pending: VecDeque::new(),
            batches: 0,
        }
    }

    /// Steps that arrived.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Steps and positions that are done.
    pub(super) fn finished(&self) -> (u64, u64) {
        (self.finished, self.finished_tokens)
    }

    /// Steps that arrived and are not done.
    pub(super) fn busy(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Whether the next should be read: what waits in the stream costs nothing here.
    pub(super) fn has_room(&self) -> bool {
        self.arrived.len() < MAX_STEPS_IN_FLIGHT
    }

    /// Checks a step against the session; says both values where one is wrong. One that came before changes nothing, else
    /// `new` sees it.
    pub(super) fn accept(&mut self, step: Step, new: impl FnOnce(&Step)) -> Result<(), String> {
        let Contract { submitted, .. } = self.contract;
        if step.seq < self.received {
            return Ok(());
        }
        // Those that the route had before come as fast as they are read. The coordinator may have their results from the hops
        // behind, and more steps on their way for it, without a word from here.
        if self.received.saturating_sub(self.finished.max(submitted)) >= MAX_STEPS_IN_FLIGHT as u64 {
            return Err(format!("step {} comes while {MAX_STEPS_IN_FLIGHT} are on their way", step.seq));
        }
        if step.seq != self.received {
            return Err(format!("step {} where step {} was due", step.seq, self.received));
        }
        if step.position != self.received_tokens {
            return Err(format!("step at position {} where position {} was due", step.position, self.received_tokens));
        }
        self.check_input(&step.input)?;
        let (tokens, context_tokens) = (step.input.tokens(), self.contract.context_tokens);
        let end = u32::try_from(tokens).ok().and_then(|tokens| self.received_tokens.checked_add(tokens));
        let Some(end) = end.filter(|end| *end <= context_tokens) else {
            let at = self.received_tokens;
            return Err(format!("{tokens} tokens at position {at} pass the session's {context_tokens}"));
        };
        new(&step);
        (self.received, self.received_tokens) = (self.received + 1, end);
        self.pending.push_back(Pending { position: step.position, tokens, output: step.output });
        self.enqueue(step, tokens);
        Ok(())
    }

    fn check_input(&mut self, input: &Input) -> Result<(), String> {
        let Contract { embeds, dtype, .. } = self.contract;
        match input {
            Input::Tokens(_) if !embeds => Err("token ids where hidden states were due".to_owned()),
            Input::Activation(_) if embeds => Err("hidden states where token ids were due".to_owned()),
            Input::Tokens(_) => Ok(()),
            Input::Activation(activation) if activation.dtype() != dtype => {
                Err(format!("activation of {:?} in a session of {dtype:?}", activation.dtype()))
            }
            Input::Activation(activation) => {
                let want = *self.hidden.get_or_insert(activation.hidden());
                if activation.hidden() != want {
                    return Err(format!("activation of width {} after one of {want}", activation.hidden()));
                }
                match activation.is_finite() {
                    true => Ok(()),
                    false => Err("activation with values that are infinite or no numbers".to_owned()),
                }
            }
        }
    }

    fn enqueue(&mut self, step: Step, tokens: usize) {
        let Contract { forwards, answered, merges, .. } = self.contract;
        let again = step.seq < answered;
        let output = match step.output {
            _ if forwards => Rows::All,
            _ if again => Rows::None,
            output => output,
        };
        // Whether the last batch holds steps that come again only is told by where it ends: just before this one.
        match self.arrived.back_mut() {
            Some(batch) if merges && again && batch.tokens + tokens <= MAX_CHUNK_TOKENS => {
                batch.tokens += tokens;
                batch.more.push(step.input);
            }
            _ => {
                let Step { position, input, .. } = step;
                self.arrived.push_back(Batch { position, tokens, output, input, more: Vec::new() });
            }
        }
    }

    /// What the shard is to run next; its number counts what it was given.
    pub(super) fn take(&mut self) -> Option<Step> {
        let Batch { position, output, input, more, .. } = self.arrived.pop_front()?;
        let steps = 1 + more.len();
        let input = if more.is_empty() { input } else { together(input, more) };
        let seq = self.batches;
        self.batches += 1;
        self.handed.push_back(steps);
        Some(Step { seq, position, input, output })
    }

    /// Hands the results of the steps that the shard ran as one to `each`, with what is due of every step.
    ///
    /// # Errors
    /// What the shard did wrong, else what `each` says.
    pub(super) fn finish<E: From<WrongResult>>(
        &mut self,
        done: Done,
        mut each: impl FnMut(Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let wrong = |reason: String| E::from(WrongResult(reason));
        let Contract { forwards, answered, .. } = self.contract;
        let number = self.batches - self.handed.len() as u64;
        let steps = self.handed.pop_front().ok_or_else(|| wrong("it finished a step nobody asked for".to_owned()))?;
        if done.seq != number {
            return Err(wrong(format!("it finished batch {}, {number} was due", done.seq)));
        }
        let mut taken = 0;
        for Pending { position, tokens, output } in self.pending.drain(..steps.min(self.pending.len())) {
            let seq = self.finished;
            let due = match output {
                _ if forwards => tokens,
                _ if seq < answered => 0,
                Rows::All => tokens,
                Rows::Last => 1,
                Rows::None => 0,
            };
            let rows = match (&done.output, due) {
                (_, 0) => None,
                (Some(rows), due) => Some(rows.rows(taken..taken + due).map_err(|error| wrong(error.to_string()))?),
                (None, due) => return Err(wrong(format!("it gave no rows, {due} of step {seq} were due"))),
            };
            taken += due;
            self.finished += 1;
            self.finished_tokens += tokens as u64;
            each(Outcome { seq, position, tokens, output, rows })?;
        }
        match done.output.as_ref().map_or(0, Activation::tokens) {
            got if got != taken => Err(wrong(format!("it gave {got} rows, {taken} were due"))),
            _ => Ok(()),
        }
    }
}

/// Several inputs as one; the checks on arrival made them alike.
fn together(first: Input, more: Vec<Input>) -> Input {
    let (mut ids, mut rows) = (Vec::new(), Vec::new());
    for input in std::iter::once(first).chain(more) {
        match input {
            Input::Tokens(more) => ids.extend(more),
            Input::Activation(more) => rows.push(more),
        }
    }
    Activation::concat(&rows).map_or(Input::Tokens(ids), Input::Activation)
}
