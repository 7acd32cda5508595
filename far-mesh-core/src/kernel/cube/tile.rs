//! From the bits of a tile to numbers: the one place that knows the encodings, for all kernels that read weights.

use cubecl::prelude::*;

use crate::kernel::ops::Format;

/// What a kernel must know of a weight's encoding while it is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Encoding {
    pub(super) format: Format,
}

impl Encoding {
    /// Bits of the low part of an element.
    fn low_bits(self) -> u32 {
        if self.format == Format::Q8_0 { 8 } else { 4 }
    }

    /// Bits of the high part.
    fn high_bits(self) -> u32 {
        match self.format {
            Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 1,
            Format::Q6_K => 2,
            _ => 0,
        }
    }

    /// What is taken from a quant.
    fn zero(self) -> f32 {
        match self.format {
            Format::Q4_0 => 8.0,
            Format::Q5_0 => 16.0,
            Format::Q8_0 => 128.0,
            Format::Q6_K => 32.0,
            _ => 0.0,
        }
    }

    fn has_minimum(self) -> bool {
        matches!(self.format, Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K)
    }
}

/// A binary16 number in the low half of a word; device types without it are served too. Infinities are not told apart.
#[cube]
fn from_half(bits: u32) -> f32 {
    let exponent = (bits >> 10) & 31;
    let mantissa = bits & 1023;
    let normal = f32::reinterpret(((exponent + 112) << 23) | (mantissa << 13));
    let subnormal = f32::cast_from(mantissa) * 5.960_464_5e-8;
    let size = select(exponent == 0, subnormal, normal);
    select((bits & 0x8000) != 0, -size, size)
}

/// Half-word `r` of a run of half-words that begins at word `first`.
#[cube]
fn half_word(words: &Array<u32>, first: u32, #[comptime] r: u32) -> u32 {
    let word = words[(first + comptime!(r / 2)) as usize];
    (word >> comptime!(16 * (r % 2))) & 0xffff
}

/// The 32 weights of the tile of rows `4 * group..` and columns `8 * column..`, row by row. `columns` counts the matrix's
/// columns of tiles, `rows` its rows.
#[cube]
pub(super) fn tile_weights(
    quants: &Array<Vector<u32, Const<4>>>,
    high: &Array<u32>,
    scales: &Array<u32>,
    supers: &Array<u32>,
    group: u32,
    column: u32,
    columns: u32,
    rows: u32,
    #[comptime] encoding: Encoding,
    out: &mut Array<f32>,
) {
    match comptime!(encoding.format) {
        Format::F32 => dense_32(quants, group, column, columns, rows, out),
        Format::F16 => dense_16(quants, group, column, columns, rows, false, out),
        Format::BF16 => dense_16(quants, group, column, columns, rows, true, out),
        _ => quantized(quants, high, scales, supers, group * columns + column, group, column, columns, encoding, out),
    }
}

/// Row `r` of a group, or the matrix's last where the group passes its end.
#[cube]
fn clamped(group: u32, rows: u32, #[comptime] r: u32) -> u32 {
    let row = group * 4 + r;
    select(row < rows, row, rows - 1)
}

#[cube]
fn dense_32(
    words: &Array<Vector<u32, Const<4>>>,
    group: u32,
    column: u32,
    columns: u32,
    rows: u32,
    out: &mut Array<f32>,
) {
    #[unroll]
    for r in 0..4u32 {
        let at = (clamped(group, rows, r) * columns + column) * 2;
        #[unroll]
        for part in 0..2u32 {
            let four = words[(at + part) as usize];
            #[unroll]
            for j in 0..4u32 {
                out[comptime!((r * 8 + part * 4 + j) as usize)] = f32::reinterpret(four[comptime!(j as usize)]);
            }
        }
    }
}

#[cube]
fn dense_16(
    words: &Array<Vector<u32, Const<4>>>,
    group: u32,
    column: u32,
    columns: u32,
    rows: u32,
    #[comptime] brain: bool,
    out: &mut Array<f32>,
) {
    #[unroll]
    for r in 0..4u32 {
        let eight = words[(clamped(group, rows, r) * columns + column) as usize];
        #[unroll]
        for j in 0..4u32 {
            let pair = eight[comptime!(j as usize)];
            let at = comptime!((r * 8 + j * 2) as usize);
            if comptime!(brain) {
                out[at] = f32::reinterpret(pair << 16);
                out[comptime!(at + 1)] = f32::reinterpret(pair & 0xffff_0000u32);
            } else {
                out[at] = from_half(pair & 0xffff);
                out[comptime!(at + 1)] = from_half(pair >> 16);
            }
        }
    }
}

