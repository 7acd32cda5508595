//! Recomputes what is kept as a sum from what it is the sum of, and tells of every difference.
//!
//! Everything begins at the contributions, deposits and confirmed batches: they say what must have been posted, the
//! journal says what every balance must be, the sessions what is held and used. All of it is read from one moment.

use std::fmt;

use futures::TryStreamExt;

use crate::store::{
    database::{Row, Transaction, query, retry},
    error::ReadError,
    ledger::Ledger,
    rows::DAY_MS,
};

/// Two numbers of the ledger that should be equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// What they are about.
    pub subject: Subject,
    /// The number that the ledger holds.
    pub stored: i64,
    /// The number that it comes to when it is worked out anew.
    pub computed: i64,
}

/// What a [`Difference`] is about. Amounts are in nano-FAR.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// The cost of a session, against its fee and payments.
    SessionCost {
        /// The session.
        session: String,
    },
    /// What a cause moved from one account to another by the journal, against sessions, deposits and confirmed batches.
    Posted {
        /// Name of the posting.
        posting: String,
        /// Who has it less.
        debit: String,
        /// Who has it more.
        credit: String,
    },
    /// The balance of an account, against the journal.
    Balance {
        /// Key of the account.
        account: String,
    },
    /// What an account holds for sessions, against the running ones.
    Reserved {
        /// Key of the account.
        account: String,
    },
    /// What a node earned, against its contributions.
    NodeEarned {
        /// The node.
        node: String,
    },
    /// Positions a node ran its layers for, against its contributions.
    NodeTokens {
        /// The node.
        node: String,
    },
    /// What a key used on a day, against its sessions.
    UsageCost {
        /// The key.
        key: String,
        /// Milliseconds since 1970 of the day's beginning, UTC.
        day: i64,
    },
    /// Tokens of a key on a day, against its sessions.
    UsageTokens {
        /// The key.
        key: String,
        /// Milliseconds since 1970 of the day's beginning, UTC.
        day: i64,
    },
    /// Sessions of a key on a day.
    UsageSessions {
        /// The key.
        key: String,
        /// Milliseconds since 1970 of the day's beginning, UTC.
        day: i64,
    },
}

/// A session that did not end well costs nothing and pays nobody.
const SESSION_COSTS: &str = "
SELECT s.id AS session, s.total_cost_far AS stored,
       CAST(COALESCE(p.payments, 0) + s.fee_far AS BIGINT) AS computed
FROM far_mesh_sessions s
LEFT JOIN (SELECT session_id, SUM(payment_far) AS payments FROM far_session_contributions GROUP BY session_id) p
    ON p.session_id = s.id
WHERE s.total_cost_far <> COALESCE(p.payments, 0) + s.fee_far
   OR (s.status <> 'completed' AND (s.total_cost_far <> 0 OR p.session_id IS NOT NULL))
ORDER BY s.id";

/// A batch's posting takes from each of its nodes, in one line, the sum of the node's contributions that it paid; a
/// batch that is not confirmed has none.
const POSTED: &str = "
SELECT posting, debit, credit, CAST(SUM(stored) AS BIGINT) AS stored, CAST(SUM(computed) AS BIGINT) AS computed
FROM (
    SELECT posting, debit, credit, amount_far AS stored, 0 AS computed
    FROM far_journal WHERE kind IN ('session', 'deposit', 'payout')
    UNION ALL
    SELECT 'session:' || c.session_id, COALESCE(s.account_id, 'open'), 'node:' || c.node_id, 0, c.payment_far
    FROM far_session_contributions c LEFT JOIN far_mesh_sessions s ON s.id = c.session_id
    UNION ALL
    SELECT 'session:' || id, COALESCE(account_id, 'open'), 'fees', 0, fee_far
    FROM far_mesh_sessions WHERE fee_far > 0
    UNION ALL
    SELECT 'deposit:' || CAST(chain_id AS TEXT) || ':' || tx_hash || ':' || CAST(log_index AS TEXT),
           'outside', account_id, 0, amount_far
    FROM far_deposits
    UNION ALL
    SELECT 'payout:' || c.payment_batch_id, 'node:' || c.node_id, 'outside', 0, c.payment_far
    FROM far_session_contributions c JOIN far_payment_batches b ON b.id = c.payment_batch_id
    WHERE b.status = 'confirmed'
) AS moves
GROUP BY posting, debit, credit
HAVING SUM(stored) <> SUM(computed)
ORDER BY posting, debit, credit";

