//! Earnings as CSV (RFC 4180), a page at a time: the export of a year needs no more memory than that of a day.

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{
    store::{
        database::{Row, query, reading, retry},
        error::{BackendError, ReadError},
        ledger::Ledger,
    },
    time::UnixMillis,
};

/// Rows of a page.
const PAGE: i64 = 1_000;

const HEADER: &str = "completed_at_ms,session_id,node_id,wallet_address,layers_start,layers_end,tokens,token_layers,payment_far,\
                      paid_at_ms,payment_tx_hash\r\n";

/// The rows after a row, of sessions that ended from `$1` to before `$2`, in an order that has no two rows in one place.
const ROWS: &str = "
SELECT s.completed_at, c.session_id, c.node_id, n.wallet_address, c.layers_start, c.layers_end, c.tokens_contributed,
       c.token_layers, c.payment_far, c.paid_at, c.payment_tx_hash
FROM far_mesh_sessions s
JOIN far_session_contributions c ON c.session_id = s.id
JOIN far_nodes n ON n.node_id = c.node_id
WHERE s.completed_at IS NOT NULL AND s.completed_at >= $1 AND s.completed_at < $2
  AND (s.completed_at, c.session_id, c.node_id, c.layers_start) > ($3, $4, $5, $6)
  AND ($7 = '' OR c.node_id = $7)
ORDER BY s.completed_at, c.session_id, c.node_id, c.layers_start
LIMIT $8";

/// Which earnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earnings {
    /// Of sessions that ended at this time or later.
    pub from: UnixMillis,
    /// Of sessions that ended before this time.
    pub to: UnixMillis,
    /// Of this node only.
    pub node_id: Option<String>,
}

/// Why an export ended early. What was written by then is whole lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Nothing more can be written.
    #[error("the earnings cannot be written")]
    Write(#[from] std::io::Error),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

reading!(ExportError);

/// Where a page ended.
struct Place {
    completed_at: i64,
    session_id: String,
    node_id: String,
    layers_start: i64,
}

impl Ledger {
    /// Writes what nodes earned as CSV, oldest first, and says how many rows there were.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn export_earnings(
        &self,
        earnings: &Earnings,
        to: &mut (impl AsyncWrite + Unpin + Send),
    ) -> Result<u64, ExportError> {
        to.write_all(HEADER.as_bytes()).await?;
        let mut place = Place { completed_at: -1, session_id: String::new(), node_id: String::new(), layers_start: -1 };
        let mut count = 0_u64;
        loop {
            let rows = retry(|| self.page(earnings, &place)).await?;
            let Some(last) = rows.last() else { break };
            place = Place::read(last)?;
            let mut page = String::new();
            for row in &rows {
                line(&mut page, row)?;
            }
            to.write_all(page.as_bytes()).await?;
            count = count.saturating_add(rows.len() as u64);
        }
        to.flush().await?;
        Ok(count)
    }

    async fn page(&self, earnings: &Earnings, after: &Place) -> Result<Vec<Row>, ReadError> {
        let rows = query(ROWS)
            // Pages after the first begin at their place in the index, not at the beginning.
            .bind(earnings.from.get().max(after.completed_at))
            .bind(earnings.to.get())
            .bind(after.completed_at)
            .bind(&after.session_id)
            .bind(&after.node_id)
            .bind(after.layers_start)
            .bind(earnings.node_id.as_deref().unwrap_or_default())
            .bind(PAGE);
        Ok(rows.fetch_all(&mut self.database().read().await?).await?)
    }
}

impl Place {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            completed_at: row.get("completed_at")?,
            session_id: row.get("session_id")?,
            node_id: row.get("node_id")?,
            layers_start: row.get("layers_start")?,
        })
    }
}

fn line(page: &mut String, row: &Row) -> Result<(), ReadError> {
    let text = |column| row.get::<Option<String>>(column).map(Option::unwrap_or_default);
    let number = |column| row.get::<Option<i64>>(column).map(|value| value.map_or_else(String::new, |n| n.to_string()));
    let fields = [
        number("completed_at")?,
        text("session_id")?,
        text("node_id")?,
        text("wallet_address")?,
        number("layers_start")?,
        number("layers_end")?,
        number("tokens_contributed")?,
        number("token_layers")?,
        row.amount("payment_far")?.to_string(),
        number("paid_at")?,
        text("payment_tx_hash")?,
    ];
    page.push_str(&fields.map(|field| quoted(&field)).join(","));
    page.push_str("\r\n");
    Ok(())
}

/// A field, in quotes where it must be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_quoted() {
        assert_eq!(quoted("12D3KooW"), "12D3KooW");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"x\"\n"), "\"say \"\"x\"\"\n\"");
    }
}
