//! A mesh of real processes on this machine: what `demo` shows, `bench` measures and tests disturb.
//!
//! Invariant: no part outlives its owner. A part ends when its standard input closes, so it ends even when the owner
//! is killed.

mod mesh;
mod part;

pub(crate) use mesh::stop;
pub use mesh::{LocalConfig, LocalError, LocalMesh};
pub use part::{Part, PartError, Ready};
