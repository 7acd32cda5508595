//! Hops that are lost in the middle of a session: others take their place, and the results are those of a run in which
//! nothing happened.

mod bounds;
mod spares;

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::{
    fabric::{Mesh, generate_locally, tokens},
    mock::MockHop,
};
use crate::{
    hop::{Hop, HopError, HopSession, Rows},
    id::{NodeId, Span},
    limits::{MAX_RECEIPT_TOKENS, MAX_STEPS_IN_FLIGHT},
    peer::{RemoteHop, ServeConfig},
};

const CUTS: [u32; 4] = [0, 1, 2, 3];
const CHUNKS: [usize; 3] = [4, 4, 3];
const DECODE: usize = 30;
/// Positions of a receipt.
const CELL: u64 = MAX_RECEIPT_TOKENS as u64;
const MILLI: Duration = Duration::from_millis(1);

/// How a hop is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Vanishes,
    FallsSilent,
    LosesTheHopBefore,
}

fn mesh(config: &ServeConfig, tweak: impl Fn(usize, &mut MockHop)) -> Mesh {
    Mesh::with(&CUTS, config.clone(), &tweak).and_spares(&CUTS, config.clone(), &tweak)
}

fn lose(mesh: &mut Mesh, at: usize, way: Way) {
    let everybody: Vec<NodeId> = mesh.hops.iter().chain(&mesh.spares).map(|hop| hop.node).collect();
    match way {
        // Its place in the list is kept.
        Way::Vanishes => drop(std::mem::replace(&mut mesh.servers[at], Mesh::new(&[0, 1]).servers.remove(0))),
        Way::FallsSilent => {
            let others = everybody.into_iter().chain([mesh.coordinator]);
            others.for_each(|other| mesh.fabric.silence(mesh.node(at), other));
        }
        Way::LosesTheHopBefore => mesh.fabric.silence(mesh.node(at - 1), mesh.node(at)),
    }
}

/// Runs a prompt and some tokens; `disturb` is called before each step. The results, and the longest wait for one.
async fn run(
    session: &mut dyn HopSession,
    salt: u32,
    mut disturb: impl FnMut(usize),
) -> Result<(Vec<Vec<u8>>, Duration), HopError> {
    let (mut outputs, mut position, mut pause) = (vec![], 0, Duration::ZERO);
    let lengths = CHUNKS.iter().copied().chain(std::iter::repeat_n(1, DECODE));
    for (seq, length) in lengths.enumerate() {
        let ids: Vec<u32> = (position..).take(length).map(|at| at * 31 + salt).collect();
        let rows = [Rows::Last, Rows::All, Rows::None][seq % 3];
        disturb(seq);
        let start = Instant::now();
        session.submit(tokens(seq as u64, position, &ids, rows)).await?;
        let done = session.next().await?;
        assert_eq!(done.seq, seq as u64);
        pause = pause.max(start.elapsed());
        outputs.push(done.output.map(|activation| activation.bytes().to_vec()).unwrap_or_default());
        position += length as u32;
    }
    Ok((outputs, pause))
}

