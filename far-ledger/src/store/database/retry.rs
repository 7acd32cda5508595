//! Repeats what a database broke off and what may be repeated.

use std::time::Duration;

use tokio::time::sleep;

use crate::store::error::BackendError;

/// Tries in all. Operations lock in one order, so a conflict is rare, and two in a row are an accident.
const TRIES: u32 = 6;

/// Wait before the second try; it doubles. All waits together stay under two seconds, and a pool waits for a server that
/// restarts on top of them.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// An error that may come from the database.
pub(crate) trait Repeatable {
    fn backend(&self) -> Option<&BackendError>;
}

/// Errors of operations: where they come from the database, and whether it is worth a repetition.
macro_rules! of_the_database {
    ($($error:ident $(($read:ident))?),* $(,)?) => {$(
        impl From<sqlx::Error> for $error {
            fn from(error: sqlx::Error) -> Self {
                Self::Backend(error.into())
            }
        }

        impl $crate::store::database::Repeatable for $error {
            fn backend(&self) -> Option<&$crate::store::error::BackendError> {
                match self {
                    Self::Backend(error) => Some(error),
                    $(Self::$read(error) => $crate::store::database::Repeatable::backend(error),)?
                    _ => None,
                }
            }
        }
    )*};
}
pub(crate) use of_the_database;

/// Errors of operations that read: what comes from the database is told as such, whoever asked it.
macro_rules! reading {
    ($($error:ident),* $(,)?) => {$(
        impl From<$crate::store::error::ReadError> for $error {
            fn from(error: $crate::store::error::ReadError) -> Self {
                match error {
                    $crate::store::error::ReadError::Backend(error) => Self::Backend(error),
                    error => Self::Read(error),
                }
            }
        }
    )*};
}
pub(crate) use reading;

impl Repeatable for BackendError {
    fn backend(&self) -> Option<&BackendError> {
        Some(self)
    }
}

/// Calls until the database neither breaks the transaction off nor loses the connection, or until the tries are used up.
///
/// `call` must be an operation that may be repeated: after a lost connection nobody knows whether it was committed.
pub(crate) async fn retry<T, E: Repeatable, F>(mut call: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match call().await {
            Err(error) if passes(&error) => sleep(wait).await,
            done => return done,
        }
        wait = wait.saturating_mul(2);
    }
    call().await
}

fn passes(error: &impl Repeatable) -> bool {
    matches!(error.backend(), Some(BackendError::Conflict(_) | BackendError::Lost(_)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn lost() -> BackendError {
        BackendError::Lost(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_repeated_and_what_does_not_is_told() {
        let calls = &Cell::new(0);
        let attempt = |errors: u32, error: fn() -> BackendError| async move {
            calls.set(0);
            let done = retry(|| async {
                calls.set(calls.get() + 1);
                if calls.get() > errors { Ok(()) } else { Err(error()) }
            })
            .await;
            (done.is_ok(), calls.get())
        };
        assert_eq!(attempt(0, lost).await, (true, 1));
        assert_eq!(attempt(3, lost).await, (true, 4));
        assert_eq!(attempt(99, lost).await, (false, TRIES));
        assert_eq!(attempt(99, || BackendError::Full(sqlx::Error::RowNotFound)).await, (false, 1));
    }
}
