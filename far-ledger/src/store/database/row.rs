//! A row of either database. Whatever it holds, a value is checked before it is believed.

use sqlx::{Decode, Postgres, Row as _, Sqlite, Type, postgres::PgRow, sqlite::SqliteRow};

use crate::{amount::Amount, store::error::ReadError, time::UnixMillis, wallet::WalletAddress};

/// A row.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A type that both databases give back: `String`, `i64`, and either in an `Option`.
pub(crate) trait Stored:
    Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

impl<T> Stored for T where T: Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres> {}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// [`ReadError::BadRow`] where it is of another type or NULL.
    pub(crate) fn get<T: Stored>(&self, column: &'static str) -> Result<T, ReadError> {
        let value = match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        };
        value.map_err(|error| match error {
            sqlx::Error::ColumnDecode { source, .. } => bad(column, source),
            error => ReadError::Backend(error.into()),
        })
    }

    /// A BIGINT that fits `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, ReadError> {
        let value: i64 = self.get(column)?;
        T::try_from(value).map_err(|_| bad(column, value))
    }

    /// Zero or one.
    pub(crate) fn truth(&self, column: &'static str) -> Result<bool, ReadError> {
        Ok(self.number::<u32>(column)? != 0)
    }

    /// An amount.
    pub(crate) fn amount(&self, column: &'static str) -> Result<Amount, ReadError> {
        let nano: i64 = self.get(column)?;
        Amount::from_nano(nano).map_err(|_| bad(column, nano))
    }

    /// A time.
    pub(crate) fn time(&self, column: &'static str) -> Result<UnixMillis, ReadError> {
        let millis: i64 = self.get(column)?;
        UnixMillis::new(millis).ok_or_else(|| bad(column, millis))
    }

    /// A time, or NULL.
    pub(crate) fn optional_time(&self, column: &'static str) -> Result<Option<UnixMillis>, ReadError> {
        let millis: Option<i64> = self.get(column)?;
        millis.map(|millis| UnixMillis::new(millis).ok_or_else(|| bad(column, millis))).transpose()
    }

    /// A wallet, or NULL.
    pub(crate) fn wallet(&self, column: &'static str) -> Result<Option<WalletAddress>, ReadError> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| text.parse().map_err(|_| bad(column, &text))).transpose()
    }
}

pub(crate) fn bad(column: &'static str, value: impl ToString) -> ReadError {
    ReadError::BadRow { column, value: value.to_string() }
}
