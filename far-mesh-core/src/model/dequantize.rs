//! Exact values of a packed tensor, for norms and for [`super::Precision::Exact`].

use half::{bf16, f16};

use crate::kernel::Format;

/// Appends the values of `bytes`, whole blocks of `format`. Every product and sum is rounded to f32 once, as GGML does.
pub(super) fn dequantize(format: Format, bytes: &[u8], into: &mut Vec<f32>) {
    let (elements, block_bytes) = format.block();
    into.reserve(bytes.len() / block_bytes * elements);
    let blocks = bytes.chunks_exact(block_bytes);
    match format {
        Format::F32 => into.extend(blocks.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        Format::F16 => into.extend(blocks.map(half_at_start)),
        Format::BF16 => into.extend(blocks.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
        Format::Q4_0 => blocks.for_each(|b| {
            let scale = half_at_start(b);
            into.extend(nibbles(&b[2..]).map(|q| scale * (f32::from(q) - 8.0)));
        }),
        Format::Q4_1 => blocks.for_each(|b| {
            let (scale, minimum) = (half_at_start(b), half_at_start(&b[2..]));
            into.extend(nibbles(&b[4..]).map(|q| scale * f32::from(q) + minimum));
        }),
        Format::Q5_0 => blocks.for_each(|b| {
            let scale = half_at_start(b);
            let quants = nibbles(&b[6..]).zip(fifth_bits(&b[2..]));
            into.extend(quants.map(|(q, high)| scale * (f32::from(q | high << 4) - 16.0)));
        }),
        Format::Q5_1 => blocks.for_each(|b| {
            let (scale, minimum) = (half_at_start(b), half_at_start(&b[2..]));
            let quants = nibbles(&b[8..]).zip(fifth_bits(&b[4..]));
            into.extend(quants.map(|(q, high)| scale * f32::from(q | high << 4) + minimum));
        }),
        Format::Q8_0 => blocks.for_each(|b| {
            let scale = half_at_start(b);
            into.extend(b[2..].iter().map(|&q| scale * f32::from(q as i8)));
        }),
        Format::Q4_K => blocks.for_each(|b| {
            let (head, low) = b.split_at(16);
            into.extend((0..256).map(|i| scaled(head, i / 32, low_half(low, i))));
        }),
        Format::Q5_K => blocks.for_each(|b| {
            let (head, high, low) = (&b[..16], &b[16..48], &b[48..]);
            let fifth = |i: usize| high[i % 32] >> (i / 32) & 1;
            into.extend((0..256).map(|i| scaled(head, i / 32, low_half(low, i) | fifth(i) << 4)));
        }),
        Format::Q6_K => blocks.for_each(|b| {
            let (low, high, scales, d) = (&b[..128], &b[128..192], &b[192..208], half_at_start(&b[208..]));
            let quant = |i: usize| {
                let (half, i) = (i / 128, i % 128);
                let low = low[half * 64 + i % 64] >> (i / 64 * 4) & 15;
                low | (high[half * 32 + i % 32] >> (i / 32 * 2) & 3) << 4
            };
            into.extend((0..256).map(|i| d * f32::from(scales[i / 16] as i8) * (f32::from(quant(i)) - 32.0)));
        }),
    }
}

fn half_at_start(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// The low halves of all bytes come first, then the high ones.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// Bits of a little-endian word, lowest first.
fn fifth_bits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes[..4].iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
}

/// Low four bits of element `i` of a superblock: in each 32 bytes 32 elements in the low halves, the next in the high.
fn low_half(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15
}

/// A quant of a block of Q4_K or Q5_K, given the superblock's first 16 bytes.
fn scaled(head: &[u8], block: usize, quant: u8) -> f32 {
    let packed = &head[4..];
    let (scale, minimum) = if block < 4 {
        (packed[block] & 63, packed[block + 4] & 63)
    } else {
        let both = packed[block + 4];
        (both & 15 | packed[block - 4] >> 6 << 4, both >> 4 | packed[block] >> 6 << 4)
    };
    let (scale, minimum) = (half_at_start(head) * f32::from(scale), half_at_start(&head[2..]) * f32::from(minimum));
    scale * f32::from(quant) - minimum
}

#[cfg(test)]
mod tests {
    use burn_flex::{Flex, FlexDevice};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        activation::Dtype,
        kernel::{KernelOps, RawMatrix},
    };

    const QUANTIZED: [Format; 8] = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
    ];

    fn values(format: Format, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![];
        dequantize(format, bytes, &mut values);
        values
    }

    #[test]
    fn blocks_have_the_values_ggml_gives_them() {
        let half = |value: f32| f16::from_f32(value).to_le_bytes();
        let mut block = half(0.5).to_vec();
        block.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let q4_0 = values(Format::Q4_0, &block);
        assert_eq!((q4_0[0], q4_0[1], q4_0[15], q4_0[16], q4_0[31]), (-4.0, -3.5, 3.5, 3.5, -4.0));

        block.splice(2..2, half(-1.0));
        let q4_1 = values(Format::Q4_1, &block);
        assert_eq!((q4_1[0], q4_1[2], q4_1[16], q4_1[31]), (-1.0, 0.0, 6.5, -1.0));

        let mut block = half(2.0).to_vec();
        block.extend((0..32u8).map(|i| i.wrapping_sub(16)));
        let q8_0 = values(Format::Q8_0, &block);
        assert_eq!((q8_0[0], q8_0[16], q8_0[31]), (-32.0, 0.0, 30.0));

        assert_eq!(values(Format::F32, &1.25f32.to_le_bytes()), [1.25]);
        assert_eq!(values(Format::F16, &half(1.5)), [1.5]);
        assert_eq!(values(Format::BF16, &bf16::from_f32(-3.0).to_le_bytes()), [-3.0]);
    }

    /// The values by way of the kernels' layout.
    fn packed(format: Format, n: usize, bytes: &[u8]) -> Vec<f32> {
        let (elements, block_bytes) = format.block();
        let k = bytes.len() / n / block_bytes * elements;
        let packed = Flex::pack(RawMatrix { format, n, k, bytes }, Dtype::F32, &FlexDevice).unwrap();
        let ids: Vec<u32> = (0..n as u32).collect();
        Flex::embed(&packed, &ids, Dtype::F32, &FlexDevice).into_data().into_vec().unwrap()
    }

    #[test]
    fn the_gguf_package_gives_the_same_values() {
        #[derive(serde::Deserialize)]
        struct Case {
            format: String,
            bytes: String,
            values: String,
        }
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/fixtures/dequantize.json")).unwrap();
        for format in QUANTIZED {
            let case = cases.iter().find(|case| case.format == format!("{format:?}")).unwrap();
            let bytes = hex::decode(&case.bytes).unwrap();
            let got: Vec<u8> = values(format, &bytes).iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(hex::encode(got), case.values, "{format:?}");
        }
        assert_eq!(cases.len(), QUANTIZED.len());
    }

    proptest! {
        #[test]
        fn packing_changes_no_value(
            format in prop::sample::select(&QUANTIZED[..]),
            n in 1..36usize,
            blocks in 1..4usize,
            seed in prop::collection::vec(any::<u8>(), 251),
        ) {
            let count = n * blocks * format.block().1;
            // Prime, so that blocks differ; any byte may come anywhere, scales that are not finite included.
            let bytes: Vec<u8> = seed.iter().copied().cycle().take(count).collect();
            let (want, got) = (values(format, &bytes), packed(format, n, &bytes));
            prop_assert_eq!(want.len(), got.len());
            for (want, got) in want.iter().zip(&got) {
                prop_assert!(want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan(), "{} {}", want, got);
            }
        }
    }
}
