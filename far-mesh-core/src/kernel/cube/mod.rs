//! [`KernelOps`](super::KernelOps) for GPUs: kernels in CubeCL, generic over its runtimes.
//!
//! The product serves CUDA. The same sources run on Vulkan in the tests, where a software device stands in for a GPU.
//!
//! ```text
//! layout  weights in tiles        tile    from a tile's bits to numbers (all kernels that read weights)
//! thin    product for few rows    wide    product for many: unpack into a workspace, then burn's tensor-core product
//! rowwise norms, gate, sum        attention   rotary embedding, paged cache, attention
//! pass    which rows are which    trial   whether a device computes at all
//! ```
//!
//! Activations are bf16 where the device has it, else f16, else f32 ([`Precision::Exact`](crate::model::Precision) asks for
//! f32); sums, norms, softmax and logits are f32. Weights stay packed; dense f32 weights are rounded to the activations'
//! type when they are loaded, dense 16-bit weights stay as they are.
//!
//! # Bits
//! A step of one position is computed by the thin product and by attention in fixed stretches: its bits depend neither on
//! the other sessions in the batch nor on their number. A chunk of several positions is computed by the wide product, cut the
//! same way for any number of rows, and by attention in one piece: its bits depend neither on the batch nor on where a
//! prompt is cut into chunks. But tensor cores add in another order than the thin product, so a position has other bits in a
//! chunk than in a step of its own. Results of one kernel class are therefore equal bit for bit where the same positions came
//! in steps of one: who replays a session to another node keeps the prompt in chunks of two or more, and what was decoded in
//! steps of its own.

mod attention;
mod backend;
mod dense;
mod device;
mod layout;
mod pass;
mod rowwise;
#[cfg(test)]
pub(crate) mod tests;
mod thin;
mod tile;
mod trial;
mod weight;
mod wide;

pub use attention::{CubeCache, CubeRope};
pub(in crate::kernel) use trial::try_device;
pub use weight::CubePacked;
