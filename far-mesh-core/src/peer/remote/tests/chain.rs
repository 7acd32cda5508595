//! A chain of hops does what one hop over all layers does, and no more than that on the wire.

use std::time::Duration;

use futures::future::join_all;

use super::{
    fabric::{Mesh, generate, generate_locally, tokens},
    mock::MockHop,
};
use crate::{
    activation::Dtype,
    hop::{Hop, HopError, HopSession, Rows},
    id::{ModelHash, Span},
    limits::{MAX_CHUNK_TOKENS, MAX_STEPS_IN_FLIGHT},
    peer::{RemoteRoute, RouteError, ServeConfig},
};

const CUTS: [&[u32]; 4] = [&[0, 30], &[0, 11, 30], &[0, 10, 20, 30], &[0, 1, 7, 8, 29, 30]];

#[tokio::test(start_paused = true)]
async fn chains_of_any_length_compute_what_one_hop_does() {
    let alone = generate_locally(30, 5, &[4, 4, 3], 6).await;
    for cuts in CUTS {
        let mesh = Mesh::new(cuts);
        let mut session = mesh.open().await;
        assert_eq!(generate(session.as_mut(), 5, &[4, 4, 3], 6).await, alone, "{cuts:?}");
        let accounts = session.close().await.unwrap();
        let spans: Vec<Span> = accounts.iter().map(|account| account.span).collect();
        assert_eq!(spans, mesh.hops.iter().map(|hop| hop.span).collect::<Vec<_>>());
        for (account, hop) in accounts.iter().zip(&mesh.hops) {
            assert_eq!((account.node, account.tokens), (Some(hop.node), 17));
        }
        mesh.all_free().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_window_of_large_chunks_moves_without_anyone_reading() {
    // 2 MiB a frame, 64 KiB a stream.
    let mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), |_, mock| mock.hidden = 1024);
    let local = MockHop { hidden: 1024, ..MockHop::new(0, 3) };
    let mut alone = local.open(local.request()).await.unwrap();
    let mut session = mesh.open().await;
    let chunk = |at: usize| {
        let ids: Vec<u32> = (0..MAX_CHUNK_TOKENS as u32).map(|i| i * 7 + at as u32).collect();
        tokens(at as u64, (at * MAX_CHUNK_TOKENS) as u32, &ids, Rows::All)
    };
    for at in 0..MAX_STEPS_IN_FLIGHT {
        session.submit(chunk(at)).await.unwrap();
        alone.submit(chunk(at)).await.unwrap();
    }
    let over = session.submit(chunk(MAX_STEPS_IN_FLIGHT)).await;
    assert!(matches!(&over, Err(HopError::BadStep { reason }) if reason.contains("on their way")), "{over:?}");
    for at in 0..MAX_STEPS_IN_FLIGHT {
        let (there, here) = (session.next().await.unwrap(), alone.next().await.unwrap());
        assert_eq!(there.seq, at as u64);
        assert!(there.output == here.output, "chunk {at} differs");
    }
    session.submit(chunk(MAX_STEPS_IN_FLIGHT)).await.unwrap();
    session.next().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn chunks_of_a_prompt_keep_all_hops_busy() {
    let second = Duration::from_secs(1);
    let mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), |_, mock| mock.delay = second);
    let mut session = mesh.open().await;
    let start = tokio::time::Instant::now();
    for at in 0..8 {
        session.submit(tokens(at, at as u32, &[1], Rows::None)).await.unwrap();
    }
    for _ in 0..8 {
        session.next().await.unwrap();
    }
    // 3 hops, 8 steps: one after another would be 24 s.
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_share_hops_do_not_mix() {
    let mesh = Mesh::new(&[0, 2, 4, 6]);
    let runs = (0..8).map(|salt| {
        let mesh = &mesh;
        async move {
            let mut session = mesh.open().await;
            let there = generate(session.as_mut(), salt, &[3, 2], 10).await;
            assert_eq!(there, generate_locally(6, salt, &[3, 2], 10).await, "session {salt}");
        }
    });
    join_all(runs).await;
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_with_more_addresses_than_are_tried_is_no_failure() {
    let mut mesh = Mesh::new(&[0, 1, 2]);
    mesh.hops[1].addrs = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap(); 100];
    assert_eq!(generate(mesh.open().await.as_mut(), 0, &[], 1).await, generate_locally(2, 0, &[], 1).await);
}

