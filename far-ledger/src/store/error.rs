//! What may go wrong, an enum for each kind of operation, and what to do about it.

use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;

use crate::{
    amount::{Amount, NegativeAmount},
    field::FieldError,
    session::Status,
    store::{
        books::MoveError,
        database::{of_the_database, reading, sqlite_code},
        location::Location,
    },
};

/// The database does not do what it is asked. The cause is not in the request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Somebody else holds the database, or its server does not answer: repeat the call.
    #[error("the ledger did not answer in time: another writer holds it or its server is down, repeat the call")]
    Busy(#[source] sqlx::Error),
    /// Two writers got in each other's way, again and again: repeat the call.
    #[error("the ledger broke the transaction off for another writer's, repeat the call")]
    Conflict(#[source] sqlx::Error),
    /// The connection to the server broke. Whether the last call was written is not known: repeat it.
    #[error("the connection to the ledger's server was lost: repeat the call once the server is up")]
    Lost(#[source] sqlx::Error),
    /// There is no room.
    #[error("the disk of the ledger is full: make room, then repeat the call")]
    Full(#[source] sqlx::Error),
    /// The ledger may only be read.
    #[error(
        "the ledger can only be read: give this process the right to write the file and its directory, or name a server \
         that is no standby"
    )]
    ReadOnly(#[source] sqlx::Error),
    /// The file is damaged.
    #[error("the ledger's database is damaged: stop, keep a copy, and restore the last backup")]
    Damaged(#[source] sqlx::Error),
    /// The store was closed.
    #[error("the ledger is closed: open it again")]
    Closed(#[source] sqlx::Error),
    /// Anything else.
    #[error("the database of the ledger failed: {0}")]
    Failed(#[source] sqlx::Error),
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be made or opened.
    #[error("the ledger {} cannot be opened: make its directory and give this process the right to write there", .path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The file is no database, or a damaged one.
    #[error("{} is not an intact SQLite database: name another file or restore the last backup", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The server cannot be reached or does not let us in.
    #[error(
        "the ledger {ledger} cannot be opened: see that its server runs and that POSTGRES_URL names a user and a \
             database that it knows"
    )]
    Server {
        /// The ledger.
        ledger: Location,
        /// What the server or the system said.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// The database belongs to another program.
    #[error("{ledger} is a database of another program (it has a table {table:?}): name another one")]
    Foreign {
        /// The ledger.
        ledger: Location,
        /// A table that is not ours.
        table: String,
    },
    /// A newer version made the schema.
    #[error(
        "the ledger {ledger} has schema {found}, this program knows up to {known}: use the newer version that wrote it"
    )]
    NewerSchema {
        /// The ledger.
        ledger: Location,
        /// Schema of the ledger.
        found: i64,
        /// Newest schema of this program.
        known: i64,
    },
    /// A migration in it is not the one of this program.
    #[error(
        "the ledger {ledger} was made by another build: its migration {version} differs; use that build or name another"
    )]
    OtherSchema {
        /// The ledger.
        ledger: Location,
        /// The migration.
        version: i64,
    },
    /// A migration failed; the schema is as before.
    #[error(
        "the ledger {ledger} could not be migrated, its schema is as before: remove the cause and start again, or go \
         on with the version that was used before"
    )]
    Migrate {
        /// The ledger.
        ledger: Location,
        /// What failed.
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why something about a node was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is no such node.
    #[error("node {node_id} is not in the ledger: upsert it first")]
    Unknown {
        /// The node.
        node_id: String,
    },
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a session did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Another session has this identifier.
    #[error("another session is called {session_id}: draw a fresh identifier")]
    Conflict {
        /// The session.
        session_id: String,
    },
    /// There is no account of this name.
    #[error("there is no account {account}: create it and top it up")]
    UnknownAccount {
        /// The user.
        account: String,
    },
    /// The key is not one of the account, or was revoked.
    #[error("{key} is not a key of this account, or it was revoked: make a new one")]
    UnknownKey {
        /// Name of the key.
        key: String,
    },
    /// The account has less than the session may cost.
    #[error(
        "account {account} has {available} FAR free and the session may cost {needed} FAR: top it up or ask for less"
    )]
    Insufficient {
        /// The user.
        account: String,
        /// What it has and does not hold for other sessions.
        available: Amount,
        /// The most the session may cost.
        needed: Amount,
    },
    /// The session that has this identifier cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a session was not finalized. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinalizeError {
    /// There is no such session.
    #[error("session {session_id} is not in the ledger: begin it first")]
    UnknownSession {
        /// The session.
        session_id: String,
    },
    /// The session was finalized with another outcome.
    #[error(
        "session {session_id} was finalized with another outcome, which stays: the first account of a session is final"
    )]
    Conflict {
        /// The session.
        session_id: String,
    },
    /// The session failed, so it has no cost.
    #[error("session {session_id} has failed and cannot be finalized: a failed session has no cost")]
    Failed {
        /// The session.
        session_id: String,
    },
    /// A contribution names a node that is not in the ledger.
    #[error("node {node_id} contributed and is not in the ledger: upsert it, then finalize again")]
    UnknownNode {
        /// The node.
        node_id: String,
    },
    /// A node's total would pass what an amount can hold.
    #[error(
        "the totals of node {node_id} would pass what the ledger can hold: nothing was added; start the node under \
         a new identity"
    )]
    Overflow {
        /// The node.
        node_id: String,
    },
    /// The payer's balance does not bear the cost, or another account stands in the way.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// A value cannot be stored.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// What is stored of the session cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why a session was not marked as failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FailError {
    /// There is no such session.
    #[error("session {session_id} is not in the ledger: begin it first")]
    UnknownSession {
        /// The session.
        session_id: String,
    },
    /// The session was finalized, and its account stays.
    #[error("session {session_id} is {status} and cannot fail any more: its account stays")]
    Completed {
        /// The session.
        session_id: String,
        /// How it stands.
        status: Status,
    },
    /// What is stored of the session cannot be read.
    #[error(transparent)]
    Read(ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A row holds what this program never writes.
    #[error(
        "{column} holds {value}, which this program never writes: the file was changed by hand or by a newer version"
    )]
    BadRow {
        /// Column of the value.
        column: &'static str,
        /// The value.
        value: String,
    },
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl From<sqlx::Error> for BackendError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Closed(error),
            // Only a server is talked to; a file is the driver's own.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Self::Lost(error),
            _ if sqlite_code(&error).is_some() => match sqlite_code(&error) {
                Some(5 | 6) => Self::Busy(error),
                Some(8) => Self::ReadOnly(error),
                Some(11 | 26) => Self::Damaged(error),
                Some(13) => Self::Full(error),
                _ => Self::Failed(error),
            },
            // <https://www.postgresql.org/docs/current/errcodes-appendix.html>
            _ => match postgres_code(&error) {
                Some("40001" | "40P01") => Self::Conflict(error),
                // No lock in time, a statement for too long, no connection left.
                Some("55P03" | "57014" | "53300") => Self::Busy(error),
                // The server goes down, went down, comes up; a transaction was left open for too long.
                Some("57P01" | "57P02" | "57P03" | "25P03") => Self::Lost(error),
                Some(code) if code.starts_with("08") => Self::Lost(error),
                Some("25006" | "42501") => Self::ReadOnly(error),
                Some("53100") => Self::Full(error),
                Some(code) if code.starts_with("XX") => Self::Damaged(error),
                _ => Self::Failed(error),
            },
        }
    }
}

/// The SQLSTATE of an error of PostgreSQL.
fn postgres_code(error: &sqlx::Error) -> Option<&str> {
    Some(error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?.code())
}

of_the_database!(NodeError, BeginError(Read), FinalizeError(Read), FailError(Read), ReadError);
reading!(BeginError, FinalizeError, FailError);

impl From<NegativeAmount> for ReadError {
    fn from(error: NegativeAmount) -> Self {
        Self::BadRow { column: "an amount", value: error.nano.to_string() }
    }
}