const BALANCES: &str = "
SELECT account, CAST(SUM(stored) AS BIGINT) AS stored, CAST(SUM(computed) AS BIGINT) AS computed
FROM (
    SELECT id AS account, balance_far AS stored, 0 AS computed FROM far_accounts
    UNION ALL SELECT credit, 0, amount_far FROM far_journal
    UNION ALL SELECT debit, 0, -amount_far FROM far_journal
) AS moves
GROUP BY account
HAVING SUM(stored) <> SUM(computed)
ORDER BY account";

const RESERVED: &str = "
SELECT account, CAST(SUM(stored) AS BIGINT) AS stored, CAST(SUM(computed) AS BIGINT) AS computed
FROM (
    SELECT id AS account, reserved_far AS stored, 0 AS computed FROM far_accounts
    UNION ALL SELECT account_id, 0, reserved_far FROM far_reservations
) AS held
GROUP BY account
HAVING SUM(stored) <> SUM(computed)
ORDER BY account";

const NODES: &str = "
SELECT node, CAST(SUM(earned) AS BIGINT) AS earned, CAST(SUM(payments) AS BIGINT) AS payments,
       CAST(SUM(served) AS BIGINT) AS served, CAST(SUM(tokens) AS BIGINT) AS tokens
FROM (
    SELECT node_id AS node, total_earned_far AS earned, 0 AS payments, total_tokens_served AS served, 0 AS tokens
    FROM far_nodes
    UNION ALL SELECT node_id, 0, payment_far, 0, tokens_contributed FROM far_session_contributions
) AS totals
GROUP BY node
HAVING SUM(earned) <> SUM(payments) OR SUM(served) <> SUM(tokens)
ORDER BY node";

const USAGE: &str = "
SELECT api_key, day, CAST(SUM(used) AS BIGINT) AS used, CAST(SUM(cost) AS BIGINT) AS cost,
       CAST(SUM(used_tokens) AS BIGINT) AS used_tokens, CAST(SUM(tokens) AS BIGINT) AS tokens,
       CAST(SUM(used_sessions) AS BIGINT) AS used_sessions, CAST(SUM(sessions) AS BIGINT) AS sessions
FROM (
    SELECT api_key_id AS api_key, day, cost_far AS used, 0 AS cost, tokens AS used_tokens, 0 AS tokens,
           sessions AS used_sessions, 0 AS sessions
    FROM far_usage
    UNION ALL
    SELECT api_key_id, completed_at / 86400000, 0, total_cost_far, 0, tokens_generated, 0, 1
    FROM far_mesh_sessions WHERE status = 'completed' AND api_key_id IS NOT NULL
) AS days
GROUP BY api_key, day
HAVING SUM(used) <> SUM(cost) OR SUM(used_tokens) <> SUM(tokens) OR SUM(used_sessions) <> SUM(sessions)
ORDER BY api_key, day";

