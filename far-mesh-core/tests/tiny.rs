//! Random small models: cut, chunked and mixed in every way, bits stay the same; bad requests are refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{path::Path, sync::Arc};

use far_mesh_core::{
    activation::{Activation, Dtype},
    hop::{Head, Hop, HopError, Input, OpenSession, Rows, Step},
    id::{ModelHash, SessionId},
    kernel::{Format, Isa},
    limits::MAX_STEPS_IN_FLIGHT,
    model::{Precision, Source, testing::TinyLlama},
    shard::{Config, DeviceChoice, Load, LoadError, Shard, plan_span},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{Chain, HASH, bits, config, load, span};

fn tiny(model: &TinyLlama) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    model.write(&path).unwrap();
    let span = span(0, model.layers);
    (dir, Config { arena_tokens: 1024, ..config(path, Some(span), true) })
}

/// A model of superblocks, whose widths they must fill.
fn superblocks() -> TinyLlama {
    TinyLlama {
        hidden: 256,
        feed_forward: 512,
        formats: vec![Format::Q4_K, Format::Q5_K, Format::Q6_K, Format::Q5_0, Format::Q5_1],
        embedding: Format::Q6_K,
        seed: 3,
        ..TinyLlama::default()
    }
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 31 + 7) % 80).collect()
}

fn request(context_tokens: u32) -> OpenSession {
    OpenSession { session: SessionId::random(), model: HASH, span: span(0, 6), dtype: Dtype::F32, context_tokens }
}

fn tokens(seq: u64, position: u32, ids: &[u32]) -> Step {
    Step { seq, position, input: Input::Tokens(ids.to_vec()), output: Rows::Last }
}

async fn logits_of(shard: &Shard, ids: &[u32], cuts: &[u32], chunk: usize) -> Vec<u32> {
    let hop: Arc<dyn Hop> = shard.hop().unwrap();
    let hops: Vec<_> = cuts.windows(2).map(|cut| (Arc::clone(&hop), span(cut[0], cut[1]))).collect();
    let mut chain = Chain::open(&hops, 128).await;
    let rows = chain.prefill(ids, chunk).await;
    chain.close().await;
    bits(&support::logits(&*shard.head().unwrap(), &rows).await)
}

#[tokio::test]
async fn spans_chunks_and_other_sessions_change_no_bit() {
    let mixed = vec![Format::Q4_1, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::F16];
    let models = [
        TinyLlama::default(),
        TinyLlama { formats: mixed, output: Some(Format::Q4_0), seed: 2, ..TinyLlama::default() },
        TinyLlama { formats: vec![Format::F32, Format::BF16], embedding: Format::F16, ..TinyLlama::default() },
        superblocks(),
    ];
    for model in &models {
        let (_dir, config) = tiny(model);
        let shard = load(config);
        let ids = ids(90);
        let whole = logits_of(&shard, &ids, &[0, 6], 512).await;
        assert!(whole.iter().all(|&bits| f32::from_bits(bits).is_finite()));
        for cuts in [&[0, 6][..], &[0, 1, 6], &[0, 3, 6], &[0, 2, 5, 6], &[0, 1, 2, 6]] {
            for chunk in [1, 7, 64, 512] {
                assert!(logits_of(&shard, &ids, cuts, chunk).await == whole, "{cuts:?} in chunks of {chunk}");
            }
        }
        let others = (0..3).map(|i| logits_of(&shard, &ids[..40], &[0, 2, 6], [1, 7, 64][i]));
        let (own, others) = futures::join!(logits_of(&shard, &ids, &[0, 6], 1), futures::future::join_all(others));
        assert!(own == whole, "among others");
        assert!(others.iter().all(|other| *other == whole[..40 * 80]), "the others");
        assert_eq!(shard.free_tokens(), 1024);
    }
}

