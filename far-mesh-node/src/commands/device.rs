//! Which device a shard computes on, and what memory it has.

use far_mesh_core::{
    kernel::{CudaGpu, CudaMissing, try_cuda},
    shard::DeviceChoice,
};

use super::{CommandError, memory::Memory};
use crate::config::Device;

/// A device that was found usable.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    /// The processor.
    Cpu,
    /// A GPU that ran a trial kernel.
    Cuda(CudaGpu),
}

impl Chosen {
    /// The device `asked` means on this machine. A trial kernel runs before a GPU is taken; where `auto` finds none that
    /// works it says why in one line and takes the processor.
    ///
    /// # Errors
    /// [`CommandError::Device`] when a GPU was asked for and cannot be used.
    pub(super) async fn find(asked: Device) -> Result<Self, CommandError> {
        let index = match asked {
            Device::Cpu => return Ok(Self::Cpu),
            Device::Auto => 0,
            Device::Cuda(index) => index,
        };
        match (asked, trial(index).await?) {
            (_, Ok(gpu)) => Ok(Self::Cuda(gpu)),
            (Device::Auto, Err(missing)) => {
                tracing::info!("computing on the processor: {missing}");
                Ok(Self::Cpu)
            }
            (device, Err(source)) => Err(CommandError::Device { device, source }),
        }
    }

    /// What a shard is told.
    pub(super) fn choice(&self) -> DeviceChoice {
        match self {
            Self::Cpu => DeviceChoice::Cpu,
            Self::Cuda(gpu) => DeviceChoice::Cuda(gpu.index),
        }
    }

    /// What adverts call it.
    pub(super) fn name(&self, threads: usize) -> String {
        match self {
            Self::Cpu => format!("cpu, {threads} threads"),
            Self::Cuda(gpu) => gpu.name.clone(),
        }
    }

    /// Bytes of its memory; 0 where the system does not say.
    pub(super) fn total_bytes(&self) -> u64 {
        match self {
            Self::Cpu => Memory::read().map_or(0, |memory| memory.total_bytes),
            Self::Cuda(gpu) => gpu.total_bytes,
        }
    }

    /// Bytes that nobody uses now; 0 where the system does not say.
    pub(super) fn free_bytes(&self) -> u64 {
        match self {
            Self::Cpu => Memory::read().map_or(0, |memory| memory.available_bytes),
            Self::Cuda(gpu) => gpu.free_bytes.unwrap_or(gpu.total_bytes),
        }
    }
}

/// Runs a trial kernel where blocking is allowed: it takes seconds where the kernel is compiled first.
pub(super) async fn trial(index: usize) -> Result<Result<CudaGpu, CudaMissing>, CommandError> {
    tokio::task::spawn_blocking(move || try_cuda(index)).await.map_err(|_| CommandError::Aborted)
}