impl Ledger {
    /// Works out every sum of the ledger anew and tells of each that differs; none differs in a ledger that is right.
    ///
    /// Reads the whole ledger, from one moment and beside all writers.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn audit(&self) -> Result<Vec<Difference>, ReadError> {
        retry(|| async {
            let mut moment = self.database().snapshot().await?;
            let mut found = Vec::new();
            let pair = |row: &Row| Ok::<_, ReadError>((row.get("stored")?, row.get("computed")?));
            check(&mut moment, SESSION_COSTS, &mut found, |row, found| {
                found.add(Subject::SessionCost { session: row.get("session")? }, pair(row)?);
                Ok(())
            })
            .await?;
            check(&mut moment, POSTED, &mut found, |row, found| {
                let (posting, debit, credit) = (row.get("posting")?, row.get("debit")?, row.get("credit")?);
                found.add(Subject::Posted { posting, debit, credit }, pair(row)?);
                Ok(())
            })
            .await?;
            check(&mut moment, BALANCES, &mut found, |row, found| {
                found.add(Subject::Balance { account: row.get("account")? }, pair(row)?);
                Ok(())
            })
            .await?;
            check(&mut moment, RESERVED, &mut found, |row, found| {
                found.add(Subject::Reserved { account: row.get("account")? }, pair(row)?);
                Ok(())
            })
            .await?;
            check(&mut moment, NODES, &mut found, node).await?;
            check(&mut moment, USAGE, &mut found, used).await?;
            Ok(found)
        })
        .await
    }
}

fn node(row: &Row, found: &mut Vec<Difference>) -> Result<(), ReadError> {
    let node: String = row.get("node")?;
    found.differ(Subject::NodeEarned { node: node.clone() }, (row.get("earned")?, row.get("payments")?));
    found.differ(Subject::NodeTokens { node }, (row.get("served")?, row.get("tokens")?));
    Ok(())
}

fn used(row: &Row, found: &mut Vec<Difference>) -> Result<(), ReadError> {
    let key: String = row.get("api_key")?;
    let day = row.get::<i64>("day")?.saturating_mul(DAY_MS);
    found.differ(Subject::UsageCost { key: key.clone(), day }, (row.get("used")?, row.get("cost")?));
    found.differ(Subject::UsageTokens { key: key.clone(), day }, (row.get("used_tokens")?, row.get("tokens")?));
    found.differ(Subject::UsageSessions { key, day }, (row.get("used_sessions")?, row.get("sessions")?));
    Ok(())
}

/// Runs a statement that finds differences.
async fn check(
    moment: &mut Transaction,
    sql: &'static str,
    found: &mut Vec<Difference>,
    read: impl Fn(&Row, &mut Vec<Difference>) -> Result<(), ReadError> + Send,
) -> Result<(), ReadError> {
    let mut rows = query(sql).fetch(moment);
    while let Some(row) = rows.try_next().await? {
        read(&row, found)?;
    }
    Ok(())
}

trait Find {
    fn add(&mut self, subject: Subject, numbers: (i64, i64));
    fn differ(&mut self, subject: Subject, numbers: (i64, i64));
}

impl Find for Vec<Difference> {
    fn add(&mut self, subject: Subject, (stored, computed): (i64, i64)) {
        self.push(Difference { subject, stored, computed });
    }

    fn differ(&mut self, subject: Subject, numbers: (i64, i64)) {
        if numbers.0 != numbers.1 {
            self.add(subject, numbers);
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, stored, computed } = self;
        write!(f, "{subject}: the ledger holds {stored}, it comes to {computed}")
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionCost { session } => write!(f, "cost of session {session} in nano-FAR"),
            Self::Posted { posting, debit, credit } => {
                write!(f, "moved from {debit} to {credit} by {posting} in nano-FAR")
            }
            Self::Balance { account } => write!(f, "balance of {account} in nano-FAR"),
            Self::Reserved { account } => write!(f, "held of {account} for sessions in nano-FAR"),
            Self::NodeEarned { node } => write!(f, "earned by node {node} in nano-FAR"),
            Self::NodeTokens { node } => write!(f, "positions served by node {node}"),
            Self::UsageCost { key, day } => write!(f, "used by {key} on the day from {day} on in nano-FAR"),
            Self::UsageTokens { key, day } => write!(f, "tokens of {key} on the day from {day} on"),
            Self::UsageSessions { key, day } => write!(f, "sessions of {key} on the day from {day} on"),
        }
    }
}
