//! Writes sessions to the ledger.

use std::{sync::Arc, time::Duration};

use far_ledger::{
    FeeRate, NewSession, Node, Outcome, Session, Store, UnixMillis,
    contribution::ContributionRow,
    cost::{Price, RunningCost},
    session::OutcomeError,
    store::{BackendError, BeginError, FailError, FinalizeError, NodeError, ReadError},
};
use far_mesh_core::id::{NodeId, SessionId};

use super::Performed;

/// How often a write is tried while another writer holds the ledger. Every write may be repeated.
const ATTEMPTS: u32 = 3;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Prices sessions and writes them to the ledger. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Meter {
    store: Arc<dyn Store>,
    price: Price,
    own: NodeId,
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
    Finalize(#[from] FinalizeError),
    /// A node that earned was not written.
    #[error("a node of the session was not recorded: {0}")]
    Node(#[from] NodeError),
    /// Its failure was not written.
    #[error("the session's failure was not recorded: {0}")]
    Fail(#[from] FailError),
    /// The ledger cannot be read.
    #[error("the ledger was not read: {0}")]
    Read(#[from] ReadError),
}

impl Meter {
    /// A meter at `price`, into `store`; `own` is this machine's node, which is paid for hops that run here.
    pub fn new(store: Arc<dyn Store>, price: Price, own: NodeId) -> Self {
        Self { store, price, own }
    }

    /// Price of a generated token.
    pub fn price(&self) -> Price {
        self.price
    }

    /// This machine's node.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// A count of what a session costs while it runs.
    pub fn running(&self) -> RunningCost {
        RunningCost::new(self.price)
    }

    /// Writes that a session began.
    ///
    /// # Errors
    /// [`MeterError::Begin`].
    pub async fn begin(&self, session: SessionId, model: &str) -> Result<(), MeterError> {
        let new = NewSession::new(session.to_string(), model, UnixMillis::now());
        for _ in 1..ATTEMPTS {
            match self.store.begin_session(&new).await {
                Err(BeginError::Backend(BackendError::Busy(_))) => tokio::time::sleep(PAUSE).await,
                other => return Ok(other?),
            }
        }
        Ok(self.store.begin_session(&new).await?)
    }

    /// Prices `tokens` generated tokens, splits their cost over the work and writes both; what of it nobody vouches for is
    /// left out. When this returns the account is on the disk.
    ///
    /// # Errors
    /// [`MeterError`]; the ledger holds no cost of the session then.
    pub async fn settle(&self, session: SessionId, tokens: u32, done: &Performed) -> Result<Outcome, MeterError> {
        let Performed { work, asked } = done;
        let outcome =
            Outcome::settle_vouched(self.price, FeeRate::ZERO, tokens.into(), work, *asked, UnixMillis::now())?;
        let id = session.to_string();
        let (mut busy, mut unknown) = (1, 0);
        loop {
            match self.store.finalize_session(&id, &outcome).await {
                Ok(_) => return Ok(outcome),
                Err(FinalizeError::Backend(BackendError::Busy(_))) if busy < ATTEMPTS => {
                    busy += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                // It served before its advert reached the ledger; a wallet comes with that.
                Err(FinalizeError::UnknownNode { node_id }) if unknown < outcome.contributions().len() => {
                    unknown += 1;
                    self.store.upsert_node(&Node::new(node_id, UnixMillis::now())).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes that a session ended without a cost.
    ///
    /// # Errors
    /// [`MeterError::Fail`].
    pub async fn fail(&self, session: SessionId, reason: &str) -> Result<(), MeterError> {
        Ok(self.store.fail_session(&session.to_string(), reason, UnixMillis::now()).await?)
    }

    /// A session and its contributions; `None` when the ledger has none of this name.
    ///
    /// # Errors
    /// [`MeterError::Read`].
    pub async fn session(&self, session: SessionId) -> Result<Option<(Session, Vec<ContributionRow>)>, MeterError> {
        let id = session.to_string();
        let Some(found) = self.store.session(&id).await? else { return Ok(None) };
        Ok(Some((found, self.store.contributions(&id).await?)))
    }

    /// Whether the ledger works.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn health(&self) -> Result<far_ledger::store::Health, BackendError> {
        self.store.health().await
    }
}
