//! From rows to types.

use crate::{
    account::{Account, Party, Payer, Usage},
    contribution::{Contribution, ContributionRow},
    key::KeyRow,
    node::{Node, NodeEarnings, NodeRow},
    session::{NewSession, Session, Status},
    store::{
        database::{Row, bad},
        error::ReadError,
    },
    time::UnixMillis,
};

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// A type that a row says.
pub(super) trait Read: Sized {
    fn read(row: &Row) -> Result<Self, ReadError>;
}

impl Read for Session {
    fn read(row: &Row) -> Result<Self, ReadError> {
        let status: String = row.get("status")?;
        let account: Option<String> = row.get("account_id")?;
        Ok(Self {
            begun: NewSession {
                id: row.get("id")?,
                request_id: row.get("request_id")?,
                user_wallet: row.wallet("user_wallet")?,
                payer: account.map(|key| payer(row, &key)).transpose()?,
                coordinator: row.get("coordinator_id")?,
                model_id: row.get("model_id")?,
                prompt_text: row.get("prompt_text")?,
                started_at: row.time("started_at")?,
            },
            tokens_generated: row.number("tokens_generated")?,
            total_cost: row.amount("total_cost_far")?,
            fee: row.amount("fee_far")?,
            completed_at: row.optional_time("completed_at")?,
            status: status.parse::<Status>().map_err(|_| bad("status", &status))?,
            failure: row.get("failure")?,
        })
    }
}

fn payer(row: &Row, key: &str) -> Result<Payer, ReadError> {
    Ok(Payer {
        account: user(key)?,
        key: row.get("api_key_id")?,
        reserve: row.amount("reserved_far")?,
        until: row.time("reserved_until")?,
    })
}

/// The name in the key of a user's account.
pub(super) fn user(key: &str) -> Result<String, ReadError> {
    match key.parse() {
        Ok(Party::User(name)) => Ok(name),
        _ => Err(bad("account_id", key)),
    }
}

impl Read for ContributionRow {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            session_id: row.get("session_id")?,
            contribution: Contribution {
                node_id: row.get("node_id")?,
                layers_start: row.number("layers_start")?,
                layers_end: row.number("layers_end")?,
                tokens: row.number("tokens_contributed")?,
                token_layers: row.number("token_layers")?,
                compute_ms: row.number("compute_ms")?,
                exact: row.truth("exact")?,
                payment: row.amount("payment_far")?,
            },
            paid_at: row.optional_time("paid_at")?,
            payment_tx_hash: row.get("payment_tx_hash")?,
        })
    }
}

impl Read for NodeRow {
    fn read(row: &Row) -> Result<Self, ReadError> {
        let vram_gb: Option<i64> = row.get("vram_gb")?;
        Ok(Self {
            node: Node {
                node_id: row.get("node_id")?,
                wallet: row.wallet("wallet_address")?,
                gpu_model: row.get("gpu_model")?,
                vram_gb: vram_gb.map(|gb| u32::try_from(gb).map_err(|_| bad("vram_gb", gb))).transpose()?,
                location: row.get("location")?,
                last_seen: row.time("last_seen")?,
            },
            total_tokens_served: row.number("total_tokens_served")?,
            total_earned: row.amount("total_earned_far")?,
        })
    }
}

impl Read for NodeEarnings {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            node_id: row.get("node_id")?,
            wallet: row.wallet("wallet_address")?,
            sessions: row.number("sessions")?,
            tokens: row.number("tokens_contributed")?,
            earned: row.amount("earned_far")?,
            paid: row.amount("paid_far")?,
            unpaid: row.amount("unpaid_far")?,
        })
    }
}

impl Read for Account {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            name: user(&row.get::<String>("id")?)?,
            wallet: row.wallet("wallet_address")?,
            balance: row.amount("balance_far")?,
            reserved: row.amount("reserved_far")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Read for KeyRow {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            id: row.get("id")?,
            account: user(&row.get::<String>("account_id")?)?,
            label: row.get("label")?,
            created_at: row.time("created_at")?,
            revoked_at: row.optional_time("revoked_at")?,
            last_used_at: row.optional_time("last_used_at")?,
        })
    }
}

impl Read for Usage {
    fn read(row: &Row) -> Result<Self, ReadError> {
        let day: i64 = row.get("day")?;
        let start = day.checked_mul(DAY_MS).and_then(UnixMillis::new).ok_or_else(|| bad("day", day))?;
        Ok(Self {
            key: row.get("api_key_id")?,
            day: start,
            sessions: row.number("sessions")?,
            tokens: row.number("tokens")?,
            cost: row.amount("cost_far")?,
        })
    }
}
