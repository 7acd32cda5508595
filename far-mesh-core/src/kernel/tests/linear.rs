//! Every format against GGML's definition of it.

use half::f16;

use super::{
    samples::{FORMATS, sample},
    *,
};
use crate::kernel::{Format, KernelOps, PackError, Packed, RawMatrix};

fn pack(format: Format, n: usize, k: usize, bytes: &[u8]) -> Result<Packed, PackError> {
    Flex::pack(RawMatrix { format, n, k, bytes }, Dtype::F32, &FlexDevice)
}

fn product(x: &[f32], w: &[f32], k: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(k).flat_map(|x| w.chunks(k).map(move |w| dot(x, w))).collect()
}

/// The activations as the quantized kernels see them.
fn rounded(x: &[f32]) -> Vec<f32> {
    let block = |x: &[f32]| {
        let scale = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
        x.iter().map(|x| if scale == 0.0 { 0.0 } else { (x / scale).round_ties_even() * scale }).collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(block).collect()
}

#[test]
fn every_format_multiplies_as_defined_on_every_path() {
    for (seed, format) in FORMATS.into_iter().enumerate() {
        for (n, k, rows) in [(1, 32usize, 1), (16, 64, 3), (37, 96, 11), (200, 192, 2), (35, 768, 9)] {
            let k = k.next_multiple_of(format.block().0);
            let (bytes, elements) = sample(format, n, k, seed as u64);
            let weight = pack(format, n, k, &bytes).unwrap();
            let x = random(rows * k, 7);
            let got = on_every_path(|| values(Flex::linear(matrix(x.clone(), [rows, k]), &weight)));
            let x = if format.block().0 > 1 { rounded(&x) } else { x };
            assert_close(&got, &product(&x, &elements, k), 2e-5, &format!("{format:?} [{n}, {k}] times {rows} rows"));
        }
    }
}

#[test]
fn dense_weights_take_any_width() {
    for format in [Format::F32, Format::F16, Format::BF16] {
        let (n, k, rows) = (9, 45, 5);
        let (bytes, elements) = sample(format, n, k, 3);
        let weight = pack(format, n, k, &bytes).unwrap();
        let x = random(rows * k, 8);
        let got = on_every_path(|| values(Flex::linear(matrix(x.clone(), [rows, k]), &weight)));
        assert_close(&got, &product(&x, &elements, k), 1e-6, &format!("{format:?}"));
    }
}

#[test]
fn rounding_activations_costs_little() {
    let (n, k) = (64, 512);
    let (bytes, elements) = sample(Format::Q4_1, n, k, 5);
    let x = random(k, 9);
    let got = values(Flex::linear(matrix(x.clone(), [1, k]), &pack(Format::Q4_1, n, k, &bytes).unwrap()));
    let want = product(&x, &elements, k);
    let (error, size) = got
        .iter()
        .zip(&want)
        .fold((0.0, 0.0), |(error, size), (got, want)| (error + (f64::from(*got) - want).powi(2), size + want * want));
    let relative = f64::sqrt(error / size);
    assert!((1e-4..1e-2).contains(&relative), "relative error {relative:e}");
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    for format in FORMATS {
        let (n, k, rows) = (48, 512, 29);
        let weight = pack(format, n, k, &sample(format, n, k, 11).0).unwrap();
        let x = random(rows * k, 12);
        let together = values(Flex::linear(matrix(x.clone(), [rows, k]), &weight));
        for part in [1, 2, 3, 7, 16] {
            let apart: Vec<f32> = x
                .chunks(part * k)
                .flat_map(|x| values(Flex::linear(matrix(x.to_vec(), [x.len() / k, k]), &weight)))
                .collect();
            assert_same_bits(&together, &apart, &format!("{format:?}, {part} rows at a time"));
        }
    }
}

#[test]
fn many_rows_are_split_into_tasks_that_cover_them() {
    let (n, k, rows) = (80, 64, 300);
    let (bytes, elements) = sample(Format::Q4_0, n, k, 21);
    let weight = pack(Format::Q4_0, n, k, &bytes).unwrap();
    let x = random(rows * k, 22);
    let _installed = Pool::new(3).install();
    let got = values(Flex::linear(matrix(x.clone(), [rows, k]), &weight));
    assert_close(&got, &product(&rounded(&x), &elements, k), 2e-5, "300 rows");
}

#[test]
fn rows_come_back_as_ggml_dequantizes_them() {
    for format in FORMATS {
        let (n, k) = (21, 512);
        let (bytes, elements) = sample(format, n, k, 13);
        let weight = pack(format, n, k, &bytes).unwrap();
        let ids = [20, 0, 16, 15, 20];
        let got = values(Flex::embed(&weight, &ids, Dtype::F32, &FlexDevice));
        let want: Vec<f32> = ids.iter().flat_map(|id| elements[*id as usize * k..][..k].to_vec()).collect();
        assert_same_bits(&got, &want, &format!("{format:?}"));
    }
}

#[test]
fn packing_keeps_the_size_of_the_file() {
    for format in FORMATS {
        let (n, k) = (32, 512);
        let (bytes, _) = sample(format, n, k, 1);
        let scales = if matches!(format, Format::Q4_K | Format::Q5_K) { 4 * n * k / 256 } else { 0 };
        assert_eq!(Flex::packed_bytes(&pack(format, n, k, &bytes).unwrap()), bytes.len() + scales, "{format:?}");
    }
}

#[test]
fn matrices_that_do_not_fit_are_refused() {
    let unsupported = |format, n, k| matches!(pack(format, n, k, &[]), Err(PackError::Unsupported { .. }));
    assert!(unsupported(Format::Q4_1, 4, 33) && unsupported(Format::Q8_0, 4, 16));
    assert!(unsupported(Format::Q5_0, 4, 48) && unsupported(Format::Q4_K, 4, 288) && unsupported(Format::Q6_K, 4, 32));
    assert!(unsupported(Format::F32, 0, 4) && unsupported(Format::F32, 4, 0));
    assert!(unsupported(Format::F32, usize::MAX, 2) && unsupported(Format::Q4_0, usize::MAX, 32));
    let error = pack(Format::Q4_0, 2, 32, &[0; 35]).unwrap_err();
    assert_eq!(error, PackError::Length { format: Format::Q4_0, n: 2, k: 32, got: 35, want: 36 });
}

#[test]
fn numbers_beyond_all_measure_stay_in_their_row() {
    for format in FORMATS {
        let (n, k) = (16, 256);
        let weight = pack(format, n, k, &sample(format, n, k, 2).0).unwrap();
        let good = random(k, 3);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [good.clone(), good.clone()].concat();
            x[k + 5] = bad;
            let got = values(Flex::linear(matrix(x, [2, k]), &weight));
            let alone = values(Flex::linear(matrix(good.clone(), [1, k]), &weight));
            assert_same_bits(&got[..n], &alone, "the row beside");
            assert!(got[n..].iter().all(|y| !y.is_finite()), "{format:?} {bad} gives {:?}", &got[n..]);
        }
        for small in [0.0, f32::MIN_POSITIVE / 8.0, 1e-37] {
            let got = values(Flex::linear(matrix(vec![small; k], [1, k]), &weight));
            assert!(got.iter().all(|y| y.abs() < 1e-30), "{format:?} {small:e} gives {got:?}");
        }
    }
}

#[test]
fn the_greatest_numbers_overflow_nothing() {
    for format in FORMATS.into_iter().filter(|format| format.block().0 > 1) {
        let (n, k) = (3, 512);
        let halves: &[usize] = match format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            Format::Q6_K => &[208],
            _ => &[0, 2],
        };
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes = vec![fill; format.bytes(n * k).unwrap()];
            for block in bytes.chunks_exact_mut(format.block().1) {
                halves.iter().for_each(|at| block[*at..at + 2].copy_from_slice(&f16::from_f32(0.25).to_le_bytes()));
            }
            let weight = pack(format, n, k, &bytes).unwrap();
            let elements = values(Flex::embed(&weight, &[0, 1, 2], Dtype::F32, &FlexDevice));
            for x in [vec![1.0; k], vec![-1.0; k]] {
                let got = on_every_path(|| values(Flex::linear(matrix(x.clone(), [1, k]), &weight)));
                assert_close(&got, &product(&x, &elements, k), 2e-6, &format!("{format:?} of {fill:#x}"));
            }
        }
    }
}