/// On several threads and the real clock, for what a paused clock on one thread cannot show.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_come_and_go_leave_nothing() {
    let mesh = std::sync::Arc::new(Mesh::new(&[0, 2, 4, 6]));
    let callers = (0..8_u32).map(|caller| {
        let mesh = std::sync::Arc::clone(&mesh);
        tokio::spawn(async move {
            for round in 0..20 {
                let mut session = mesh.open().await;
                let salt = caller * 100 + round;
                match round % 4 {
                    // Gone while steps are on their way.
                    0 => session.submit(tokens(0, 0, &[1; 64], Rows::All)).await.unwrap(),
                    // Gone while opening.
                    1 => drop(tokio::time::timeout(Duration::from_micros(50), mesh.route().open(mesh.request())).await),
                    _ => {
                        let there = generate(session.as_mut(), salt, &[3, 2], 10).await;
                        assert_eq!(there, generate_locally(6, salt, &[3, 2], 10).await);
                        let accounts = session.close().await.unwrap();
                        assert!(accounts.iter().all(|account| account.tokens == 15));
                    }
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_step_is_one_write_on_each_link() {
    let mesh = Mesh::new(&[0, 1, 2, 3]);
    let mut session = mesh.open().await;
    let around = [mesh.coordinator, mesh.node(0), mesh.node(1), mesh.node(2), mesh.coordinator];
    let count = || around.windows(2).map(|pair| mesh.fabric.writes(pair[0], pair[1])).collect::<Vec<_>>();
    let before = count();
    generate(session.as_mut(), 0, &[], 100).await;
    let after = count();
    let steps: Vec<usize> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // The last hop also sends what it signed for the hop before, and what the coordinator is to sign, once a cell.
    assert_eq!(steps, [100, 100, 100, 106]);
    assert_eq!(mesh.fabric.writes(mesh.coordinator, mesh.node(1)), 1, "Open and nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_differs_refuses_with_both_values() {
    let mesh = Mesh::with(&[0, 1, 2, 3], ServeConfig::default(), |at, mock| {
        if at == 1 {
            mock.model = ModelHash([9; 32]);
        }
    });
    let error = mesh.route().open(mesh.request()).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(&error, HopError::Declined { node, .. } if *node == mesh.node(1)), "{error:?}");
    assert!(matches!(error.cause(), HopError::Refused { .. }), "{error:?}");
    assert!(text.contains("0707") && text.contains("0909") && text.contains(&mesh.node(1).to_string()), "{text}");
    mesh.all_free().await;

    let mesh = Mesh::new(&[0, 1, 2]);
    let error =
        mesh.route().open(crate::hop::OpenSession { dtype: Dtype::Bf16, ..mesh.request() }).await.err().unwrap();
    assert!(error.to_string().contains("Bf16 was asked for, F32 is served"), "{error}");

    // The plan is older than the provider's restart with other layers.
    let mut mesh = Mesh::new(&[0, 1, 2]);
    mesh.hops[1].span = Span::new(1, 9).unwrap();
    let error = mesh.route().open(mesh.request()).await.err().unwrap();
    assert!(error.to_string().contains("layers 1..9 were asked for, this node serves 1..2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_full_hop_says_how_full() {
    let mesh = Mesh::with(&[0, 1, 2], ServeConfig::default(), |at, mock| mock.room_tokens = [u64::MAX, 100][at]);
    let error = mesh.route().open(mesh.request()).await.err().unwrap();
    assert!(matches!(&error, HopError::Declined { node, .. } if *node == mesh.node(1)), "{error:?}");
    assert!(matches!(error.cause(), HopError::Full { needed_tokens: 8192, free_tokens: 100 }), "{error:?}");
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn steps_out_of_order_do_not_leave_the_coordinator() {
    let mesh = Mesh::new(&[0, 1]);
    let mut session = mesh.open().await;
    let wrong = [
        tokens(1, 0, &[1], Rows::Last),
        tokens(0, 1, &[1], Rows::Last),
        tokens(0, 0, &[], Rows::Last),
        tokens(0, 0, &[1; MAX_CHUNK_TOKENS + 1], Rows::Last),
    ];
    for step in wrong {
        assert!(matches!(session.submit(step).await, Err(HopError::BadStep { .. })));
    }
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    session.next().await.unwrap();
    assert!(matches!(session.next().await, Err(HopError::BadStep { .. })), "nothing is on its way");
}

#[tokio::test]
async fn hops_that_do_not_follow_each_other_are_no_route() {
    let mesh = Mesh::new(&[0, 10, 20, 30]);
    let route = |hops| RemoteRoute::new(std::sync::Arc::new(mesh.fabric.port(mesh.coordinator)), hops).err();
    let hop = |at: usize| mesh.hops[at].clone();
    assert_eq!(route(vec![]), Some(RouteError::Hops { got: 0 }));
    assert!(matches!(route(vec![hop(0), hop(2)]), Some(RouteError::Gap { .. })));
    assert!(matches!(route(vec![hop(1), hop(0)]), Some(RouteError::Gap { .. })));
    let mut twice = vec![hop(0), hop(1)];
    twice[1].node = twice[0].node;
    assert!(matches!(route(twice), Some(RouteError::Twice { .. })));
    assert_eq!(route(vec![hop(1), hop(2)]), None);
}

#[tokio::test(start_paused = true)]
async fn a_route_may_start_within_the_model() {
    let mesh = Mesh::new(&[4, 6, 8]);
    let first = MockHop::new(0, 4);
    let mut head = first.open(first.request()).await.unwrap();
    head.submit(tokens(0, 0, &[1, 2, 3], Rows::All)).await.unwrap();
    let activation = head.next().await.unwrap().output.unwrap();
    let mut session = mesh.open().await;
    let step =
        crate::hop::Step { seq: 0, position: 0, input: crate::hop::Input::Activation(activation), output: Rows::All };
    session.submit(step).await.unwrap();
    let there = session.next().await.unwrap().output.unwrap();

    let whole = MockHop::new(0, 8);
    let mut alone: Box<dyn HopSession> = whole.open(whole.request()).await.unwrap();
    alone.submit(tokens(0, 0, &[1, 2, 3], Rows::All)).await.unwrap();
    assert_eq!(alone.next().await.unwrap().output.unwrap(), there);
}
