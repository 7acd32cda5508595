//! Operations on sessions.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt};

use crate::{
    account::{Account, Party, Payer},
    amount::Amount,
    contribution::ContributionRow,
    field::MAX_TEXT_BYTES,
    key::KeyRow,
    session::{NewSession, Session, Status},
    store::{
        database::{Database, Query, Runs, Transaction, query, retry},
        error::{BeginError, FailError, ReadError},
        ledger::Ledger,
        rows::Read,
    },
    time::UnixMillis,
};

const BEGIN: &str = "
INSERT INTO far_mesh_sessions
    (id, request_id, user_wallet, model_id, prompt_text, started_at, account_id, api_key_id, reserved_far, reserved_until,
     coordinator_id, status)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'running')
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

/// What a coordinator left; as few at a time.
const LEFT: &str = "
SELECT id FROM far_mesh_sessions WHERE status = 'running' AND coordinator_id = $1 ORDER BY id LIMIT 200";

async fn begin(database: &Database, sessions: &[NewSession]) -> Result<(), BeginError> {
    sessions.iter().try_for_each(NewSession::check)?;
    let mut transaction = database.begin().await?;
    // In the order in which accounts are locked.
    let mut held = BTreeMap::<&str, Option<Amount>>::new();
    for session in sessions {
        if !insert(&mut transaction, session).await? {
            continue;
        }
        if let Some(payer) = &session.payer {
            let sum = held.entry(&payer.account).or_insert(Some(Amount::ZERO));
            *sum = sum.and_then(|sum| sum.checked_add(payer.reserve));
        }
    }
    for (account, sum) in held {
        reserve(&mut transaction, account, sum.unwrap_or(Amount::MAX)).await?;
    }
    Ok(transaction.commit().await?)
}

/// Writes a session's row; false where it is there already.
async fn insert(transaction: &mut Transaction, session: &NewSession) -> Result<bool, BeginError> {
    let payer = session.payer.as_ref();
    if let Some(payer) = payer {
        known(transaction, payer).await?;
    }
    let done = query(BEGIN)
        .bind(&session.id)
        .bind(&session.request_id)
        .bind(session.user_wallet.map(|wallet| wallet.to_string()))
        .bind(&session.model_id)
        .bind(&session.prompt_text)
        .bind(session.started_at.get())
        .bind(payer.map(|payer| account_key(&payer.account)))
        .bind(payer.and_then(|payer| payer.key.clone()))
        .bind(payer.map_or(0, |payer| payer.reserve.nano()))
        .bind(payer.map(|payer| payer.until.get()))
        .bind(&session.coordinator)
        .execute(transaction)
        .await?;
    if done == 0 {
        let stored = get(transaction, &session.id).await?;
        if stored.is_none_or(|stored| stored.begun != *session) {
            return Err(BeginError::Conflict { session_id: session.id.clone() });
        }
    }
    Ok(done > 0)
}

fn account_key(name: &str) -> String {
    Party::User(name.to_owned()).to_string()
}

/// Neither accounts nor keys ever go, so what is found here is still there when the session refers to it.
async fn known(transaction: &mut Transaction, payer: &Payer) -> Result<(), BeginError> {
    let account = account_key(&payer.account);
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

async fn reserve(transaction: &mut Transaction, account: &str, needed: Amount) -> Result<(), BeginError> {
    let key = account_key(account);
    if query(RESERVE).bind(&key).bind(needed.nano()).execute(transaction).await? == 1 {
        return Ok(());
    }
    let row = query(ACCOUNT).bind(&key).fetch_optional(transaction).await?;
    let found = row.as_ref().map(Account::read).transpose()?;
    Err(BeginError::Insufficient {
        account: account.to_owned(),
        available: found.map(|account| account.available()).unwrap_or_default(),
        needed,
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
    /// Begins several sessions: all of them, or where an error comes none. What they may cost together is held together.
    ///
    /// # Errors
    /// As [`Store::begin_session`](crate::Store::begin_session); [`BeginError::Insufficient`] tells of the sum.
    pub fn begin_sessions<'a>(&'a self, sessions: &'a [NewSession]) -> BoxFuture<'a, Result<(), BeginError>> {
        retry(move || begin(self.database(), sessions)).boxed()
    }

    /// Fails the sessions whose payer's FAR was held until before `now`: their coordinator did not end them. Says how many
    /// there were. Call it now and then.
    ///
    /// # Errors
    /// [`FailError`].
    pub async fn release_abandoned(&self, now: UnixMillis) -> Result<u64, FailError> {
        self.fail_all("its coordinator did not end it in time", now, || query(ABANDONED).bind(now.get())).await
    }

    /// Fails the running sessions of a coordinator, whoever pays for them, and says how many there were. For a coordinator
    /// that starts: whatever it ran before, it was killed in the middle of.
    ///
    /// # Errors
    /// [`FailError`].
    pub async fn release_left(&self, coordinator: &str, now: UnixMillis) -> Result<u64, FailError> {
        self.fail_all("its coordinator ended in the middle of it", now, || query(LEFT).bind(coordinator)).await
    }

    async fn fail_all(&self, reason: &str, now: UnixMillis, select: impl Fn() -> Query) -> Result<u64, FailError> {
        let mut count = 0_u64;
        loop {
            let rows = retry(|| async {
                let rows = select().fetch_all(&mut self.database().read().await?).await?;
                rows.iter().map(|row| row.get::<String>("id")).collect::<Result<Vec<_>, _>>()
            })
            .await?;
            if rows.is_empty() {
                return Ok(count);
            }
            for id in rows {
                match retry(|| end(self.database(), &id, reason, now)).await {
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
