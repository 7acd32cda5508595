//! Whole operations against plain references, and the same bits on every path.

mod attention;
mod linear;
mod rowwise;
pub(super) mod samples;

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Isa, Pool};
use crate::activation::Dtype;

/// Numbers in `-1..1`, the same for the same seed.
fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn matrix(values: Vec<f32>, dims: [usize; 2]) -> Tensor<Flex, 2> {
    Tensor::from_data(TensorData::new(values, dims), &FlexDevice)
}

fn vector(values: Vec<f32>) -> Tensor<Flex, 1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &FlexDevice)
}

fn values<const D: usize>(x: Tensor<Flex, D>) -> Vec<f32> {
    x.into_data().into_vec().unwrap()
}

#[track_caller]
fn assert_same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    if let Some(i) = (0..a.len()).find(|i| a[*i].to_bits() != b[*i].to_bits()) {
        panic!("{what}: element {i} is {:e} and {:e}", a[i], b[i]);
    }
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = (want.iter().map(|w| w * w).sum::<f64>() / want.len() as f64).sqrt().max(1e-30);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs() / scale;
        assert!(error < tolerance, "{what}: element {i} is {got}, not {want} (error {error:e} of the typical size)");
    }
}

/// What `body` gives on the first path, after checking that all instruction sets and pools give the same bits.
#[track_caller]
fn on_every_path(body: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for threads in [1, 2, 3] {
        let _installed = Pool::new(threads).install();
        for isa in Isa::available() {
            let got = isa.scope(&body);
            match &first {
                Some(first) => assert_same_bits(first, &got, &format!("{isa}, {threads} threads")),
                None => first = Some(got),
            }
        }
    }
    first.unwrap()
}
