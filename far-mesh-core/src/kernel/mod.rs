//! Our burn backend extensions: packed linear, norms, rope, paged attention. The only place with `unsafe`.
//!
//! [`KernelOps`] is what the model is written on; this module implements it for burn's CPU backend with kernels
//! that are written once over sixteen lanes ([`Isa`]) and share their work through a [`Pool`], and with the feature `cuda` for
//! GPUs with kernels in CubeCL. [`probe_cuda`] and [`try_cuda`] say whether this machine can use them.

mod attention;
mod bandwidth;
#[cfg(feature = "cuda")]
mod cube;
mod flex;
mod linear;
mod ops;
mod output;
mod pool;
mod probe;
mod rowwise;
mod simd;
#[cfg(all(test, feature = "cuda"))]
pub(crate) use cube::tests as gpu;
#[cfg(test)]
mod tests;

pub use attention::PagedCache;
pub use bandwidth::read_bandwidth;
#[cfg(feature = "cuda")]
pub use cube::{CubeCache, CubePacked, CubeRope};
pub use linear::Packed;
pub use ops::{AttentionShape, FarBackend, Format, KernelOps, PackError, RawMatrix, RopeTable, Sequence, Share};
pub use pool::{Installed, Pool};
pub use probe::{CudaGpu, CudaMissing, CudaReport, CudaVersion, probe_cuda, try_cuda};
pub use simd::Isa;
