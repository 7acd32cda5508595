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

/// What may be bound to a parameter.
#[derive(Debug)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    /// An array on PostgreSQL, its JSON on SQLite: `= ANY($1)` here, `IN (SELECT value FROM json_each($1))` there.
    Texts(Vec<String>),
    /// The columns of many rows: an array each on PostgreSQL, all in one JSON text on SQLite.
    Rows(Vec<Array>),
}

/// A column of many rows.
#[derive(Debug)]
pub(crate) enum Array {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
}

/// The rows as JSON: `[[...], [...]]`.
pub(super) fn json(columns: Vec<Array>) -> String {
    let columns: Vec<Vec<serde_json::Value>> = columns
        .into_iter()
        .map(|column| match column {
            Array::Text(texts) => texts.into_iter().map(Into::into).collect(),
            Array::Int(ints) => ints.into_iter().map(Into::into).collect(),
        })
        .collect();
    let count = columns.iter().map(Vec::len).max().unwrap_or_default();
    let mut columns: Vec<_> = columns.into_iter().map(IntoIterator::into_iter).collect();
    let rows = (0..count).map(|_| columns.iter_mut().map(|column| column.next().unwrap_or_default()).collect());
    serde_json::Value::Array(rows.collect()).to_string()
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
