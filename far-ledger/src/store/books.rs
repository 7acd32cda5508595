//! Balances that a transaction has locked, and what it makes of them.
//!
//! A [`Books`] holds the rows of accounts as they are and stay until the transaction ends. A [`Draft`] works out a few
//! moves on top of them and either becomes part of the books as a whole or is dropped: so one refused session of a batch
//! leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    account::Party,
    amount::Amount,
    journal::{Line, Posted, Posting},
    store::{
        database::{Rows, Sql, Transaction, batch, of_the_database, query, reading},
        error::{BackendError, ReadError},
    },
};

/// Why an amount is not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// There is no such account.
    #[error("there is no account {account}: create it first")]
    Unknown {
        /// Key of the account.
        account: String,
    },
    /// The account has too little.
    #[error("account {account} has {available} FAR, {needed} FAR are needed: top it up")]
    Insufficient {
        /// Key of the account.
        account: String,
        /// What it has and does not hold for sessions.
        available: Amount,
        /// What was to be taken.
        needed: Amount,
    },
    /// The account has too much.
    #[error("the balance of account {account} would pass what the ledger can hold: nothing was moved, move less")]
    Overflow {
        /// Key of the account.
        account: String,
    },
}

/// Why a posting is not written. Nothing was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// An amount cannot be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The cause was posted with other lines.
    #[error(
        "{posting} was posted before with other accounts or amounts, which stays: draw a fresh key for a new posting"
    )]
    Conflict {
        /// Name of the posting.
        posting: String,
    },
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
of_the_database!(PostError(Read));
reading!(PostError);

const LOCK: Sql = Sql {
    sqlite: "SELECT id, balance_far, reserved_far FROM far_accounts WHERE id IN (SELECT value FROM json_each($1))",
    postgres: "SELECT id, balance_far, reserved_far FROM far_accounts WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
};

const LINES: &str = "SELECT debit, credit, amount_far FROM far_journal WHERE posting = $1 ORDER BY line";

batch! {
    static UPDATE = "UPDATE far_accounts SET balance_far = b.balance, reserved_far = b.reserved FROM"
        (id: Text, balance: Int, reserved: Int)
        "WHERE far_accounts.id = b.id";
    /// For a cause that cannot have been posted: an error where it was.
    static APPEND = "INSERT INTO far_journal (posting, line, kind, debit, credit, amount_far, posted_at)
        SELECT b.posting, b.line, b.kind, b.debit, b.credit, b.amount, b.at FROM"
        (posting: Text, line: Int, kind: Text, debit: Text, credit: Text, amount: Int, at: Int)
        "";
    static INSERT = "INSERT INTO far_journal (posting, line, kind, debit, credit, amount_far, posted_at)
        SELECT b.posting, b.line, b.kind, b.debit, b.credit, b.amount, b.at FROM"
        (posting: Text, line: Int, kind: Text, debit: Text, credit: Text, amount: Int, at: Int)
        "WHERE TRUE ON CONFLICT (posting, line) DO NOTHING";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Balance {
    balance: i64,
    reserved: i64,
}

/// Locked accounts.
#[derive(Debug, Default)]
pub(crate) struct Books {
    accounts: BTreeMap<String, Balance>,
    changed: BTreeSet<String>,
}

/// Moves that are being worked out.
#[derive(Debug)]
pub(crate) struct Draft<'b> {
    books: &'b Books,
    changed: BTreeMap<String, Balance>,
}

/// The outcome of a draft.
#[derive(Debug)]
pub(crate) struct Moves(BTreeMap<String, Balance>);

impl Books {
    /// Locks accounts, in the order of their keys. Those that do not exist are left out.
    pub(crate) async fn lock(transaction: &mut Transaction, keys: BTreeSet<String>) -> Result<Self, ReadError> {
        let rows = query(LOCK).bind(keys.into_iter().collect::<Vec<_>>()).fetch_all(transaction).await?;
        let mut accounts = BTreeMap::new();
        for row in rows {
            let balance = Balance { balance: row.get("balance_far")?, reserved: row.get("reserved_far")? };
            accounts.insert(row.get("id")?, balance);
        }
        Ok(Self { accounts, changed: BTreeSet::new() })
    }

    pub(crate) fn draft(&self) -> Draft<'_> {
        Draft { books: self, changed: BTreeMap::new() }
    }

    pub(crate) fn accept(&mut self, moves: Moves) {
        for (key, balance) in moves.0 {
            self.changed.insert(key.clone());
            self.accounts.insert(key, balance);
        }
    }

    /// Writes what changed.
    pub(crate) async fn write(self, transaction: &mut Transaction) -> Result<(), sqlx::Error> {
        let mut rows = UPDATE.rows();
        for (key, balance) in self.accounts.into_iter().filter(|(key, _)| self.changed.contains(key)) {
            rows.push((key, balance.balance, balance.reserved));
        }
        rows.execute(transaction).await?;
        Ok(())
    }
}

