//! Why something is not done to accounts and keys.

use far_ledger::store::{AccountError, KeyError, ReadError, TopUpError};

/// Why something is not done to accounts and keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// There is no such account.
    #[error("there is no account {account:?}: `far-mesh keys list` shows all, `far-mesh keys create` opens one")]
    UnknownAccount {
        /// The name that was given.
        account: String,
    },
    /// There is no such key.
    #[error("no key's name begins with {key:?}: `far-mesh keys list` shows all")]
    UnknownKey {
        /// What was given.
        key: String,
    },
    /// Several keys may be meant.
    #[error("{count} keys begin with {key:?} ({first} and {second} among them): write more of the name")]
    Ambiguous {
        /// What was given.
        key: String,
        /// How many.
        count: usize,
        /// One.
        first: String,
        /// Another.
        second: String,
    },
    /// Too little of a key's name.
    #[error(
        "{key:?} says too little: write at least {least} characters of the key's name, as `far-mesh keys list` shows it"
    )]
    TooShort {
        /// What was given.
        key: String,
        /// How many are enough.
        least: usize,
    },
    /// A key and not its name.
    #[error("that is a key itself, which the ledger does not hold: name it as `far-mesh keys list` does, key_...")]
    Secret,
    /// An account was not opened or changed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A key was not made or revoked.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// FAR was not added.
    #[error("nothing was added to account {account:?}: {source}")]
    TopUp {
        /// The account.
        account: String,
        /// Why not.
        source: Box<TopUpError>,
    },
    /// FAR was added or was not: the ledger did not answer.
    #[error(
        "whether the FAR was added to account {account:?} is not known: {source}; run it again with \
         `--reference {reference:?}`, which adds it once"
    )]
    Unsure {
        /// The account.
        account: String,
        /// Name of the top-up.
        reference: String,
        /// What failed.
        source: Box<TopUpError>,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
