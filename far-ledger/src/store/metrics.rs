//! A row of figures every minute, and hours and days of them.

use std::time::Duration;

use crate::{
    amount::Amount,
    store::{
        database::{Database, Row, Topic, query, retry},
        error::ReadError,
        ledger::Ledger,
        rows::DAY_MS,
    },
    time::UnixMillis,
};

const MINUTE_MS: i64 = 60_000;

const HOUR_MS: i64 = 60 * MINUTE_MS;

/// How often a coordinator writes that a node is still there, however often the node advertises.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5 * 60);

/// How long ago a node may have been heard of and still count as active: a minute more, for a write that comes late.
const ACTIVE: Duration = SIGN_OF_LIFE.saturating_add(Duration::from_secs(60));

/// Figures of the mesh at a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The minute: its first millisecond.
    pub measured_at: UnixMillis,
    /// Nodes that were ever heard of.
    pub total_nodes: u64,
    /// Nodes that did not leave and were heard of in the last six minutes.
    pub active_nodes: u64,
    /// Sessions that ended well in the hour before the minute.
    pub sessions_last_hour: u64,
    /// Tokens they generated.
    pub tokens_generated_last_hour: u64,
    /// From a session's beginning to its end, on average over them.
    pub avg_latency_ms: u64,
    /// What was paid out in the hour before the minute.
    pub far_paid_last_hour: Amount,
}

/// An hour or a day of figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollUp {
    /// First millisecond.
    pub start: UnixMillis,
    /// Most nodes ever heard of.
    pub total_nodes: u64,
    /// Active nodes on average.
    pub active_nodes: u64,
    /// Sessions that ended well.
    pub sessions: u64,
    /// Tokens they generated.
    pub tokens_generated: u64,
    /// From beginning to end on average over them.
    pub avg_latency_ms: u64,
    /// What was paid out.
    pub far_paid: Amount,
}

/// How much a [`RollUp`] covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// One hour.
    Hour,
    /// One day, UTC.
    Day,
}

/// The hour before the minute `$1`, which begins at `$2`; a node heard of since `$3` is active.
const WRITE: &str = "
INSERT INTO far_mesh_metrics (measured_at, total_nodes, active_nodes, sessions_last_hour, tokens_generated_last_hour,
                              avg_latency_ms, far_paid_last_hour)
SELECT $1,
       (SELECT COUNT(*) FROM far_nodes),
       (SELECT COUNT(*) FROM far_nodes WHERE is_active = 1 AND last_seen >= $3),
       s.sessions, s.tokens, CASE WHEN s.sessions > 0 THEN s.latency / s.sessions ELSE 0 END,
       (SELECT CAST(COALESCE(SUM(payment_far), 0) AS BIGINT) FROM far_session_contributions
        WHERE paid_at IS NOT NULL AND paid_at >= $2 AND paid_at < $1)
FROM (SELECT COUNT(*) AS sessions, CAST(COALESCE(SUM(tokens_generated), 0) AS BIGINT) AS tokens,
             CAST(COALESCE(SUM(CASE WHEN completed_at > started_at THEN completed_at - started_at ELSE 0 END), 0)
                  AS BIGINT) AS latency
      FROM far_mesh_sessions
      WHERE completed_at IS NOT NULL AND completed_at >= $2 AND completed_at < $1 AND status = 'completed') s
WHERE TRUE
ON CONFLICT (measured_at) DO NOTHING";

const GET: &str = "SELECT * FROM far_mesh_metrics WHERE measured_at = $1";

const BETWEEN: &str =
    "SELECT * FROM far_mesh_metrics WHERE measured_at >= $1 AND measured_at < $2 ORDER BY measured_at";

/// Hours or days of `$3` milliseconds, as the views `far_mesh_metrics_hourly` and `far_mesh_metrics_daily` have them, of which
/// only what is asked for is looked at.
const ROLL_UPS: &str = "
SELECT at / CAST($3 AS BIGINT) * CAST($3 AS BIGINT) AS start,
       COALESCE(MAX(total_nodes), 0) AS total_nodes,
       COALESCE(CAST(SUM(active_nodes) AS BIGINT) / NULLIF(COUNT(active_nodes), 0), 0) AS active_nodes,
       CAST(SUM(sessions) AS BIGINT) AS sessions,
       CAST(SUM(tokens_generated) AS BIGINT) AS tokens_generated,
       COALESCE(CAST(SUM(latency_ms) AS BIGINT) / NULLIF(CAST(SUM(sessions) AS BIGINT), 0), 0) AS avg_latency_ms,
       CAST(SUM(far_paid) AS BIGINT) AS far_paid
