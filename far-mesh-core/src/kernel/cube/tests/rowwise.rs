//! Norms, gate and sum against the CPU's.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};

use super::{Gpu, assert_close, matrix, random, values, vector};
use crate::kernel::KernelOps;

fn on_cpu(values: &[f32], dims: [usize; 2]) -> Tensor<Flex, 2> {
    Tensor::from_data(TensorData::new(values.to_vec(), dims), &FlexDevice)
}

fn cpu(x: Tensor<Flex, 2>) -> Vec<f32> {
    x.into_data().into_vec().unwrap()
}

#[test]
fn norms_are_those_of_the_cpu() {
    for (rows, width) in [(1, 64), (5, 576), (3, 4096), (33_000, 8)] {
        let (x, delta, weight) = (random(rows * width, 1), random(rows * width, 2), random(width, 3));
        let dims = [rows, width];
        let on_cpu_weight = Tensor::<Flex, 1>::from_data(TensorData::new(weight.clone(), [width]), &FlexDevice);
        let want = cpu(Flex::rms_norm(&on_cpu(&x, dims), &on_cpu_weight, 1e-5));
        let got = values(Gpu::rms_norm(&matrix(x.clone(), dims), &vector(weight.clone()), 1e-5));
        assert_close(&got, &want, 1e-6, &format!("{dims:?}"));
        let (sum, normed) = Flex::add_rms_norm(on_cpu(&x, dims), on_cpu(&delta, dims), &on_cpu_weight, 1e-5);
        let (got_sum, got) =
            Gpu::add_rms_norm(matrix(x.clone(), dims), matrix(delta.clone(), dims), &vector(weight), 1e-5);
        assert_eq!(values(got_sum.clone()), cpu(sum));
        assert_close(&values(got), &cpu(normed), 1e-6, &format!("{dims:?} with a sum"));
        assert_eq!(values(Gpu::add(matrix(x, dims), matrix(delta, dims))), values(got_sum));
    }
}

#[test]
fn the_gate_is_that_of_the_cpu() {
    for (rows, width) in [(1, 96), (7, 1536)] {
        let x: Vec<f32> = random(rows * 2 * width, 4).iter().map(|x| x * 8.0).collect();
        let want = cpu(Flex::silu_mul(on_cpu(&x, [rows, 2 * width])));
        assert_close(&values(Gpu::silu_mul(matrix(x, [rows, 2 * width]))), &want, 1e-6, "gate");
    }
}
