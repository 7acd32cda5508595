//! Writes sessions to the ledger.

use std::time::Duration;

use far_ledger::{
    Account, FeeRate, Ledger, NewSession, Node, Outcome, Payer, Session, Store, UnixMillis, Usage,
    contribution::ContributionRow,
    cost::{CostError, Price, RunningCost},
    field::MAX_PROMPT_BYTES,
    ingest::{self, Ingest, IngestError, ingest},
    payout::{NodePayment, NodeSums, PayError},
    session::OutcomeError,
    store::{BackendError, BeginError, FailError, FinalizeError, NodeError, ReadError},
};
use far_mesh_core::{
    hop,
    id::{NodeId, SessionId},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Performed,
    evidence::{self, Evidence, evidence},
};

/// How often a beginning is written while another writer holds the ledger, which waits for some seconds itself. After a
/// lost connection the ledger has tried for two seconds already: the client is told, and may come back.
const BEGINS: u32 = 3;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an end is written again and again. The work is done and what it may cost is held, so nobody is helped by
/// giving up early; a server that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long what a session may cost is held if nobody ends it, and its coordinator never starts again: longer than any
/// session lasts, which the server sees to.
pub const HELD: Duration = Duration::from_secs(24 * 3600);

/// What sessions cost, and what is kept of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Price of a generated token.
    pub price: Price,
    /// What of a cost is the operator's.
    pub fee: FeeRate,
    /// Whether the ledger keeps the texts of prompts.
    pub store_prompts: bool,
}

/// Who a request is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The account.
    pub account: String,
    /// Name of the key that the request came with.
    pub key: String,
}

/// Prices sessions and writes them to the ledger. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Meter {
    ledger: Ledger,
    ingest: Ingest,
    evidence: Evidence,
    terms: Terms,
    own: NodeId,
}

/// What writes for a [`Meter`]; [`Writers::run`] is the task.
#[derive(Debug)]
pub struct Writers {
    accounts: ingest::Worker,
    evidence: evidence::Worker,
}