impl Draft<'_> {
    /// Takes from one side and gives to the other.
    pub(crate) fn apply(&mut self, line: &Line) -> Result<(), MoveError> {
        let amount = line.amount.nano();
        let debit = line.debit.to_string();
        let from = self.get(&debit)?;
        let left = from.balance.checked_sub(amount).ok_or_else(|| MoveError::Overflow { account: debit.clone() })?;
        if left < from.reserved && !line.debit.may_owe() {
            return Err(self.insufficient(debit, from, line.amount));
        }
        self.changed.insert(debit, Balance { balance: left, ..from });
        let credit = line.credit.to_string();
        let to = self.get(&credit)?;
        let sum = to.balance.checked_add(amount).ok_or_else(|| MoveError::Overflow { account: credit.clone() })?;
        self.changed.insert(credit, Balance { balance: sum, ..to });
        Ok(())
    }

    /// Lets go what was held.
    pub(crate) fn release(&mut self, party: &Party, nano: i64) -> Result<(), MoveError> {
        let key = party.to_string();
        let account = self.get(&key)?;
        // Never below zero, whatever somebody did by hand: the audit tells of it.
        let reserved = account.reserved.saturating_sub(nano).max(0);
        self.changed.insert(key, Balance { reserved, ..account });
        Ok(())
    }

    pub(crate) fn finish(self) -> Moves {
        Moves(self.changed)
    }

    fn get(&self, key: &str) -> Result<Balance, MoveError> {
        let found = self.changed.get(key).or_else(|| self.books.accounts.get(key));
        found.copied().ok_or_else(|| MoveError::Unknown { account: key.to_owned() })
    }

    fn insufficient(&self, account: String, found: Balance, needed: Amount) -> MoveError {
        let available = Amount::from_nano(found.balance.saturating_sub(found.reserved)).unwrap_or_default();
        MoveError::Insufficient { account, available, needed }
    }
}

/// Posts one cause: moves its amounts once, however often it is posted.
pub(crate) async fn post(transaction: &mut Transaction, posting: &Posting) -> Result<Posted, PostError> {
    let parties = posting.lines.iter().flat_map(|line| [&line.debit, &line.credit]);
    let mut books = Books::lock(transaction, parties.map(ToString::to_string).collect()).await?;
    if let Some(done) = posted(transaction, posting).await? {
        return Ok(done);
    }
    let mut draft = books.draft();
    posting.lines.iter().try_for_each(|line| draft.apply(line))?;
    let moves = draft.finish();
    books.accept(moves);
    let mut rows = INSERT.rows();
    add_lines(&mut rows, posting);
    let written = rows.execute(transaction).await?;
    if written != posting.lines.len() as u64 {
        // Somebody else posted it in between: the insertion waited for him.
        return posted(transaction, posting).await?.ok_or_else(|| conflict(posting));
    }
    books.write(transaction).await?;
    Ok(Posted::Now)
}

/// Writes the lines of postings whose causes cannot have been posted before.
pub(crate) async fn append(transaction: &mut Transaction, postings: &[Posting]) -> Result<(), sqlx::Error> {
    let mut rows = APPEND.rows();
    postings.iter().for_each(|posting| add_lines(&mut rows, posting));
    rows.execute(transaction).await?;
    Ok(())
}

fn add_lines(rows: &mut Rows, posting: &Posting) {
    for (number, line) in (0_i64..).zip(&posting.lines) {
        rows.push((
            posting.id.as_str(),
            number,
            posting.kind.as_str(),
            line.debit.to_string(),
            line.credit.to_string(),
            line.amount.nano(),
            posting.at.get(),
        ));
    }
}

/// What is posted under the name, compared; `None` where there is nothing.
async fn posted(transaction: &mut Transaction, posting: &Posting) -> Result<Option<Posted>, PostError> {
    let mut stored = Vec::new();
    for row in query(LINES).bind(&posting.id).fetch_all(transaction).await? {
        stored.push((row.get::<String>("debit")?, row.get::<String>("credit")?, row.amount("amount_far")?));
    }
    if stored.is_empty() {
        return Ok(None);
    }
    let lines = posting.lines.iter().map(|line| (line.debit.to_string(), line.credit.to_string(), line.amount));
    if stored.into_iter().eq(lines) { Ok(Some(Posted::Before)) } else { Err(conflict(posting)) }
}

fn conflict(posting: &Posting) -> PostError {
    PostError::Conflict { posting: posting.id.clone() }
}
