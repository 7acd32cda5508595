//! A session while it is generated: a task that owns it, prices its tokens, and writes its account before it says "done".
//!
//! ```text
//! open -> task { Engine::start -> events -> price -> channel } -> Live -> SSE or one answer
//!              \-> Meter::begin ... Meter::settle | Meter::fail
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
use far_ledger::{Amount, NewSession, Outcome};
use far_mesh_core::{
    hop::Account,
    id::SessionId,
    session::{Event, Finish, GenerateError, TokenEvent},
};
use futures::{Stream, StreamExt, stream::BoxStream};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    app::{App, Enlisted},
    engine::{Generation, Prepared, Vocabulary},
    error::ApiError,
    options::EVENTS_AHEAD,
};
use crate::metering::{self, MeterError};

/// How long a session whose client left may take to end well: the step under way, a repair, the hops' last receipts. After that
/// it is dropped without a cost, since work without receipts is neither charged nor paid.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

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

/// A session to run, and what its client sees of it.
pub(super) fn session(
    app: &Arc<App>,
    prepared: Prepared,
    prompt_field: &'static str,
    permit: Option<OwnedSemaphorePermit>,
) -> (Task, Live) {
    let (sender, events) = mpsc::channel(EVENTS_AHEAD);
    let (session, vocabulary) = (prepared.session, prepared.vocabulary.clone());
    let task = Task {
        app: app.clone(),
        enlisted: app.enlist(session),
        prepared,
        prompt_field,
        sender,
        stop: app.tasks.cancelled(),
        deadline: Instant::now() + app.options.session,
        _permit: permit,
    };
    (task, Live { session, vocabulary, events, first: None, over: false })
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

/// What the task of a session holds. Dropped, it never ran.
pub(super) struct Task {
    app: Arc<App>,
    enlisted: Enlisted,
    prepared: Prepared,
    prompt_field: &'static str,
    sender: mpsc::Sender<Result<Priced, ApiError>>,
    stop: CancellationToken,
    /// When it is cut off.
    deadline: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

/// How a session ended.
enum End {
    Done(Finish),
    Failed(ApiError),
    /// Nobody waits for the rest.
    Cut(Cut),
    /// The same after tokens; with the account of the hops, unless that did not come in time.
    Left(Cut, Option<Finish>),
}

/// Why a session is cut off.
#[derive(Clone, Copy)]
enum Cut {
    /// The client went away.
    Gone,
    /// The server ends.
    Stopped,
    /// It takes longer than what is held for it.
    Overdue,
}

impl Cut {
    /// For the ledger.
    fn reason(self) -> &'static str {
        match self {
            Self::Gone => "the client went away",
            Self::Stopped => "the coordinator was shut down",
            Self::Overdue => "the session took too long",
        }
    }

    /// For the client, if there still is one.
    fn told(self) -> ApiError {
        match self {
            Self::Gone => internal(self.reason()),
            Self::Stopped => {
                let message = "the coordinator is shutting down: send the request again";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message)
            }
            Self::Overdue => {
                let message = "the session took too long: go on from its text with another, or ask for fewer tokens";
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "session_too_long", message)
            }
        }
    }
}

type Events = BoxStream<'static, Result<Event, GenerateError>>;

impl Task {
    /// Runs the session; `opening` is still to be written where nothing is held for it.
    pub(super) async fn run(self, opening: Option<NewSession>) {
        let begin = async {
            match &opening {
                Some(opening) => self.app.meter.begin(std::slice::from_ref(opening)).await,
                None => Ok(()),
            }
        };
        let open = async {
            let mut generation = self.start().await?;
            let first = self.next(&mut generation.events).await;
            Ok((generation, first))
        };
        // Written while the prompt is computed, which it does not delay.
        let (begun, opened) = tokio::join!(begin, open);
        if let Err(error) = begun {
            drop(opened);
            self.tell(Err(ledger(&error))).await;
            return self.undo(&error).await;
        }
        let (end, tokens) = match opened {
            Ok((Generation { mut events, cancel }, first)) => match self.pump(&mut events, first).await {
                (End::Cut(cut), tokens) if tokens > 0 => {
                    cancel.cancel();
                    let finish = timeout(CANCEL_DEADLINE, finish(&mut events)).await.ok().flatten();
                    (End::Left(cut, finish), tokens)
                }
                ended => ended,
            },
            Err(end) => (end, 0),
        };
        let (told, accounts) = self.record(end, tokens).await;
        self.tell(told).await;
        self.app.meter.keep(self.prepared.session, &accounts).await;
    }

