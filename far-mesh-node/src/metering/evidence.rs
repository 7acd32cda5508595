//! Receipts on their way to the ledger: after the client was told, many in one transaction, in bounded memory.
//!
//! They are evidence behind contributions that are on the disk already, so nobody waits for them, and where they cannot be
//! written the log says so and money is not concerned.

use std::{sync::Arc, time::Duration};

use far_ledger::{
    Ledger, UnixMillis,
    ingest::next_until,
    store::{BackendError, MAX_RECEIPTS, ReceiptError, ReceiptRow},
};
use far_mesh_core::{hop::Account, id::SessionId, receipt::Receipt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep},
};

use super::meter::passes;

/// Receipts that may wait, about a kilobyte each. Who comes when they do waits until there is room.
const QUEUED: u32 = 20_000;

/// Receipts that are enough for a transaction.
const BATCH: usize = 1_000;

/// Pause before receipts are written again that the ledger did not take.
const PAUSE: Duration = Duration::from_millis(500);

/// How long they are written again and again: a server that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes receipts. Cloning shares the queue.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

/// Writes what [`Evidence`] takes.
#[derive(Debug)]
pub(super) struct Worker {
    ledger: Ledger,
    queue: mpsc::Receiver<Waiting>,
}

/// A session's receipts, with the room they take.
#[derive(Debug)]
struct Waiting {
    rows: Vec<ReceiptRow>,
    _room: OwnedSemaphorePermit,
}

/// A queue into `ledger` and the worker that empties it.
pub(super) fn evidence(ledger: Ledger) -> (Evidence, Worker) {
    let (sender, receiver) = mpsc::channel(QUEUED as usize);
    let room = Arc::new(Semaphore::new(QUEUED as usize));
    (Evidence { queue: sender, room }, Worker { ledger, queue: receiver })
}

impl Evidence {
    /// Has the receipts of a session written some time, and waits where too many wait already.
    pub(super) async fn keep(&self, session: SessionId, accounts: &[Account]) {
        let (id, now) = (session.to_string(), UnixMillis::now());
        let receipts = accounts.iter().flat_map(|account| &account.receipts);
        let mut rest: Vec<_> = receipts.map(|receipt| row(&id, receipt, now)).collect();
        while !rest.is_empty() {
            let behind = rest.split_off(rest.len().min(MAX_RECEIPTS));
            let rows = std::mem::replace(&mut rest, behind);
            let count = u32::try_from(rows.len()).unwrap_or(QUEUED).min(QUEUED);
            let Ok(room) = Arc::clone(&self.room).acquire_many_owned(count).await else { return };
            if self.queue.send(Waiting { rows, _room: room }).await.is_err() {
                tracing::warn!(%session, "receipts come after the end and are not kept");
                return;
            }
        }
    }
}

impl Worker {
    /// Writes until `stop` comes or nobody is left who may give; what waits then is still written.
    pub(super) async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        tokio::pin!(stop);
        while let Some(first) = next_until(stop.as_mut(), &mut self.queue).await {
            self.write(first).await;
        }
    }

    /// Writes `first` and what waits behind it.
    async fn write(&mut self, first: Waiting) {
        let mut batch = vec![first];
        let count = |batch: &[Waiting]| batch.iter().map(|waiting| waiting.rows.len()).sum::<usize>();
        while count(&batch) < BATCH {
            let Ok(next) = self.queue.try_recv() else { break };
            batch.push(next);
        }
        let rows: Vec<_> = batch.iter_mut().flat_map(|waiting| waiting.rows.drain(..)).collect();
        for part in rows.chunks(MAX_RECEIPTS) {
            match self.record(part).await {
                Ok(()) => {}
                Err(error) if batch.len() > 1 && !matches!(error, ReceiptError::Backend(_)) => {
                    // One session's cannot be kept: the others must not suffer for it.
                    for session in part.chunk_by(|one, other| one.session_id == other.session_id) {
                        self.record(session).await.unwrap_or_else(|error| lost(session, &error));
                    }
                }
                Err(error) => lost(part, &error),
            }
        }
    }

    async fn record(&self, rows: &[ReceiptRow]) -> Result<(), ReceiptError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ledger.record_receipts(rows).await {
                Err(ReceiptError::Backend(error)) if waits(&error) && Instant::now() < deadline => sleep(PAUSE).await,
                done => return done.map(drop),
            }
        }
    }
}

