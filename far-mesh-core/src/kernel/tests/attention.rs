//! Paged attention against the textbook.

use super::*;
use crate::kernel::{AttentionShape, KernelOps, PagedCache, RopeTable, Sequence};

const PAGE: usize = <Flex as KernelOps>::PAGE_TOKENS;

fn rope(positions: usize, head_dim: usize) -> RopeTable {
    let half = head_dim / 2;
    let angle = |i: usize| (i / half) as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
    let table = |f: fn(f64) -> f64| (0..positions * half).map(|i| f(angle(i)) as f32).collect();
    RopeTable { cos: table(f64::cos), sin: table(f64::sin), head_dim }
}

fn width(shape: AttentionShape) -> usize {
    (shape.heads + 2 * shape.kv_heads) * shape.head_dim
}

/// Attention of a whole sequence from position 0, in f64.
fn naive(qkv: &[f32], shape: AttentionShape, rope: &RopeTable) -> Vec<f64> {
    let AttentionShape { heads, kv_heads, head_dim, window } = shape;
    let half = head_dim / 2;
    let rows = qkv.len() / width(shape);
    let head = |row: usize, head: usize| -> Vec<f64> {
        qkv[row * width(shape) + head * head_dim..][..head_dim].iter().map(|x| f64::from(*x)).collect()
    };
    let rotated = |row: usize, index: usize| -> Vec<f64> {
        let x = head(row, index);
        (0..head_dim)
            .map(|i| {
                let (cos, sin) = (rope.cos[row * half + i % half], rope.sin[row * half + i % half]);
                let other = if i < half { -x[i + half] } else { x[i - half] };
                x[i] * f64::from(cos) + other * f64::from(sin)
            })
            .collect()
    };
    let mut out = Vec::new();
    for row in 0..rows {
        for h in 0..heads {
            let kv = h / (heads / kv_heads);
            let q = rotated(row, h);
            let score = |t: usize| -> f64 {
                q.iter().zip(rotated(t, heads + kv)).map(|(q, k)| q * k).sum::<f64>() / (head_dim as f64).sqrt()
            };
            let from = (row + 1).saturating_sub(window.unwrap_or(usize::MAX));
            let weights: Vec<f64> = (from..=row).map(|t| score(t).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sum = vec![0.0; head_dim];
            for (t, w) in weights.iter().enumerate() {
                for (sum, v) in sum.iter_mut().zip(head(from + t, heads + kv_heads + kv)) {
                    *sum += w / total * v;
                }
            }
            out.extend(sum);
        }
    }
    out
}

fn attend(
    qkv: &[f32],
    cache: &mut PagedCache,
    layer: usize,
    shape: AttentionShape,
    rope: &RopeTable,
    sequences: &[Sequence<'_>],
) -> Vec<f32> {
    let rows = qkv.len() / width(shape);
    values(Flex::attention(matrix(qkv.to_vec(), [rows, width(shape)]), cache, layer, rope, sequences))
}

#[test]
fn attention_is_the_textbooks_on_every_path() {
    for (heads, kv_heads, head_dim, rows) in
        [(9, 3, 64, 40), (4, 4, 16, 70), (8, 1, 20, 33), (2, 1, 48, 5), (40, 2, 8, 3), (3, 1, 80, 9)]
    {
        let shape = AttentionShape { heads, kv_heads, head_dim, window: None };
        let (rope, qkv) = (rope(rows, head_dim), random(rows * width(shape), 1));
        let pages: Vec<u32> = (0..rows.div_ceil(PAGE) as u32).rev().collect();
        let got = on_every_path(|| {
            let mut cache = Flex::cache(2, pages.len(), shape, Dtype::F32, &FlexDevice);
            attend(&qkv, &mut cache, 1, shape, &rope, &[Sequence { rows, position: 0, pages: &pages, chunk: rows > 1 }])
        });
        assert_close(&got, &naive(&qkv, shape, &rope), 2e-6, &format!("{shape:?}, {rows} rows"));
    }
}

#[test]
fn a_long_sequence_passes_through_several_stretches() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 16, window: None };
    let rows = 1100;
    let qkv: Vec<f32> = random(rows * width(shape), 2).iter().map(|x| x * 3.0).collect();
    let pages: Vec<u32> = (0..rows.div_ceil(PAGE) as u32).collect();
    let rope = rope(rows, 16);
    let _installed = Pool::new(2).install();
    let mut cache = Flex::cache(1, pages.len(), shape, Dtype::F32, &FlexDevice);
    let got =
        attend(&qkv, &mut cache, 0, shape, &rope, &[Sequence { rows, position: 0, pages: &pages, chunk: rows > 1 }]);
    let want = naive(&qkv, shape, &rope);
    assert_close(&got, &want, 5e-6, "1100 rows");
}

