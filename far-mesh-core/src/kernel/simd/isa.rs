//! Which instruction set a kernel runs on, chosen when the program runs.

use std::{cell::Cell, fmt, sync::OnceLock};

use super::{lanes::Lanes, scalar::Scalar};

/// An instruction set our kernels have a path for. All give the same bits. Each contains the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Whatever the target's baseline is.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI.
    Avx512,
}

/// A piece of work written over [`Lanes`]. `run` must be `#[inline(always)]`, as must be all it calls with lanes: only
/// then is it compiled for the instruction set.
pub(in crate::kernel) trait Kernel {
    fn run<L: Lanes>(self, lanes: L);
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

impl Isa {
    /// The instruction sets of this machine, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Scalar, Self::Avx2, Self::Avx512].into_iter().filter(|isa| *isa <= Self::best())
    }

    /// The fastest instruction set of this machine.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(detect)
    }

    /// What kernels called on this thread run on.
    pub fn current() -> Self {
        FORCED.get().unwrap_or_else(Self::best)
    }

    /// Runs `body` with this thread's kernels on this instruction set, or on the best one if the machine lacks it.
    pub fn scope<R>(self, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        let _restore = Restore(FORCED.replace(Some(self.min(Self::best()))));
        body()
    }

    /// Runs a kernel on this instruction set, or on the best one if the machine lacks it.
    #[inline]
    pub(in crate::kernel) fn run<K: Kernel>(self, kernel: K) {
        match self.min(Self::best()) {
            Self::Scalar => kernel.run(Scalar),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `best` is at least Avx2 only where its features were detected.
            Self::Avx2 => unsafe { avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `best` is Avx512 only where its features were detected.
            Self::Avx512 => unsafe { avx512(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => kernel.run(Scalar),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512-vnni",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        _ => Isa::Scalar,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Scalar
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<K: Kernel>(kernel: K) {
    kernel.run(super::avx2::Avx2::new());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn avx512<K: Kernel>(kernel: K) {
    kernel.run(super::avx512::Avx512::new());
}
