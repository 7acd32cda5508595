//! Weights in an order that GPUs read well, without a byte more than they need.
//!
//! A quantized matrix is cut into *tiles* of 4 rows and 8 columns. A unit (a GPU's thread) reads a tile with one load of 128
//! bits for each 4 bits of its elements, its neighbour the tile to the right, and the 8 activations it needs serve all 4
//! rows. What belongs to a tile lies in four arrays:
//! - `quants`: the low bits. 4 bits an element: word `r` holds the columns of row `r`, the first in the lowest bits. 8
//!   bits: 8 words, two for each row.
//! - `high`: the fifth bits, one word, byte `r` of row `r`; or the fifth and sixth, two words, 16 bits a row.
//! - `scales`: for the 4 rows of a block of columns (of 32, or 16 for Q6_K), as in the table below.
//! - `supers`: for the 4 rows of a superblock of 256 columns, for the formats of two levels.
//!
//! | format | scales of a block, each row | words | supers, each row | words |
//! |---|---|---|---|---|
//! | Q4_0, Q5_0, Q8_0 | f16 `d` | 2 | | |
//! | Q4_1, Q5_1 | f16 `d`, f16 `m` | 4 | | |
//! | Q4_K, Q5_K | u8 `s`, u8 `m` | 2 | f16 `d`, f16 `dmin` | 4 |
//! | Q6_K | i8 `s` | 1 | f16 `d` | 2 |
//!
//! The size is that of the file, 4 bytes more to 256 elements of Q4_K and Q5_K, whose six-bit scales become bytes. Rows are
//! padded to a multiple of 4 with zeros. Dense matrices stay as they are, row by row: that is what a matrix product wants.

use crate::kernel::ops::{Format, PackError, RawMatrix};

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 4;
/// Columns of a tile.
pub(super) const TILE_COLUMNS: usize = 8;

/// The arrays of a matrix.
#[derive(Debug, Default)]
pub(super) struct Planes {
    pub(super) quants: Vec<u32>,
    pub(super) high: Vec<u32>,
    pub(super) scales: Vec<u32>,
    pub(super) supers: Vec<u32>,
}

/// One row's share of a block.
struct Block {
    /// A quant for each of `columns`.
    quants: [u8; 256],
    columns: usize,
    /// The bits that `scales` holds for each smaller block, low half-words first.
    scales: [u32; 16],
    /// The bits that `supers` holds.
    supers: u32,
}

/// Checks a matrix as all formats need it.
pub(super) fn check(matrix: &RawMatrix<'_>) -> Result<(), PackError> {
    let RawMatrix { format, n, k, bytes } = *matrix;
    let unsupported = |reason| Err(PackError::Unsupported { format, n, k, reason });
    let (per_block, _) = format.block();
    if n == 0 || k == 0 {
        return unsupported("it is empty");
    }
    if !k.is_multiple_of(per_block) {
        return unsupported(if per_block == 256 {
            "its columns do not fill blocks of 256"
        } else {
            "its columns do not fill blocks of 32"
        });
    }
    if !k.is_multiple_of(TILE_COLUMNS) {
        return unsupported("its columns are no multiple of 8, which the GPU reads at once");
    }
    // Elements are counted with 32 bits on the device.
    match n.checked_next_multiple_of(TILE_ROWS).and_then(|n| n.checked_mul(k)) {
        Some(elements) if elements < 1 << 32 => {}
        _ => return unsupported("it has 2^32 elements or more"),
    }
    match format.bytes(n * k) {
        Some(want) if want == bytes.len() => Ok(()),
        want => Err(PackError::Length { format, n, k, got: bytes.len(), want: want.unwrap_or(usize::MAX) }),
    }
}

/// Brings a checked, quantized matrix into tiles.
pub(super) fn planes(matrix: &RawMatrix<'_>) -> Planes {
    let RawMatrix { format, n, k, bytes } = *matrix;
    let (per_block, block_bytes) = format.block();
    let (groups, tiles, blocks) = (n.div_ceil(TILE_ROWS), k / TILE_COLUMNS, k / per_block);
    let Words { quants, high, scales, supers } = words(format);
    let scale_blocks = scale_blocks(format);
    let mut planes = Planes {
        quants: vec![0; groups * tiles * quants],
        high: vec![0; groups * tiles * high],
        scales: vec![0; groups * blocks * scale_blocks * scales],
        supers: vec![0; groups * blocks * supers],
    };
    for (row, bytes) in bytes.chunks_exact(blocks * block_bytes).enumerate() {
        let (group, r) = (row / TILE_ROWS, row % TILE_ROWS);
        for (at, bytes) in bytes.chunks_exact(block_bytes).enumerate() {
            let block = Block::read(format, bytes);
            let first_tile = group * tiles + at * per_block / TILE_COLUMNS;
            for (tile, q) in block.quants[..block.columns].chunks_exact(TILE_COLUMNS).enumerate() {
                let tile = first_tile + tile;
                put_low(&mut planes.quants[tile * quants..][..quants], r, q);
                put_high(&mut planes.high[tile * high..][..high], r, q);
            }
            let first = (group * blocks + at) * scale_blocks;
            for (i, scale) in block.scales[..scale_blocks].iter().enumerate() {
                put(&mut planes.scales[(first + i) * scales..][..scales], r, *scale);
            }
            put(&mut planes.supers[(group * blocks + at) * supers..][..supers], r, block.supers);
        }
    }
    planes
}

/// Words of a tile (`quants`, `high`) and of 4 rows of a block (`scales`, `supers`).
#[derive(Clone, Copy)]
struct Words {
    quants: usize,
    high: usize,
    scales: usize,
    supers: usize,
}