/// A full disk may have room again as well: nobody waits for these.
fn waits(error: &BackendError) -> bool {
    passes(error) || matches!(error, BackendError::Full(_))
}

fn lost(rows: &[ReceiptRow], error: &ReceiptError) {
    let session = rows.first().map(|row| row.session_id.as_str()).unwrap_or_default();
    tracing::error!(session, receipts = rows.len(), %error, "receipts are not kept; contributions are");
}

fn row(session: &str, receipt: &Receipt, now: UnixMillis) -> ReceiptRow {
    let work = receipt.work();
    ReceiptRow {
        session_id: session.to_owned(),
        node_id: work.node.to_string(),
        layers_start: work.span.start(),
        layers_end: work.span.end(),
        first_position: work.position,
        tokens: work.tokens,
        first_step: work.first_seq,
        last_step: work.last_seq,
        model_hash: work.model.to_string(),
        kernel_class: work.kernel_class.clone(),
        input_commitment: hex::encode(work.input.0),
        output_commitment: hex::encode(work.output.0),
        hop_signature: hex::encode(receipt.hop_signature()),
        witness_id: work.witness.to_string(),
        witness_signature: hex::encode(receipt.witness_signature()),
        received_at: now,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, time::Duration};

    use far_ledger::{NewSession, Store};
    use far_mesh_core::{
        id::{ModelHash, NodeId},
        receipt::{Commitment, SIGNATURE_BYTES, Work},
    };

    use super::*;

    fn account(session: SessionId, cells: u32) -> Account {
        let (node, span) = (NodeId::random(), "0..10".parse().unwrap());
        let receipt = |cell: u32| {
            let work = Work {
                session,
                model: ModelHash([7; 32]),
                node,
                witness: NodeId::random(),
                span,
                kernel_class: "mock".into(),
                first_seq: u64::from(cell),
                last_seq: u64::from(cell) + 1,
                position: 32 * cell,
                tokens: 32,
                input: Commitment([1; 32]),
                output: Commitment([2; 32]),
            };
            Receipt::from_parts(work, [3; SIGNATURE_BYTES], [4; SIGNATURE_BYTES])
        };
        let tokens = u64::from(cells) * 32;
        let receipts = (0..cells).map(receipt).collect();
        Account { node: Some(node), span, tokens, counted: tokens, compute: Duration::ZERO, exact: true, receipts }
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_written_and_one_session_does_not_spoil_another() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().join("ledger.db")).await.unwrap();
        let [known, stranger, long] = [1, 2, 3].map(|byte| SessionId([byte; 16]));
        for session in [known, long] {
            let begun = NewSession::new(session.to_string(), "model", UnixMillis::now());
            ledger.begin_session(&begun).await.unwrap();
        }
        let (evidence, worker) = evidence(ledger.clone());
        evidence.keep(known, &[account(known, 3), account(known, 2)]).await;
        evidence.keep(stranger, &[account(stranger, 1)]).await;
        // More than one call of the ledger takes.
        evidence.keep(long, &[account(long, 10_001)]).await;
        worker.run(ready(())).await;
        let kept = ledger.receipts(&known.to_string()).await.unwrap();
        assert_eq!(kept.len(), 5);
        assert_eq!((kept[0].first_step, kept[0].last_step, kept[0].hop_signature.len()), (0, 1, 128));
        assert_eq!(ledger.receipts(&stranger.to_string()).await.unwrap(), []);
        assert_eq!(ledger.receipts(&long.to_string()).await.unwrap().len(), 10_001);
        // Nobody writes any more: it is told in the log and nobody hangs.
        evidence.keep(known, &[account(known, 1)]).await;
        assert_eq!(evidence.room.available_permits(), QUEUED as usize, "nothing waits");
    }
}