/// Why a session was not recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeterError {
    /// Its beginning was not written.
    #[error("the session's beginning was not recorded: {0}")]
    Begin(#[from] BeginError),
    /// Its work has no price or no shares.
    #[error("the session's work cannot be settled: {0}")]
    Settle(#[from] OutcomeError),
    /// Its account was not written.
    #[error("the session's account was not recorded: {0}")]
    Finalize(#[from] IngestError),
    /// A node that earned was not written.
    #[error("a node of the session was not recorded: {0}")]
    Node(#[from] NodeError),
    /// Its failure was not written.
    #[error("the session's failure was not recorded: {0}")]
    Fail(#[from] FailError),
    /// The ledger cannot be read.
    #[error("the ledger was not read: {0}")]
    Read(#[from] ReadError),
    /// Payments cannot be read.
    #[error("payments were not read: {0}")]
    Payments(#[from] PayError),
}

impl Meter {
    /// A meter on `terms`, into `ledger`; `own` is this machine's node, which is paid for hops that run here and under whose
    /// name sessions run. Nothing is settled until [`Writers::run`] runs.
    pub fn new(ledger: Ledger, terms: Terms, own: NodeId) -> (Self, Writers) {
        let (ingest, accounts) = ingest(ledger.clone(), ingest::Limits::default());
        let (evidence, receipts) = evidence(ledger.clone());
        (Self { ledger, ingest, evidence, terms, own }, Writers { accounts, evidence: receipts })
    }

    /// Price of a generated token.
    pub fn price(&self) -> Price {
        self.terms.price
    }

    /// Whether the texts of prompts are kept.
    pub fn stores_prompts(&self) -> bool {
        self.terms.store_prompts
    }

    /// This machine's node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// A count of what a session costs while it runs.
    pub fn running(&self) -> RunningCost {
        RunningCost::new(self.terms.price)
    }

    /// A session that begins now, of at most `most` generated tokens; what they may cost is held of its holder's balance.
    ///
    /// # Errors
    /// [`CostError`] when nobody can have what they may cost.
    pub fn opening(
        &self,
        session: SessionId,
        model: &str,
        holder: Option<&Holder>,
        most: u32,
    ) -> Result<NewSession, CostError> {
        let now = UnixMillis::now();
        let payer = holder.map(|holder| {
            let reserve = self.terms.price.of(most.into())?;
            let (account, key) = (holder.account.clone(), Some(holder.key.clone()));
            Ok(Payer { account, key, reserve, until: now.after(HELD) })
        });
        let coordinator = Some(self.own.to_string());
        Ok(NewSession { payer: payer.transpose()?, coordinator, ..NewSession::new(session.to_string(), model, now) })
    }

    /// Writes that sessions began: all of them or none.
    ///
    /// # Errors
    /// [`MeterError::Begin`]; where the ledger failed they may have been written all the same.
    pub async fn begin(&self, sessions: &[NewSession]) -> Result<(), MeterError> {
        for _ in 1..BEGINS {
            match self.ledger.begin_sessions(sessions).await {
                Err(BeginError::Backend(BackendError::Busy(_))) => sleep(PAUSE).await,
                other => return Ok(other?),
            }
        }
        Ok(self.ledger.begin_sessions(sessions).await?)
    }

    /// Prices `tokens` generated tokens, takes the operator's fee, splits the rest over the work and writes it all; what of
    /// it nobody vouches for is left out. When this returns the account is on the disk.
    ///
    /// # Errors
    /// [`MeterError`]; unless the ledger failed it holds no cost of the session then.
    pub async fn settle(&self, session: SessionId, tokens: u32, done: &Performed) -> Result<Outcome, MeterError> {
        let (Terms { price, fee, .. }, Performed { work, asked }) = (self.terms, done);
        let outcome = Outcome::settle_vouched(price, fee, tokens.into(), work, *asked, UnixMillis::now())?;
        let (id, deadline, mut unknown) = (session.to_string(), Instant::now() + PATIENCE, 0);
        loop {
            match self.ingest.finalize(id.clone(), outcome.clone()).await {
                Ok(_) => return Ok(outcome),
                // It served before its advert reached the ledger; a wallet comes with that.
                Err(IngestError::Refused(FinalizeError::UnknownNode { node_id }))
                    if unknown < outcome.contributions().len() =>
                {
                    unknown += 1;
                    self.ledger.upsert_node(&Node::new(node_id, UnixMillis::now())).await?;
                }
                Err(error) if cause(&error).is_some_and(passes) && Instant::now() < deadline => sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes that a session ended without a cost, and releases what it held.
    ///
    /// # Errors
    /// [`MeterError::Fail`].
    pub async fn fail(&self, session: SessionId, reason: &str) -> Result<(), MeterError> {
        let (id, now, deadline) = (session.to_string(), UnixMillis::now(), Instant::now() + PATIENCE);
        loop {
            match self.ledger.fail_session(&id, reason, now).await {
                Err(FailError::Backend(error)) if passes(&error) && Instant::now() < deadline => sleep(PAUSE).await,
                other => return Ok(other?),
            }
        }
    }

    /// As [`Meter::fail`], for a session of which nobody knows whether it began.
    ///
    /// # Errors
    /// [`MeterError::Fail`].
    pub async fn undo(&self, session: SessionId, reason: &str) -> Result<(), MeterError> {
        match self.fail(session, reason).await {
            Err(MeterError::Fail(FailError::UnknownSession { .. })) => Ok(()),
            other => other,
        }
    }

    /// Has the receipts behind a session's accounts written; waits only where very many wait already.
    pub async fn keep(&self, session: SessionId, accounts: &[hop::Account]) {
        self.evidence.keep(session, accounts).await;
    }

    /// A session and its contributions; `None` when the ledger has none of this name.
    ///
    /// # Errors
    /// [`MeterError::Read`].
    pub async fn session(&self, session: SessionId) -> Result<Option<(Session, Vec<ContributionRow>)>, MeterError> {
        let id = session.to_string();
        let Some(found) = self.ledger.session(&id).await? else { return Ok(None) };
        Ok(Some((found, self.ledger.contributions(&id).await?)))
    }

    /// The account of a holder, and what its key used from `first` on, by day; `None` when there is no such account.
    ///
    /// # Errors
    /// [`MeterError::Read`].
    pub async fn account(
        &self,
        holder: &Holder,
        first: UnixMillis,
    ) -> Result<Option<(Account, Vec<Usage>)>, MeterError> {
        let Some(account) = self.ledger.account(&holder.account).await? else { return Ok(None) };
        let mut usage = self.ledger.usage(&holder.account, first, UnixMillis::now()).await?;
        usage.retain(|day| day.key == holder.key);
        Ok(Some((account, usage)))
    }

    /// What a node earned, and its newest `limit` payments, newest first; `None` for a node that the ledger does not know.
    ///
    /// # Errors
    /// [`MeterError::Payments`].
    pub async fn payments(
        &self,
        node_id: &str,
        limit: u32,
    ) -> Result<Option<(NodeSums, Vec<NodePayment>)>, MeterError> {
        let Some(sums) = self.ledger.node_sums(node_id).await? else { return Ok(None) };
        Ok(Some((sums, self.ledger.node_payments(node_id, limit).await?)))
    }

    /// Whether the ledger works.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn health(&self) -> Result<far_ledger::store::Health, BackendError> {
        self.ledger.health().await
    }
}

impl MeterError {
    /// Whether a beginning that failed with this may be in the ledger all the same.
    pub fn may_have_begun(&self) -> bool {
        matches!(self, Self::Begin(BeginError::Backend(_)))
    }
}

impl Writers {
    /// Writes until `stop` fires; what waits then is still written. Fire it once all sessions have ended.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(
            self.accounts.run(stop.clone().cancelled_owned()),
            self.evidence.run(stop.clone().cancelled_owned()),
        );
    }
}

/// A prompt as the ledger takes it: a text is rather cut than refused.
pub(crate) fn storable(prompt: &str) -> String {
    let end = prompt.floor_char_boundary(MAX_PROMPT_BYTES / '\u{fffd}'.len_utf8());
    prompt[..end].replace('\0', "\u{fffd}")
}

/// Whether the next try may succeed: another writer was in the way, or the server is away. Every write may be repeated.
pub(super) fn passes(error: &BackendError) -> bool {
    matches!(error, BackendError::Busy(_) | BackendError::Conflict(_) | BackendError::Lost(_))
}

/// What the database said.
fn cause(error: &IngestError) -> Option<&BackendError> {
    match error {
        IngestError::Refused(FinalizeError::Backend(error)) => Some(error),
        IngestError::Batch(error) => match error.as_ref() {
            ReadError::Backend(error) => Some(error),
            _ => None,
        },
        _ => None,
    }
}