/// A step of one session alone may run where it is asked for, steps of several meet at the worker.
#[tokio::test]
async fn who_runs_a_step_shows_in_no_bit_and_no_account() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let shard = load(config);
    let (hop, head) = (shard.hop().unwrap(), shard.head().unwrap());
    let prompts: Vec<Vec<u32>> = (0..4).map(|i| ids(60 + i).split_off(i as usize)).collect();
    let mut alone = vec![];
    for ids in &prompts {
        alone.push(logits_of(&shard, ids, &[0, 6], 60).await);
    }
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..20 {
        let mut sessions = vec![];
        for ids in &prompts {
            let hop: Arc<dyn Hop> = hop.clone();
            sessions.push((Chain::open(&[(hop, span(0, 6))], 64).await, ids.as_slice(), vec![]));
        }
        while sessions.iter().any(|(_, ids, _)| !ids.is_empty()) {
            let mut draw = || random.random_bool(0.4).then(|| if random.random_bool(0.8) { 1 } else { 3 });
            let waiting = sessions.iter_mut().filter(|(_, ids, _)| !ids.is_empty());
            let steps: Vec<_> = waiting.filter_map(|session| Some((session, draw()?))).collect();
            futures::future::join_all(steps.into_iter().map(async |((chain, ids, rows), count)| {
                let (now, later) = ids.split_at(count.min(ids.len()));
                *ids = later;
                let hidden = chain.step(now, Rows::All).await.unwrap();
                rows.extend(bits(&support::logits(&*head, &[hidden]).await));
            }))
            .await;
        }
        for ((chain, _, rows), want) in sessions.into_iter().zip(&alone) {
            assert!(rows == *want);
            let accounts = chain.close().await;
            assert!(accounts[0].tokens == 60 && !accounts[0].compute.is_zero(), "{accounts:?}");
        }
        assert_eq!(shard.free_tokens(), 1024);
    }
}

#[tokio::test]
async fn separate_shards_and_instruction_sets_give_the_bits_of_one() {
    let (_dir, whole) = tiny(&TinyLlama::default());
    let shard = load(whole.clone());
    let want = logits_of(&shard, &ids(50), &[0, 6], 16).await;
    for isa in Isa::available() {
        let part =
            |start, end, head| load(Config { span: Some(span(start, end)), head, isa: Some(isa), ..whole.clone() });
        let (first, second) = (part(0, 4, false), part(4, 6, false));
        let head = load(Config { span: None, head: true, isa: Some(isa), ..whole.clone() });
        assert!(first.head().is_none() && head.hop().is_none());
        let hops: [(Arc<dyn Hop>, _); 2] = [(first.hop().unwrap(), span(0, 4)), (second.hop().unwrap(), span(4, 6))];
        let mut chain = Chain::open(&hops, 64).await;
        let rows = chain.prefill(&ids(50), 16).await;
        assert!(bits(&support::logits(&*head.head().unwrap(), &rows).await) == want, "{isa}");
    }
}

#[tokio::test]
async fn exact_and_packed_agree_within_the_rounding_of_int8() {
    for model in [TinyLlama::default(), superblocks()] {
        let (_dir, packed) = tiny(&model);
        let exact = load(Config { precision: Precision::Exact, ..packed.clone() });
        let packed = load(packed);
        let float = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
        let (a, b) = (
            float(logits_of(&exact, &ids(40), &[0, 6], 40).await),
            float(logits_of(&packed, &ids(40), &[0, 6], 40).await),
        );
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v * v)).sum::<f64>();
        let error = square(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / square(&mut a.iter().copied());
        assert!(error > 0.0 && error < 1e-3, "relative square error {error}");
        assert_ne!(exact.info().kernel_class, packed.info().kernel_class);
        assert!(exact.info().packed_bytes > 4 * packed.info().packed_bytes);
    }
}

