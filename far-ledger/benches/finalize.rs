//! How many sessions of three hops a second reach the disk: one caller after another, and sixteen at once.

use std::time::Instant;

use far_ledger::{Ledger, NewSession, Node, Outcome, Store, UnixMillis, Work, cost::Price};
use futures::future::join_all;

const SESSIONS: usize = 2000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Ledger::open(dir.path().join("ledger.db")).await?;
    let now = UnixMillis::now();
    let hops = ["a", "b", "c"].map(|node| Work {
        node_id: node.into(),
        layers_start: 0,
        layers_end: 10,
        tokens: 50,
        compute_ms: 9,
        exact: true,
    });
    for hop in &hops {
        store.upsert_node(&Node::new(&hop.node_id, now)).await?;
    }
    let outcome = Outcome::settle("0.0001".parse::<Price>()?, 20, &hops, now)?;
    for callers in [1, 16] {
        let id = |index: usize| format!("{callers}-{index}");
        for index in 0..SESSIONS {
            store.begin_session(&NewSession::new(id(index), "model", now)).await?;
        }
        let start = Instant::now();
        let work = (0..callers).map(|caller| {
            let (store, outcome) = (&store, &outcome);
            async move {
                for index in (caller..SESSIONS).step_by(callers) {
                    store.finalize_session(&id(index), outcome).await?;
                }
                Ok::<_, far_ledger::store::FinalizeError>(())
            }
        });
        join_all(work).await.into_iter().collect::<Result<(), _>>()?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{callers} callers: {:.0} sessions/s", SESSIONS as f64 / seconds);
    }
    Ok(())
}
