//! The kernels on a Vulkan device (in software where there is no GPU) against plain references.

mod attention;
mod linear;
mod nvrtc;
mod rowwise;

use std::sync::OnceLock;

use burn::tensor::{Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_wgpu::{RuntimeOptions, WgpuDevice, WgpuRuntime, graphics::Vulkan, init_setup};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) type Gpu = CubeBackend<WgpuRuntime, f32, i32, u8>;

/// The device all tests share.
pub(crate) fn device() -> WgpuDevice {
    static DEVICE: OnceLock<WgpuDevice> = OnceLock::new();
    let make = || {
        assert!(
            std::env::var_os("FAR_MESH_TEST_VULKAN").is_some(),
            "FAR_MESH_TEST_VULKAN is not set: `tests/run core` fetches a Vulkan device in software and sets it"
        );
        let device = WgpuDevice::DefaultDevice;
        init_setup::<Vulkan>(&device, RuntimeOptions::default());
        device
    };
    DEVICE.get_or_init(make).clone()
}

fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn matrix(values: Vec<f32>, dims: [usize; 2]) -> Tensor<Gpu, 2> {
    Tensor::from_data(TensorData::new(values, dims), &device())
}

fn vector(values: Vec<f32>) -> Tensor<Gpu, 1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &device())
}

fn values<const D: usize>(x: Tensor<Gpu, D>) -> Vec<f32> {
    x.into_data().convert::<f32>().into_vec().unwrap()
}

#[track_caller]
fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let greatest = want.iter().fold(0f32, |greatest, x| greatest.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * greatest, "{what}: element {i} is {got}, should be {want}");
    }
}

#[test]
fn a_trial_kernel_computes() {
    assert_eq!(super::try_device::<WgpuRuntime>(&device()), Ok(()));
}
