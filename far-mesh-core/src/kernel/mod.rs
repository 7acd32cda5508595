//! Our burn backend extensions: packed linear, norms, rope, paged attention. The only place with `unsafe`.

mod ops;

pub use ops::{AttentionShape, FarBackend, Format, KernelOps, PackError, RawMatrix, RopeTable, Sequence};
