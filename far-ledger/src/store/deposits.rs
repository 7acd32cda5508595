//! FAR that came in on a chain, credited once.

use crate::{
    account::Party,
    amount::Amount,
    field::{self, FieldError},
    journal::{Kind, Line, Posted, Posting},
    store::{
        books::{PostError, post},
        database::{Database, of_the_database, query, retry},
        error::{BackendError, ReadError},
        ledger::Ledger,
    },
    time::UnixMillis,
    wallet::WalletAddress,
};

/// A transfer to the operator's deposit address, deep enough in its chain to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// Number of the chain.
    pub chain_id: u64,
    /// Hash of the transaction: `0x` and 64 hexadecimal digits.
    pub tx_hash: String,
    /// Number of the log in its block.
    pub log_index: u64,
    /// The user it is credited to.
    pub account: String,
    /// Where it came from.
    pub from: WalletAddress,
    /// How much.
    pub amount: Amount,
    /// Its block.
    pub block_number: u64,
    /// When it is credited.
    pub at: UnixMillis,
}

/// Why a deposit is not credited. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DepositError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Nothing is no deposit.
    #[error("a deposit of nothing: less than a nano-FAR cannot be credited")]
    Nothing,
    /// The hash is none.
    #[error("{hash:?} is not the hash of a transaction: 0x and 64 hexadecimal digits")]
    Hash {
        /// What was given, cut where it is long.
        hash: String,
    },
    /// It cannot be posted.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
of_the_database!(DepositError(Post));

const INSERT: &str = "
INSERT INTO far_deposits (chain_id, tx_hash, log_index, account_id, from_address, amount_far, block_number, credited_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (chain_id, tx_hash, log_index) DO NOTHING";

const KNOWN: &str =
    "SELECT COUNT(*) AS known FROM far_deposits WHERE chain_id = $1 AND tx_hash = $2 AND log_index = $3";

impl Ledger {
    /// Whether a log of a chain was credited, to whomever.
    pub(crate) async fn is_credited(&self, chain_id: u64, tx_hash: &str, log_index: u64) -> Result<bool, ReadError> {
        retry(|| is_credited(self.database(), chain_id, tx_hash, log_index)).await
    }

    /// Credits a deposit to a user, once for each log of a chain.
    ///
    /// # Errors
    /// [`DepositError`]: an unknown account, or a log that was credited otherwise.
    pub async fn credit_deposit(&self, deposit: &Deposit) -> Result<Posted, DepositError> {
        field::id("account", &deposit.account)?;
        if deposit.amount.is_zero() {
            return Err(DepositError::Nothing);
        }
        let tx_hash = hash(&deposit.tx_hash)?;
        retry(|| credit(self.database(), deposit, &tx_hash)).await
    }
}

async fn is_credited(database: &Database, chain_id: u64, tx_hash: &str, log_index: u64) -> Result<bool, ReadError> {
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let known = query(KNOWN).bind(bound(chain_id)).bind(tx_hash).bind(bound(log_index));
    Ok(known.fetch_one(&mut database.read().await?).await?.number::<u64>("known")? > 0)
}

async fn credit(database: &Database, deposit: &Deposit, tx_hash: &str) -> Result<Posted, DepositError> {
    let account = Party::User(deposit.account.clone());
    let cause = format!("{}:{tx_hash}:{}", deposit.chain_id, deposit.log_index);
    let line = Line { debit: Party::Outside, credit: account.clone(), amount: deposit.amount };
    let posting = Posting::new(Kind::Deposit, &cause, [line], deposit.at);
    let mut transaction = database.begin().await?;
    // First the posting: it knows whether the account is there, and whether this was credited before.
    let posted = post(&mut transaction, &posting).await?;
    if posted == Posted::Now {
        query(INSERT)
            .bind(field::bigint("chain_id", deposit.chain_id)?)
            .bind(tx_hash)
            .bind(field::bigint("log_index", deposit.log_index)?)
            .bind(account.to_string())
            .bind(deposit.from.to_string())
            .bind(deposit.amount.nano())
            .bind(field::bigint("block_number", deposit.block_number)?)
            .bind(deposit.at.get())
            .execute(&mut transaction)
            .await?;
        transaction.commit().await?;
    }
    Ok(posted)
}

/// One hash has one text, so that two spellings are one deposit.
fn hash(text: &str) -> Result<String, DepositError> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 64);
    match digits {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(text.to_ascii_lowercase()),
        _ => Err(DepositError::Hash { hash: text.chars().take(80).collect() }),
    }
}
