//! A loaded shard: what others hold of the worker.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use burn_flex::{Flex, FlexDevice};
use tokio::sync::{mpsc, oneshot};

use super::{
    Batching,
    config::{Config, DeviceChoice, Info, LoadError},
    cuda,
    device::Device,
    dispatch::Dispatch,
    engine::{Engine, ModelEngine},
    local_head::LocalHead,
    local_hop::LocalHop,
    pages::Arena,
    queue::Queue,
    worker::{self, COMMANDS, Command},
};
use crate::{
    id::Span,
    kernel::{FarBackend, Isa, KernelOps, Pool},
    model::{Loader, ModelConfig, Precision, Source},
};

/// Positions in a page, the same on every device.
const PAGE_TOKENS: usize = <Flex as KernelOps>::PAGE_TOKENS;

/// Most positions of an arena: 16 million, more than any machine has memory for.
const MAX_ARENA_TOKENS: usize = 1 << 24;

/// A span, a head or both, on a device. Dropping it ends the worker after the forward that is running.
pub struct Shard {
    info: Arc<Info>,
    arena: Arena,
    device: Arc<Device>,
    hop: Option<Arc<LocalHop>>,
    head: Option<Arc<LocalHead>>,
    commands: mpsc::Sender<Command>,
    abandon: Arc<AtomicBool>,
    worker: Mutex<Option<Worker>>,
}

