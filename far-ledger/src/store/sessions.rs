//! Operations on sessions.

use crate::{
    contribution::{Contribution, ContributionRow},
    field::{self, MAX_TEXT_BYTES},
    session::{NewSession, Outcome, Session, Status},
    store::{
        contract::Finalized,
        database::{Database, Runs, Sql, Transaction, locking, query},
        error::{BeginError, FailError, FinalizeError, ReadError},
        rows::Read,
    },
    time::UnixMillis,
};

const BEGIN: &str = "
INSERT INTO far_mesh_sessions (id, request_id, user_wallet, model_id, prompt_text, started_at, status)
VALUES ($1, $2, $3, $4, $5, $6, 'running')
ON CONFLICT (id) DO NOTHING";

const GET: &str = "SELECT * FROM far_mesh_sessions WHERE id = $1";

/// What is decided by how a session stands holds until the end of the transaction.
const GET_LOCKED: Sql = locking!("SELECT * FROM far_mesh_sessions WHERE id = $1");

const COMPLETE: &str = "
UPDATE far_mesh_sessions
SET status = 'completed', tokens_generated = $2, total_cost_far = $3, completed_at = $4
WHERE id = $1 AND status = 'running'";

const FAIL: &str = "
UPDATE far_mesh_sessions SET status = 'failed', failure = $2, completed_at = $3
WHERE id = $1 AND status = 'running'";

const CONTRIBUTIONS: &str = "
SELECT * FROM far_session_contributions WHERE session_id = $1 ORDER BY layers_start, node_id";

const CONTRIBUTE: &str = "
INSERT INTO far_session_contributions
    (session_id, node_id, layers_start, layers_end, tokens_contributed, token_layers, compute_ms, exact,
     payment_far)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Adds only where the sum fits: SQLite would turn a sum beyond 2^63 into a float without a word.
const EARN: &str = "
UPDATE far_nodes
SET total_tokens_served = total_tokens_served + $2, total_earned_far = total_earned_far + $3
WHERE node_id = $1 AND total_tokens_served <= 9223372036854775807 - $2 AND total_earned_far <= 9223372036854775807 - $3";

const NODE_EXISTS: &str = "SELECT 1 FROM far_nodes WHERE node_id = $1";

pub(super) async fn begin(database: &Database, session: &NewSession) -> Result<(), BeginError> {
    session.check()?;
    let mut transaction = database.begin().await?;
    let done = query(BEGIN)
        .bind(&session.id)
        .bind(&session.request_id)
        .bind(session.user_wallet.map(|wallet| wallet.to_string()))
        .bind(&session.model_id)
        .bind(&session.prompt_text)
        .bind(session.started_at.get())
        .execute(&mut transaction)
        .await?;
    if done == 0 {
        let stored = get(&mut transaction, &session.id).await?;
        if stored.is_none_or(|stored| stored.begun != *session) {
            return Err(BeginError::Conflict { session_id: session.id.clone() });
        }
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn finalize(
    database: &Database,
    session_id: &str,
    outcome: &Outcome,
) -> Result<Finalized, FinalizeError> {
    let mut transaction = database.begin().await?;
    let row = query(GET_LOCKED).bind(session_id).fetch_optional(&mut transaction).await?;
    let stored = row.as_ref().map(Session::read).transpose()?;
    let session_id = session_id.to_owned();
    match stored {
        None => return Err(FinalizeError::UnknownSession { session_id }),
        Some(stored) => match stored.status {
            Status::Running => {}
            Status::Failed => return Err(FinalizeError::Failed { session_id }),
            Status::Completed => {
                let rows = contributions(&mut transaction, &session_id).await?;
                if says_the_same(&stored, rows, outcome) {
                    return Ok(Finalized::Before);
                }
                return Err(FinalizeError::Conflict { session_id });
            }
        },
    }
    // Nodes are locked in their order, whatever layers they ran.
    let mut parts: Vec<_> = outcome.contributions().iter().collect();
    parts.sort_by(|a, b| a.node_id.cmp(&b.node_id));
    for part in parts {
        // The node first: a contribution of an unknown one would only say that a foreign key failed.
        earn(&mut transaction, part).await?;
        contribute(&mut transaction, &session_id, part).await?;
    }
    query(COMPLETE)
        .bind(&session_id)
        .bind(field::bigint("tokens_generated", outcome.tokens_generated())?)
        .bind(outcome.total_cost().nano())
        .bind(outcome.completed_at().get())
        .execute(&mut transaction)
        .await?;
    transaction.commit().await?;
    Ok(Finalized::Now)
}

/// The same account, whenever it was written.
fn says_the_same(stored: &Session, rows: Vec<ContributionRow>, outcome: &Outcome) -> bool {
    stored.tokens_generated == outcome.tokens_generated()
        && stored.total_cost == outcome.total_cost()
        && rows.iter().map(|row| &row.contribution).eq(outcome.contributions())
}

async fn earn(transaction: &mut Transaction, part: &Contribution) -> Result<(), FinalizeError> {
    let done = query(EARN)
        .bind(&part.node_id)
        .bind(field::bigint("tokens", part.tokens)?)
        .bind(part.payment.nano())
        .execute(transaction)
        .await?;
    if done == 1 {
        return Ok(());
    }
    let node_id = part.node_id.clone();
    let known = query(NODE_EXISTS).bind(&node_id).fetch_optional(transaction).await?.is_some();
    Err(if !known { FinalizeError::UnknownNode { node_id } } else { FinalizeError::Overflow { node_id } })
}

async fn contribute(transaction: &mut Transaction, session_id: &str, part: &Contribution) -> Result<(), FinalizeError> {
    query(CONTRIBUTE)
        .bind(session_id)
        .bind(&part.node_id)
        .bind(i64::from(part.layers_start))
        .bind(i64::from(part.layers_end))
        .bind(field::bigint("tokens", part.tokens)?)
        .bind(field::bigint("token_layers", part.token_layers)?)
        .bind(field::bigint("compute_ms", part.compute_ms)?)
        .bind(i64::from(part.exact))
        .bind(part.payment.nano())
        .execute(transaction)
        .await?;
    Ok(())
}

pub(super) async fn fail(database: &Database, session_id: &str, reason: &str, at: UnixMillis) -> Result<(), FailError> {
    let reason = storable(reason);
    let mut transaction = database.begin().await?;
    let done = query(FAIL).bind(session_id).bind(reason).bind(at.get()).execute(&mut transaction).await?;
    if done == 0 {
        let session_id = session_id.to_owned();
        match get(&mut transaction, &session_id).await?.map(|stored| stored.status) {
            None => return Err(FailError::UnknownSession { session_id }),
            Some(Status::Failed) => return Ok(()),
            Some(status) => return Err(FailError::Completed { session_id, status }),
        }
    }
    Ok(transaction.commit().await?)
}

/// A reason is for people: rather cut than lost.
fn storable(reason: &str) -> String {
    let end = reason.floor_char_boundary(MAX_TEXT_BYTES);
    reason[..end].replace('\0', "\u{fffd}")
}

pub(super) async fn get(on: &mut impl Runs, session_id: &str) -> Result<Option<Session>, ReadError> {
    let row = query(GET).bind(session_id).fetch_optional(on).await?;
    row.as_ref().map(Session::read).transpose()
}

pub(super) async fn contributions(on: &mut impl Runs, session_id: &str) -> Result<Vec<ContributionRow>, ReadError> {
    let rows = query(CONTRIBUTIONS).bind(session_id).fetch_all(on).await?;
    rows.iter().map(ContributionRow::read).collect()
}