#[tokio::test]
async fn sessions_that_do_not_fit_are_refused_with_both_values() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let shard = load(Config { span: Some(span(2, 6)), ..config });
    let hop = shard.hop().unwrap();
    let other = ModelHash([9; 32]);
    let good = OpenSession { span: span(3, 5), ..request(16) };
    assert!(hop.open(good.clone()).await.is_ok());
    for (request, words) in [
        (OpenSession { model: other, ..good.clone() }, [other.to_string(), HASH.to_string()]),
        (OpenSession { span: span(1, 5), ..good.clone() }, ["1..5".into(), "2..6".into()]),
        (OpenSession { dtype: Dtype::F16, ..good.clone() }, ["F16".into(), "F32".into()]),
        (OpenSession { context_tokens: 0, ..good.clone() }, ["reach 0".into(), "256".into()]),
        (OpenSession { context_tokens: 257, ..good.clone() }, ["257".into(), "256".into()]),
    ] {
        let error = hop.open(request).await.err().unwrap();
        assert!(matches!(error, HopError::Refused { .. }), "{error}");
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
}

#[tokio::test]
async fn a_full_arena_says_so_and_every_end_of_a_session_frees_its_pages() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let shard = load(Config { arena_tokens: 512, ..config });
    let hop = shard.hop().unwrap();
    let (mut first, second) = (hop.open(request(256)).await.unwrap(), hop.open(request(192)).await.unwrap());
    assert_eq!(shard.free_tokens(), 512 - 256 - 192);
    let full = hop.open(request(65)).await.err().unwrap();
    assert!(matches!(full, HopError::Full { needed_tokens: 65, free_tokens: 64 }), "{full}");

    drop(second);
    assert_eq!(shard.free_tokens(), 256, "dropping frees at once");
    first.submit(tokens(0, 0, &ids(5))).await.unwrap();
    first.next().await.unwrap();
    first.submit(tokens(1, 5, &ids(3))).await.unwrap();
    let accounts = first.close().await.unwrap();
    assert_eq!(shard.free_tokens(), 512);
    assert_eq!((accounts[0].node, accounts[0].span), (None, span(0, 6)));
    assert!([5, 8].contains(&accounts[0].tokens) && !accounts[0].compute.is_zero(), "{accounts:?}");
}

#[tokio::test]
async fn a_step_that_breaks_the_protocol_ends_its_session_and_no_other() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let shard = load(config);
    let hop = shard.hop().unwrap();
    let wide = Activation::from_f32(1, 64, vec![0.5; 64]).unwrap();
    let mut good = hop.open(request(40)).await.unwrap();
    good.submit(tokens(0, 0, &ids(8))).await.unwrap();
    for (step, words) in [
        (tokens(1, 0, &[1]), ["is 1", "be 0"]),
        (tokens(0, 3, &[1]), ["is 3", "be 0"]),
        (tokens(0, 0, &[]), ["0 positions", "512"]),
        (tokens(0, 0, &ids(41)), ["41", "40"]),
        (tokens(0, 0, &[1, 80]), ["80", "80"]),
        (Step { input: Input::Activation(wide.clone()), ..tokens(0, 0, &[]) }, ["0..6", "token ids"]),
    ] {
        let mut session = hop.open(request(40)).await.unwrap();
        let error = session.submit(step).await.unwrap_err();
        assert!(matches!(error, HopError::BadStep { .. }), "{error}");
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
        assert!(matches!(session.submit(tokens(0, 0, &[1])).await, Err(HopError::Closed)));
    }
    let mut later = hop.open(OpenSession { span: span(1, 6), ..request(40) }).await.unwrap();
    let narrow = Activation::from_f32(1, 32, vec![0.5; 32]).unwrap();
    let error = later.submit(Step { input: Input::Activation(narrow.clone()), ..tokens(0, 0, &[]) }).await.unwrap_err();
    assert!(error.to_string().contains("32 F32") && error.to_string().contains("64 F32"), "{error}");
    assert!(matches!(shard.head().unwrap().logits(narrow).await, Err(HopError::BadStep { .. })));

    assert_eq!(good.next().await.unwrap().output.unwrap().tokens(), 1);
    assert!(matches!(good.next().await, Err(HopError::BadStep { .. })), "nothing to wait for");
    for seq in 0..MAX_STEPS_IN_FLIGHT as u64 {
        good.submit(tokens(1 + seq, 8 + seq as u32, &[3])).await.unwrap();
    }
    assert!(matches!(good.submit(tokens(9, 16, &[3])).await, Err(HopError::BadStep { .. })));
}