fn words(format: Format) -> Words {
    let (quants, high, scales, supers) = match format {
        Format::Q4_0 => (4, 0, 2, 0),
        Format::Q4_1 => (4, 0, 4, 0),
        Format::Q5_0 => (4, 1, 2, 0),
        Format::Q5_1 => (4, 1, 4, 0),
        Format::Q8_0 => (8, 0, 2, 0),
        Format::Q4_K => (4, 0, 2, 4),
        Format::Q5_K => (4, 1, 2, 4),
        Format::Q6_K => (4, 2, 1, 2),
        Format::F32 | Format::F16 | Format::BF16 => (0, 0, 0, 0),
    };
    Words { quants, high, scales, supers }
}

/// Blocks with a scale of their own in a block of the format.
fn scale_blocks(format: Format) -> usize {
    match format {
        Format::Q4_K | Format::Q5_K => 8,
        Format::Q6_K => 16,
        _ => 1,
    }
}

/// The low bits of 8 quants of row `r`: 4 bits each where a tile has 4 words, 8 where it has 8.
fn put_low(words: &mut [u32], r: usize, q: &[u8]) {
    if words.len() == 4 {
        words[r] = q.iter().enumerate().fold(0, |word, (i, q)| word | u32::from(q & 15) << (4 * i));
    } else {
        let word = |q: &[u8]| u32::from_le_bytes([q[0], q[1], q[2], q[3]]);
        (words[2 * r], words[2 * r + 1]) = (word(q), word(&q[4..]));
    }
}

/// The bits above the low four, where there are any.
fn put_high(words: &mut [u32], r: usize, q: &[u8]) {
    match words.len() {
        1 => words[0] |= q.iter().enumerate().fold(0, |bits, (i, q)| bits | u32::from(q >> 4) << i) << (8 * r),
        2 => {
            words[r / 2] |=
                q.iter().enumerate().fold(0, |bits, (i, q)| bits | u32::from(q >> 4) << (2 * i)) << (16 * (r % 2))
        }
        _ => {}
    }
}

/// Row `r`'s share of words that 4 rows share equally.
fn put(words: &mut [u32], r: usize, bits: u32) {
    match words.len() {
        1 => words[0] |= bits << (8 * r),
        2 => words[r / 2] |= bits << (16 * (r % 2)),
        4 => words[r] = bits,
        _ => {}
    }
}

impl Block {
    /// Takes a block of a file apart, as [`Format`] describes it.
    fn read(format: Format, bytes: &[u8]) -> Self {
        let (columns, _) = format.block();
        let mut block = Self { quants: [0; 256], columns, scales: [0; 16], supers: 0 };
        let half = |at: usize| u32::from(bytes[at]) | u32::from(bytes[at + 1]) << 8;
        match format {
            Format::Q8_0 => {
                block.scales[0] = half(0);
                // Stored with an offset of 128, so that all quants are unsigned.
                block.quants[..32].iter_mut().zip(&bytes[2..]).for_each(|(to, q)| *to = q ^ 128);
            }
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => {
                let has_minimum = matches!(format, Format::Q4_1 | Format::Q5_1);
                block.scales[0] = half(0) | if has_minimum { half(2) << 16 } else { 0 };
                let rest = &bytes[if has_minimum { 4 } else { 2 }..];
                let (fifth, low) = rest.split_at(rest.len() - 16);
                nibbles(low, &mut block.quants[..32]);
                if let [a, b, c, d] = *fifth {
                    let fifth = u32::from_le_bytes([a, b, c, d]);
                    block.quants[..32].iter_mut().enumerate().for_each(|(i, q)| *q |= ((fifth >> i & 1) as u8) << 4);
                }
            }
            Format::Q4_K | Format::Q5_K => {
                block.supers = half(0) | half(2) << 16;
                let packed = &bytes[4..16];
                for i in 0..8 {
                    let (s, m) = match i {
                        0..4 => (packed[i] & 63, packed[i + 4] & 63),
                        _ => (packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4),
                    };
                    block.scales[i] = u32::from(s) | u32::from(m) << 8;
                }
                let (fifth, low) = bytes[16..].split_at(bytes.len() - 16 - 128);
                for (low, q) in low.chunks_exact(32).zip(block.quants.chunks_exact_mut(64)) {
                    nibbles(low, q);
                }
                for (i, q) in block.quants.iter_mut().enumerate().take(fifth.len() * 8) {
                    *q |= (fifth[i % 32] >> (i / 32) & 1) << 4;
                }
            }
            Format::Q6_K => {
                let (low, rest) = bytes.split_at(128);
                let (high, rest) = rest.split_at(64);
                for (low, q) in low.chunks_exact(64).zip(block.quants.chunks_exact_mut(128)) {
                    nibbles(low, q);
                }
                for (i, q) in block.quants.iter_mut().enumerate() {
                    *q |= (high[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) << 4;
                }
                block.scales.iter_mut().zip(rest).for_each(|(to, s)| *to = u32::from(*s));
                block.supers = half(208);
            }
            Format::F32 | Format::F16 | Format::BF16 => {}
        }
        block
    }
}

/// Low halves to the first half, high halves to the second.
fn nibbles(bytes: &[u8], to: &mut [u8]) {
    let (first, second) = to.split_at_mut(bytes.len());
    for ((byte, a), b) in bytes.iter().zip(first).zip(second) {
        (*a, *b) = (byte & 15, byte >> 4);
    }
}