#[test]
fn a_window_sees_its_last_positions_on_every_path() {
    for (window, rows) in [(1, 40), (2, 5), (5, 70), (31, 90), (32, 70), (33, 100), (200, 100), (520, 1100)] {
        let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 20, window: Some(window) };
        let (rope, qkv) = (rope(rows, 20), random(rows * width(shape), 4));
        let pages: Vec<u32> = (0..rows.div_ceil(PAGE) as u32).collect();
        let run = |chunk: usize| {
            let mut cache = Flex::cache(1, pages.len(), shape, Dtype::F32, &FlexDevice);
            let mut position = 0;
            let mut out = Vec::new();
            for qkv in qkv.chunks(chunk * width(shape)) {
                let rows = qkv.len() / width(shape);
                out.extend(attend(
                    qkv,
                    &mut cache,
                    0,
                    shape,
                    &rope,
                    &[Sequence { rows, position, pages: &pages, chunk: rows > 1 }],
                ));
                position += rows;
            }
            out
        };
        let got = on_every_path(|| run(rows));
        assert_close(&got, &naive(&qkv, shape, &rope), 5e-6, &format!("a window of {window}, {rows} rows"));
        for chunk in [1, 7, 64] {
            assert_same_bits(&got, &run(chunk), &format!("a window of {window}, {chunk} rows at a time"));
        }
    }
}

#[test]
fn what_left_the_window_does_not_matter_whatever_it_was() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 16, window: Some(9) };
    let rows = 90;
    let (rope, good) = (rope(rows, 16), random(rows * width(shape), 5));
    let mut foul = good.clone();
    foul[..60 * width(shape)].fill(f32::NAN);
    let run = |qkv: &[f32]| {
        let mut cache = Flex::cache(1, 3, shape, Dtype::F32, &FlexDevice);
        let out = attend(
            qkv,
            &mut cache,
            0,
            shape,
            &rope,
            &[Sequence { rows, position: 0, pages: &[0, 1, 2], chunk: rows > 1 }],
        );
        out[(60 + 8) * 32..].to_vec()
    };
    assert_same_bits(&run(&good), &run(&foul), "positions from 68 on");
}

#[test]
fn chunks_of_a_prompt_give_the_bits_of_the_whole() {
    let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 32, window: None };
    let rows = 620;
    let (rope, qkv) = (rope(rows, 32), random(rows * width(shape), 3));
    let pages: Vec<u32> = (0..rows.div_ceil(PAGE) as u32).map(|page| page * 7 % 20).collect();
    let run = |chunk: usize| {
        let mut cache = Flex::cache(1, 20, shape, Dtype::F32, &FlexDevice);
        let mut position = 0;
        let mut out = Vec::new();
        for qkv in qkv.chunks(chunk * width(shape)) {
            let rows = qkv.len() / width(shape);
            out.extend(attend(
                qkv,
                &mut cache,
                0,
                shape,
                &rope,
                &[Sequence { rows, position, pages: &pages, chunk: rows > 1 }],
            ));
            position += rows;
        }
        out
    };
    let whole = run(rows);
    for chunk in [1, 7, 64, 100] {
        assert_same_bits(&whole, &run(chunk), &format!("{chunk} rows at a time"));
    }
}