#[tokio::test(start_paused = true)]
async fn a_lost_hop_is_replaced_and_no_bit_changes() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    for way in [Way::Vanishes, Way::FallsSilent, Way::LosesTheHopBefore] {
        for at in usize::from(way == Way::LosesTheHopBefore)..3 {
            for step in [0, 1, 4, 20, 31] {
                let mut mesh = mesh(&ServeConfig::default(), |_, _| {});
                let (route, spares) = mesh.mended();
                let mut session = route.open(mesh.request()).await.unwrap();
                let disturbed = run(session.as_mut(), 5, |seq| {
                    if seq == step {
                        lose(&mut mesh, at, way);
                    }
                });
                let (outputs, pause) = disturbed.await.unwrap_or_else(|e| panic!("{way:?} {at} {step}: {e}"));
                assert!(outputs == alone, "{way:?} of hop {at} before step {step}");
                assert!(pause < Duration::from_millis(1100), "{way:?} of hop {at} before step {step}: {pause:?}");
                let told = spares.lost.lock().unwrap().clone();
                assert!(told.len() == 1 && told[0].0 == mesh.node(at), "{told:?}");
                let accounts = session.close().await.unwrap();
                let who: Vec<_> = accounts.iter().map(|account| account.node.unwrap()).collect();
                let mut want: Vec<_> = mesh.hops.iter().map(|hop| hop.node).collect();
                want.insert(at + 1, mesh.spares[at].node);
                // It left before it had finished a cell.
                if accounts.len() == mesh.hops.len() {
                    want.remove(at);
                }
                assert_eq!(who, want, "the lost hop is named before the one in its place");
                assert!(accounts.iter().all(|account| account.exact));
                let all = 11 + DECODE as u64;
                let done = if step < 3 { 4 * step as u64 } else { 11 + step as u64 - 3 };
                // Who left has receipts for whole cells; the rest is run again by who took over.
                let cut = done - done % CELL;
                for account in &accounts {
                    let node = account.node.unwrap();
                    let counted = match node {
                        node if node == mesh.node(at) => cut,
                        node if node == mesh.spares[at].node => all - cut,
                        _ => all,
                    };
                    assert_eq!((account.tokens, account.counted), (counted, counted), "{accounts:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_hops_may_be_lost_at_once() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    for way in [Way::Vanishes, Way::FallsSilent] {
        for lost in [&[0, 1][..], &[1, 2], &[0, 2], &[0, 1, 2]] {
            for step in [1, 10, 32] {
                let mut mesh = mesh(&ServeConfig::default(), |_, _| {});
                let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
                let disturbed = run(session.as_mut(), 5, |seq| {
                    if seq == step {
                        lost.iter().for_each(|at| lose(&mut mesh, *at, way));
                    }
                });
                let (outputs, pause) = disturbed.await.unwrap_or_else(|e| panic!("{way:?} {lost:?} {step}: {e}"));
                assert!(outputs == alone, "{way:?} of {lost:?} before step {step}");
                assert!(pause < Duration::from_millis(900), "{way:?} of {lost:?} before step {step}: {pause:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn prompts_on_their_way_survive() {
    let chunk = |at: u64| tokens(at, at as u32 * 4, &[at as u32; 4], Rows::Last);
    let hop = MockHop::new(0, 3);
    let mut alone = hop.open(hop.request()).await.unwrap();
    let mut want = vec![];
    // More than may be on their way at once: what is lost is sent again while others follow.
    for at in 0..20 {
        alone.submit(chunk(at)).await.unwrap();
        want.push(alone.next().await.unwrap().output);
    }
    for at in 0..3 {
        for after in 0..12 {
            let mut mesh = mesh(&ServeConfig::default(), |_, mock| mock.delay = 10 * MILLI);
            let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
            let mut rest = (0..want.len() as u64).map(chunk);
            for step in rest.by_ref().take(MAX_STEPS_IN_FLIGHT) {
                session.submit(step).await.unwrap();
            }
            for (seq, want) in want.iter().enumerate() {
                if seq == after {
                    lose(&mut mesh, at, Way::Vanishes);
                }
                let done = session.next().await.unwrap();
                assert_eq!((done.seq, &done.output), (seq as u64, want), "hop {at} lost after {after}");
                if let Some(step) = rest.next() {
                    session.submit(step).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_no_longer_has_what_it_sent_is_opened_anew() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    // Eight positions of 32 bytes.
    let config = ServeConfig { kept_bytes_per_session: 256, ..ServeConfig::default() };
    for at in 0..3 {
        let mut mesh = mesh(&config, |_, _| {});
        let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
        let outputs = run(session.as_mut(), 5, |seq| {
            if seq == 20 {
                lose(&mut mesh, at, Way::Vanishes);
            }
        });
        assert!(outputs.await.unwrap().0 == alone, "hop {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_has_the_speed_of_a_prompt_where_no_bit_changes() {
    for (merges, least, most) in [(true, 1, 8), (false, 30, 40)] {
        let mut mesh = mesh(&ServeConfig::default(), |_, mock| (mock.delay, mock.merges) = (10 * MILLI, merges));
        let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
        let disturbed = run(session.as_mut(), 5, |seq| {
            if seq == 32 {
                lose(&mut mesh, 1, Way::Vanishes);
            }
        });
        let (_, pause) = disturbed.await.unwrap();
        let steps = mesh.mocks[4].steps.load(Ordering::SeqCst);
        assert!((least..=most).contains(&steps), "{steps} steps in {pause:?}");
        assert!(pause < 10 * MILLI * (most as u32 + 5), "{pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn results_that_are_no_numbers_cost_a_hop_its_place() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    for liar in 0..3 {
        let mesh = Mesh::with(&CUTS, ServeConfig::default(), |at, mock| {
            mock.no_number_at = (at == liar).then_some(7);
        });
        let mesh = mesh.and_spares(&CUTS, ServeConfig::default(), |_, _| {});
        let (route, spares) = mesh.mended();
        let mut session = route.open(mesh.request()).await.unwrap();
        // The last hop is asked for one row at most.
        let outputs = run(session.as_mut(), 5, |_| {}).await;
        let outputs = outputs.unwrap_or_else(|e| panic!("hop {liar}: {e}: {:?}", spares.lost)).0;
        assert!(outputs == alone);
        let told = spares.lost.lock().unwrap().clone();
        assert_eq!(told[0].0, mesh.node(liar), "{told:?}");
        assert!(liar == 2 || told[0].1.contains("no numbers"), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_kernel_class_is_told() {
    let mut mesh = mesh(&ServeConfig::default(), |_, _| {});
    mesh.spares[1].kernel_class = "another".to_owned();
    let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
    run(session.as_mut(), 5, |seq| {
        if seq == 5 {
            lose(&mut mesh, 1, Way::Vanishes);
        }
        if seq == 9 {
            lose(&mut mesh, 2, Way::Vanishes);
        }
    })
    .await
    .unwrap();
    let exact: Vec<bool> = session.close().await.unwrap().iter().map(|account| account.exact).collect();
    // Those that were lost had not finished a cell.
    assert_eq!(exact, [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_takes_the_place_the_lost_hop_is_named() {
    let mut mesh = Mesh::new(&CUTS).and_spares(&[0, 1, 2], ServeConfig::default(), |_, _| {});
    let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
    let error = run(session.as_mut(), 5, |seq| {
        if seq == 5 {
            lose(&mut mesh, 2, Way::Vanishes);
        }
    });
    let error = error.await.unwrap_err();
    assert!(matches!(&error, HopError::PeerLost { node, .. } if *node == mesh.node(2)), "{error}");
    assert!(error.to_string().contains("no spare runs layer 2"), "{error}");
    drop(session);
    mesh.servers.remove(2);
    mesh.mocks.remove(2);
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_repair_no_hop_holds_more_than_its_session() {
    let mut mesh = mesh(&ServeConfig::default(), |_, _| {});
    let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
    run(session.as_mut(), 5, |seq| {
        if seq == 5 {
            lose(&mut mesh, 1, Way::LosesTheHopBefore);
        }
    })
    .await
    .unwrap();
    // The one that was replaced heard of it.
    let mut sessions = mesh.servers[1].watch_sessions();
    tokio::time::timeout(Duration::from_secs(1), sessions.wait_for(|sessions| *sessions == 0)).await.unwrap().unwrap();
    session.close().await.unwrap();
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_hop_at_a_tenth_of_its_promise_loses_its_place_between_two_steps() {
    let alone = generate_locally(3, 5, &CHUNKS, DECODE).await;
    for at in 0..3 {
        let slow = |place: usize, mock: &mut MockHop| mock.delay = MILLI * if place == at { 600 } else { 3 };
        let mut mesh = Mesh::with(&CUTS, ServeConfig::default(), slow);
        mesh = mesh.and_spares(&CUTS, ServeConfig::default(), |_, mock| mock.delay = 3 * MILLI);
        mesh.hops.iter_mut().for_each(|hop| hop.promised = 3 * MILLI);
        let (route, spares) = mesh.mended();
        let mut session = route.open(mesh.request()).await.unwrap();
        let (outputs, pause) = run(session.as_mut(), 5, |_| {}).await.unwrap();
        assert!(outputs == alone, "hop {at}");
        assert!(pause < 700 * MILLI, "{pause:?}");
        assert!(spares.lost.lock().unwrap().is_empty(), "slow is not lost");
        let told = spares.slow.lock().unwrap().clone();
        assert!(told.len() == 1 && told[0].0 == mesh.node(at), "{told:?}");
        let accounts = session.close().await.unwrap();
        assert!(accounts.iter().any(|account| account.node == Some(mesh.spares[at].node)), "{accounts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_hop_keeps_its_place_where_nobody_is_quicker() {
    let slow = |place: usize, mock: &mut MockHop| mock.delay = MILLI * if place == 1 { 600 } else { 3 };
    let mut mesh = Mesh::with(&CUTS, ServeConfig::default(), slow);
    mesh.hops.iter_mut().for_each(|hop| hop.promised = 3 * MILLI);
    let mut session = mesh.mended().0.open(mesh.request()).await.unwrap();
    let (outputs, _) = run(session.as_mut(), 5, |_| {}).await.unwrap();
    assert!(outputs == generate_locally(3, 5, &CHUNKS, DECODE).await);
    assert_eq!(session.close().await.unwrap().len(), 3);
}
