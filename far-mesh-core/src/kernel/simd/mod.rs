//! Sixteen lanes of f32 or i32 on whatever vectors the processor has, with the same bits everywhere.
//!
//! A kernel is written once over [`Lanes`] and handed to [`Isa::run`], which compiles it for each instruction set and
//! picks one when the program runs.
//!
//! Invariant: every operation of [`Lanes`] is either exact (integers), correctly rounded (IEEE 754) or built from those
//! in one order here, so an instruction set never changes a result. Deliberately absent: approximate reciprocals, the
//! C library's functions, and AMX (some virtual machines report it and fault).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod exp;
mod isa;
mod lanes;
mod scalar;

pub(super) use exp::{ROUND, exp};
pub use isa::Isa;
pub(super) use isa::Kernel;
pub(super) use lanes::{LANES, Lanes};
