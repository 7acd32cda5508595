//! From rows to types: whatever a file holds, a value is checked before it is believed.

use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    amount::Amount,
    contribution::{Contribution, ContributionRow},
    node::{Node, NodeEarnings, NodeRow},
    session::{NewSession, Session, Status},
    store::error::ReadError,
    time::UnixMillis,
    wallet::WalletAddress,
};

/// A type that a row says.
pub(super) trait Read: Sized {
    fn read(row: &SqliteRow) -> Result<Self, ReadError>;
}

impl Read for Session {
    fn read(row: &SqliteRow) -> Result<Self, ReadError> {
        let status: String = get(row, "status")?;
        Ok(Self {
            begun: NewSession {
                id: get(row, "id")?,
                request_id: get(row, "request_id")?,
                user_wallet: wallet(row, "user_wallet")?,
                model_id: get(row, "model_id")?,
                prompt_text: get(row, "prompt_text")?,
                started_at: time(row, "started_at")?,
            },
            tokens_generated: number(row, "tokens_generated")?,
            total_cost: amount(row, "total_cost_far")?,
            completed_at: optional_time(row, "completed_at")?,
            status: status.parse::<Status>().map_err(|_| bad("status", &status))?,
            failure: get(row, "failure")?,
        })
    }
}

impl Read for ContributionRow {
    fn read(row: &SqliteRow) -> Result<Self, ReadError> {
        Ok(Self {
            session_id: get(row, "session_id")?,
            contribution: Contribution {
                node_id: get(row, "node_id")?,
                layers_start: number(row, "layers_start")?,
                layers_end: number(row, "layers_end")?,
                tokens: number(row, "tokens_contributed")?,
                token_layers: number(row, "token_layers")?,
                compute_ms: number(row, "compute_ms")?,
                exact: number::<u32>(row, "exact")? != 0,
                payment: amount(row, "payment_far")?,
            },
            paid_at: optional_time(row, "paid_at")?,
            payment_tx_hash: get(row, "payment_tx_hash")?,
        })
    }
}

impl Read for NodeRow {
    fn read(row: &SqliteRow) -> Result<Self, ReadError> {
        let vram_gb: Option<i64> = get(row, "vram_gb")?;
        Ok(Self {
            node: Node {
                node_id: get(row, "node_id")?,
                wallet: wallet(row, "wallet_address")?,
                gpu_model: get(row, "gpu_model")?,
                vram_gb: vram_gb.map(|gb| u32::try_from(gb).map_err(|_| bad("vram_gb", gb))).transpose()?,
                location: get(row, "location")?,
                last_seen: time(row, "last_seen")?,
            },
            total_tokens_served: number(row, "total_tokens_served")?,
            total_earned: amount(row, "total_earned_far")?,
        })
    }
}

impl Read for NodeEarnings {
    fn read(row: &SqliteRow) -> Result<Self, ReadError> {
        Ok(Self {
            node_id: get(row, "node_id")?,
            wallet: wallet(row, "wallet_address")?,
            sessions: number(row, "sessions")?,
            tokens: number(row, "tokens_contributed")?,
            earned: amount(row, "earned_far")?,
            paid: amount(row, "paid_far")?,
            unpaid: amount(row, "unpaid_far")?,
        })
    }
}

fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, ReadError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(|error| match error {
        sqlx::Error::ColumnDecode { source, .. } => bad(column, source),
        error => ReadError::Backend(error.into()),
    })
}

fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Result<T, ReadError> {
    let value: i64 = get(row, column)?;
    T::try_from(value).map_err(|_| bad(column, value))
}

fn amount(row: &SqliteRow, column: &'static str) -> Result<Amount, ReadError> {
    let nano: i64 = get(row, column)?;
    Amount::from_nano(nano).map_err(|_| bad(column, nano))
}

fn time(row: &SqliteRow, column: &'static str) -> Result<UnixMillis, ReadError> {
    let millis: i64 = get(row, column)?;
    UnixMillis::new(millis).ok_or_else(|| bad(column, millis))
}

fn optional_time(row: &SqliteRow, column: &'static str) -> Result<Option<UnixMillis>, ReadError> {
    let millis: Option<i64> = get(row, column)?;
    millis.map(|millis| UnixMillis::new(millis).ok_or_else(|| bad(column, millis))).transpose()
}

fn wallet(row: &SqliteRow, column: &'static str) -> Result<Option<WalletAddress>, ReadError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| text.parse().map_err(|_| bad(column, &text))).transpose()
}

fn bad(column: &'static str, value: impl ToString) -> ReadError {
    ReadError::BadRow { column, value: value.to_string() }
}
