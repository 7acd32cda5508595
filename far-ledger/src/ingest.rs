//! Accounts of finished sessions on their way to the disk, many in one transaction.
//!
//! ```text
//! callers --> bounded queue --> one worker: takes what waits, up to a batch --> one transaction --> answers
//! ```
//!
//! A caller has its answer after the commit and not before, so what was acknowledged survives whatever happens to this
//! process or to the server. While a batch is being written the next one gathers (group commit): the more callers, the
//! larger the batches, and a single caller waits for nobody. Memory is bounded by rows: who comes when the queue is full
//! waits for room before he is let in.
//!
//! A session is its own idempotency key: the same account again is [`Finalized::Before`].

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    session::Outcome,
    store::{
        BackendError, FinalizeError, Finalized, Ledger, ReadError, Store,
        database::retry,
        settle::{Closing, finalize_all},
    },
};

/// How much waits and how much goes at once. A row is a session or a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a transaction. 1,000 make the commit a small part of the cost.
    pub batch: u32,
    /// Rows that may wait, a few hundred bytes each.
    pub queued: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch: 1_000, queued: 20_000 }
    }
}

/// Why an account was not written, or not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The account was refused.
    #[error(transparent)]
    Refused(#[from] FinalizeError),
    /// The batch it was in could not be written.
    #[error("the batch of accounts could not be written: {0}")]
    Batch(Arc<ReadError>),
    /// The worker has ended.
    #[error("accounts are no longer taken: this process is ending, repeat the call with another")]
    Stopped,
}

/// Takes accounts. Cloning shares the queue.
#[derive(Clone, Debug)]
pub struct Ingest {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    limits: Limits,
}

/// Writes what [`Ingest`] takes; [`Worker::run`] is the task.
#[derive(Debug)]
pub struct Worker {
    ledger: Ledger,
    queue: mpsc::Receiver<Waiting>,
    limits: Limits,
}

/// An account in the queue, with the room it takes there.
#[derive(Debug)]
struct Waiting {
    session_id: String,
    outcome: Outcome,
    answer: oneshot::Sender<Result<Finalized, IngestError>>,
    room: OwnedSemaphorePermit,
}

/// A queue into `ledger` and the worker that empties it.
pub fn ingest(ledger: Ledger, limits: Limits) -> (Ingest, Worker) {
    let limits = Limits { batch: limits.batch.max(1), queued: limits.queued.max(1) };
    // Every account takes at least a row, so the queue never holds more accounts than there is room for rows.
    let (sender, receiver) = mpsc::channel(limits.queued as usize);
    let room = Arc::new(Semaphore::new(limits.queued as usize));
    (Ingest { queue: sender, room, limits }, Worker { ledger, queue: receiver, limits })
}

impl Ingest {
    /// Has an account written and answers when it is on the disk; see [`Store::finalize_session`].
    ///
    /// Dropped before its answer, the account may or may not be written.
    ///
    /// # Errors
    /// [`IngestError`].
    pub async fn finalize(&self, session_id: impl Into<String>, outcome: Outcome) -> Result<Finalized, IngestError> {
        // What is larger than the queue is let in alone.
        let rows = rows(&outcome).min(self.limits.queued);
        let room = Arc::clone(&self.room).acquire_many_owned(rows).await.map_err(|_| IngestError::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { session_id: session_id.into(), outcome, answer, room };
        self.queue.send(waiting).await.map_err(|_| IngestError::Stopped)?;
        answered.await.map_err(|_| IngestError::Stopped)?
    }

    /// Rows that wait now.
    pub fn queued(&self) -> u32 {
        let free = u32::try_from(self.room.available_permits()).unwrap_or(u32::MAX);
        self.limits.queued.saturating_sub(free)
    }
}

impl Worker {
    /// Writes until `stop` comes or every [`Ingest`] is gone; what waits then is still written and answered.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        while let Some(first) = next_until(stop.as_mut(), &mut self.queue).await {
            self.write(first).await;
        }
    }

    /// Writes a batch that begins with `first` and answers it.
    async fn write(&mut self, first: Waiting) {
        let mut count = rows(&first.outcome);
        let mut batch = vec![first];
        while count < self.limits.batch {
            let Ok(next) = self.queue.try_recv() else { break };
            count = count.saturating_add(rows(&next.outcome));
            batch.push(next);
        }
        let closings: Vec<_> = batch
            .iter()
            .map(|waiting| Closing { session_id: &waiting.session_id, outcome: &waiting.outcome })
            .collect();
        match retry(|| finalize_all(self.ledger.database(), &closings)).await {
            Ok(done) => {
                for (waiting, done) in batch.into_iter().zip(done) {
                    waiting.answer(done.map_err(IngestError::from));
                }
            }
            Err(error) if batch.len() > 1 && is_about_a_row(&error) => {
                // Something stored or given cannot be; the others must not suffer for it.
                for waiting in batch {
                    let done = self.ledger.finalize_session(&waiting.session_id, &waiting.outcome).await;
                    waiting.answer(done.map_err(IngestError::from));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for waiting in batch {
                    waiting.answer(Err(IngestError::Batch(Arc::clone(&error))));
                }
            }
        }
    }
}

/// What comes next in `queue`. Once `stop` has come the queue is closed: what waits in it still comes, then `None`.
pub async fn next_until<T>(stop: impl Future<Output = ()>, queue: &mut mpsc::Receiver<T>) -> Option<T> {
    if !queue.is_closed() {
        tokio::select! {
            biased;
            () = stop => queue.close(),
            next = queue.recv() => return next,
        }
    }
    queue.recv().await
}

impl Waiting {
    fn answer(self, done: Result<Finalized, IngestError>) {
        let Self { answer, room, .. } = self;
        drop(room);
        // Who no longer waits knows that he does not know.
        drop(answer.send(done));
    }
}

/// Rows that an account takes.
fn rows(outcome: &Outcome) -> u32 {
    u32::try_from(outcome.contributions().len()).unwrap_or(u32::MAX).saturating_add(1)
}

fn is_about_a_row(error: &ReadError) -> bool {
    matches!(error, ReadError::BadRow { .. } | ReadError::Backend(BackendError::Failed(_)))
}
