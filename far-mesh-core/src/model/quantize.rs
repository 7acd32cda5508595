//! Dense matrices to blocks of 32 while they are loaded, with the very bits of GGML's reference (`quantize_row_q8_0_ref`,
//! `quantize_row_q4_0_ref` in `ggml-quants.c`) and of the Python package `gguf`.

use half::f16;

use super::{dequantize::dequantize, precision::Quantize};
use crate::kernel::Format;

/// Elements of a block.
const BLOCK: usize = 32;

/// Elements that are widened at a time: the f32 values of a whole matrix would be twice the file's bytes.
const CHUNK: usize = BLOCK * 2048;

/// A value that no block can hold.
#[derive(Debug, PartialEq)]
pub(super) struct Unquantizable(pub(super) f32);

/// Quantizes the elements of `bytes`, which are dense and fill whole blocks.
pub(super) fn quantize(kind: Quantize, format: Format, bytes: &[u8]) -> Result<Vec<u8>, Unquantizable> {
    let (_, element_bytes) = format.block();
    let (_, block_bytes) = kind.format().block();
    let mut out = Vec::with_capacity(bytes.len() / element_bytes / BLOCK * block_bytes);
    let mut values = Vec::with_capacity(CHUNK);
    for chunk in bytes.chunks(CHUNK * element_bytes) {
        values.clear();
        dequantize(format, chunk, &mut values);
        for block in values.as_chunks::<BLOCK>().0 {
            match kind {
                Quantize::Q8_0 => q8_0(block, &mut out)?,
                Quantize::Q4_0 => q4_0(block, &mut out)?,
            }
        }
    }
    Ok(out)
}

/// The greatest magnitude decides the scale; halves round away from zero.
fn q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), Unquantizable> {
    let d = greatest(block).abs() / 127.0;
    let inverse = scale(d, block, out)?;
    out.extend(block.map(|x| (x * inverse).round() as i8 as u8));
    Ok(())
}

/// The first value of greatest magnitude becomes -8.
fn q4_0(block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<(), Unquantizable> {
    let d = greatest(block) / -8.0;
    let inverse = scale(d, block, out)?;
    let q = block.map(|x| ((x * inverse + 8.5).trunc() as u8).min(15));
    out.extend((0..BLOCK / 2).map(|i| q[i] | q[i + BLOCK / 2] << 4));
    Ok(())
}

/// The first value of greatest magnitude.
fn greatest(block: &[f32; BLOCK]) -> f32 {
    block.iter().fold(block[0], |greatest, x| if x.abs() > greatest.abs() { *x } else { greatest })
}

/// Appends the scale and gives its inverse.
fn scale(d: f32, block: &[f32; BLOCK], out: &mut Vec<u8>) -> Result<f32, Unquantizable> {
    let rounded = f16::from_f32(d);
    // Not-a-number is greater than nothing, so it is looked for.
    if let Some(bad) = block.iter().find(|x| !x.is_finite() || rounded.is_infinite() && x.abs() > 1.0) {
        return Err(Unquantizable(*bad));
    }
    out.extend(rounded.to_le_bytes());
    Ok(if d == 0.0 { 0.0 } else { 1.0 / d })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        format: String,
        values: String,
        bytes: String,
    }

    #[test]
    fn the_gguf_package_gives_the_same_bytes() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/fixtures/quantize.json")).unwrap();
        assert_eq!(cases.len(), 2);
        for (case, kind) in cases.iter().zip([Quantize::Q8_0, Quantize::Q4_0]) {
            assert_eq!(case.format, format!("{kind:?}"));
            let values = hex::decode(&case.values).unwrap();
            assert_eq!(hex::encode(quantize(kind, Format::F32, &values).unwrap()), case.bytes, "{kind:?}");
        }
    }

    #[test]
    fn chunks_and_types_of_the_file_change_nothing() {
        let values: Vec<f32> = (0..CHUNK + BLOCK).map(|i| ((i * 37 % 255) as f32 - 127.0) / 64.0).collect();
        let wide: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let half: Vec<u8> = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
        for kind in [Quantize::Q8_0, Quantize::Q4_0] {
            let whole = quantize(kind, Format::F32, &wide).unwrap();
            assert_eq!(quantize(kind, Format::F16, &half).unwrap(), whole);
            let block_bytes = kind.format().block().1;
            assert_eq!(whole.len(), (CHUNK / BLOCK + 1) * block_bytes);
            let last = quantize(kind, Format::F32, &wide[CHUNK * 4..]).unwrap();
            assert_eq!(whole[whole.len() - block_bytes..], last);
        }
    }

    #[test]
    fn what_no_block_can_hold_is_refused() {
        for kind in [Quantize::Q8_0, Quantize::Q4_0] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
                let mut values = [0.5; BLOCK];
                values[7] = bad;
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let Err(Unquantizable(found)) = quantize(kind, Format::F32, &bytes) else { panic!("{bad}") };
                assert_eq!(found.to_bits(), bad.to_bits());
            }
            // Denormal scales have no finite inverse in f32: the scale is zero, and nothing panics.
            let bytes: Vec<u8> = [1e-44f32; BLOCK].iter().flat_map(|value| value.to_le_bytes()).collect();
            let mut values = vec![];
            dequantize(kind.format(), &quantize(kind, Format::F32, &bytes).unwrap(), &mut values);
            assert!(values.iter().all(|value| *value == 0.0));
        }
    }
}
