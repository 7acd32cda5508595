//! Products and embeddings of every format.

use burn::tensor::Tensor;

use super::{Gpu, assert_close, device, matrix, random, values};
use crate::{
    activation::Dtype,
    kernel::{
        CubePacked, Format, KernelOps, PackError, RawMatrix, Share,
        tests::samples::{FORMATS, sample},
    },
};

/// Runs whole steps of so many positions.
fn steps<T>(rows: &[usize], run: impl FnOnce() -> T) -> T {
    Gpu::compute(&rows.iter().map(|rows| Share::step(*rows)).collect::<Vec<_>>(), run)
}

fn pack(format: Format, n: usize, k: usize, bytes: &[u8]) -> Result<CubePacked, PackError> {
    Gpu::pack(RawMatrix { format, n, k, bytes }, Dtype::F32, &device())
}

fn product(x: &[f32], weight: &CubePacked) -> Vec<f32> {
    let k = weight.columns();
    values(<Gpu as KernelOps>::linear(matrix(x.to_vec(), [x.len() / k, k]), weight))
}

/// `x` times the weight's elements, in f64.
fn reference(x: &[f32], elements: &[f32], k: usize) -> Vec<f32> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32;
    x.chunks(k).flat_map(|x| elements.chunks(k).map(move |w| dot(x, w))).collect()
}

#[test]
fn every_format_gives_the_elements_of_the_file() {
    for format in FORMATS {
        let (n, k) = (7, 512);
        let (bytes, elements) = sample(format, n, k, 1);
        let weight = pack(format, n, k, &bytes).unwrap();
        let ids = [6, 0, 3, 3, 5];
        let got = values(Gpu::embed(&weight, &ids, Dtype::F32, &device()));
        let want: Vec<f32> = ids.iter().flat_map(|id| elements[*id as usize * k..][..k].to_vec()).collect();
        assert_close(&got, &want, 2e-7, &format!("{format:?}"));
    }
}

#[test]
fn few_and_many_rows_give_the_textbooks_product() {
    for format in FORMATS {
        let (n, k) = (37, 768);
        let (bytes, elements) = sample(format, n, k, 2);
        let weight = pack(format, n, k, &bytes).unwrap();
        for rows in [1, 3, 8, 19] {
            let x = random(rows * k, 3);
            let want = reference(&x, &elements, k);
            let few = steps(&vec![1; rows], || product(&x, &weight));
            assert_close(&few, &want, 2e-6, &format!("{format:?}, {rows} steps"));
            let many = steps(&[rows + 1], || product(&[x.as_slice(), &x[..k]].concat(), &weight));
            // The wide product adds one column after another, the thin one 128 sums side by side.
            assert_close(&many[..rows * n], &want, 1e-5, &format!("{format:?}, a chunk of {}", rows + 1));
        }
    }
}

#[test]
fn a_weight_larger_than_the_workspace_is_multiplied_in_pieces() {
    let (n, k) = (2500, 8192);
    let (bytes, elements) = sample(Format::Q8_0, n, k, 4);
    let weight = pack(Format::Q8_0, n, k, &bytes).unwrap();
    let x = random(2 * k, 5);
    let got = steps(&[2], || product(&x, &weight));
    assert_close(&got, &reference(&x, &elements, k), 1e-5, "pieces");
}

#[test]
fn a_steps_bits_do_not_depend_on_the_batch() {
    let (n, k) = (20, 1024);
    for format in [Format::Q4_0, Format::Q4_K, Format::Q6_K, Format::F16] {
        let (bytes, _) = sample(format, n, k, 6);
        let weight = pack(format, n, k, &bytes).unwrap();
        let x = random(13 * k, 7);
        let alone: Vec<f32> = x.chunks(k).flat_map(|x| steps(&[1], || product(x, &weight))).collect();
        for rows in [2, 4, 5, 13] {
            let together = steps(&vec![1; rows], || product(&x[..rows * k], &weight));
            assert_eq!(together, alone[..rows * n], "{format:?}, {rows} steps");
        }
        let mixed = steps(&[1, 5, 1], || product(&x[..7 * k], &weight));
        assert_eq!(mixed[..n], alone[..n]);
        assert_eq!(mixed[6 * n..], alone[6 * n..7 * n]);
        let chunk = steps(&[5], || product(&x[k..6 * k], &weight));
        assert_eq!(mixed[n..6 * n], chunk, "a chunk beside steps");
    }
}

#[test]
fn logits_are_f32_and_half_activations_are_served_where_the_device_has_them() {
    let (n, k) = (24, 256);
    let dtype = Gpu::activation_dtype(false, &device());
    let (bytes, elements) = sample(Format::Q5_K, n, k, 8);
    let weight = Gpu::pack(RawMatrix { format: Format::Q5_K, n, k, bytes: &bytes }, dtype, &device()).unwrap();
    let half = super::super::device::dtype(dtype);
    let x = matrix(random(3 * k, 9), [3, k]).cast(half);
    let want = reference(&values(x.clone()), &elements, k);
    for rows in [vec![1, 1, 1], vec![3]] {
        let logits: Tensor<Gpu, 2> = steps(&rows, || Gpu::logits(x.clone(), &weight));
        assert_eq!(logits.dtype(), burn::tensor::DType::F32);
        assert_close(&values(logits), &want, if rows.len() == 3 { 2e-6 } else { 2e-3 }, &format!("{dtype:?}"));
        let y = steps(&rows, || <Gpu as KernelOps>::linear(x.clone(), &weight));
        assert_eq!(y.dtype(), half);
        assert_close(&values(y), &want, if dtype == Dtype::F32 { 2e-6 } else { 2e-3 }, &format!("{dtype:?}"));
    }
}

#[test]
fn the_device_holds_what_the_file_holds() {
    for format in FORMATS {
        let (n, k) = (8, 512);
        let (bytes, _) = sample(format, n, k, 10);
        let unpacked = if matches!(format, Format::Q4_K | Format::Q5_K) { n * k / 256 * 4 } else { 0 };
        assert_eq!(Gpu::packed_bytes(&pack(format, n, k, &bytes).unwrap()), bytes.len() + unpacked, "{format:?}");
    }
}

#[test]
fn a_matrix_that_does_not_fit_is_refused() {
    assert!(matches!(pack(Format::Q4_0, 2, 48, &[0; 54]), Err(PackError::Unsupported { .. })));
    assert!(matches!(pack(Format::F32, 2, 12, &[0; 96]), Err(PackError::Unsupported { .. })));
    assert!(matches!(pack(Format::F32, 0, 8, &[]), Err(PackError::Unsupported { .. })));
    assert!(matches!(pack(Format::Q8_0, 2, 32, &[0; 67]), Err(PackError::Length { want: 68, .. })));
    assert!(matches!(pack(Format::Q8_0, usize::MAX / 8, 32, &[]), Err(PackError::Unsupported { .. })));
}
