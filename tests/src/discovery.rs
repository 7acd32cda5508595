//! `discovery-bench NODES [PROCESSES]`: how a mesh of many nodes finds itself, on this machine alone.
//!
//! Three bootstrap nodes and the one that asks live in this process, the others in PROCESSES more, as many nodes in each.
//! Prints what is measured as soon as it is known and exits with 1 when a bound is missed: a full table within 2 s of asking,
//! joins seen within 10 s, nodes that are killed gone when their adverts have expired. Five minutes at most.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use far_mesh_core::{
    id::NodeId,
    peer::{Multiaddr, config::ANNOUNCE_INTERVAL},
};
use far_mesh_tests::crowd::{Crowd, node, resident_kib, table_until};

/// How long an advert lives that nobody announces again, in announcements, and what clocks may differ.
const LIVES: u32 = 3;
const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// The interval of the nodes whose adverts are watched until they expire.
const SHORT_INTERVAL: Duration = Duration::from_secs(5);

/// Nodes that come late, and as many that are killed.
const FEW: usize = 10;

/// How long requests are counted: one announcement of every node.
const WINDOW: Duration = ANNOUNCE_INTERVAL;

/// A process with a crowd in it, which ends when its standard input does.
struct Worker {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

struct Joined {
    median: Duration,
    slowest: Duration,
    ids: Vec<NodeId>,
}

fn main() -> ExitCode {
    let words = env::args().skip(1).collect::<Vec<_>>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    match words[..] {
        ["worker", count, interval, ref bootstrap @ ..] => {
            let bootstrap = bootstrap.iter().map(|addr| addr.parse()).collect::<Result<Vec<Multiaddr>, _>>();
            let bootstrap = bootstrap.unwrap_or_else(|error| panic!("{error}"));
            runtime.block_on(work(number(count), Duration::from_secs(number(interval) as u64), &bootstrap));
            ExitCode::SUCCESS
        }
        [nodes] => runtime.block_on(measure(number(nodes), 4)),
        [nodes, processes] => runtime.block_on(measure(number(nodes), number(processes).max(1))),
        _ => {
            eprintln!("usage: discovery-bench NODES [PROCESSES]");
            ExitCode::from(2)
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// A worker: says how many milliseconds its nodes took to join, half of them and all, and who they are; then answers each line with requests, connections and memory.
async fn work(count: usize, interval: Duration, bootstrap: &[Multiaddr]) {
    let before = resident_kib().unwrap_or_default();
    let crowd = Crowd::start(count, bootstrap, interval).await;
    let (median, slowest) = crowd.joining();
    say(&format!("{} {}", median.as_millis(), slowest.as_millis()));
    for id in crowd.ids() {
        say(&id.to_string());
    }
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let line = tokio::task::block_in_place(|| lines.next());
        let Some(Ok(_)) = line else { break };
        let memory = resident_kib().unwrap_or_default().saturating_sub(before);
        say(&format!("{} {} {memory}", crowd.requests(), crowd.connections()));
    }
    crowd.leave().await;
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: the end of the input says so too.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl Worker {
    fn start(count: usize, interval: Duration, bootstrap: &[Multiaddr]) -> Self {
        let program = env::current_exe().unwrap_or_else(|error| panic!("{error}"));
        let mut process = Command::new(program)
            .args(["worker", &count.to_string(), &interval.as_secs().to_string()])
            .args(bootstrap.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("a worker did not start: {error}"));
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else { panic!("no pipes") };
        Self { process, input, output: BufReader::new(output) }
    }

    /// Waits until its nodes have joined; how long half of them took, and all.
    fn joined(&mut self, count: usize) -> Joined {
        let line = self.line();
        let mut took = line.split(' ').map(|millis| Duration::from_millis(millis.parse().unwrap_or(u64::MAX)));
        let (median, slowest) = (took.next().unwrap_or_default(), took.next().unwrap_or_default());
        let ids =
            (0..count).map(|_| self.line().parse().unwrap_or_else(|error| panic!("not an id: {error}"))).collect();
        Joined { median, slowest, ids }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap_or_else(|error| panic!("{error}"));
        assert!(!line.is_empty(), "a worker ended");
        line.trim().to_owned()
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Requests answered, connections, KiB.
    fn counts(&mut self) -> [u64; 3] {
        writeln!(self.input).unwrap_or_else(|error| panic!("a worker ended: {error}"));
        let line = self.line();
        let mut numbers = line.split(' ').map(|number| number.parse().unwrap_or_default());
        std::array::from_fn(|_| numbers.next().unwrap_or_default())
    }
}

fn total(workers: &mut [Worker]) -> [u64; 3] {
    workers.iter_mut().map(Worker::counts).fold([0; 3], |sum, counts| std::array::from_fn(|at| sum[at] + counts[at]))
}

async fn measure(nodes: usize, processes: usize) -> ExitCode {
    let interval = ANNOUNCE_INTERVAL;
    let started = Instant::now();
    let first = node(&[], interval).await;
    let mut bootstraps = vec![first];
    for _ in 0..2 {
        bootstraps.push(node(&bootstraps[0].listen_addrs(), interval).await);
    }
    let bootstrap = bootstraps.iter().flat_map(|node| node.listen_addrs()).collect::<Vec<_>>();
    let shares = (0..processes).map(|at| nodes / processes + usize::from(at < nodes % processes)).collect::<Vec<_>>();
    let mut workers = shares.iter().map(|share| Worker::start(*share, interval, &bootstrap)).collect::<Vec<_>>();
    let mut crowds = Vec::new();
    for (worker, share) in workers.iter_mut().zip(&shares) {
        crowds.push(tokio::task::block_in_place(|| worker.joined(*share)));
    }
    println!("{nodes} nodes in {processes} processes joined and announced in {:.1} s", started.elapsed().as_secs_f64());
    let (median, slowest) = crowds.iter().fold((Duration::ZERO, Duration::ZERO), |(median, slowest), crowd| {
        (median.max(crowd.median), slowest.max(crowd.slowest))
    });
    println!(
        "from its start until its advert was held: half of the nodes {:.2} s, all {:.2} s",
        median.as_secs_f64(),
        slowest.as_secs_f64()
    );

    let mut bounds = Vec::new();
    let mut bound = |what: &str, took: Duration, most: Duration| {
        println!("{what}: {:.2} s (at most {:.0} s)", took.as_secs_f64(), most.as_secs_f64());
        bounds.push(took <= most);
    };
    let joining = Instant::now();
    let asker = node(&bootstrap, interval).await;
    println!("one more node joined in {:.2} s", joining.elapsed().as_secs_f64());
    let (until, _) = table_until(&asker, "the first table", |peers| peers.len() == nodes).await;
    bound("its first table", until, Duration::from_secs(2));
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let (until, _) = table_until(&asker, "a full table", |peers| peers.len() == nodes).await;
        slowest = slowest.max(until);
    }
    bound("full table, slowest of 10", slowest, Duration::from_secs(2));

    let [before, ..] = tokio::task::block_in_place(|| total(&mut workers));
    tokio::time::sleep(WINDOW).await;
    let [requests, connections, kib] = tokio::task::block_in_place(|| total(&mut workers));
    let rate = (requests - before) as f64 / WINDOW.as_secs_f64();
    println!("{rate:.1} requests/s in all, {:.2} a node", rate / nodes as f64);
    println!("{:.0} connections a node, {} KiB a node", connections as f64 / nodes as f64, kib / nodes as u64);

    let come = Instant::now();
    let late = Crowd::start(FEW, &bootstrap, interval).await;
    let new = late.ids();
    table_until(&asker, "those who came", |peers| new.iter().all(|id| peers.contains(id))).await;
    bound("ten joins seen, from their start", come.elapsed(), Duration::from_secs(10));
    late.leave().await;
    let (took, _) = table_until(&asker, "those who left", |peers| new.iter().all(|id| !peers.contains(id))).await;
    bound("ten leaves seen", took, Duration::from_secs(10));

    let mut doomed = Worker::start(FEW, SHORT_INTERVAL, &bootstrap);
    let lost = tokio::task::block_in_place(|| doomed.joined(FEW)).ids;
    table_until(&asker, "those to be killed", |peers| lost.iter().all(|id| peers.contains(id))).await;
    doomed.kill();
    let (took, _) = table_until(&asker, "the killed are gone", |peers| lost.iter().all(|id| !peers.contains(id))).await;
    // Announcements drift by a sixth, so the last one may have been a little earlier or later.
    bound("adverts of ten killed nodes gone", took, SHORT_INTERVAL.mul_f64(7.0 / 6.0) * LIVES + CLOCK_SKEW);

    if processes > 1
        && let (Some(mut worker), Some(killed)) = (workers.pop(), crowds.pop())
    {
        worker.kill();
        let left = crowds.iter().flat_map(|crowd| &crowd.ids).collect::<Vec<_>>();
        let whole = |peers: &[NodeId]| left.iter().all(|id| peers.contains(id));
        let (took, _) = table_until(&asker, "what is left", whole).await;
        bound(&format!("full table, with {} dead", killed.ids.len()), took, Duration::from_secs(3));
    }
    for worker in workers {
        drop(worker.input);
        let mut process = worker.process;
        let _ = process.wait();
    }
    asker.shutdown().await;
    futures::future::join_all(bootstraps.iter().map(|node| node.shutdown())).await;
    println!("all in {:.0} s", started.elapsed().as_secs_f64());
    if bounds.iter().all(|good| *good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
