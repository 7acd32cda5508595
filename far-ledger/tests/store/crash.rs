//! Nothing that was acknowledged is lost when the writer is killed, or the server it writes to.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use far_ledger::{
    Amount, FeeRate, Ledger, NewSession, Node, Outcome, Payer, Status, Store, UnixMillis, Work,
    ingest::{Ingest, Limits, ingest},
    store::{Location, TopUp},
};
use tokio::{runtime::Runtime, task::yield_now};

use crate::bed::{Bed, server::Server};

/// Where the child of [`killed`] writes, and what its sessions begin with.
const WRITE: &str = "FAR_LEDGER_TEST_WRITE";
const ROUND: &str = "FAR_LEDGER_TEST_ROUND";

const ROUNDS: usize = 10;

/// Callers at once.
const CALLERS: usize = 16;

const NODES: [&str; 3] = ["a", "b", "c"];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis).unwrap()
}

/// A ledger with three nodes and a user who pays for everything.
async fn prepare(location: Location) -> Ledger {
    let ledger = Ledger::open(location).await.unwrap();
    for node in NODES {
        ledger.upsert_node(&Node::new(node, at(1))).await.unwrap();
    }
    ledger.create_account("alice", at(1)).await.unwrap();
    let amount = Amount::from_nano(1_000_000_000_000).unwrap();
    let top_up = TopUp { account: "alice".into(), amount, key: "first".into(), at: at(1) };
    ledger.top_up(&top_up).await.unwrap();
    ledger
}

fn begin(id: &str) -> NewSession {
    let reserve = Amount::from_nano(1_000_000).unwrap();
    let payer = Payer { account: "alice".into(), key: None, reserve, until: at(100) };
    NewSession { payer: Some(payer), ..NewSession::new(id, "model", at(1)) }
}

fn outcome() -> Outcome {
    let hops = [0_u32, 1, 2].map(|hop| Work {
        node_id: NODES[hop as usize].into(),
        layers_start: hop * 10,
        layers_end: hop * 10 + 10,
        tokens: 50,
        compute_ms: 7,
        exact: true,
    });
    Outcome::settle_with_fee("0.00001".parse().unwrap(), FeeRate::new(100).unwrap(), 20, &hops, at(9)).unwrap()
}

/// Begins and ends sessions until told to stop, and says of each when it was acknowledged.
async fn work(ledger: Ledger, queue: Ingest, name: String, stop: Arc<AtomicBool>, acknowledge: impl Fn(String)) {
    for index in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{name}-{index}");
        // Until it is answered: a server may be away for a while.
        while ledger.begin_session(&begin(&id)).await.is_err() {
            yield_now().await;
        }
        while queue.finalize(&id, outcome()).await.is_err() {
            yield_now().await;
        }
        acknowledge(id);
    }
}

/// All that was acknowledged is there, and every sum agrees.
async fn check(ledger: &Ledger, acknowledged: &[String]) {
    for id in acknowledged {
        let session = ledger.session(id).await.unwrap().unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(session.status, Status::Completed, "{id}");
    }
    assert_eq!(ledger.audit().await.unwrap(), []);
}

/// Kills a process that writes, ten times, each time somewhere else.
fn killed(bed: &Bed) {
    let runtime = runtime();
    let ledger = runtime.block_on(prepare(bed.location()));
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "crash::writer", "--nocapture", "--test-threads=1"])
            .env(WRITE, bed.url())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = Vec::new();
        let take = |line: String, acknowledged: &mut Vec<String>| {
            acknowledged.extend(line.strip_prefix("done ").and_then(|id| id.strip_suffix('.')).map(str::to_owned));
        };
        while acknowledged.len() < 5 + 23 * round {
            take(lines.next().expect("the writer writes until it is killed").unwrap(), &mut acknowledged);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(Result::ok).for_each(|line| take(line, &mut acknowledged));
        runtime.block_on(check(&ledger, &acknowledged));
        all.extend(acknowledged);
    }
    runtime.block_on(async {
        // What the killed ones held is released, and nothing else.
        ledger.release_abandoned(at(101)).await.unwrap();
        check(&ledger, &all).await;
        assert_eq!(ledger.account("alice").await.unwrap().unwrap().reserved, Amount::ZERO);
        ledger.close().await;
    });
    println!("{} acknowledged sessions over {ROUNDS} kills, none lost", all.len());
}

#[test]
#[ignore = "the process that the tests beside it kill"]
fn writer() {
    let (Ok(location), Ok(round)) = (std::env::var(WRITE), std::env::var(ROUND)) else { return };
    runtime().block_on(async {
        let ledger = Ledger::open(location).await.unwrap();
        let (queue, worker) = ingest(ledger.clone(), Limits { batch: 20, queued: 200 });
        let never = Arc::new(AtomicBool::new(false));
        let callers = (0..CALLERS).map(|caller| {
            let name = format!("{round}-{caller}");
            work(ledger.clone(), queue.clone(), name, Arc::clone(&never), |id| {
                let mut out = std::io::stdout().lock();
                writeln!(out, "done {id}.").and_then(|()| out.flush()).unwrap();
            })
        });
        futures::join!(futures::future::join_all(callers), worker.run(std::future::pending()));
    });
}

#[test]
fn a_killed_writer_of_a_file_loses_nothing_it_acknowledged() {
    killed(&runtime().block_on(Bed::sqlite()));
}

#[test]
fn a_killed_writer_to_a_server_loses_nothing_it_acknowledged() {
    killed(&runtime().block_on(Bed::postgres()));
}

#[test]
fn a_killed_server_loses_nothing_it_acknowledged() {
    let mut server = Server::start();
    let runtime = runtime();
    let ledger = runtime.block_on(prepare(server.url().into()));
    let (queue, worker) = ingest(ledger.clone(), Limits { batch: 20, queued: 200 });
    let worker = runtime.spawn(worker.run(std::future::pending()));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let count = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (done, count) = (Arc::clone(&done), Arc::clone(&count));
            let acknowledge = move |id| {
                done.lock().unwrap().push(id);
                count.fetch_add(1, Ordering::Relaxed);
            };
            let name = format!("caller-{caller}");
            runtime.spawn(work(ledger.clone(), queue.clone(), name, Arc::clone(&stop), acknowledge))
        })
        .collect();
    for round in 0..ROUNDS {
        let enough = count.load(Ordering::Relaxed) + 5 + 17 * round;
        runtime.block_on(async {
            while count.load(Ordering::Relaxed) < enough {
                yield_now().await;
            }
        });
        server.kill();
        let before = done.lock().unwrap().clone();
        server.run();
        runtime.block_on(check(&ledger, &before));
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        futures::future::join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
        drop(queue);
        worker.await.unwrap();
        let all = done.lock().unwrap().clone();
        check(&ledger, &all).await;
        assert_eq!(ledger.account("alice").await.unwrap().unwrap().reserved, Amount::ZERO);
        println!("{} acknowledged sessions over {ROUNDS} kills of the server, none lost", all.len());
        ledger.close().await;
    });
}
