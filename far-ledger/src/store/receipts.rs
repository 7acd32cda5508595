//! Signed receipts, as evidence behind contributions.

use crate::{
    field::{self, FieldError},
    store::{
        database::{Database, Row, batch, of_the_database, query, retry},
        error::{BackendError, ReadError},
        ledger::Ledger,
    },
    time::UnixMillis,
};

/// Receipts of one call: a long session on a long route has some thousand.
pub const MAX_RECEIPTS: usize = 10_000;

/// An account of a hop's work that the hop and its neighbour signed. Hashes and signatures are texts that the ledger does
/// not look into: whoever writes them has checked them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// The session.
    pub session_id: String,
    /// The hop.
    pub node_id: String,
    /// First layer it ran.
    pub layers_start: u32,
    /// Layer after the last.
    pub layers_end: u32,
    /// First position.
    pub first_position: u32,
    /// Positions.
    pub tokens: u32,
    /// Number of the step that brought the first position.
    pub first_step: u64,
    /// Number of the step that brought the last.
    pub last_step: u64,
    /// Hash of the model.
    pub model_hash: String,
    /// Class of the hop's kernels.
    pub kernel_class: String,
    /// Commitment to what went in.
    pub input_commitment: String,
    /// Commitment to what came out.
    pub output_commitment: String,
    /// The hop's signature.
    pub hop_signature: String,
    /// The neighbour.
    pub witness_id: String,
    /// The neighbour's signature.
    pub witness_signature: String,
    /// When it came.
    pub received_at: UnixMillis,
}

/// Why receipts are not written. None was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There are too many.
    #[error("{count} receipts at once, at most {MAX_RECEIPTS} are written: write them in parts")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// There is no such session.
    #[error("session {session_id} is not in the ledger: begin it first")]
    UnknownSession {
        /// The session.
        session_id: String,
    },
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}
of_the_database!(ReceiptError);

batch! {
    static INSERT = "INSERT INTO far_receipts
        (session_id, node_id, layers_start, layers_end, first_position, tokens, first_step, last_step, model_hash,
         kernel_class, input_commitment, output_commitment, hop_signature, witness_id, witness_signature, received_at)
        SELECT b.session, b.node, b.layers_start, b.layers_end, b.first_position, b.tokens, b.first_step, b.last_step,
               b.model, b.class, b.input, b.output, b.hop, b.witness, b.witness_signature, b.at FROM"
        (session: Text, node: Text, layers_start: Int, layers_end: Int, first_position: Int, tokens: Int,
         first_step: Int, last_step: Int, model: Text, class: Text, input: Text, output: Text, hop: Text, witness: Text, witness_signature: Text, at: Int)
        "WHERE TRUE ON CONFLICT (session_id, node_id, layers_start, first_position) DO NOTHING";
}

const OF_SESSION: &str = "
SELECT * FROM far_receipts WHERE session_id = $1 ORDER BY layers_start, node_id, first_position";

impl Ledger {
    /// Writes receipts and says how many are new: one that is there already stays as it is.
    ///
    /// # Errors
    /// [`ReceiptError`]; none is written then.
    pub async fn record_receipts(&self, receipts: &[ReceiptRow]) -> Result<u64, ReceiptError> {
        if receipts.len() > MAX_RECEIPTS {
            return Err(ReceiptError::TooMany { count: receipts.len() });
        }
        receipts.iter().try_for_each(ReceiptRow::check)?;
        retry(|| record(self.database(), receipts)).await
    }

    /// The receipts of a session, in the order of layers, nodes and positions.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn receipts(&self, session_id: &str) -> Result<Vec<ReceiptRow>, ReadError> {
        retry(|| async {
            let rows = query(OF_SESSION).bind(session_id).fetch_all(&mut self.database().read().await?).await?;
            rows.iter().map(ReceiptRow::read).collect()
        })
        .await
    }
}

async fn record(database: &Database, receipts: &[ReceiptRow]) -> Result<u64, ReceiptError> {
    let mut transaction = database.begin().await?;
    let mut last = None;
    for receipt in receipts {
        let session_id = receipt.session_id.as_str();
        // Sessions never go: once seen is enough.
        if last.replace(session_id) == Some(session_id) {
            continue;
        }
        let known = query("SELECT 1 FROM far_mesh_sessions WHERE id = $1").bind(session_id);
        if known.fetch_optional(&mut transaction).await?.is_none() {
            return Err(ReceiptError::UnknownSession { session_id: session_id.to_owned() });
        }
    }
    let mut rows = INSERT.rows();
    for receipt in receipts {
        rows.push((
            &receipt.session_id,
            &receipt.node_id,
            i64::from(receipt.layers_start),
            i64::from(receipt.layers_end),
            i64::from(receipt.first_position),
            i64::from(receipt.tokens),
            field::bigint("first_step", receipt.first_step)?,
            field::bigint("last_step", receipt.last_step)?,
            &receipt.model_hash,
            &receipt.kernel_class,
            &receipt.input_commitment,
            &receipt.output_commitment,
            &receipt.hop_signature,
            &receipt.witness_id,
            &receipt.witness_signature,
            receipt.received_at.get(),
        ));
    }
    let new = rows.execute(&mut transaction).await?;
    transaction.commit().await?;
    Ok(new)
}

impl ReceiptRow {
    fn check(&self) -> Result<(), FieldError> {
        field::layers(self.layers_start, self.layers_end)?;
        for (name, value) in [
            ("session id", &self.session_id),
            ("node_id", &self.node_id),
            ("model_hash", &self.model_hash),
            ("kernel_class", &self.kernel_class),
            ("input_commitment", &self.input_commitment),
            ("output_commitment", &self.output_commitment),
            ("hop_signature", &self.hop_signature),
            ("witness_id", &self.witness_id),
            ("witness_signature", &self.witness_signature),
        ] {
            field::id(name, value)?;
        }
        if self.tokens == 0 { Err(FieldError::Empty { field: "tokens of a receipt" }) } else { Ok(()) }
    }

    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            session_id: row.get("session_id")?,
            node_id: row.get("node_id")?,
            layers_start: row.number("layers_start")?,
            layers_end: row.number("layers_end")?,
            first_position: row.number("first_position")?,
            tokens: row.number("tokens")?,
            first_step: row.number("first_step")?,
            last_step: row.number("last_step")?,
            model_hash: row.get("model_hash")?,
            kernel_class: row.get("kernel_class")?,
            input_commitment: row.get("input_commitment")?,
            output_commitment: row.get("output_commitment")?,
            hop_signature: row.get("hop_signature")?,
            witness_id: row.get("witness_id")?,
            witness_signature: row.get("witness_signature")?,
            received_at: row.time("received_at")?,
        })
    }
}