struct Worker {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Shard {
    /// Loads a shard and starts its worker. Reads for as long as the disk takes: call it where blocking is
    /// allowed. `progress` hears bytes of tensors read and bytes in all.
    ///
    /// # Errors
    /// [`LoadError`] says what to change.
    pub fn load(config: Config, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, LoadError> {
        if config.threads == 0 {
            return Err(LoadError::Threads);
        }
        let (tokens, least) = (config.batching.step_tokens, Batching::LEAST_STEP_TOKENS);
        if tokens < least {
            return Err(LoadError::StepTokens { tokens, least });
        }
        let pool = Pool::new(match config.device {
            DeviceChoice::Cpu => config.threads,
            // Whoever has the turn only tells the GPU what to do.
            DeviceChoice::Cuda(_) => 1,
        });
        let (engine, info): (Box<dyn Engine>, Info) = match config.device {
            DeviceChoice::Cpu => {
                let _threads = pool.install();
                let (engine, info) = load_engine::<Flex>(&config, FlexDevice, progress)?;
                (Box::new(engine), info)
            }
            DeviceChoice::Cuda(index) => cuda::load(&config, index, progress)?,
        };
        let arena = Arena::new((info.arena_tokens / PAGE_TOKENS) as u32, PAGE_TOKENS);
        Self::start(engine, info, config.head, arena, config.batching, config.isa, pool)
    }

    fn start(
        engine: Box<dyn Engine>,
        info: Info,
        has_head: bool,
        arena: Arena,
        batching: Batching,
        isa: Option<Isa>,
        pool: Pool,
    ) -> Result<Self, LoadError> {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (ended_sender, ended) = oneshot::channel();
        let abandon = Arc::new(AtomicBool::new(false));
        let abandoned = Arc::clone(&abandon);
        let steps_differ = engine.steps_differ();
        let device = Device::new(engine, pool, isa.unwrap_or_else(Isa::best));
        let dispatch = Dispatch::new(Arc::clone(&device), commands.clone());
        let worked = Arc::clone(&device);
        let thread = thread::Builder::new()
            .name("far-mesh-shard".into())
            .spawn(move || {
                worker::run(&worked, Queue::new(batching.step_tokens), inbox, &abandoned);
                // Weights and cache are gone when the end is told.
                worked.end();
                let _ = ended_sender.send(());
            })
            .map_err(LoadError::Thread)?;
        let info = Arc::new(info);
        let hop =
            |span| LocalHop::new(Arc::clone(&info), span, arena.clone(), batching, steps_differ, dispatch.clone());
        let hop = info.span.map(|span| Arc::new(hop(span)));
        Ok(Self {
            hop,
            head: has_head.then(|| Arc::new(LocalHead::new(Arc::clone(&info), dispatch))),
            info,
            arena,
            device,
            commands,
            abandon,
            worker: Mutex::new(Some(Worker { thread, ended })),
        })
    }

    /// What was loaded.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The layers as a hop; `None` for a head alone.
    pub fn hop(&self) -> Option<Arc<LocalHop>> {
        self.hop.clone()
    }

    /// The head; `None` when it was not loaded.
    pub fn head(&self) -> Option<Arc<LocalHead>> {
        self.head.clone()
    }

    /// Positions that fit the pages no session holds.
    pub fn free_tokens(&self) -> usize {
        self.arena.free_tokens()
    }

    /// How long steps waited before they ran since this was last asked; zero where none came.
    pub fn take_wait(&self) -> Duration {
        self.device.wait.take().unwrap_or_default()
    }

    /// Finishes the steps that are queued, then ends the worker and frees weights and cache. Later calls to hop and
    /// head answer [`crate::hop::HopError::Closed`]. A dropped future leaves the worker ending.
    pub async fn shutdown(&self) {
        // An error says that the worker has ended already.
        let _ = self.commands.send(Command::Stop).await;
        let worker = self.take_worker();
        if let Some(Worker { thread, ended }) = worker {
            let _ = ended.await;
            join(thread);
        }
    }

    fn take_worker(&self) -> Option<Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        if let Some(Worker { thread, .. }) = self.take_worker() {
            self.abandon.store(true, Ordering::Release);
            // Wakes the worker; when the channel is full it is awake.
            let _ = self.commands.try_send(Command::Stop);
            join(thread);
        }
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("the shard's worker panicked");
    }
}

/// Brings the parts of a model to a device.
pub(super) fn load_engine<B: FarBackend>(
    config: &Config,
    device: B::Device,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(ModelEngine<B>, Info), LoadError> {
    let path = config.model.as_path();
    if config.span.is_none() && !config.head {
        return Err(LoadError::Nothing);
    }
    let arena_tokens = match config.span {
        None => 0,
        Some(_) if (1..=MAX_ARENA_TOKENS).contains(&config.arena_tokens) => {
            config.arena_tokens.next_multiple_of(B::PAGE_TOKENS)
        }
        Some(_) => return Err(LoadError::Arena { tokens: config.arena_tokens, most: MAX_ARENA_TOKENS }),
    };
    let file =
        Source::open(path).map_err(|source| LoadError::File { path: path.to_path_buf(), source: Box::new(source) })?;
    let model = ModelConfig::read(&file).map_err(|source| LoadError::config(path, source))?;
    let total = tensor_bytes(&file, &model, config.span, config.head);
    let mut report = |done| progress(done, total);
    let mut loader = Loader::<B>::new(&file, &model, config.precision, device.clone(), &mut report);
    let positions = arena_tokens.min(model.context_tokens as usize);
    let span = config.span.map(|span| loader.span(span, positions)).transpose();
    let span = span.map_err(|source| LoadError::model(path, source))?;
    let head = config.head.then(|| loader.head()).transpose();
    let head = head.map_err(|source| LoadError::model(path, source))?;
    let (packed_bytes, dtype) = (loader.device_bytes(), loader.dtype());
    let pages = arena_tokens / B::PAGE_TOKENS;
    let span = span.map(|span| {
        let layers = span.span().len() as usize;
        let page = B::cache_bytes(&B::cache(layers, 1, model.attention, dtype, &device));
        let bytes = page.saturating_mul(pages);
        // A GPU was asked for its free memory before.
        if config.device == DeviceChoice::Cpu && !can_hold(bytes) {
            return Err(LoadError::ArenaMemory { tokens: arena_tokens, bytes });
        }
        let cache = B::cache(layers, pages, model.attention, dtype, &device);
        Ok((span, cache))
    });
    let span = span.transpose()?;
    let class = B::kernel_class(dtype, &device);
    let class = match config.precision {
        Precision::Packed | Precision::Quantized(_) => class,
        Precision::Exact => format!("{class}+exact"),
    };
    let info = Info {
        hash: config.precision.hash(config.hash),
        name: model.name,
        span: config.span,
        layers: model.layers,
        hidden: model.hidden,
        vocab: model.vocabulary,
        context_tokens: model.context_tokens,
        dtype,
        kernel_class: class,
        packed_bytes,
        arena_bytes: span.as_ref().map_or(0, |(_, cache)| B::cache_bytes(cache)),
        arena_tokens,
    };
    Ok((ModelEngine { span, head, hidden: info.hidden, dtype, device }, info))
}

/// Whether the system would give so much memory; asking for it in vain ends the process otherwise.
fn can_hold(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

/// Bytes of the tensors a shard reads.
pub(super) fn tensor_bytes(file: &Source, model: &ModelConfig, span: Option<Span>, head: bool) -> u64 {
    let embeds = span.is_some_and(|span| span.start() == 0);
    let mut names: Vec<String> = span
        .into_iter()
        .flat_map(|span| span.start()..span.end().min(model.layers))
        .flat_map(|layer| model.block_tensors(layer))
        .collect();
    if embeds || head && model.tied_head {
        names.push("token_embd.weight".into());
    }
    if head {
        names.push("output_norm.weight".into());
        names.extend((!model.tied_head).then(|| "output.weight".into()));
    }
    names.iter().map(|name| file.tensor_bytes(name)).sum()
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("info", &self.info).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::can_hold;

    #[test]
    fn more_than_an_address_space_is_not_held() {
        assert!(can_hold(1 << 20) && !can_hold(1 << 62) && !can_hold(usize::MAX));
    }
}
