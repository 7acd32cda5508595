//! Statements and the values bound to them.

/// A statement, in the words of each database. Most need only one text: `"SELECT ...".into()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self { sqlite: both, postgres: both }
    }
}

/// A SELECT that keeps the rows it finds from being changed by others until the transaction ends.
///
/// On SQLite the transaction itself does. `NO KEY`: rows that refer to them may still be written.
macro_rules! locking {
    ($select:literal) => {
        $crate::store::database::Sql { sqlite: $select, postgres: concat!($select, " FOR NO KEY UPDATE") }
    };
}
pub(crate) use locking;

/// What may be bound to a parameter.
#[derive(Debug)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    /// An array on PostgreSQL, its JSON on SQLite: `= ANY($1)` here, `IN (SELECT value FROM json_each($1))` there.
    Texts(Vec<String>),
    /// The same of numbers.
    Ints(Vec<i64>),
}

/// A type that is stored as TEXT or BIGINT.
pub(crate) trait Bind {
    fn value(self) -> Value;
}

impl Bind for i64 {
    fn value(self) -> Value {
        Value::Int(Some(self))
    }
}

impl Bind for Option<i64> {
    fn value(self) -> Value {
        Value::Int(self)
    }
}

impl Bind for &str {
    fn value(self) -> Value {
        Value::Text(Some(self.to_owned()))
    }
}

impl Bind for String {
    fn value(self) -> Value {
        Value::Text(Some(self))
    }
}

impl Bind for &String {
    fn value(self) -> Value {
        Value::Text(Some(self.clone()))
    }
}

impl Bind for Option<String> {
    fn value(self) -> Value {
        Value::Text(self)
    }
}

impl Bind for &Option<String> {
    fn value(self) -> Value {
        Value::Text(self.clone())
    }
}

impl Bind for Option<&str> {
    fn value(self) -> Value {
        Value::Text(self.map(str::to_owned))
    }
}

impl Bind for Vec<String> {
    fn value(self) -> Value {
        Value::Texts(self)
    }
}

impl Bind for Vec<i64> {
    fn value(self) -> Value {
        Value::Ints(self)
    }
}
