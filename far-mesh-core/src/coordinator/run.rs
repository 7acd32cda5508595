//! The coordinator itself.

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;

use super::{
    config::{Config, PromptError, StartError},
    generation::{Generation, Live, Prompt},
    repair::OtherClass,
    router::{Need, Router},
    table::Table,
};
use crate::{
    hop::{Hop, HopError},
    id::{NodeId, SessionId, Span},
    model::{ModelConfig, Source},
    peer::{Advert, Node, RemoteHop},
    route::RegionWish,
    session::{DEFAULT_CHUNK_TOKENS, GenerateError, Generator, GeneratorConfig, Request},
    shard::{self, LocalHead, Shard},
    task::Tasks,
    token::{ChatTemplate, TemplateError, Tokenizer},
};

/// Serves one model over the providers that a node finds.
pub struct Coordinator {
    node: Node,
    name: String,
    span: Span,
    head: Shard,
    generator: Generator,
    template: Option<ChatTemplate>,
    table: Arc<Table>,
    other_class: OtherClass,
    live: Arc<AtomicUsize>,
    tasks: Tasks,
}

/// What is read from the model file.
struct Loaded {
    config: ModelConfig,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    head: Shard,
}

impl Coordinator {
    /// Loads tokenizer and head and starts to watch for providers. `progress` hears bytes read and bytes in all.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the model. A mesh without providers is no error.
    pub async fn start(
        node: Node,
        config: Config,
        progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Self, StartError> {
        let shard = shard::Config {
            model: config.path.clone(),
            hash: config.hash,
            span: None,
            head: true,
            device: shard::DeviceChoice::Cpu,
            precision: config.precision,
            threads: config.threads,
            arena_tokens: 1,
            batching: shard::Batching::default(),
            isa: None,
        };
        let loaded = tokio::task::spawn_blocking(move || load(&config.path, shard, progress));
        let Loaded { config: model, tokenizer, template, head } = loaded.await.map_err(|_| StartError::Aborted)??;
        let info = head.info();
        let generator = GeneratorConfig {
            model: info.hash,
            layers: info.layers,
            context_tokens: info.context_tokens,
            dtype: info.dtype,
            chunk_tokens: DEFAULT_CHUNK_TOKENS,
        };
        let logits = head.head().ok_or(StartError::Aborted)?;
        let generator = Generator::new(Arc::new(tokenizer), logits, generator)?;
        let table = Arc::new(Table::new(node.clone(), info.hash, config.region));
        let tasks = Tasks::new();
        let kept = Arc::clone(&table);
        tasks.spawn(async move { kept.keep().await });
        Ok(Self {
            node,
            name: config.name,
            span: model.all_layers(),
            head,
            generator,
            template,
            table,
            other_class: config.other_class,
            live: Arc::default(),
            tasks,
        })
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known of the model.
    pub fn info(&self) -> &shard::Info {
        self.head.info()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.generator.tokenizer()
    }

    /// The providers known now.
    pub fn providers(&self) -> Vec<Advert> {
        self.table.adverts()
    }

    /// Those of them that do not stand in the region they say: the speed of light refutes it.
    pub fn refuted_regions(&self) -> HashSet<NodeId> {
        self.table.refuted()
    }

    /// Waits until the mesh was asked for providers once, at most for `patience`: before that, none are known.
    pub async fn surveyed(&self, patience: Duration) {
        self.table.filled(patience).await;
    }

    /// Sessions that run now.
    pub fn live_sessions(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Token ids of a prompt.
    ///
    /// # Errors
    /// [`PromptError`] when it cannot be tokenized, or the model has no template for a conversation.
    pub fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, PromptError> {
        match prompt {
            Prompt::Text(text) => Ok(self.tokenizer().encode_prompt(text, false)?),
            Prompt::Tokens(ids) => Ok(ids.clone()),
            Prompt::Chat(messages) => {
                let template = self.template.as_ref().ok_or(TemplateError::Missing)?;
                Ok(template.encode(self.tokenizer(), messages, true)?)
            }
        }
    }

    /// Checks a request, and gives the positions that its session may reach. [`Coordinator::generate`] does so too.
    ///
    /// # Errors
    /// [`GenerateError`] when it is out of range for the model.
    pub fn check(&self, request: &Request) -> Result<u32, GenerateError> {
        self.generator.check(request)
    }

    /// Finds a route, runs the prompt along it and returns with the first event: what fails until then is an error here,
    /// what fails later an item of the stream. Dropping the future cancels the session.
    ///
    /// # Errors
    /// [`GenerateError`]; [`HopError::NoRoute`] in it names the layers that no one serves.
    pub async fn generate(&self, request: Request) -> Result<Generation, GenerateError> {
        self.generate_in(request, None).await
    }

    /// As [`Coordinator::generate`], along hops that stand where they are wished to.
    ///
    /// # Errors
    /// As there; the layers that nobody serves in a required region are named too.
    pub async fn generate_in(&self, request: Request, region: Option<RegionWish>) -> Result<Generation, GenerateError> {
        self.generate_as(SessionId::random(), request, region).await
    }

    /// As [`Coordinator::generate_in`], as the session that the caller names: one that nobody used before.
    ///
    /// # Errors
    /// As there.
    pub async fn generate_as(
        &self,
        session: SessionId,
        request: Request,
        region: Option<RegionWish>,
    ) -> Result<Generation, GenerateError> {
        let prompt_tokens = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let taken = Arc::new(OnceLock::new());
        let router = Router { region, ..self.router(prompt_tokens, request.max_tokens, &taken) };
        let mut rest = self.generator.generate_as(session, Arc::new(router), request)?;
        let live = Live::one_more(&self.live);
        let first = match rest.next().await {
            Some(first) => first.inspect_err(|error| self.note(error))?,
            None => return Err(HopError::Closed.into()),
        };
        let route = taken.get().cloned().unwrap_or_default();
        Ok(Generation { session: rest.session(), prompt_tokens, route, first: Some(first), rest, _live: live })
    }

    /// A hop over all layers that plans its route when it is opened: what [`Coordinator::generate`] drives, for programs
    /// that drive it themselves.
    pub fn route(&self, prompt_tokens: u32, max_tokens: u32) -> Arc<dyn Hop> {
        Arc::new(self.router(prompt_tokens, max_tokens, &Arc::default()))
    }

    /// The head that turns the route's results into logits.
    pub fn head(&self) -> Option<Arc<LocalHead>> {
        self.head.head()
    }

    fn router(&self, prompt_tokens: u32, max_tokens: u32, taken: &Arc<OnceLock<Vec<RemoteHop>>>) -> Router {
        let hidden = u32::try_from(self.head.info().hidden).unwrap_or(u32::MAX);
        let need = Need { hidden, prompt_tokens, max_tokens };
        Router {
            node: self.node.clone(),
            table: Arc::clone(&self.table),
            model: self.name.clone(),
            span: self.span,
            need,
            other_class: self.other_class,
            region: None,
            taken: Arc::clone(taken),
        }
    }

    /// Leaves a node that was lost out of the next routes.
    pub fn note(&self, error: &GenerateError) {
        if let GenerateError::Hop(HopError::PeerLost { node, .. }) = error {
            self.table.set_aside(*node);
        }
    }

    /// Makes a node cost more in the next routes, since a hop of it took `factor` times what its advert promises.
    pub fn note_slow(&self, node: NodeId, factor: f64) {
        self.table.slow(node, factor);
    }

    /// Ends the head and stops watching. Sessions that run fail; the node is left to its owner.
    pub async fn shutdown(&self) {
        self.tasks.shutdown().await;
        self.head.shutdown().await;
    }
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator").field("model", &self.name).field("node", &self.node.id()).finish_non_exhaustive()
    }
}

fn load(path: &Path, shard: shard::Config, mut progress: impl FnMut(u64, u64)) -> Result<Loaded, StartError> {
    let source = Source::open(path)?;
    let config = ModelConfig::read(&source)?;
    let tokenizer = Tokenizer::of(&source)?;
    let template = match ChatTemplate::of(&source, &tokenizer) {
        Ok(template) => Some(template),
        Err(TemplateError::Missing) => None,
        Err(error) => return Err(StartError::Template(error)),
    };
    let head = Shard::load(shard, &mut progress)?;
    Ok(Loaded { config, tokenizer, template, head })
}
