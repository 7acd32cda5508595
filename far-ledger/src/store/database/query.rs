//! A statement with its values, run on either database.

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{Postgres, Sqlite, postgres::PgArguments, query::Query as Bound, sqlite::SqliteArguments};

use crate::store::database::{
    pool::{Handle, Runs},
    row::Row,
    sql::{Array, Bind, Sql, Value, json},
};

/// A statement whose values are bound one after another, `$1` first.
pub(crate) fn query(sql: impl Into<Sql>) -> Query {
    Query { sql: sql.into(), values: Vec::new() }
}

/// A statement on its way.
#[derive(Debug)]
pub(crate) struct Query {
    sql: Sql,
    values: Vec<Value>,
}

impl Query {
    pub(crate) fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(value.value());
        self
    }

    /// Binds the columns of many rows: they are the only values of the statement.
    pub(super) fn bind_rows(mut self, columns: Vec<Array>) -> Self {
        self.values.push(Value::Rows(columns));
        self
    }

    /// Runs it and says how many rows it changed.
    pub(crate) async fn execute(self, on: &mut impl Runs) -> Result<u64, sqlx::Error> {
        match on.handle() {
            Handle::Sqlite(connection) => {
                let query = self.values.into_iter().fold(sqlx::query(self.sql.sqlite), sqlite);
                Ok(query.execute(connection).await?.rows_affected())
            }
            Handle::Postgres(connection) => {
                let query = self.values.into_iter().fold(sqlx::query(self.sql.postgres), postgres);
                Ok(query.execute(connection).await?.rows_affected())
            }
        }
    }

    pub(crate) async fn fetch_optional(self, on: &mut impl Runs) -> Result<Option<Row>, sqlx::Error> {
        match on.handle() {
            Handle::Sqlite(connection) => {
                let query = self.values.into_iter().fold(sqlx::query(self.sql.sqlite), sqlite);
                Ok(query.fetch_optional(connection).await?.map(Row::Sqlite))
            }
            Handle::Postgres(connection) => {
                let query = self.values.into_iter().fold(sqlx::query(self.sql.postgres), postgres);
                Ok(query.fetch_optional(connection).await?.map(Row::Postgres))
            }
        }
    }

    /// The first row; an error where there is none.
    pub(crate) async fn fetch_one(self, on: &mut impl Runs) -> Result<Row, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// All rows: for what is bounded by its nature. Use [`Query::fetch`] for what grows.
    pub(crate) async fn fetch_all(self, on: &mut impl Runs) -> Result<Vec<Row>, sqlx::Error> {
        self.fetch(on).try_collect().await
    }

    /// The rows one after another, as they come.
    pub(crate) fn fetch(self, on: &mut impl Runs) -> BoxStream<'_, Result<Row, sqlx::Error>> {
        match on.handle() {
            Handle::Sqlite(connection) => {
                let query = self.values.into_iter().fold(sqlx::query(self.sql.sqlite), sqlite);
                query.fetch(connection).map_ok(Row::Sqlite).boxed()
            }
            Handle::Postgres(connection) => {
                let query = self.values.into_iter().fold(sqlx::query(self.sql.postgres), postgres);
                query.fetch(connection).map_ok(Row::Postgres).boxed()
            }
        }
    }
}

fn sqlite(query: Bound<'static, Sqlite, SqliteArguments>, value: Value) -> Bound<'static, Sqlite, SqliteArguments> {
    match value {
        Value::Text(text) => query.bind(text),
        Value::Int(int) => query.bind(int),
        Value::Texts(texts) => query.bind(serde_json::Value::from(texts).to_string()),
        Value::Rows(columns) => query.bind(json(columns)),
    }
}

fn postgres(query: Bound<'static, Postgres, PgArguments>, value: Value) -> Bound<'static, Postgres, PgArguments> {
    match value {
        Value::Text(text) => query.bind(text),
        Value::Int(int) => query.bind(int),
        Value::Texts(texts) => query.bind(texts),
        Value::Rows(columns) => columns.into_iter().fold(query, |query, column| match column {
            Array::Text(texts) => query.bind(texts),
            Array::Int(ints) => query.bind(ints),
        }),
    }
}
