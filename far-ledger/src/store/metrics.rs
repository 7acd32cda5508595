//! A row of figures every minute, and hours and days of them.

use std::time::Duration;

use crate::{
    amount::Amount,
    store::{
        database::{Database, Row, Topic, query, retry},
        error::ReadError,
        ledger::Ledger,
    },
    time::UnixMillis,
};

const MINUTE_MS: i64 = 60_000;

const HOUR_MS: i64 = 60 * MINUTE_MS;

/// How long ago a node may have been heard of and still count as active. A coordinator writes that a node is still
/// there every five minutes (`SEEN` in far-mesh-node's engine), however often the node advertises: that, and a minute
/// for a write that comes late.
const ACTIVE: Duration = Duration::from_secs(6 * 60);

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

const HOURS: &str = "
SELECT hour AS start, total_nodes, active_nodes, sessions, tokens_generated, avg_latency_ms, far_paid
FROM far_mesh_metrics_hourly WHERE hour >= $1 AND hour < $2 ORDER BY hour";

const DAYS: &str = "
SELECT day AS start, total_nodes, active_nodes, sessions, tokens_generated, avg_latency_ms, far_paid
FROM far_mesh_metrics_daily WHERE day >= $1 AND day < $2 ORDER BY day";

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

    /// Hours or days of the minutes that are kept, from `from` to before `to`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn roll_ups(&self, period: Period, from: UnixMillis, to: UnixMillis) -> Result<Vec<RollUp>, ReadError> {
        let sql = match period {
            Period::Hour => HOURS,
            Period::Day => DAYS,
        };
        retry(|| async {
            let rows = query(sql).bind(from.get()).bind(to.get());
            rows.fetch_all(&mut self.database().read().await?).await?.iter().map(RollUp::read).collect()
        })
        .await
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
