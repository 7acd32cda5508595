//! Operations on users' accounts: opened, topped up, read.

use crate::{
    account::{Account, Party, Usage},
    amount::Amount,
    field::{self, FieldError},
    journal::{Kind, Line, Posted, Posting},
    store::{
        books::{PostError, post},
        database::{Database, Topic, of_the_database, query, reading, retry},
        error::{BackendError, ReadError},
        ledger::Ledger,
        rows::{DAY_MS, Read},
    },
    time::UnixMillis,
    wallet::WalletAddress,
};

/// Why an account is not opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is no such account.
    #[error("there is no account {account}: create it first")]
    Unknown {
        /// The user.
        account: String,
    },
    /// The wallet is another account's.
    #[error("wallet {wallet} belongs to another account: its deposits can go to one only")]
    WalletTaken {
        /// The wallet.
        wallet: WalletAddress,
    },
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
of_the_database!(AccountError(Read));
reading!(AccountError);

/// Why a balance is not topped up. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopUpError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Nothing is no top-up.
    #[error("a top-up of nothing: name an amount above zero")]
    Nothing,
    /// It cannot be posted.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
of_the_database!(TopUpError(Post));

/// FAR that the operator adds to a balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUp {
    /// The user.
    pub account: String,
    /// How much.
    pub amount: Amount,
    /// Name of this top-up, made by the caller: the same name is the same top-up, so a retry adds nothing.
    pub key: String,
    /// When.
    pub at: UnixMillis,
}

const CREATE: &str = "
INSERT INTO far_accounts (id, kind, created_at) VALUES ($1, 'user', $2) ON CONFLICT (id) DO NOTHING";

const GET: &str = "SELECT * FROM far_accounts WHERE id = $1 AND kind = 'user'";

const OF_WALLET: &str = "SELECT * FROM far_accounts WHERE wallet_address = $1 AND kind = 'user'";

const LIST: &str = "SELECT * FROM far_accounts WHERE kind = 'user' ORDER BY id";

/// Nothing where the wallet is another account's.
const LINK: &str = "
UPDATE far_accounts SET wallet_address = $2
WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM far_accounts o WHERE o.wallet_address = $2 AND o.id <> $1)";

const USAGE: &str = "
SELECT u.* FROM far_usage u JOIN far_api_keys k ON k.id = u.api_key_id
WHERE k.account_id = $1 AND u.day >= $2 AND u.day <= $3 ORDER BY u.day, u.api_key_id";

impl Ledger {
    /// Opens a user's account, with nothing on it. One that is there stays as it is.
    ///
    /// # Errors
    /// [`AccountError::Field`] when the name cannot be stored.
    pub async fn create_account(&self, name: &str, at: UnixMillis) -> Result<(), AccountError> {
        field::id("account", name)?;
        retry(move || create(self.database(), name, at)).await
    }

    /// Says which wallet a user's deposits come from.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], or [`AccountError::WalletTaken`] when it is another account's.
    pub async fn link_wallet(&self, name: &str, wallet: WalletAddress) -> Result<(), AccountError> {
        retry(move || link(self.database(), name, wallet)).await
    }

    /// A user's account; `None` when there is none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn account(&self, name: &str) -> Result<Option<Account>, ReadError> {
        let key = Party::User(name.to_owned()).to_string();
        retry(|| find(self.database(), GET, key.clone())).await
    }

    /// The account whose deposits come from a wallet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn account_of_wallet(&self, wallet: WalletAddress) -> Result<Option<Account>, ReadError> {
        retry(|| find(self.database(), OF_WALLET, wallet.to_string())).await
    }

    /// All users' accounts, in the order of their names.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn accounts(&self) -> Result<Vec<Account>, ReadError> {
        retry(|| async {
            let rows = query(LIST).fetch_all(&mut self.database().read().await?).await?;
            rows.iter().map(Account::read).collect()
        })
        .await
    }

    /// Adds FAR to a user's balance, once for each [`TopUp::key`].
    ///
    /// # Errors
    /// [`TopUpError`]: an unknown account, or a key that was used for another top-up.
    pub async fn top_up(&self, top_up: &TopUp) -> Result<Posted, TopUpError> {
        field::id("account", &top_up.account)?;
        field::id("key", &top_up.key)?;
        if top_up.amount.is_zero() {
            return Err(TopUpError::Nothing);
        }
        let credit = Party::User(top_up.account.clone());
        let line = Line { debit: Party::Outside, credit, amount: top_up.amount };
        let posting = Posting::new(Kind::TopUp, &top_up.key, [line], top_up.at);
        retry(|| async {
            let mut transaction = self.database().begin().await?;
            let posted = post(&mut transaction, &posting).await?;
            transaction.commit().await?;
            Ok(posted)
        })
        .await
    }

    /// What the keys of an account used on the days from `first` to `last`, both included, in the order of days.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn usage(&self, account: &str, first: UnixMillis, last: UnixMillis) -> Result<Vec<Usage>, ReadError> {
        let day = |time: UnixMillis| time.get().div_euclid(DAY_MS);
        let key = Party::User(account.to_owned()).to_string();
        retry(|| async {
            let usage = query(USAGE).bind(&key).bind(day(first)).bind(day(last));
            let rows = usage.fetch_all(&mut self.database().read().await?).await?;
            rows.iter().map(Usage::read).collect()
        })
        .await
    }

    /// The balance of a party, in nano-FAR, as the accounts hold it; `None` where it has no account. Below zero for
    /// [`Party::Open`] and [`Party::Outside`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn balance(&self, party: &Party) -> Result<Option<i64>, ReadError> {
        let key = party.to_string();
        retry(|| async {
            let balance = query("SELECT balance_far FROM far_accounts WHERE id = $1").bind(&key);
            let row = balance.fetch_optional(&mut self.database().read().await?).await?;
            row.map(|row| row.get("balance_far")).transpose()
        })
        .await
    }
}

async fn create(database: &Database, name: &str, at: UnixMillis) -> Result<(), AccountError> {
    let mut transaction = database.begin().await?;
    let key = Party::User(name.to_owned()).to_string();
    query(CREATE).bind(key).bind(at.get()).execute(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

async fn link(database: &Database, name: &str, wallet: WalletAddress) -> Result<(), AccountError> {
    let mut transaction = database.begin().await?;
    let key = Party::User(name.to_owned()).to_string();
    // Two links of one wallet at once: the unique index lets one through, and this lock the other see it.
    transaction.exclusive(Topic::Wallets).await?;
    if query(LINK).bind(&key).bind(wallet.to_string()).execute(&mut transaction).await? == 0 {
        let known = query(GET).bind(&key).fetch_optional(&mut transaction).await?.is_some();
        let account = name.to_owned();
        return Err(if known { AccountError::WalletTaken { wallet } } else { AccountError::Unknown { account } });
    }
    Ok(transaction.commit().await?)
}

async fn find(database: &Database, sql: &'static str, key: String) -> Result<Option<Account>, ReadError> {
    let row = query(sql).bind(key).fetch_optional(&mut database.read().await?).await?;
    row.as_ref().map(Account::read).transpose()
}
