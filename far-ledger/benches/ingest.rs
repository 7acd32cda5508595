//! How many contributions a second reach the disk in batches of 1,000: `cargo bench --bench ingest`, beside it on the
//! PostgreSQL server that FAR_MESH_TEST_POSTGRES names, in a fresh database of it.
//!
//! What a row stands for: three contributions make a session's account, and with them go the session's cost, the totals of
//! its nodes, their balances and its journal. Every batch is one commit, on the disk before its callers are answered.
//! Ends with an error where a database takes fewer than a mesh is to be served with.

use std::{error::Error, sync::Arc, time::Instant};

use far_ledger::{
    Amount, FeeRate, Ledger, Node, Outcome, Store, UnixMillis, Work,
    cost::Price,
    ingest::{Limits, ingest},
    store::Location,
};
use futures::{StreamExt, stream};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

/// Contributions a second that are due.
const ON_SQLITE: f64 = 10_000.0;
const ON_POSTGRES: f64 = 30_000.0;

const SESSIONS: usize = 40_000;
const HOPS: usize = 3;
const NODES: usize = 40;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("ledger.db");
    run("SQLite, synchronous=FULL", ON_SQLITE, file.clone().into(), async |sql| {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await
    })
    .await?;
    match std::env::var("FAR_MESH_TEST_POSTGRES") {
        Ok(server) => {
            let name = format!("far_bench_{}", std::process::id());
            administer(&server, format!("CREATE DATABASE {name}")).await?;
            let url = of_database(&server, &name);
            let done = run("PostgreSQL", ON_POSTGRES, url.as_str().into(), async |sql| {
                let mut connection = PgConnection::connect(&url).await?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
                connection.close().await
            })
            .await;
            administer(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await?;
            done?;
        }
        Err(_) => println!("PostgreSQL: FAR_MESH_TEST_POSTGRES names no server"),
    }
    Ok(())
}

async fn run(
    name: &str,
    due: f64,
    location: Location,
    execute: impl AsyncFn(String) -> Result<(), sqlx::Error>,
) -> Result<(), Box<dyn Error>> {
    let ledger = Ledger::open(location).await?;
    let now = UnixMillis::now();
    for node in 0..NODES {
        ledger.upsert_node(&Node::new(format!("node-{node}"), now)).await?;
    }
    // Beginning them one by one is not what is measured.
    execute(format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {SESSIONS})
         INSERT INTO far_mesh_sessions (id, model_id, started_at) SELECT 'session-' || i, 'model', 0 FROM n"
    ))
    .await?;
    let price: Price = "0.0001".parse()?;
    let outcomes: Vec<_> = (0..SESSIONS)
        .map(|index| {
            let hops: Vec<_> = (0..HOPS).map(|hop| work((index * HOPS + hop) % NODES, hop)).collect();
            Outcome::settle_with_fee(price, FeeRate::new(250)?, 20, &hops, now).map_err(Box::<dyn Error>::from)
        })
        .collect::<Result<_, _>>()?;
    let (queue, worker) = ingest(ledger.clone(), Limits { batch: 1_000, queued: 20_000 });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(worker.run(async move { drop(stopped.await) }));
    let queue = Arc::new(queue);
    let start = Instant::now();
    let mut answers = stream::iter(outcomes.into_iter().enumerate())
        .map(|(index, outcome)| {
            let queue = Arc::clone(&queue);
            async move { queue.finalize(format!("session-{index}"), outcome).await }
        })
        .buffer_unordered(2_000);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = (SESSIONS * HOPS) as f64 / seconds;
    println!("{name}: {rate:.0} contributions/s, {:.0} sessions/s", SESSIONS as f64 / seconds);
    drop((answers, stop));
    worker.await?;
    let differences = ledger.audit().await?;
    assert!(differences.is_empty(), "{differences:?}");
    let total: Option<Amount> =
        Amount::checked_sum(ledger.active_nodes(UnixMillis::default()).await?.iter().map(|n| n.total_earned));
    println!("{name}: audited, {} FAR earned", total.ok_or("too much")?);
    ledger.close().await;
    if rate < due {
        return Err(format!("{name}: {rate:.0} contributions/s, {due} are due").into());
    }
    Ok(())
}

fn work(node: usize, hop: usize) -> Work {
    let start = u32::try_from(hop * 10).unwrap_or_default();
    let (node_id, layers_end) = (format!("node-{node}"), start + 10);
    Work { node_id, layers_start: start, layers_end, tokens: 50, compute_ms: 9, exact: true }
}

async fn administer(server: &str, sql: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    connection.close().await
}

fn of_database(server: &str, name: &str) -> String {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (scheme, rest) = address.split_once("://").unwrap_or(("postgres", address));
    let host = rest.split_once('/').map_or(rest, |(host, _)| host);
    format!("{scheme}://{host}/{name}?{parameters}")
}
