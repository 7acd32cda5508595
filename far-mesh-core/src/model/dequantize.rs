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
        Format::Q8_0 => blocks.for_each(|b| {
            let scale = half_at_start(b);
            into.extend(b[2..].iter().map(|&q| scale * f32::from(q as i8)));
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
