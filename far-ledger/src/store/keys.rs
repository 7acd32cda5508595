//! Operations on API keys: made, asked, revoked.

use crate::{
    account::Party,
    field::{self, FieldError, MAX_TEXT_BYTES},
    key::{ApiKey, KeyRow, RandomError, Secret},
    store::{
        database::{Database, of_the_database, query, reading, retry},
        error::{BackendError, ReadError},
        ledger::Ledger,
        rows::Read,
    },
    time::UnixMillis,
};

/// How old `last_used_at` may be before a request writes it again: a write for each request would cost more than the
/// request's own.
const USED_EVERY_MS: i64 = 60_000;

/// Why a key is not made or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is no such account.
    #[error("there is no account {account}: create it first")]
    UnknownAccount {
        /// The user.
        account: String,
    },
    /// There is no such key.
    #[error("there is no key {id}: list the keys to see their names")]
    UnknownKey {
        /// Name of the key.
        id: String,
    },
    /// No key can be drawn.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
of_the_database!(KeyError(Read));
reading!(KeyError);

/// Nothing where the account is unknown.
const CREATE: &str = "
INSERT INTO far_api_keys (id, account_id, hash, label, created_at)
SELECT $1, id, $3, $4, $5 FROM far_accounts WHERE id = $2 AND kind = 'user'
ON CONFLICT (id) DO NOTHING";

const EXISTS: &str = "SELECT 1 FROM far_api_keys WHERE id = $1 AND hash = $2";

const BY_HASH: &str = "SELECT * FROM far_api_keys WHERE hash = $1 AND revoked_at IS NULL";

const OF_ACCOUNT: &str = "SELECT * FROM far_api_keys WHERE account_id = $1 ORDER BY created_at, id";

const ALL: &str = "SELECT * FROM far_api_keys ORDER BY account_id, created_at, id";

const REVOKE: &str = "
UPDATE far_api_keys SET revoked_at = CASE WHEN revoked_at IS NULL THEN $2 ELSE revoked_at END WHERE id = $1";

const USED: &str = "
UPDATE far_api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

impl Ledger {
    /// Makes a key for a user. Its secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`KeyError`], for an unknown account among others.
    pub async fn create_key(&self, account: &str, label: &str, at: UnixMillis) -> Result<ApiKey, KeyError> {
        field::id("account", account)?;
        field::text("label", label, MAX_TEXT_BYTES)?;
        let key = ApiKey::draw()?;
        retry(|| create(self.database(), account, label, &key, at)).await?;
        Ok(key)
    }

    /// The key that a request came with; `None` where there is none or it was revoked.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn authenticate(&self, secret: &Secret, now: UnixMillis) -> Result<Option<KeyRow>, ReadError> {
        let hash = secret.hash();
        let found = retry(|| async {
            let row = query(BY_HASH).bind(&hash).fetch_optional(&mut self.database().read().await?).await?;
            row.as_ref().map(KeyRow::read).transpose()
        })
        .await?;
        let Some(key) = &found else { return Ok(None) };
        let stale = now.get().saturating_sub(USED_EVERY_MS);
        if key.last_used_at.is_none_or(|used| used.get() <= stale) {
            retry(|| used(self.database(), &key.id, now)).await?;
        }
        Ok(found)
    }

    /// The keys of an account, or all of them, revoked ones among them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn keys(&self, account: Option<&str>) -> Result<Vec<KeyRow>, ReadError> {
        retry(|| async {
            let select = match account {
                Some(name) => query(OF_ACCOUNT).bind(Party::User(name.to_owned()).to_string()),
                None => query(ALL),
            };
            let rows = select.fetch_all(&mut self.database().read().await?).await?;
            rows.iter().map(KeyRow::read).collect()
        })
        .await
    }

    /// Revokes a key for good. The first time stays.
    ///
    /// # Errors
    /// [`KeyError::UnknownKey`].
    pub async fn revoke_key(&self, id: &str, at: UnixMillis) -> Result<(), KeyError> {
        retry(|| revoke(self.database(), id, at)).await
    }
}

async fn create(database: &Database, account: &str, label: &str, key: &ApiKey, at: UnixMillis) -> Result<(), KeyError> {
    let mut transaction = database.begin().await?;
    let party = Party::User(account.to_owned()).to_string();
    let insert = query(CREATE).bind(&key.id).bind(party).bind(key.secret.hash()).bind(label).bind(at.get());
    if insert.execute(&mut transaction).await? == 0 {
        // After a lost connection the key may be there from the first try.
        let exists = query(EXISTS).bind(&key.id).bind(key.secret.hash());
        if exists.fetch_optional(&mut transaction).await?.is_none() {
            return Err(KeyError::UnknownAccount { account: account.to_owned() });
        }
    }
    Ok(transaction.commit().await?)
}

async fn used(database: &Database, id: &str, now: UnixMillis) -> Result<(), ReadError> {
    let mut transaction = database.begin().await?;
    query(USED).bind(id).bind(now.get()).execute(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

async fn revoke(database: &Database, id: &str, at: UnixMillis) -> Result<(), KeyError> {
    let mut transaction = database.begin().await?;
    if query(REVOKE).bind(id).bind(at.get()).execute(&mut transaction).await? == 0 {
        return Err(KeyError::UnknownKey { id: id.to_owned() });
    }
    Ok(transaction.commit().await?)
}
