//! Loading a shard onto an NVIDIA GPU.

use super::{
    config::{Config, Info, LoadError},
    engine::Engine,
};
use crate::kernel::{CudaGpu, try_cuda};

/// Brings the parts of a model to a GPU that was seen to work, and has it compile its kernels.
pub(super) fn load(
    config: &Config,
    index: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Box<dyn Engine>, Info), LoadError> {
    let gpu = try_cuda(index).map_err(|source| LoadError::Cuda { index, source })?;
    load_on(config, &gpu, progress)
}

#[cfg(not(feature = "cuda"))]
fn load_on(_: &Config, gpu: &CudaGpu, _: &mut dyn FnMut(u64, u64)) -> Result<(Box<dyn Engine>, Info), LoadError> {
    Err(LoadError::Cuda { index: gpu.index, source: crate::kernel::CudaMissing::NotBuilt })
}

#[cfg(feature = "cuda")]
fn load_on(
    config: &Config,
    gpu: &CudaGpu,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Box<dyn Engine>, Info), LoadError> {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use burn_cuda::{Cuda, CudaDevice};

    use super::handle::load_engine;
    use crate::kernel::KernelOps;

    type Gpu = Cuda<f32, i32>;
    let (needed_bytes, free_bytes) = (needed_bytes(config)?, gpu.free_bytes.unwrap_or(gpu.total_bytes));
    let no_room = || LoadError::CudaMemory { index: gpu.index, needed_bytes, free_bytes };
    if needed_bytes > free_bytes {
        return Err(no_room());
    }
    let device = CudaDevice::new(gpu.index);
    // The runtime panics where an allocation fails.
    let loaded = catch_unwind(AssertUnwindSafe(|| Gpu::compute(&[], || load_engine::<Gpu>(config, device, progress))));
    let (mut engine, info) = loaded.map_err(|_| no_room())??;
    tracing::info!(gpu = %gpu.name, "compiling kernels");
    let warm = catch_unwind(AssertUnwindSafe(|| engine.warm_up(info.arena_tokens, info.context_tokens as usize)));
    let warm = warm.unwrap_or_else(|_| Err("its runtime panicked; the message is above".into()));
    warm.map_err(|reason| LoadError::WarmUp { reason })?;
    Ok((Box::new(engine), info))
}

#[cfg(feature = "cuda")]
fn needed_bytes(config: &Config) -> Result<u64, LoadError> {
    use super::footprint::{Footprint, Load};
    use crate::model::{ModelConfig, Source};

    let path = config.model.as_path();
    let source =
        Source::open(path).map_err(|source| LoadError::File { path: path.to_path_buf(), source: Box::new(source) })?;
    let model = ModelConfig::read(&source).map_err(|source| LoadError::config(path, source))?;
    let Config { device, precision, arena_tokens, batching, .. } = *config;
    let footprint = Footprint::of(&source, &model, &Load { device, precision, arena_tokens, batching });
    Ok(footprint.bytes(config.span, config.head))
}
