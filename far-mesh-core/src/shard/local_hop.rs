//! The shard of this machine as a [`Hop`].

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;

use super::{
    Batching, PrefixSharing,
    config::Info,
    dispatch::{Answer, Dispatch},
    outputs::Outputs,
    pages::{Arena, NoRoom},
    prefix::{Chain, PageKey, Root, Sharers},
    seat::Seat,
};
use crate::{
    hop::{Account, Done, Hop, HopError, HopSession, Input, OpenSession, Step},
    id::{NodeId, Span},
    limits::{MAX_CHUNK_TOKENS, MAX_STEPS_IN_FLIGHT},
};

/// Bytes that are hashed before other tasks have a turn: half a millisecond.
const NAMED_AT_ONCE_BYTES: usize = 512 * 1024;

/// Opens sessions on this machine's device, over the shard's layers or some of them.
pub struct LocalHop {
    info: Arc<Info>,
    span: Span,
    arena: Arena,
    sharing: PrefixSharing,
    steps_differ: bool,
    outputs: Arc<Mutex<Outputs>>,
    dispatch: Dispatch,
    sessions: AtomicU64,
}

/// A session on this machine's device.
struct LocalSession {
    info: Arc<Info>,
    span: Span,
    context_tokens: u32,
    dispatch: Dispatch,
    seat: Arc<Seat>,
    /// Names the pages as they fill; `None` where they are not shared.
    chain: Option<Chain>,
    next_seq: u64,
    position: u32,
    on_their_way: VecDeque<Answer<Done>>,
}

impl LocalHop {
    pub(super) fn new(
        info: Arc<Info>,
        span: Span,
        arena: Arena,
        batching: Batching,
        steps_differ: bool,
        dispatch: Dispatch,
    ) -> Self {
        let outputs = Arc::new(Mutex::new(Outputs::new(batching.output_bytes)));
        let (sharing, sessions) = (batching.prefix_sharing, AtomicU64::new(0));
        Self { info, span, arena, sharing, steps_differ, outputs, dispatch, sessions }
    }

    fn check(&self, request: &OpenSession) -> Result<(), HopError> {
        let Info { hash, dtype, context_tokens, .. } = *self.info;
        let refused = |reason| Err(HopError::Refused { reason });
        if request.model != hash {
            return refused(format!("the session runs model {}, this hop serves {hash}", request.model));
        }
        if !self.span.covers(request.span) {
            return refused(format!("the session needs layers {}, this hop serves {}", request.span, self.span));
        }
        if request.dtype != dtype {
            return refused(format!("the session sends {:?} activations, this hop takes {dtype:?}", request.dtype));
        }
        let most = (context_tokens as usize).min(self.arena.total_tokens());
        if !(1..=most).contains(&(request.context_tokens as usize)) {
            return refused(format!(
                "the session may reach {} tokens, this hop takes 1 to {most} (context of the model {context_tokens}, arena {})",
                request.context_tokens,
                self.arena.total_tokens()
            ));
        }
        Ok(())
    }

    fn open_now(&self, owner: Option<NodeId>, request: &OpenSession) -> Result<LocalSession, HopError> {
        self.check(request)?;
        if self.dispatch.is_closed() {
            return Err(HopError::Closed);
        }
        let lease = self.arena.lease(request.context_tokens as usize).map_err(|NoRoom { free_tokens }| {
            HopError::Full { needed_tokens: request.context_tokens.into(), free_tokens: free_tokens as u64 }
        })?;
        let own = |layer: u32| (layer - self.span.start()) as usize;
        let layers = own(request.span.start())..own(request.span.end());
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        let page_tokens = self.arena.page_tokens();
        let sharers = match self.sharing {
            PrefixSharing::Off => None,
            PrefixSharing::Owner => Some(owner.map_or(Sharers::ThisMachine, Sharers::Node)),
            PrefixSharing::All => Some(Sharers::All),
        };
        let root = sharers.map(|sharers| Root {
            sharers,
            span: request.span,
            dtype: request.dtype,
            steps_differ: self.steps_differ,
        });
        let seat = Seat::new(number, layers, page_tokens, lease, Arc::clone(&self.outputs));
        Ok(LocalSession {
            info: Arc::clone(&self.info),
            span: request.span,
            context_tokens: request.context_tokens,
            dispatch: self.dispatch.clone(),
            seat: Arc::new(seat),
            chain: root.map(|root| Chain::new(&root, page_tokens)),
            next_seq: 0,
            position: 0,
            on_their_way: VecDeque::new(),
        })
    }
}

impl Hop for LocalHop {
    fn span(&self) -> Span {
        self.span
    }

    fn hidden(&self) -> Option<usize> {
        Some(self.info.hidden)
    }

    fn kernel_class(&self) -> String {
        self.info.kernel_class.clone()
    }

    fn merges_steps(&self) -> bool {
        !self.steps_differ
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        Box::pin(async move { Ok(Box::new(self.open_now(None, &request)?) as Box<dyn HopSession>) })
    }