#[test]
fn sequences_in_one_call_give_the_bits_of_each_alone_whatever_the_pages_held() {
    let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 32, window: None };
    let rope = rope(200, 32);
    let lengths = [1usize, 45, 90, 33];
    let page_lists: [&[u32]; 4] = [&[3], &[9, 1], &[0, 8, 2], &[5, 4]];
    let prompts: Vec<Vec<f32>> =
        lengths.iter().enumerate().map(|(i, rows)| random((rows + 3) * width(shape), i as u64)).collect();
    let alone: Vec<Vec<f32>> = prompts
        .iter()
        .map(|qkv| {
            let mut cache = Flex::cache(1, 3, shape, Dtype::F32, &FlexDevice);
            let rows = qkv.len() / width(shape);
            attend(
                qkv,
                &mut cache,
                0,
                shape,
                &rope,
                &[Sequence { rows, position: 0, pages: &[2, 0, 1], chunk: rows > 1 }],
            )
        })
        .collect();

    let together = on_every_path(|| {
        let mut cache = Flex::cache(1, 10, shape, Dtype::F32, &FlexDevice);
        // A session before left not-a-numbers in every page.
        let pages: Vec<u32> = (0..10).collect();
        let foul = vec![f32::NAN; 10 * PAGE * width(shape)];
        let long = self::rope(10 * PAGE, 32);
        attend(
            &foul,
            &mut cache,
            0,
            shape,
            &long,
            &[Sequence { rows: 10 * PAGE, position: 0, pages: &pages, chunk: true }],
        );

        // The prompts together, then three tokens each together.
        let mut out: Vec<Vec<f32>> = vec![Vec::new(); 4];
        let steps: Vec<(Vec<usize>, Vec<usize>)> = std::iter::once((vec![0; 4], lengths.to_vec()))
            .chain((0..3).map(|step| (lengths.map(|length| length + step).to_vec(), vec![1; 4])))
            .collect();
        for (positions, rows) in steps {
            let mut qkv = Vec::new();
            let mut sequences = Vec::new();
            for i in 0..4 {
                qkv.extend(&prompts[i][positions[i] * width(shape)..][..rows[i] * width(shape)]);
                sequences.push(Sequence {
                    rows: rows[i],
                    position: positions[i],
                    pages: page_lists[i],
                    chunk: rows[i] > 1,
                });
            }
            let mut got = &attend(&qkv, &mut cache, 0, shape, &rope, &sequences)[..];
            for i in 0..4 {
                let (own, rest) = got.split_at(rows[i] * shape.heads * shape.head_dim);
                out[i].extend(own);
                got = rest;
            }
        }
        out.concat()
    });
    assert_same_bits(&together, &alone.concat(), "together and alone");
}

#[test]
fn numbers_beyond_all_measure_do_not_panic() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 16, window: None };
    let rope = rope(8, 16);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let mut cache = Flex::cache(1, 1, shape, Dtype::F32, &FlexDevice);
        let qkv = vec![bad; 8 * width(shape)];
        attend(&qkv, &mut cache, 0, shape, &rope, &[Sequence { rows: 8, position: 0, pages: &[0], chunk: true }]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_unused_cache_takes_no_memory() {
    let resident_bytes = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = resident_bytes();
    let shape = AttentionShape { heads: 8, kv_heads: 8, head_dim: 64, window: None };
    let cache = Flex::cache(32, 256, shape, Dtype::F32, &FlexDevice);
    assert_eq!(Flex::cache_bytes(&cache), 1 << 30);
    // The other tests of this process need some, too.
    assert!(resident_bytes().saturating_sub(before) < 1 << 28);
}
