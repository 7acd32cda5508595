//! Every kernel in every variant through NVIDIA's compiler. What is computed is not looked at: the driver may be one that
//! only pretends (`tests/cuda/driver.c`).

use burn::tensor::{Tensor, TensorData};
use burn_cubecl::CubeBackend;
use cubecl::cuda::{CudaDevice, CudaRuntime};

use super::random;
use crate::{
    activation::Dtype,
    kernel::{
        AttentionShape, CudaMissing, KernelOps, RawMatrix, RopeTable, Sequence, Share,
        cube::{device::dtype as element, wide},
        probe_cuda,
        tests::samples::{FORMATS, sample},
        try_cuda,
    },
};

type Cuda = CubeBackend<CudaRuntime, f32, i32, u8>;

fn matrix(rows: usize, columns: usize, dtype: Dtype) -> Tensor<Cuda, 2> {
    let data = TensorData::new(random(rows * columns, 1), [rows, columns]);
    Tensor::<Cuda, 2>::from_data(data, &CudaDevice::new(0)).cast(element(dtype))
}

/// Waits for what was launched: a kernel that was not compiled shows itself here.
fn finish(x: Tensor<Cuda, 2>, what: &str) {
    let data = x.try_into_data();
    assert!(data.is_ok(), "{what}: {:?}", data.err());
}

#[test]
#[ignore = "needs NVRTC: `tests/run core` runs it with NVIDIA's package and a driver that only pretends"]
fn every_kernel_compiles() {
    let device = CudaDevice::new(0);
    let report = probe_cuda();
    assert_eq!((report.missing, report.devices.len()), (None, 1), "what the kernels need is there");
    // A driver that only pretends gives back garbage.
    assert!(matches!(try_cuda(0), Ok(_) | Err(CudaMissing::Trial { index: 0, .. })), "{:?}", try_cuda(0));
    assert_eq!(Cuda::activation_dtype(false, &device), Dtype::Bf16);
    for dtype in [Dtype::Bf16, Dtype::F16, Dtype::F32] {
        for format in FORMATS {
            let (n, k) = (64, 512);
            let (bytes, _) = sample(format, n, k, 1);
            let weight = Cuda::pack(RawMatrix { format, n, k, bytes: &bytes }, dtype, &device).unwrap();
            finish(Cuda::embed(&weight, &[1, 2], dtype, &device), "embed");
            for rows in [vec![1], vec![1; 3], vec![1; 9], vec![2], vec![200]] {
                let x = matrix(rows.iter().sum(), k, dtype);
                let what = format!("{format:?}, {dtype:?}, rows {rows:?}");
                let shares: Vec<Share> = rows.iter().map(|rows| Share::step(*rows)).collect();
                Cuda::compute(&shares, || {
                    finish(<Cuda as KernelOps>::linear(x.clone(), &weight), &what);
                    finish(Cuda::logits(x.clone(), &weight), &what);
                });
            }
        }
        if dtype != Dtype::F32 {
            // Not by units behind the test's back.
            let [x, weight, out] = [(5, 64), (64, 128), (5, 128)]
                .map(|(rows, columns)| matrix(rows, columns, dtype).into_primitive().tensor());
            assert!(wide::on_cores(&x, &weight, &out).is_ok(), "{dtype:?}");
        }
        let x = matrix(3, 64, dtype);
        let weight = Tensor::from_data(TensorData::new(random(64, 2), [64]), &device);
        finish(Cuda::rms_norm(&x, &weight, 1e-5), "norm");
        finish(Cuda::add_rms_norm(x.clone(), x.clone(), &weight, 1e-5).1, "norm with sum");
        finish(Cuda::add(x.clone(), x.clone()), "sum");
        finish(Cuda::silu_mul(x), "gate");
        for (heads, kv_heads, head_dim) in
            [(4, 2, 16), (9, 3, 64), (4, 4, 80), (7, 1, 96), (32, 8, 128), (2, 1, 256), (3, 1, 10)]
        {
            let shape = AttentionShape { heads, kv_heads, head_dim, window: None };
            let half = 64 * head_dim / 2;
            let table = RopeTable { cos: vec![1.0; half], sin: vec![0.0; half], head_dim };
            let mut cache = Cuda::cache(1, 4, shape, dtype, &device);
            let rope = Cuda::rope(table, &device);
            let sequences = [
                Sequence { rows: 1, position: 40, pages: &[0, 1], chunk: false },
                Sequence { rows: 5, position: 0, pages: &[2, 3], chunk: true },
            ];
            Cuda::prepare(&mut cache, &sequences, &device);
            let qkv = matrix(6, (heads + 2 * kv_heads) * head_dim, dtype);
            finish(Cuda::attention(qkv, &mut cache, 0, &rope, &sequences), &format!("{shape:?}, {dtype:?}"));
        }
    }
}
