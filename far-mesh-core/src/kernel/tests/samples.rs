//! Random matrices of every format, written by hand from GGML's layouts.

use half::{bf16, f16};

use super::*;
use crate::kernel::Format;

pub(in crate::kernel) const FORMATS: [Format; 11] = [
    Format::F32,
    Format::F16,
    Format::BF16,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
];

/// Random bytes of a matrix (finite scales), and its elements by GGML's formulas.
pub(in crate::kernel) fn sample(format: Format, n: usize, k: usize, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut bytes, mut elements) = (Vec::new(), Vec::new());
    for _ in 0..n * k / format.block().0 {
        let x: f32 = rng.random_range(-1.0..1.0);
        match format {
            Format::F32 => {
                bytes.extend(x.to_le_bytes());
                elements.push(x);
            }
            Format::F16 => {
                bytes.extend(f16::from_f32(x).to_le_bytes());
                elements.push(f16::from_f32(x).to_f32());
            }
            Format::BF16 => {
                bytes.extend(bf16::from_f32(x).to_le_bytes());
                elements.push(bf16::from_f32(x).to_f32());
            }
            Format::Q4_K | Format::Q5_K => two_level(format, &mut rng, &mut bytes, &mut elements),
            Format::Q6_K => six_bits(&mut rng, &mut bytes, &mut elements),
            _ => block(format, &mut rng, &mut bytes, &mut elements),
        }
    }
    (bytes, elements)
}

/// A number between -`greatest` and `greatest` that f16 has.
fn half(rng: &mut ChaCha8Rng, greatest: f32) -> f16 {
    f16::from_f32(rng.random_range(-greatest..greatest))
}

/// The low four bits of `q`: the first half of the elements in the low halves of the bytes.
fn low_bits(q: &[u8]) -> Vec<u8> {
    let (a, b) = q.split_at(q.len() / 2);
    a.iter().zip(b).map(|(a, b)| a & 15 | (b & 15) << 4).collect()
}

fn block(format: Format, rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, elements: &mut Vec<f32>) {
    let (d, m) = (half(rng, 0.1), half(rng, 1.0));
    let (levels, zero) = match format {
        Format::Q4_0 => (16, Some(8.0)),
        Format::Q4_1 => (16, None),
        Format::Q5_0 => (32, Some(16.0)),
        Format::Q5_1 => (32, None),
        _ => (256, Some(128.0)),
    };
    let q: Vec<u8> = (0..32).map(|_| rng.random_range(0..levels) as u8).collect();
    bytes.extend(d.to_le_bytes());
    if zero.is_none() {
        bytes.extend(m.to_le_bytes());
    }
    match levels {
        256 => bytes.extend(q.iter().map(|q| q.wrapping_sub(128))),
        _ => {
            if levels == 32 {
                let word = (0..32).fold(0u32, |word, i| word | u32::from(q[i] >> 4) << i);
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(low_bits(&q));
        }
    }
    elements.extend(q.iter().map(|q| match zero {
        Some(zero) => d.to_f32() * (f32::from(*q) - zero),
        None => d.to_f32() * f32::from(*q) + m.to_f32(),
    }));
}

fn two_level(format: Format, rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, elements: &mut Vec<f32>) {
    let (d, dmin) = (half(rng, 0.002), half(rng, 0.02));
    let levels = if format == Format::Q5_K { 32 } else { 16 };
    let q: Vec<u8> = (0..256).map(|_| rng.random_range(0..levels)).collect();
    let s: Vec<u8> = (0..8).map(|_| rng.random_range(0..64)).collect();
    let m: Vec<u8> = (0..8).map(|_| rng.random_range(0..64)).collect();
    bytes.extend(d.to_le_bytes());
    bytes.extend(dmin.to_le_bytes());
    bytes.extend((0..4).map(|i| s[i] | s[i + 4] >> 4 << 6));
    bytes.extend((0..4).map(|i| m[i] | m[i + 4] >> 4 << 6));
    bytes.extend((4..8).map(|i| s[i] & 15 | (m[i] & 15) << 4));
    if levels == 32 {
        bytes.extend((0..32).map(|i| (0..8).fold(0, |byte, b| byte | q[32 * b + i] >> 4 << b)));
    }
    bytes.extend(q.chunks(64).flat_map(low_bits));
    let value = |i: usize| {
        let (scale, minimum) = (d.to_f32() * f32::from(s[i / 32]), dmin.to_f32() * f32::from(m[i / 32]));
        scale * f32::from(q[i]) - minimum
    };
    elements.extend((0..256).map(value));
}

fn six_bits(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, elements: &mut Vec<f32>) {
    let d = half(rng, 0.0005);
    let q: Vec<u8> = (0..256).map(|_| rng.random_range(0..64)).collect();
    let s: Vec<i8> = (0..16).map(|_| rng.random()).collect();
    bytes.extend(q.chunks(128).flat_map(low_bits));
    for q in q.chunks(128) {
        bytes.extend((0..32).map(|i| (0..4).fold(0, |byte, g| byte | q[32 * g + i] >> 4 << (2 * g))));
    }
    bytes.extend(s.iter().map(|s| *s as u8));
    bytes.extend(d.to_le_bytes());
    elements.extend((0..256).map(|i| d.to_f32() * f32::from(s[i / 16]) * (f32::from(q[i]) - 32.0)));
}
