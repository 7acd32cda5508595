//! How long what is not money is kept.

use std::{num::NonZeroU32, str::FromStr};

use crate::{
    store::{
        database::{Database, Topic, bad, query, retry},
        error::ReadError,
        ledger::Ledger,
        rows::DAY_MS,
    },
    time::UnixMillis,
};

/// What may be removed after some days. Sessions, contributions, accounts and the journal stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kept {
    /// Figures of minutes.
    Metrics,
    /// Texts of prompts.
    Prompts,
    /// Signed receipts.
    Receipts,
}

/// What retention removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Minutes of figures.
    pub metrics: u64,
    /// Prompts; their sessions stay.
    pub prompts: u64,
    /// Receipts.
    pub receipts: u64,
}

const GET: &str = "SELECT subject, days FROM far_retention ORDER BY subject";

const SET: &str = "
INSERT INTO far_retention (subject, days) VALUES ($1, $2) ON CONFLICT (subject) DO UPDATE SET days = excluded.days";

const UNSET: &str = "DELETE FROM far_retention WHERE subject = $1";

// Some hundred rows a statement: others write in between.

const METRICS: &str = "
DELETE FROM far_mesh_metrics
WHERE measured_at IN (SELECT measured_at FROM far_mesh_metrics WHERE measured_at < $1 ORDER BY measured_at LIMIT 1000)";

const PROMPTS: &str = "
UPDATE far_mesh_sessions SET prompt_text = NULL
WHERE id IN (SELECT id FROM far_mesh_sessions
             WHERE completed_at IS NOT NULL AND completed_at < $1 AND prompt_text IS NOT NULL LIMIT 500)";

const RECEIPTS: &str = "
DELETE FROM far_receipts
WHERE received_at < $1
  AND session_id IN (SELECT session_id FROM far_receipts WHERE received_at < $1 ORDER BY received_at LIMIT 500)";

impl Ledger {
    /// How many days what is kept; what is not named is kept for ever.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn retention(&self) -> Result<Vec<(Kept, NonZeroU32)>, ReadError> {
        retry(|| async {
            let rows = query(GET).fetch_all(&mut self.database().read().await?).await?;
            rows.iter()
                .map(|row| {
                    let subject: String = row.get("subject")?;
                    let days: u32 = row.number("days")?;
                    let days = NonZeroU32::new(days).ok_or_else(|| bad("days", days))?;
                    Ok((subject.parse().map_err(|()| bad("subject", &subject))?, days))
                })
                .collect()
        })
        .await
    }

    /// Says how many days something is kept; `None` is for ever.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn set_retention(&self, kept: Kept, days: Option<NonZeroU32>) -> Result<(), ReadError> {
        retry(|| async {
            let mut transaction = self.database().begin().await?;
            let set = match days {
                Some(days) => query(SET).bind(kept.as_str()).bind(i64::from(days.get())),
                None => query(UNSET).bind(kept.as_str()),
            };
            set.execute(&mut transaction).await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Removes what is older than it is to be kept. Call it now and then.
    ///
    /// # Errors
    /// [`ReadError`]; what was removed by then stays removed.
    pub async fn apply_retention(&self, now: UnixMillis) -> Result<Removed, ReadError> {
        let mut removed = Removed::default();
        for (kept, days) in self.retention().await? {
            let before = now.get().saturating_sub(i64::from(days.get()).saturating_mul(DAY_MS));
            let (sql, count) = match kept {
                Kept::Metrics => (METRICS, &mut removed.metrics),
                Kept::Prompts => (PROMPTS, &mut removed.prompts),
                Kept::Receipts => (RECEIPTS, &mut removed.receipts),
            };
            loop {
                let rows = retry(|| remove(self.database(), sql, before)).await?;
                if rows == 0 {
                    break;
                }
                *count = count.saturating_add(rows);
            }
        }
        Ok(removed)
    }
}

async fn remove(database: &Database, sql: &'static str, before: i64) -> Result<u64, ReadError> {
    let mut transaction = database.begin().await?;
    transaction.exclusive(Topic::Upkeep).await?;
    let rows = query(sql).bind(before).execute(&mut transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

impl Kept {
    /// The name, as it is stored and configured.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Prompts => "prompts",
            Self::Receipts => "receipts",
        }
    }
}

impl FromStr for Kept {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Metrics, Self::Prompts, Self::Receipts].into_iter().find(|kept| kept.as_str() == text).ok_or(())
    }
}
