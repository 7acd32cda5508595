//! Sessions together: mixed, cut, sharing what they have in common, and dropped at any moment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;

use far_mesh_core::{
    activation::Dtype,
    hop::{Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{NodeId, SessionId},
    model::testing::TinyLlama,
    shard::{Batching, Config, LoadError, PrefixSharing, Shard},
};
use futures::{FutureExt, future::join_all};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Chain, HASH, bits, config, load, span};

const LAYERS: u32 = 6;

fn shard(batching: Batching, arena_tokens: usize) -> (tempfile::TempDir, Shard) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    TinyLlama::default().write(&path).unwrap();
    let config = Config { arena_tokens, batching, ..config(path, Some(span(0, LAYERS)), true) };
    (dir, load(config))
}

fn alone() -> (tempfile::TempDir, Shard) {
    shard(Batching { prefix_sharing: PrefixSharing::Off, ..Batching::default() }, 1024)
}

/// Prompts that begin like others, for some pages or some positions of one.
fn prompts(count: u32) -> Vec<Vec<u32>> {
    let id = |at: u32, salt: u32| (at * 31 + 7 + salt) % 80;
    (0..count)
        .map(|prompt| {
            let (length, common) = (50 + prompt * 13 % 70, [0, 32, 45, 64][prompt as usize % 4]);
            (0..length).map(|at| id(at, if at < common { 0 } else { prompt + 1 })).collect()
        })
        .collect()
}

async fn hidden_bits(shard: &Shard, ids: &[u32], cuts: &[u32], chunks: impl FnMut() -> usize) -> Vec<u32> {
    let hop: Arc<dyn Hop> = shard.hop().unwrap();
    let hops: Vec<_> = cuts.windows(2).map(|cut| (Arc::clone(&hop), span(cut[0], cut[1]))).collect();
    let mut chain = Chain::open(&hops, 128).await;
    let (mut rest, mut all, mut chunks) = (ids, vec![], chunks);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(chunks().min(rest.len()));
        all.extend(bits(&chain.step(now, Rows::All).await.unwrap().to_f32()));
        rest = later;
    }
    chain.close().await;
    all
}

#[tokio::test]
async fn sessions_mixed_cut_and_sharing_have_the_bits_of_one_alone() {
    let prompts = prompts(24);
    let (_dir, quiet) = alone();
    let mut want = vec![];
    for ids in &prompts {
        want.push(hidden_bits(&quiet, ids, &[0, LAYERS], || 512).await);
    }
    for (step_tokens, output_bytes) in [(8, 0), (24, 1 << 20), (128, 40 << 10)] {
        let batching = Batching { step_tokens, output_bytes, prefix_sharing: PrefixSharing::Owner };
        let (_dir, shard) = shard(batching, 8192);
        for round in 0..3 {
            let sessions = prompts.iter().enumerate().map(|(i, ids)| {
                let mut random = ChaCha8Rng::seed_from_u64(round * 100 + i as u64);
                let cuts: &[u32] = [&[0, 6][..], &[0, 2, 6], &[0, 6]][i % 3];
                hidden_bits(&shard, ids, cuts, move || [1, 1, 3, 32, 90][random.random_range(0..5)])
            });
            for (i, got) in join_all(sessions).await.into_iter().enumerate() {
                assert!(got == want[i], "session {i} of round {round} in forwards of {step_tokens}");
            }
            assert_eq!(shard.free_tokens(), 8192);
        }
    }
}

/// The last row of a prompt whose inner chunks nobody wants anything of, as generations send them.
async fn last_row(hop: &dyn Hop, owner: Option<NodeId>, ids: &[u32], chunk: usize) -> (Vec<u32>, Box<dyn HopSession>) {
    let request = OpenSession {
        session: SessionId::random(),
        model: HASH,
        span: span(0, LAYERS),
        dtype: Dtype::F32,
        context_tokens: 256,
    };
    let opened = match owner {
        Some(owner) => hop.open_for(owner, request).await,
        None => hop.open(request).await,
    };
    let (mut session, mut row) = (opened.unwrap(), None);
    for (seq, part) in ids.chunks(chunk).enumerate() {
        let output = if (seq + 1) * chunk < ids.len() { Rows::None } else { Rows::Last };
        let (seq, position) = (seq as u64, (seq * chunk) as u32);
        session.submit(Step { seq, position, input: Input::Tokens(part.to_vec()), output }).await.unwrap();
        row = session.next().await.unwrap().output;
    }
    (bits(&row.unwrap().to_f32()), session)
}