#[tokio::test]
async fn activations_that_are_no_numbers_harm_nobody() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let shard = load(config);
    let hop = shard.hop().unwrap();
    let want = logits_of(&shard, &ids(9), &[0, 6], 9).await;
    for value in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE] {
        let mut session = hop.open(OpenSession { span: span(2, 6), ..request(16) }).await.unwrap();
        let input = Input::Activation(Activation::from_f32(4, 64, vec![value; 256]).unwrap());
        session.submit(Step { seq: 0, position: 0, input, output: Rows::All }).await.unwrap();
        assert_eq!(session.next().await.unwrap().output.unwrap().tokens(), 4);
        assert!(logits_of(&shard, &ids(9), &[0, 6], 3).await == want, "beside {value}");
    }
}

#[tokio::test]
async fn shutdown_finishes_what_was_queued_and_closes_the_rest() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let shard = load(config);
    let hop = shard.hop().unwrap();
    let mut session = hop.open(request(64)).await.unwrap();
    for seq in 0..3 {
        session.submit(tokens(seq, seq as u32 * 8, &ids(8))).await.unwrap();
    }
    shard.shutdown().await;
    for _ in 0..3 {
        assert!(session.next().await.is_ok());
    }
    assert!(matches!(session.submit(tokens(3, 24, &[1])).await, Err(HopError::Closed)));
    assert!(matches!(hop.open(request(8)).await, Err(HopError::Closed)));
    shard.shutdown().await;
}

#[test]
fn what_cannot_be_loaded_is_said() {
    let (dir, good) = tiny(&TinyLlama::default());
    let fails = |config| Shard::load(config, &mut |_, _| {}).unwrap_err();
    assert!(matches!(fails(Config { span: None, head: false, ..good.clone() }), LoadError::Nothing));
    assert!(matches!(fails(Config { threads: 0, ..good.clone() }), LoadError::Threads));
    assert!(matches!(fails(Config { arena_tokens: 0, ..good.clone() }), LoadError::Arena { .. }));
    let error = fails(Config { span: Some(span(2, 7)), ..good.clone() }).to_string();
    assert!(error.contains("2..7") && error.contains("0..6"), "{error}");
    let missing = dir.path().join("absent.gguf");
    assert!(fails(Config { model: missing, ..good }).to_string().contains("absent.gguf"));
    assert!(fails(Config { model: dir.path().into(), ..good }).to_string().contains("no config.json"));
}

#[test]
fn auto_takes_the_widest_span_that_fits() {
    let (_dir, config) = tiny(&TinyLlama::default());
    let source = Source::open(Path::new(&config.model)).unwrap();
    for precision in [Precision::Packed, Precision::Exact] {
        let Config { device, batching, .. } = config;
        let arena_tokens = 512;
        let load_as = Load { device, precision, arena_tokens, batching };
        let layers = |max_bytes| plan_span(&source, &load_as, max_bytes).map_or(0, |span| span.len());
        let shard = load(Config { span: Some(span(0, 3)), head: false, arena_tokens, precision, ..config.clone() });
        let used = (shard.info().packed_bytes + shard.info().arena_bytes) as u64;
        // What three layers are planned with: no less than they take, and little more.
        let needed = (0..).map(|step| used + step * 4096).find(|bytes| layers(*bytes) == 3).unwrap();
        assert!(layers(used) < 3 && needed < used + (1 << 20), "{precision:?}: {needed} for {used}");
        assert_eq!(layers(u64::MAX), 6);
        let error = plan_span(&source, &load_as, 1000).unwrap_err().to_string();
        assert!(error.contains("1000") && error.contains("--max-sessions"), "{error}");
        let gpu = Load { device: DeviceChoice::Cuda(0), ..load_as };
        assert!(plan_span(&source, &gpu, 1 << 30).is_err(), "all of it is workspace");
        assert_eq!(plan_span(&source, &gpu, (1 << 30) + 16 * used).unwrap(), span(0, 6));
        let wide = Load { arena_tokens: 1 << 20, ..load_as };
        assert!(plan_span(&source, &wide, needed).is_err(), "an arena of a million positions");
    }
}
