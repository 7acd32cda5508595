//! Many rows in one statement: arrays on PostgreSQL (`UNNEST`), one JSON text on SQLite (`json_each`).
//!
//! [`batch!`] names a statement around a source `b` with named columns:
//!
//! ```ignore
//! batch! {
//!     static UPDATE = "UPDATE far_accounts SET balance_far = b.balance FROM"
//!         (id: Text, balance: Int)
//!         "WHERE far_accounts.id = b.id";
//! }
//! let mut rows = UPDATE.rows();
//! rows.push(("user:alice", 5));
//! rows.execute(&mut transaction).await?;
//! ```

use crate::store::database::{
    pool::Runs,
    query::query,
    sql::{Array, Bind, Sql, Value},
};

/// Type of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Int,
}

/// A statement over many rows.
#[derive(Debug)]
pub(crate) struct Batch {
    sql: Sql,
    columns: &'static [(&'static str, Kind)],
}

/// Rows on their way into a [`Batch`].
#[derive(Debug)]
pub(crate) struct Rows {
    sql: Sql,
    columns: Vec<Array>,
    count: usize,
}

/// Values of a row, one for each column: a tuple.
pub(crate) trait Values {
    fn into_values(self) -> impl Iterator<Item = Value>;
}

impl Batch {
    pub(crate) fn new(before: &str, columns: &'static [(&'static str, Kind)], after: &str) -> Self {
        let sqlite: Vec<_> =
            columns.iter().enumerate().map(|(index, (name, _))| format!("value ->> {index} AS {name}")).collect();
        let sqlite = format!("{before} (SELECT {} FROM json_each($1)) AS b {after}", sqlite.join(", "));
        let arrays: Vec<_> =
            (1..).zip(columns).map(|(index, (_, kind))| format!("${index}::{}", kind.array())).collect();
        let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let postgres = format!("{before} UNNEST({}) AS b({}) {after}", arrays.join(", "), names.join(", "));
        // Once for each statement of the program: they live as long as it does.
        Self { sql: Sql { sqlite: sqlite.leak(), postgres: postgres.leak() }, columns }
    }

    pub(crate) fn rows(&self) -> Rows {
        let columns = self.columns.iter().map(|(_, kind)| match kind {
            Kind::Text => Array::Text(Vec::new()),
            Kind::Int => Array::Int(Vec::new()),
        });
        Rows { sql: self.sql, columns: columns.collect(), count: 0 }
    }
}

impl Rows {
    /// Adds a row. Its values are of the types and in the order of the columns.
    pub(crate) fn push(&mut self, row: impl Values) {
        self.count = self.count.saturating_add(1);
        for (column, value) in self.columns.iter_mut().zip(row.into_values()) {
            match (column, value) {
                (Array::Text(column), Value::Text(text)) => column.push(text),
                (Array::Int(column), Value::Int(int)) => column.push(int),
                // A value of another type leaves its column short: the statement then fails instead of guessing.
                (_, value) => debug_assert!(false, "{value:?} is of another type than its column"),
            }
        }
    }

    /// Runs the statement, if there is a row, and says how many rows it changed.
    pub(crate) async fn execute(self, on: &mut impl Runs) -> Result<u64, sqlx::Error> {
        if self.count == 0 {
            return Ok(0);
        }
        query(self.sql).bind_rows(self.columns).execute(on).await
    }
}

impl Kind {
    const fn array(self) -> &'static str {
        match self {
            Self::Text => "TEXT[]",
            Self::Int => "BIGINT[]",
        }
    }
}

/// Names statements over many rows.
macro_rules! batch {
    ($($(#[$meta:meta])* static $name:ident = $before:literal ($($column:ident: $kind:ident),* $(,)?) $after:literal;)*) => {$(
        $(#[$meta])*
        static $name: std::sync::LazyLock<$crate::store::database::Batch> = std::sync::LazyLock::new(|| {
            $crate::store::database::Batch::new(
                $before,
                &[$((stringify!($column), $crate::store::database::Kind::$kind)),*],
                $after,
            )
        });
    )*};
}
pub(crate) use batch;

macro_rules! tuples {
    ($(($($name:ident)+))*) => {$(
        #[expect(non_snake_case, reason = "one name for a type and its value")]
        impl<$($name: Bind),+> Values for ($($name,)+) {
            fn into_values(self) -> impl Iterator<Item = Value> {
                let ($($name,)+) = self;
                [$($name.value()),+].into_iter()
            }
        }
    )*};
}
tuples! {
    (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K L) (A B C D E F G H I J K L M)
    (A B C D E F G H I J K L M N) (A B C D E F G H I J K L M N O) (A B C D E F G H I J K L M N O P)
}