#[tokio::test]
async fn a_repeated_prompt_takes_no_room_and_changes_no_bit() {
    let (_dir, quiet) = alone();
    let (_dir, shard) = shard(Batching::default(), 1024);
    let (hop, ids) = (shard.hop().unwrap(), prompts(3)[2].clone());
    assert!((64..96).contains(&ids.len()));
    let (want, _) = last_row(&*quiet.hop().unwrap(), None, &ids, 64).await;
    let (first, one) = last_row(&*hop, None, &ids, 64).await;
    assert!(first == want);
    assert_eq!(shard.free_tokens(), 1024 - 256);
    let (again, two) = last_row(&*hop, None, &ids, 64).await;
    assert!(again == want, "from shared pages");
    assert_eq!(shard.free_tokens(), 1024 - 256 - 192, "two pages of 32 are shared");
    let (apart, three) = last_row(&*hop, Some(NodeId::random()), &ids, 64).await;
    assert!(apart == want);
    assert_eq!(shard.free_tokens(), 1024 - 256 - 192 - 256, "another node's session has its own");
    drop((one, two, three));
    assert_eq!(shard.free_tokens(), 1024);
}

#[tokio::test]
async fn idle_pages_never_stand_in_the_way() {
    let (_dir, shard) = shard(Batching::default(), 512);
    let hop = shard.hop().unwrap();
    for prompt in prompts(16) {
        drop(last_row(&*hop, None, &prompt, 64).await);
        assert_eq!(shard.free_tokens(), 512);
    }
    let full = join_all((0..2).map(|_| last_row(&*hop, None, &[1, 2, 3], 3))).await;
    assert_eq!(shard.free_tokens(), 0);
    let request = OpenSession {
        session: SessionId::random(),
        model: HASH,
        span: span(0, LAYERS),
        dtype: Dtype::F32,
        context_tokens: 1,
    };
    let refused = hop.open(request).await.err().unwrap();
    assert!(matches!(refused, HopError::Full { needed_tokens: 1, free_tokens: 0 }), "{refused}");
    drop(full);
    assert_eq!(shard.free_tokens(), 512);
}

/// Two hundred sessions at a time: opened, sent steps, polled for a while and dropped, in any order.
#[tokio::test]
async fn sessions_dropped_at_any_moment_leave_the_arena_as_it_was() {
    let (_dir, shard) = shard(Batching { step_tokens: 32, ..Batching::default() }, 4096);
    let (hop, prompts) = (shard.hop().unwrap(), prompts(12));
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut opened, mut refused, mut dropped_within) = (0, 0, 0);
    let mut live: Vec<(Box<dyn HopSession>, usize, u64, u32)> = vec![];
    while opened < 200 {
        match random.random_range(0..8) {
            0..3 => {
                let request = OpenSession {
                    session: SessionId::random(),
                    model: HASH,
                    span: span(0, LAYERS),
                    dtype: Dtype::F32,
                    context_tokens: random.random_range(120..256),
                };
                match hop.open(request).await {
                    Ok(session) => {
                        opened += 1;
                        live.push((session, random.random_range(0..prompts.len()), 0, 0));
                    }
                    Err(HopError::Full { .. }) => {
                        refused += 1;
                        live.swap_remove(random.random_range(0..live.len()));
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            3..6 if !live.is_empty() => {
                let at = random.random_range(0..live.len());
                let (session, prompt, seq, position) = &mut live[at];
                let ids = &prompts[*prompt][*position as usize..];
                let ids = &ids[..ids.len().min([1, 20, 64][random.random_range(0..3)])];
                if ids.is_empty() {
                    continue;
                }
                let output = [Rows::None, Rows::Last, Rows::All][random.random_range(0..3)];
                let step = Step { seq: *seq, position: *position, input: Input::Tokens(ids.to_vec()), output };
                (*seq, *position) = (*seq + 1, *position + ids.len() as u32);
                if random.random_bool(0.1) {
                    // A submit that was dropped may or may not have been taken: the session goes too.
                    let _ = session.submit(step).now_or_never();
                    dropped_within += 1;
                    live.swap_remove(at);
                } else {
                    session.submit(step).await.unwrap();
                }
            }
            6 if !live.is_empty() => {
                let at = random.random_range(0..live.len());
                let waited = live[at].0.next();
                if random.random_bool(0.5) {
                    let _ = waited.now_or_never();
                } else {
                    let _ = waited.await;
                }
            }
            7 if !live.is_empty() => {
                let (session, ..) = live.swap_remove(random.random_range(0..live.len()));
                if random.random_bool(0.3) {
                    assert!(session.close().await.is_ok());
                }
            }
            _ => {}
        }
    }
    assert!(refused > 0 && dropped_within > 0, "{refused} {dropped_within}");
    drop(live);
    // A forward may still hold the pages of the last sessions: what it answers comes after it let go.
    let (got, session) = last_row(&*hop, None, &prompts[5], 64).await;
    drop(session);
    assert_eq!(shard.free_tokens(), 4096);
    let (_dir, quiet) = alone();
    assert!(got == last_row(&*quiet.hop().unwrap(), None, &prompts[5], 64).await.0);
    shard.shutdown().await;
}

#[tokio::test]
async fn a_forward_of_too_few_rows_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    TinyLlama::default().write(&path).unwrap();
    let batching = Batching { step_tokens: 7, ..Batching::default() };
    let error = Shard::load(Config { batching, ..config(path, Some(span(0, 6)), true) }, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, LoadError::StepTokens { tokens: 7, least: 8 }), "{error}");
}
