//! A session while it is generated: a task that owns it, prices its tokens, and writes its account before it says "done".
//!
//! ```text
//! Engine::start -> task { events -> price -> channel } -> Live -> SSE or one answer
//!                       \-> Meter::begin ... Meter::settle | Meter::fail
//! ```
//!
//! The task outlives its client, so that what was done is recorded in every case. It notices at once when the client
//! goes: [`Live`] is dropped, the channel closes, the task ends the session behind the step on its way and records the tokens so
//! far by what the hops account for.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::http::StatusCode;
use far_ledger::{Amount, Outcome};
use far_mesh_core::{
    hop::Account,
    id::SessionId,
    session::{Event, Finish, GenerateError, TokenEvent},
};
use futures::{Stream, StreamExt, stream::BoxStream};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    app::{App, Enlisted},
    engine::{GenerateCall, Generation, RouteHop, Vocabulary},
    error::ApiError,
    options::EVENTS_AHEAD,
};
use crate::metering;

/// How long a session whose client left may take to end well: the step under way, a repair, the hops' last receipts. After that
/// it is dropped without a cost, since work without receipts is neither charged nor paid.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

const GONE: &str = "the client went away";
const STOPPED: &str = "the coordinator was shut down";

/// When to come back where all sessions are taken.
const SESSIONS_RETRY: Duration = Duration::from_secs(1);

/// Something that happened in a session, with its price.
#[derive(Debug)]
pub(super) enum Priced {
    /// A token, and what all cost so far.
    Token { event: TokenEvent, cost: Amount },
    /// The end; its account is in the ledger.
    Done(Box<Settled>),
}

/// A session's end.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) finish: Finish,
    pub(super) outcome: Outcome,
}

/// A session, seen by its client: tokens, then [`Priced::Done`] or an error, then nothing. Dropping it cancels it.
pub(super) struct Live {
    pub(super) session: SessionId,
    pub(super) vocabulary: Arc<dyn Vocabulary>,
    events: mpsc::Receiver<Result<Priced, ApiError>>,
    first: Option<Result<Priced, ApiError>>,
    over: bool,
}

/// Opens a session and its task; `prompt_field` is blamed for a prompt that does not fit.
///
/// # Errors
/// 429 when all sessions are taken, or what the engine says.
pub(super) async fn start(
    app: &Arc<App>,
    model: &str,
    call: GenerateCall,
    prompt_field: &'static str,
) -> Result<Live, ApiError> {
    let permit = app.permits.clone().try_acquire_owned().map_err(|_| {
        let message = format!("all {} sessions are taken: come back soon", app.options.max_sessions);
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_sessions", message).retry_after(SESSIONS_RETRY)
    })?;
    let generation = app.engine.start(call).await.map_err(|error| ApiError::from_engine(error, prompt_field))?;
    // From here to the spawn there is no await: a client that goes away cannot leave a session without its record.
    let (sender, events) = mpsc::channel(EVENTS_AHEAD);
    let live = Live {
        session: generation.session,
        vocabulary: generation.vocabulary.clone(),
        events,
        first: None,
        over: false,
    };
    let task = Task {
        app: app.clone(),
        enlisted: app.enlist(generation.session),
        model: model.to_owned(),
        prompt_field,
        sender,
        stop: app.tasks.cancelled(),
        _permit: permit,
    };
    app.tasks.spawn_graceful(task.run(generation));
    Ok(live)
}

impl Live {
    /// Waits for the first event, so that what fails before it is an answer of its own and not an event; but no longer
    /// than `patience`, after which a stream has to show that it lives.
    ///
    /// # Errors
    /// What failed.
    pub(super) async fn ready(&mut self, patience: Duration) -> Result<(), ApiError> {
        if let Ok(first) = tokio::time::timeout(patience, self.next()).await {
            match first {
                Some(Err(error)) => return Err(error),
                Some(Ok(first)) => {
                    self.over = false;
                    self.first = Some(Ok(first));
                }
                None => {}
            }
        }
        Ok(())
    }
}

impl Stream for Live {
    type Item = Result<Priced, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let item = match self.first.take() {
            Some(first) => Some(first),
            None => std::task::ready!(self.events.poll_recv(context)),
        };
        // A task that ends without a word has panicked: never a silent end.
        let item = item.unwrap_or_else(|| Err(internal("the session ended without its account")));
        self.over = matches!(item, Err(_) | Ok(Priced::Done(_)));
        Poll::Ready(Some(item))
    }
}

