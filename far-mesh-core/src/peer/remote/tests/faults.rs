//! Nodes that go away, fall silent, fail or close: who is named, how soon, and that nothing stays behind.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    fabric::{Mesh, generate, tokens},
    mock::MockHop,
};
use crate::{
    hop::{Hop, HopError, Rows},
    id::{NodeId, Span},
    limits::OPEN_DEADLINE,
    peer::ServeConfig,
};

const SECOND: Duration = Duration::from_secs(1);

fn slow(delay: Duration) -> impl Fn(usize, &mut MockHop) {
    move |_, mock| mock.delay = delay
}

/// Who is lost, and what the error says about it.
fn lost<T>(result: Result<T, HopError>) -> (NodeId, Span, String) {
    match result.err() {
        Some(HopError::PeerLost { node, span, reason }) => (node, span, reason),
        other => panic!("a node was to be lost, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_frees_every_hop() {
    let mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), slow(SECOND));
    let mut session = mesh.open().await;
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    assert!(mesh.servers.iter().all(|server| server.sessions() == 1));
    drop(session);
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_while_opening_frees_every_hop() {
    let mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), |at, mock| {
        mock.open_delay = [Duration::ZERO, Duration::ZERO, 3 * SECOND][at];
    });
    let route = mesh.route();
    assert!(timeout(SECOND, route.open(mesh.request())).await.is_err());
    assert_eq!(mesh.servers[0].sessions(), 1);
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_vanishes_is_named_at_once() {
    for gone in 0..3 {
        let mut mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), slow(SECOND));
        let mut session = mesh.open().await;
        session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
        let start = Instant::now();
        drop(mesh.servers.remove(gone));
        let (node, span, _) = lost(session.next().await);
        assert_eq!((node, span), (mesh.node(gone), mesh.hops[gone].span));
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
        assert_eq!(lost(session.next().await).0, node, "a failure is not forgotten");
        assert_eq!(lost(session.submit(tokens(1, 1, &[1], Rows::Last)).await).0, node);
        drop(session);
        mesh.mocks.remove(gone);
        mesh.all_free().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_falls_silent_is_named_within_its_deadlines() {
    for silent in 0..3 {
        let mesh = Mesh::new(&[0, 1, 2, 3]);
        let mut session = mesh.open().await;
        let everybody = [mesh.coordinator, mesh.node(0), mesh.node(1), mesh.node(2)];
        everybody.into_iter().for_each(|other| mesh.fabric.silence(mesh.node(silent), other));
        let start = Instant::now();
        session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
        let (node, _, reason) = lost(session.next().await);
        assert_eq!(node, mesh.node(silent));
        assert!(reason.contains("no sign of life"), "{reason}");
        // 250 ms until it is overdue, 250 ms for the answer to the probe.
        assert!((500..550).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_falls_silent_between_two_hops_is_found() {
    for to in 1..3 {
        let mesh = Mesh::new(&[0, 1, 2, 3]);
        let mut session = mesh.open().await;
        generate(session.as_mut(), 0, &[], 3).await;
        mesh.fabric.silence(mesh.node(to - 1), mesh.node(to));
        let start = Instant::now();
        session.submit(tokens(3, 3, &[1], Rows::Last)).await.unwrap();
        let (node, _, reason) = lost(session.next().await);
        assert_eq!(node, mesh.node(to));
        assert!(reason.contains(&format!("step 3 left hop {} and does not reach it", to - 1)), "{reason}");
        assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_still_computes_is_waited_for() {
    let mesh = Mesh::with(&[0, 1, 2], ServeConfig::default(), |at, mock| mock.delay = [SECOND, 30 * SECOND][at]);
    let mut session = mesh.open().await;
    let start = Instant::now();
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    session.next().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 31);
}

#[tokio::test(start_paused = true)]
async fn a_step_never_takes_longer_than_the_ceiling() {
    let mut mesh = Mesh::with(&[0, 1, 2], ServeConfig::default(), |at, mock| mock.delay = at as u32 * 5000 * SECOND);
    // A plan that expects the impossible does not raise the ceiling.
    mesh.hops[1].expected.base = 5000 * SECOND;
    let mut session = mesh.open().await;
    let start = Instant::now();
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    let (node, _, reason) = lost(session.next().await);
    assert_eq!(node, mesh.node(1));
    assert!(reason.contains("not done after 120s"), "{reason}");
    assert!(start.elapsed() < 122 * SECOND, "{:?}", start.elapsed());
    drop(session);
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_costs_the_session_its_node() {
    let mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), |at, mock| {
        (mock.delay, mock.fails_at) = (SECOND, (at == 1).then_some(2));
    });
    let mut session = mesh.open().await;
    generate(session.as_mut(), 0, &[], 2).await;
    session.submit(tokens(2, 2, &[1], Rows::Last)).await.unwrap();
    let (node, _, reason) = lost(session.next().await);
    assert_eq!(node, mesh.node(1));
    assert!(reason.contains("mock device is on fire"), "{reason}");
    let accounts = session.close().await.unwrap();
    assert_eq!(accounts.iter().map(|account| account.counted).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(accounts[1].compute, 2 * SECOND, "who failed still accounts for what it did");
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_hop_does_not_hold_up_the_account() {
    let mesh = Mesh::new(&[0, 1, 2, 3]);
    let mut session = mesh.open().await;
    generate(session.as_mut(), 0, &[], 4).await;
    mesh.fabric.silence(mesh.coordinator, mesh.node(1));
    let start = Instant::now();
    let accounts = session.close().await.unwrap();
    assert!(start.elapsed() < 2 * SECOND, "{:?}", start.elapsed());
    // The silent hop hands in no receipts, neither its own nor those of the hop before.
    let paid: Vec<_> = accounts.iter().map(|account| (account.tokens, account.counted)).collect();
    assert_eq!(paid, [(0, 4), (0, 4), (4, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_cannot_be_reached_is_named() {
    let mut mesh = Mesh::new(&[0, 1, 2, 3]);
    mesh.hops[1].node = NodeId::random();
    let (node, _, reason) = lost(mesh.route().open(mesh.request()).await);
    assert_eq!(node, mesh.node(1));
    assert!(reason.contains("no stream to node"), "{reason}");
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_is_silent_from_the_start_is_named() {
    // Silent to all, to its coordinator, or to the hop before it only.
    for quiet_to in [&[0, 1, 3][..], &[0], &[1]] {
        let mesh = Mesh::new(&[0, 1, 2, 3]);
        let nodes = [mesh.coordinator, mesh.node(0), mesh.node(1), mesh.node(2)];
        quiet_to.iter().for_each(|other| mesh.fabric.silence(mesh.node(1), nodes[*other]));
        let start = Instant::now();
        let (node, _, reason) = lost(mesh.route().open(mesh.request()).await);
        assert_eq!(node, mesh.node(1), "{quiet_to:?}: {reason}");
        assert!(start.elapsed() <= OPEN_DEADLINE, "{:?}", start.elapsed());
        mesh.all_free().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_lost_its_power_is_given_up() {
    let config = ServeConfig { idle: 10 * SECOND, ..ServeConfig::default() };
    let mesh = Mesh::with(&[0, 1, 2], config, |_, _| {});
    let mut session = mesh.open().await;
    generate(session.as_mut(), 0, &[], 2).await;
    (0..2).for_each(|at| mesh.fabric.silence(mesh.coordinator, mesh.node(at)));
    mesh.all_free().await;
    drop(session);
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_a_session_end_and_takes_no_other() {
    let mesh = Mesh::with(&[0, 1, 2], ServeConfig::default(), slow(Duration::from_millis(100)));
    let mut session = mesh.open().await;
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    let server = &mesh.servers[1];
    let start = Instant::now();
    let generating = async {
        session.next().await.unwrap();
        let (node, _, reason) = lost(mesh.route().open(mesh.request()).await);
        assert_eq!(node, mesh.node(1));
        assert!(reason.contains("shutting down"), "{reason}");
        session.submit(tokens(1, 1, &[1], Rows::Last)).await.unwrap();
        session.next().await.unwrap();
        let accounts = session.close().await.unwrap();
        assert_eq!(accounts.iter().map(|account| account.tokens).collect::<Vec<_>>(), [2, 2]);
    };
    tokio::join!(server.shutdown(), generating);
    assert!(start.elapsed() < SECOND, "ends with the last session: {:?}", start.elapsed());
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_in_time_whoever_stays() {
    let mesh = Mesh::with(&[0, 1, 2], ServeConfig::default(), slow(100 * SECOND));
    let mut session = mesh.open().await;
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    let start = Instant::now();
    let (closed, ()) = tokio::join!(session.next(), mesh.servers[0].shutdown());
    let (node, _, reason) = lost(closed);
    assert_eq!(node, mesh.node(0));
    assert!(reason.contains("shutting down"), "{reason}");
    assert!(start.elapsed() < 6 * SECOND, "{:?}", start.elapsed());
    assert_eq!(mesh.servers[0].sessions(), 0);
    drop(session);
    mesh.all_free().await;
}