#[cube]
fn quantized(
    quants: &Array<Vector<u32, Const<4>>>,
    high: &Array<u32>,
    scales: &Array<u32>,
    supers: &Array<u32>,
    tile: u32,
    group: u32,
    column: u32,
    columns: u32,
    #[comptime] encoding: Encoding,
    out: &mut Array<f32>,
) {
    let low_bits = comptime!(encoding.low_bits());
    let high_bits = comptime!(encoding.high_bits());
    let per_tile = comptime!(low_bits / 4);
    let first = quants[(tile * per_tile) as usize];
    // The second half of a tile of bytes, else the first again.
    let second = quants[(tile * per_tile + comptime!(per_tile - 1)) as usize];
    #[unroll]
    for r in 0..4u32 {
        let (scale, minimum) = row_scale(scales, supers, group, column, columns, encoding, r);
        let above = row_high(high, tile, high_bits, r);
        #[unroll]
        for j in 0..8u32 {
            // Where element `j` of row `r` stands: the word of the tile, and the bit in it.
            let word = comptime!((r * 8 + j) * low_bits / 32);
            let bit = comptime!((r * 8 + j) * low_bits % 32);
            let bits = if comptime!(word < 4) {
                first[comptime!((word % 4) as usize)]
            } else {
                second[comptime!((word % 4) as usize)]
            };
            let low = (bits >> bit) & comptime!((1u32 << low_bits) - 1);
            let q = if comptime!(high_bits > 0) {
                low | (((above >> comptime!(j * high_bits)) & comptime!((1u32 << high_bits) - 1)) << 4)
            } else {
                low
            };
            // 2^23 with `q` in its last bits is 2^23 + q: cheaper than a conversion, and as exact.
            let value = f32::reinterpret(q | 0x4b00_0000) - comptime!(8_388_608.0 + encoding.zero());
            out[comptime!((r * 8 + j) as usize)] =
                if comptime!(encoding.has_minimum()) { fma(scale, value, minimum) } else { scale * value };
        }
    }
}

/// The high bits of row `r`, lowest column first.
#[cube]
fn row_high(high: &Array<u32>, tile: u32, #[comptime] bits: u32, #[comptime] r: u32) -> u32 {
    if comptime!(bits == 1) {
        (high[tile as usize] >> comptime!(8 * r)) & 0xff
    } else if comptime!(bits == 2) {
        half_word(high, tile * 2, r)
    } else {
        0u32.runtime()
    }
}

/// What a quant of row `r` is multiplied by, and what is added then.
#[cube]
fn row_scale(
    scales: &Array<u32>,
    supers: &Array<u32>,
    group: u32,
    column: u32,
    columns: u32,
    #[comptime] encoding: Encoding,
    #[comptime] r: u32,
) -> (f32, f32) {
    // Blocks of 32 columns are 4 tiles wide, superblocks 32.
    let block = group * (columns / 4) + column / 4;
    let superblock = group * (columns / 32) + column / 32;
    match comptime!(encoding.format) {
        Format::Q4_1 | Format::Q5_1 => {
            let both = scales[(block * 4 + r) as usize];
            (from_half(both & 0xffff), from_half(both >> 16))
        }
        Format::Q4_K | Format::Q5_K => {
            let both = half_word(scales, block * 2, r);
            let outer = supers[(superblock * 4 + r) as usize];
            let scale = from_half(outer & 0xffff) * f32::cast_from(both & 0xff);
            let minimum = from_half(outer >> 16) * f32::cast_from(both >> 8);
            (scale, -minimum)
        }
        Format::Q6_K => {
            let byte = (scales[(group * (columns / 2) + column / 2) as usize] >> comptime!(8 * r)) & 0xff;
            // Two's complement.
            let inner = f32::cast_from(byte ^ 128) - 128.0;
            (from_half(half_word(supers, superblock * 2, r)) * inner, 0.0f32.runtime())
        }
        _ => (from_half(half_word(scales, block * 2, r)), 0.0f32.runtime()),
    }
}