    fn open_for(&self, owner: NodeId, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        Box::pin(async move { Ok(Box::new(self.open_now(Some(owner), &request)?) as Box<dyn HopSession>) })
    }
}

impl LocalSession {
    /// Names of the pages that a step fills. Wide rows take milliseconds: others have their turn in between.
    async fn name_pages(&mut self, input: &Input) -> Vec<PageKey> {
        let Some(chain) = &mut self.chain else { return vec![] };
        let row = match input {
            Input::Tokens(_) => 4,
            Input::Activation(rows) => rows.hidden() * rows.dtype().bytes(),
        };
        let (tokens, rows) = (input.tokens(), NAMED_AT_ONCE_BYTES.div_ceil(row));
        let mut keys = vec![];
        for first in (0..tokens).step_by(rows) {
            if first > 0 {
                tokio::task::yield_now().await;
            }
            keys.extend(chain.extend(input, first..tokens.min(first + rows)));
        }
        keys
    }

    /// Everything the engine takes for granted.
    fn check(&self, step: &Step) -> Result<(), HopError> {
        let tokens = step.input.tokens();
        let bad = |reason| Err(HopError::BadStep { reason });
        if self.on_their_way.len() >= MAX_STEPS_IN_FLIGHT {
            return bad(format!("{MAX_STEPS_IN_FLIGHT} steps are on their way already, take one out first"));
        }
        if step.seq != self.next_seq {
            return bad(format!("its number is {}, must be {}", step.seq, self.next_seq));
        }
        if step.position != self.position {
            return bad(format!("its position is {}, must be {}", step.position, self.position));
        }
        if !(1..=MAX_CHUNK_TOKENS).contains(&tokens) {
            return bad(format!("it has {tokens} positions, must have 1 to {MAX_CHUNK_TOKENS}"));
        }
        let end = self.position as usize + tokens;
        if end > self.context_tokens as usize {
            return bad(format!("it ends at position {end}, the session was opened for {}", self.context_tokens));
        }
        match &step.input {
            Input::Tokens(_) if self.span.start() != 0 => {
                bad(format!("layers {} take hidden states, token ids came", self.span))
            }
            Input::Tokens(ids) => match ids.iter().find(|&&id| id as usize >= self.info.vocab) {
                Some(id) => bad(format!("token id {id} is not of the model's {} tokens", self.info.vocab)),
                None => Ok(()),
            },
            Input::Activation(_) if self.span.start() == 0 => {
                bad(format!("layers {} take token ids, hidden states came", self.span))
            }
            Input::Activation(activation) => check_activation(&self.info, activation),
        }
    }
}

/// Holds an activation's width against the model's.
pub(super) fn check_width(info: &Info, activation: &crate::activation::Activation) -> Result<(), HopError> {
    if activation.hidden() == info.hidden {
        return Ok(());
    }
    let reason = format!("the activation has rows of {} values, must have {}", activation.hidden(), info.hidden);
    Err(HopError::BadStep { reason })
}

/// Holds an activation's width and type against the model's.
fn check_activation(info: &Info, activation: &crate::activation::Activation) -> Result<(), HopError> {
    let (got, want) = ((activation.hidden(), activation.dtype()), (info.hidden, info.dtype));
    if got != want {
        let reason =
            format!("the activation has rows of {} {:?} values, must have {} {:?}", got.0, got.1, want.0, want.1);
        return Err(HopError::BadStep { reason });
    }
    Ok(())
}

impl HopSession for LocalSession {
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>> {
        Box::pin(async move {
            if self.seat.has_ended() {
                return Err(HopError::Closed);
            }
            self.check(&step).inspect_err(|_| self.seat.end())?;
            // Within `context_tokens`, so within 32 bits.
            let tokens = step.input.tokens() as u32;
            let keys = self.name_pages(&step.input).await;
            let answer = self.dispatch.step(&self.seat, step, keys).await?;
            self.next_seq += 1;
            self.position += tokens;
            self.on_their_way.push_back(answer);
            Ok(())
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        Box::pin(async move {
            let Some(oldest) = self.on_their_way.front_mut() else {
                return Err(HopError::BadStep { reason: "no step is on its way to wait for".into() });
            };
            let result = oldest.await;
            self.on_their_way.pop_front();
            // A reply is dropped unanswered when the session or the worker has ended.
            result.unwrap_or(Err(HopError::Closed))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        Box::pin(async move {
            self.seat.end();
            let Self { span, seat, on_their_way, .. } = *self;
            for result in on_their_way {
                // Done, failed or dropped: what counts is that the worker has let go of it.
                let _ = result.await;
            }
            let (tokens, compute) = seat.account();
            Ok(vec![Account { node: None, span, tokens, counted: tokens, compute, exact: true, receipts: Vec::new() }])
        })
    }
}

impl fmt::Debug for LocalHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHop").field("span", &self.span).field("arena", &self.arena).finish_non_exhaustive()
    }
}
