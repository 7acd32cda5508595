//! Operations on sessions.

use crate::{
    account::{Account, Party, Payer},
    contribution::ContributionRow,
    field::MAX_TEXT_BYTES,
    key::KeyRow,
    session::{NewSession, Session, Status},
    store::{
        database::{Database, Runs, Transaction, query, retry},
        error::{BeginError, FailError, ReadError},
        ledger::Ledger,
        rows::Read,
    },
    time::UnixMillis,
};

const BEGIN: &str = "
INSERT INTO far_mesh_sessions
    (id, request_id, user_wallet, model_id, prompt_text, started_at, account_id, api_key_id, reserved_far, reserved_until,
     status)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'running')
ON CONFLICT (id) DO NOTHING";

const GET: &str = "SELECT * FROM far_mesh_sessions WHERE id = $1";

const FAIL: &str = "
UPDATE far_mesh_sessions SET status = 'failed', failure = $2, completed_at = $3
WHERE id = $1 AND status = 'running'
RETURNING account_id, reserved_far";

const CONTRIBUTIONS: &str = "
SELECT * FROM far_session_contributions WHERE session_id = $1 ORDER BY layers_start, node_id";

/// Nothing where too little is free: the bound stands where it is written.
const RESERVE: &str = "
UPDATE far_accounts SET reserved_far = reserved_far + $2 WHERE id = $1 AND balance_far - reserved_far >= $2";

const RELEASE: &str = "
UPDATE far_accounts SET reserved_far = CASE WHEN reserved_far >= $2 THEN reserved_far - $2 ELSE 0 END WHERE id = $1";

const ACCOUNT: &str = "SELECT * FROM far_accounts WHERE id = $1 AND kind = 'user'";

const KEY: &str = "SELECT * FROM far_api_keys WHERE id = $1 AND account_id = $2";

/// Few at a time: each is failed in a transaction of its own.
const ABANDONED: &str = "
SELECT id FROM far_mesh_sessions
WHERE status = 'running' AND reserved_until IS NOT NULL AND reserved_until < $1
ORDER BY reserved_until LIMIT 200";

pub(super) async fn begin(database: &Database, session: &NewSession) -> Result<(), BeginError> {
    session.check()?;
    let mut transaction = database.begin().await?;
    let payer = session.payer.as_ref();
    if let Some(payer) = payer {
        known(&mut transaction, payer).await?;
    }
    let done = query(BEGIN)
        .bind(&session.id)
        .bind(&session.request_id)
        .bind(session.user_wallet.map(|wallet| wallet.to_string()))
        .bind(&session.model_id)
        .bind(&session.prompt_text)
        .bind(session.started_at.get())
        .bind(payer.map(account_key))
        .bind(payer.and_then(|payer| payer.key.clone()))
        .bind(payer.map_or(0, |payer| payer.reserve.nano()))
        .bind(payer.map(|payer| payer.until.get()))
        .execute(&mut transaction)
        .await?;
    if done == 0 {
        let stored = get(&mut transaction, &session.id).await?;
        if stored.is_none_or(|stored| stored.begun != *session) {
            return Err(BeginError::Conflict { session_id: session.id.clone() });
        }
    } else if let Some(payer) = payer {
        reserve(&mut transaction, payer).await?;
    }
    Ok(transaction.commit().await?)
}

fn account_key(payer: &Payer) -> String {
    Party::User(payer.account.clone()).to_string()
}

/// Neither accounts nor keys ever go, so what is found here is still there when the session refers to it.
async fn known(transaction: &mut Transaction, payer: &Payer) -> Result<(), BeginError> {
    let account = account_key(payer);
    if query(ACCOUNT).bind(&account).fetch_optional(transaction).await?.is_none() {
        return Err(BeginError::UnknownAccount { account: payer.account.clone() });
    }
    let Some(key) = &payer.key else { return Ok(()) };
    let found = query(KEY).bind(key).bind(account).fetch_optional(transaction).await?;
    let found = found.as_ref().map(KeyRow::read).transpose()?;
    match found {
        Some(row) if row.revoked_at.is_none() => Ok(()),
        _ => Err(BeginError::UnknownKey { key: key.clone() }),
    }
}

async fn reserve(transaction: &mut Transaction, payer: &Payer) -> Result<(), BeginError> {
    let key = account_key(payer);
    if query(RESERVE).bind(&key).bind(payer.reserve.nano()).execute(transaction).await? == 1 {
        return Ok(());
    }
    let row = query(ACCOUNT).bind(&key).fetch_optional(transaction).await?;
    let found = row.as_ref().map(Account::read).transpose()?;
    Err(BeginError::Insufficient {
        account: payer.account.clone(),
        available: found.map(|account| account.available()).unwrap_or_default(),
        needed: payer.reserve,
    })
}

pub(super) async fn fail(database: &Database, session_id: &str, reason: &str, at: UnixMillis) -> Result<(), FailError> {
    end(database, session_id, reason, at).await.map(drop)
}

/// Fails a session and releases what it held; false where it had failed before.
async fn end(database: &Database, session_id: &str, reason: &str, at: UnixMillis) -> Result<bool, FailError> {
    let reason = storable(reason);
    let mut transaction = database.begin().await?;
    let failed = query(FAIL).bind(session_id).bind(reason).bind(at.get()).fetch_optional(&mut transaction).await?;
    let Some(row) = failed else {
        let session_id = session_id.to_owned();
        return match get(&mut transaction, &session_id).await?.map(|stored| stored.status) {
            None => Err(FailError::UnknownSession { session_id }),
            Some(Status::Failed) => Ok(false),
            Some(status) => Err(FailError::Completed { session_id, status }),
        };
    };
    if let Some(account) = row.get::<Option<String>>("account_id")? {
        let held = row.amount("reserved_far")?;
        query(RELEASE).bind(account).bind(held.nano()).execute(&mut transaction).await?;
    }
    transaction.commit().await?;
    Ok(true)
}

impl Ledger {
    /// Fails the sessions whose payer's FAR was held until before `now`: their coordinator did not end them. Says how many
    /// there were. Call it now and then.
    ///
    /// # Errors
    /// [`FailError`].
    pub async fn release_abandoned(&self, now: UnixMillis) -> Result<u64, FailError> {
        let mut count = 0_u64;
        loop {
            let rows = retry(|| async {
                let rows = query(ABANDONED).bind(now.get()).fetch_all(&mut self.database().read().await?).await?;
                rows.iter().map(|row| row.get::<String>("id")).collect::<Result<Vec<_>, _>>()
            })
            .await?;
            if rows.is_empty() {
                return Ok(count);
            }
            for id in rows {
                match retry(|| end(self.database(), &id, "its coordinator did not end it in time", now)).await {
                    Ok(true) => count = count.saturating_add(1),
                    // Ended at the last moment, or by another that looks after it.
                    Ok(false) | Err(FailError::Completed { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
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