FROM (
    SELECT measured_at AS at, total_nodes, active_nodes, 0 AS sessions, 0 AS tokens_generated, 0 AS latency_ms,
           0 AS far_paid
    FROM far_mesh_metrics WHERE measured_at >= $1 AND measured_at < $2
    UNION ALL
    SELECT completed_at, NULL, NULL, 1, tokens_generated,
           CASE WHEN completed_at > started_at THEN completed_at - started_at ELSE 0 END, 0
    FROM far_mesh_sessions WHERE completed_at >= $1 AND completed_at < $2 AND status = 'completed'
    UNION ALL
    SELECT paid_at, NULL, NULL, 0, 0, 0, payment_far
    FROM far_session_contributions WHERE paid_at >= $1 AND paid_at < $2
) AS moments
GROUP BY at / CAST($3 AS BIGINT) * CAST($3 AS BIGINT)
ORDER BY start";

impl Ledger {
    /// Writes the figures of the minute that holds `now`, once: whoever comes later gets what the first wrote.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn write_metrics(&self, now: UnixMillis) -> Result<Metrics, ReadError> {
        retry(|| write(self.database(), now)).await
    }

    /// The minutes from `from` to before `to`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn metrics(&self, from: UnixMillis, to: UnixMillis) -> Result<Vec<Metrics>, ReadError> {
        retry(|| async {
            let rows = query(BETWEEN).bind(from.get()).bind(to.get());
            rows.fetch_all(&mut self.database().read().await?).await?.iter().map(Metrics::read).collect()
        })
        .await
    }

    /// Hours or days, from the one that holds `from` to before the one that holds `to`; those in which nothing was are left
    /// out. Sessions and payments are counted where they ended, nodes in the minutes that are kept.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn roll_ups(&self, period: Period, from: UnixMillis, to: UnixMillis) -> Result<Vec<RollUp>, ReadError> {
        let span = period.millis();
        let start = |at: UnixMillis| at.get().saturating_sub(at.get().rem_euclid(span));
        retry(|| async {
            let rows = query(ROLL_UPS).bind(start(from)).bind(start(to)).bind(span);
            rows.fetch_all(&mut self.database().read().await?).await?.iter().map(RollUp::read).collect()
        })
        .await
    }
}

impl Period {
    fn millis(self) -> i64 {
        match self {
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }
}

async fn write(database: &Database, now: UnixMillis) -> Result<Metrics, ReadError> {
    let minute = now.get().saturating_sub(now.get().rem_euclid(MINUTE_MS));
    let mut transaction = database.begin().await?;
    transaction.exclusive(Topic::Upkeep).await?;
    query(WRITE)
        .bind(minute)
        .bind(minute.saturating_sub(HOUR_MS))
        .bind(now.before(ACTIVE).get())
        .execute(&mut transaction)
        .await?;
    let row = query(GET).bind(minute).fetch_one(&mut transaction).await?;
    let metrics = Metrics::read(&row)?;
    transaction.commit().await?;
    Ok(metrics)
}

impl Metrics {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            measured_at: row.time("measured_at")?,
            total_nodes: row.number("total_nodes")?,
            active_nodes: row.number("active_nodes")?,
            sessions_last_hour: row.number("sessions_last_hour")?,
            tokens_generated_last_hour: row.number("tokens_generated_last_hour")?,
            avg_latency_ms: row.number("avg_latency_ms")?,
            far_paid_last_hour: row.amount("far_paid_last_hour")?,
        })
    }
}

impl RollUp {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            start: row.time("start")?,
            total_nodes: row.number("total_nodes")?,
            active_nodes: row.number("active_nodes")?,
            sessions: row.number("sessions")?,
            tokens_generated: row.number("tokens_generated")?,
            avg_latency_ms: row.number("avg_latency_ms")?,
            far_paid: row.amount("far_paid")?,
        })
    }
}
