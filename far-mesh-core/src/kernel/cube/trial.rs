//! The last word on whether a device computes: a kernel is run and its numbers are compared.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Tensor, TensorData, backend::DeviceOps};
use burn_cubecl::{CubeBackend, CubeRuntime};

use crate::{
    activation::Dtype,
    kernel::ops::{Format, KernelOps, RawMatrix},
};

/// Multiplies a small matrix. Without the compiler's header files, say, a launch fails where nobody sees it and what is read
/// back is garbage, so what counts is the result.
pub(in crate::kernel) fn try_device<R: CubeRuntime>(device: &R::Device) -> Result<(), String>
where
    R::Device: DeviceOps,
{
    let tried = catch_unwind(AssertUnwindSafe(|| multiply::<R>(device)));
    let got = tried.map_err(|_| "the runtime panicked; its message is above".to_owned())??;
    let want: Vec<f32> =
        (0..ROWS).map(|row| (0..COLUMNS).map(|column| weight(row, column) * x(column)).sum()).collect();
    let close = got.len() == want.len() && got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-3);
    if close { Ok(()) } else { Err(format!("a product of small numbers gave {got:?}, should be {want:?}")) }
}

const ROWS: usize = 6;
const COLUMNS: usize = 64;

/// Numbers whose products and sums are exact in any order.
fn weight(row: usize, column: usize) -> f32 {
    ((row * 7 + column) % 9) as f32 - 4.0
}

fn x(column: usize) -> f32 {
    (column % 5) as f32 - 2.0
}

fn multiply<R: CubeRuntime>(device: &R::Device) -> Result<Vec<f32>, String>
where
    R::Device: DeviceOps,
{
    type B<R> = CubeBackend<R, f32, i32, u8>;
    B::<R>::compute(&[], || {
        let values = (0..ROWS * COLUMNS).flat_map(|i| weight(i / COLUMNS, i % COLUMNS).to_le_bytes());
        let bytes: Vec<u8> = values.collect();
        let matrix = RawMatrix { format: Format::F32, n: ROWS, k: COLUMNS, bytes: &bytes };
        let weight = B::<R>::pack(matrix, Dtype::F32, device).map_err(|error| error.to_string())?;
        let row: Vec<f32> = (0..COLUMNS).map(x).collect();
        let row = Tensor::<B<R>, 2>::from_data(TensorData::new(row, [1, COLUMNS]), device);
        <B<R> as KernelOps>::logits(row, &weight).into_data().into_vec().map_err(|error| format!("{error:?}"))
    })
}