/// What the task of a session holds.
struct Task {
    app: Arc<App>,
    enlisted: Enlisted,
    model: String,
    prompt_field: &'static str,
    sender: mpsc::Sender<Result<Priced, ApiError>>,
    stop: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

/// How a session ended.
enum End {
    Done(Finish),
    Failed(ApiError),
    /// The client went away.
    Gone,
    /// The server ends.
    Stopped,
    /// One of the two, after tokens; with the account of the hops, unless that did not come in time.
    Left {
        stopped: bool,
        finish: Option<Finish>,
    },
}

type Events = BoxStream<'static, Result<Event, GenerateError>>;

impl Task {
    async fn run(self, generation: Generation) {
        let Generation { session, prompt_tokens, route, mut events, cancel, .. } = generation;
        // Written while the prompt is computed, which it does not delay.
        let (begun, first) = tokio::join!(self.app.meter.begin(session, &self.model), self.next(&mut events));
        if let Err(error) = begun {
            drop(events);
            return self.tell(Err(ledger(&error))).await;
        }
        let (end, tokens) = self.pump(&mut events, first).await;
        let end = match end {
            End::Gone | End::Stopped if tokens > 0 => {
                cancel.cancel();
                let finish = timeout(CANCEL_DEADLINE, finish(&mut events)).await.ok().flatten();
                End::Left { stopped: matches!(end, End::Stopped), finish }
            }
            end => end,
        };
        drop(events);
        let told = self.record(session, prompt_tokens, &route, end, tokens).await;
        self.tell(told).await;
    }

    /// The next event, or the end.
    async fn next(&self, events: &mut Events) -> Result<TokenEvent, End> {
        let event = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(End::Stopped),
            () = self.sender.closed() => return Err(End::Gone),
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Token(token))) => Ok(token),
            Some(Ok(Event::Done(finish))) => Err(End::Done(finish)),
            Some(Err(error)) => Err(End::Failed(ApiError::from_generation(&error, self.prompt_field))),
            None => Err(End::Failed(internal("the route ended without its last event"))),
        }
    }

    /// Prices tokens and passes them on until the end; also says how many there were.
    async fn pump(&self, events: &mut Events, first: Result<TokenEvent, End>) -> (End, u32) {
        let mut cost = self.app.meter.running();
        let (mut next, mut tokens) = (first, 0);
        loop {
            let event = match next {
                Ok(event) => event,
                Err(end) => return (end, tokens),
            };
            tokens += 1;
            self.enlisted.count();
            let cost = match cost.add(1) {
                Ok(cost) => cost,
                Err(error) => return (End::Failed(internal(error.to_string())), tokens),
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return (End::Stopped, tokens),
                sent = self.sender.send(Ok(Priced::Token { event, cost })) => if sent.is_err() {
                    return (End::Gone, tokens);
                },
            }
            next = self.next(events).await;
        }
    }

    /// Writes how the session ended, and says what the client is told.
    async fn record(
        &self,
        session: SessionId,
        prompt_tokens: u32,
        route: &[RouteHop],
        end: End,
        tokens: u32,
    ) -> Result<Priced, ApiError> {
        let meter = &self.app.meter;
        let performed = |tokens: u32, accounts: &[Account]| {
            let positions = u64::from(prompt_tokens) + u64::from(tokens);
            match accounts {
                [] => metering::of_route(route.iter().map(|hop| (hop.node, hop.span)), positions, meter.own()),
                accounts => metering::of_accounts(accounts, positions, meter.own()),
            }
        };
        match end {
            End::Done(finish) => {
                let tokens = finish.usage.completion_tokens;
                match meter.settle(session, tokens, &performed(tokens, &finish.accounts)).await {
                    Ok(outcome) => Ok(Priced::Done(Box::new(Settled { finish, outcome }))),
                    Err(error) => {
                        self.fail(session, &error.to_string()).await;
                        Err(ledger(&error))
                    }
                }
            }
            End::Failed(error) => {
                self.fail(session, &format!("after {tokens} tokens: {}", error.message)).await;
                Err(error)
            }
            End::Gone => {
                self.fail(session, GONE).await;
                Err(internal(GONE))
            }
            End::Stopped => {
                self.fail(session, STOPPED).await;
                Err(stopping())
            }
            End::Left { stopped, finish } => {
                let (reason, told) = if stopped { (STOPPED, stopping()) } else { (GONE, internal(GONE)) };
                match finish {
                    Some(finish) => {
                        if let Err(error) = meter.settle(session, tokens, &performed(tokens, &finish.accounts)).await {
                            tracing::error!(%session, %error, "work was done that is not in the ledger");
                            self.fail(session, &format!("{reason}; {error}")).await;
                        }
                    }
                    None => self.fail(session, &format!("{reason}; its hops did not account for it in time")).await,
                }
                Err(told)
            }
        }
    }

    async fn fail(&self, session: SessionId, reason: &str) {
        tracing::warn!(%session, reason, "session failed");
        if let Err(error) = self.app.meter.fail(session, reason).await {
            tracing::error!(%session, %error, "the failure of a session is not in the ledger");
        }
    }

    /// Ends when the client has room or is gone; a client that does not read is hung up on after a while.
    async fn tell(&self, item: Result<Priced, ApiError>) {
        if self.sender.send(item).await.is_err() {
            tracing::debug!("the client of a session went away before its end");
        }
    }
}

/// The last event of a cancelled session; `None` where it fails instead.
async fn finish(events: &mut Events) -> Option<Finish> {
    while let Some(event) = events.next().await {
        if let Event::Done(finish) = event.ok()? {
            return Some(finish);
        }
    }
    None
}

fn internal(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
}

fn ledger(error: &metering::MeterError) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_failed", error.to_string())
}

fn stopping() -> ApiError {
    let message = "the coordinator is shutting down: send the request again";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message)
}
