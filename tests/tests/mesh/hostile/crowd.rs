//! More than there is room for.

use std::time::{Duration, Instant};

use far_mesh_core::{
    hop::{Hop, HopError, Rows},
    peer::{
        SHARD_PROTOCOL,
        wire::{Fault, Frame, Link, Open},
    },
};
use futures::{StreamExt, future::join_all, stream};

use super::{ANSWER, Targets, good_open};
use crate::{
    drive::{Driver, opening},
    net::{hop, route},
    process::{memory, room, within},
};

#[tokio::test]
async fn sessions_beyond_the_room_are_told_that_it_is_full() {
    const SESSIONS: usize = 200;
    const CONTEXT: u32 = 1024;
    let targets = Targets::start().await;
    let free = targets.rooms[0].free_tokens;
    let all = (free / u64::from(CONTEXT)) as usize;
    // One coordinator does not get the last eighth.
    let fit = all - all / 8;
    assert!(fit < all && all < SESSIONS);
    let open = || Open { context_tokens: CONTEXT, ..good_open("0..10") };
    let full = |fault: &Fault| matches!(fault, Fault::Full { needed_tokens: 1024, free_tokens } if *free_tokens < 1024);
    let opens = stream::iter(0..SESSIONS).map(|_| async {
        match targets.open(targets.first(), &open()).await {
            (link, Frame::Opened) => Some(link),
            (_, Frame::Fault(fault)) if full(&fault) => None,
            (_, other) => panic!("{other:?}"),
        }
    });
    let sessions: Vec<_> = opens.buffered(16).collect::<Vec<_>>().await.into_iter().flatten().collect();
    assert_eq!(sessions.len(), fit, "as many as there is room for; all others were told");
    // Who keeps the streams of refused sessions is told as well, until it has too many of them.
    let mut kept = vec![];
    for _ in 0..SESSIONS {
        let open = open();
        let mut link = Link::new(Box::new(targets.stream(targets.first()).await), open.session);
        let answer = match link.send(Frame::Open(Box::new(open))).await {
            Ok(()) => within(ANSWER, "an answer", link.recv()).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Frame::Fault(fault)) if full(&fault) => kept.push(link),
            Err(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!((1..SESSIONS).contains(&kept.len()), "{}", kept.len());
    // An honest node finds what is kept for others, and hears at once and with both numbers when that is taken too.
    let honest = route(&targets.honest, vec![hop(targets.first(), "0..10")]);
    let mut others = vec![];
    let refused = loop {
        match honest.open(opening(&honest, CONTEXT)).await {
            Ok(session) => others.push(session),
            Err(error) => break error,
        }
    };
    assert_eq!(others.len(), all - fit);
    let full = matches!(refused.cause(), HopError::Full { needed_tokens: 1024, free_tokens: 0 });
    assert!(full, "{refused:?}");
    assert_eq!(room(targets.first()).await.free_tokens, 0);
    drop((sessions, kept, others));
    targets.unharmed("200 sessions").await;
    targets.stop().await;
}

#[tokio::test]
async fn a_flood_of_streams_leaves_the_others_their_place() {
    const STREAMS: usize = 2000;
    let targets = Targets::start().await;
    let to = hop(targets.first(), "0..10");
    let (node, addrs) = (to.node, to.addrs.clone());
    // A session from before the flood.
    let mut session = Driver::open(&route(&targets.honest, vec![to]), 64).await;
    session.tokens(&[1, 2, 3], 3, Rows::Last).await;
    let flood = join_all((0..STREAMS).map(|_| targets.hostile.open_stream(node, &addrs, SHARD_PROTOCOL)));
    let meanwhile = async {
        targets.serve_honestly(&targets.honest, "during a flood").await;
        session.tokens(&[4, 5, 6], 1, Rows::Last).await;
    };
    let started = Instant::now();
    let (streams, ()) = tokio::join!(flood, meanwhile);
    let streams: Vec<_> = streams.into_iter().flatten().collect();
    println!("{} of {STREAMS} streams opened after {:?}", streams.len(), started.elapsed());
    assert!(streams.len() >= 64, "the flood was none");
    // All of them are held open and silent.
    targets.serve_honestly(&targets.honest, "in a flood").await;
    let slowest = started.elapsed();
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
    println!("in the flood: {:.1} MiB", super::mib(memory(targets.first()).resident));
    session.tokens(&[7], 1, Rows::Last).await;
    session.close().await;
    drop(streams);
    targets.unharmed("a flood of streams").await;
    targets.stop().await;
}

/// Streams are opened for as long as it takes to ask for ten thousand, over every connection that the provider still lets
/// itself be made.
#[tokio::test]
async fn ten_thousand_streams_cost_the_one_who_opens_them_its_connection() {
    const STREAMS: usize = 10_000;
    const SIDE_BY_SIDE: usize = 256;
    let mut targets = Targets::start().await;
    let to = hop(targets.first(), "0..10");
    let (node, addrs) = (to.node, to.addrs.clone());
    let mut session = Driver::open(&route(&targets.honest, vec![to]), 256).await;
    session.tokens(&[1, 2, 3], 3, Rows::Last).await;
    let (hostile, started) = (targets.hostile.clone(), Instant::now());
    let opens = stream::iter(0..STREAMS).map(|_| hostile.open_stream(node, &addrs, SHARD_PROTOCOL));
    let flood = async {
        // Held open, as many as there are.
        let streams: Vec<_> = opens.buffer_unordered(SIDE_BY_SIDE).collect().await;
        let took = started.elapsed();
        (streams.into_iter().flatten().collect::<Vec<_>>(), took)
    };
    let mut flood = std::pin::pin!(flood);
    let (mut slowest, mut steps) = (Duration::ZERO, 0);
    let (held, took) = loop {
        let step = async {
            let asked = Instant::now();
            session.tokens(&[4], 1, Rows::Last).await;
            asked.elapsed()
        };
        // The session's steps and the flood share this thread; the provider has its own.
        let mut step = std::pin::pin!(step);
        let flooded = tokio::select! {
            flooded = &mut flood => Some(flooded),
            took = &mut step => {
                (slowest, steps) = (slowest.max(took), steps + 1);
                None
            }
        };
        if let Some(flooded) = flooded {
            slowest = slowest.max(step.await);
            break flooded;
        }
        if steps >= 200 {
            break flood.await;
        }
    };
    println!("{STREAMS} streams asked for in {took:?}, {} held; {steps} honest steps, slowest {slowest:?}", held.len());
    assert!(steps > 0 && slowest < Duration::from_secs(2), "an honest step took {slowest:?} in the flood");
    let peak = memory(targets.first()).peak;
    println!("in the flood: {:.1} MiB at most", super::mib(peak));
    session.close().await;
    drop(held);
    targets.unharmed("ten thousand streams").await;
    let hostile = hostile.id().to_string();
    let (_, log) = targets.providers.remove(0).stop_for_log(ANSWER).await;
    let named = log.lines().any(|line| line.contains(&hostile) && line.contains("dropped: it opens streams faster"));
    assert!(named, "the log does not name {hostile}:\n{log}");
    targets.stop().await;
}