    /// Starts the session, unless nobody wants it any more.
    async fn start(&self) -> Result<Generation, End> {
        let started = tokio::select! {
            biased;
            cut = self.cut() => return Err(End::Cut(cut)),
            started = self.app.engine.start(self.prepared.clone()) => started,
        };
        started.map_err(|error| End::Failed(ApiError::from_engine(error, self.prompt_field)))
    }

    /// Waits until nobody waits for more.
    async fn cut(&self) -> Cut {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Cut::Stopped,
            () = self.sender.closed() => Cut::Gone,
            () = sleep_until(self.deadline) => Cut::Overdue,
        }
    }

    /// The next event, or the end.
    async fn next(&self, events: &mut Events) -> Result<TokenEvent, End> {
        let event = tokio::select! {
            biased;
            cut = self.cut() => return Err(End::Cut(cut)),
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
                () = self.stop.cancelled() => return (End::Cut(Cut::Stopped), tokens),
                sent = self.sender.send(Ok(Priced::Token { event, cost })) => if sent.is_err() {
                    return (End::Cut(Cut::Gone), tokens);
                },
            }
            next = self.next(events).await;
        }
    }

    /// Writes how the session ended, and says what the client is told and what the hops accounted for.
    async fn record(&self, end: End, tokens: u32) -> (Result<Priced, ApiError>, Vec<Account>) {
        let (meter, session) = (&self.app.meter, self.prepared.session);
        let performed = |tokens: u32, accounts: &[Account]| {
            let positions = self.prepared.request.prompt.len() as u64 + u64::from(tokens);
            metering::of_accounts(accounts, positions, meter.own())
        };
        match end {
            End::Done(mut finish) => {
                let (tokens, accounts) = (finish.usage.completion_tokens, std::mem::take(&mut finish.accounts));
                let told = match meter.settle(session, tokens, &performed(tokens, &accounts)).await {
                    Ok(outcome) => Ok(Priced::Done(Box::new(Settled { finish, outcome }))),
                    Err(error) => {
                        self.fail(&error.to_string()).await;
                        Err(ledger(&error))
                    }
                };
                (told, accounts)
            }
            End::Failed(error) => {
                self.fail(&format!("after {tokens} tokens: {}", error.message)).await;
                (Err(error), Vec::new())
            }
            End::Cut(cut) => {
                self.fail(cut.reason()).await;
                (Err(cut.told()), Vec::new())
            }
            End::Left(cut, None) => {
                self.fail(&format!("{}; its hops did not account for it in time", cut.reason())).await;
                (Err(cut.told()), Vec::new())
            }
            End::Left(cut, Some(Finish { accounts, .. })) => {
                if let Err(error) = meter.settle(session, tokens, &performed(tokens, &accounts)).await {
                    tracing::error!(%session, %error, "work was done that is not in the ledger");
                    self.fail(&format!("{}; {error}", cut.reason())).await;
                }
                (Err(cut.told()), accounts)
            }
        }
    }

    async fn fail(&self, reason: &str) {
        let session = self.prepared.session;
        tracing::warn!(%session, reason, "session failed");
        if let Err(error) = self.app.meter.fail(session, reason).await {
            tracing::error!(%session, %error, "the failure of a session is not in the ledger");
        }
    }

    /// Fails the session where nobody knows whether its beginning was written.
    pub(super) async fn undo(&self, error: &MeterError) {
        if error.may_have_begun() {
            let session = self.prepared.session;
            if let Err(error) = self.app.meter.undo(session, &error.to_string()).await {
                tracing::error!(%session, %error, "a session may be left as running in the ledger");
            }
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

pub(super) fn internal(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
}

/// Nobody may send the request again on his own: it was run.
fn ledger(error: &MeterError) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_failed", error.to_string())
}
