//! The mesh behind the HTTP layer: a [`Coordinator`] as an [`Engine`], and its providers in the ledger.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use far_ledger::{
    Node, NodeModel, Store, UnixMillis, WalletAddress,
    store::{NodeError, SIGN_OF_LIFE},
};
use far_mesh_client::schema::PartHealth;
use far_mesh_core::{
    coordinator::{Coordinator, Prompt, PromptError},
    hop::HopError,
    id::{NodeId, SessionId},
    peer::Advert,
    route::{Coverage, PlanError},
    session::{GenerateError, Request},
    token::{EncodeError, Tokenizer},
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};

use crate::http::{
    DEFAULT_MAX_TOKENS, Engine, EngineError, GenerateCall, Generation, Offer, Prepared, ServedModel, Vocabulary,
};

/// How often the ledger hears of providers: as often as the table of adverts changes.
const REGISTER: Duration = Duration::from_secs(2);

/// One coordinator's model, for HTTP.
#[derive(Debug)]
pub struct MeshEngine {
    coordinator: Arc<Coordinator>,
}

#[derive(Debug)]
struct Tokens(Arc<Tokenizer>);

impl Vocabulary for Tokens {
    fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.0.token_bytes(id).to_vec()
    }
}

impl MeshEngine {
    /// Serves `coordinator`'s model.
    pub fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    fn served(&self) -> ServedModel {
        let info = self.coordinator.info();
        let refuted = self.coordinator.refuted_regions();
        ServedModel {
            name: self.coordinator.name().to_owned(),
            hash: info.hash,
            layers: info.layers,
            context_tokens: info.context_tokens,
            offers: self.coordinator.providers().iter().map(|advert| offer(advert, &refuted)).collect(),
        }
    }

    /// Token ids of a prompt. The longest that is taken keeps a thread busy for a good part of a second, which the
    /// runtime's threads have not: tokens of other sessions and signs of life of nodes would wait.
    async fn encode(&self, prompt: Prompt) -> Result<Result<Vec<u32>, PromptError>, HopError> {
        let coordinator = Arc::clone(&self.coordinator);
        let encoding = tokio::task::spawn_blocking(move || coordinator.encode(&prompt));
        // It is not awaited to its end when the runtime ends.
        encoding.await.map_err(|_| HopError::Closed)
    }

    async fn prepare_call(&self, call: GenerateCall) -> Result<Prepared, EngineError> {
        let info = self.coordinator.info();
        if call.model != info.hash {
            return Err(EngineError::Gone { model: call.model });
        }
        let wanted = call.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let encoded = self.encode(call.prompt).await.map_err(GenerateError::from)?;
        let prompt = encoded.map_err(|error| refused(error, wanted, info.context_tokens))?;
        let left = info.context_tokens.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX));
        let max_tokens = call.max_tokens.unwrap_or_else(|| DEFAULT_MAX_TOKENS.min(left.max(1)));
        let request = Request { prompt, max_tokens, sampling: call.sampling, stop: call.stop, logprobs: call.logprobs };
        self.coordinator.check(&request)?;
        let vocabulary = Arc::new(Tokens(Arc::clone(self.coordinator.tokenizer())));
        Ok(Prepared { session: SessionId::random(), request, region: call.region, vocabulary })
    }

    async fn generate(&self, prepared: Prepared) -> Result<Generation, EngineError> {
        let Prepared { session, request, region, .. } = prepared;
        let generation = self.coordinator.generate_as(session, request, region).await?;
        let coordinator = Arc::clone(&self.coordinator);
        Ok(Generation {
            cancel: generation.canceller(),
            events: generation.inspect_err(move |error| coordinator.note(error)).boxed(),
        })
    }
}

impl Engine for MeshEngine {
    fn health(&self) -> BoxFuture<'_, PartHealth> {
        async move {
            let served = self.served();
            let missing = Coverage::of(served.layers, served.offers.iter().map(|offer| offer.span)).missing();
            let detail = if missing.is_empty() {
                format!("{} nodes serve all {} layers of {}", served.nodes().len(), served.layers, served.name)
            } else {
                PlanError::Uncovered { model: served.name, missing: missing.clone() }.to_string()
            };
            PartHealth { ok: missing.is_empty(), detail }
        }
        .boxed()
    }

    fn models(&self) -> BoxFuture<'_, Vec<ServedModel>> {
        async move { vec![self.served()] }.boxed()
    }

    fn prepare(&self, call: GenerateCall) -> BoxFuture<'_, Result<Prepared, EngineError>> {
        self.prepare_call(call).boxed()
    }

    fn start(&self, prepared: Prepared) -> BoxFuture<'_, Result<Generation, EngineError>> {
        self.generate(prepared).boxed()
    }
}

fn offer(advert: &Advert, refuted: &HashSet<NodeId>) -> Offer {
    let shard = &advert.shard;
    let step_ns = f64::from(shard.layer_time_ns) * f64::from(shard.span.len());
    Offer {
        node: advert.peer,
        span: shard.span,
        tokens_per_second: (step_ns > 0.0).then(|| 1e9 / step_ns),
        region: (!shard.region.is_empty()).then(|| shard.region.clone()),
        region_refuted: refuted.contains(&advert.peer),
    }
}

fn refused(error: PromptError, max_tokens: u32, context_tokens: u32) -> EngineError {
    match error {
        // A text beyond the tokenizer's bound has more bytes than any context has room for.
        PromptError::Text(EncodeError::TooLong { bytes, .. }) => {
            GenerateError::TooLong { prompt_tokens: bytes, max_tokens, context_tokens }.into()
        }
        other => EngineError::Template { reason: other.to_string() },
    }
}

/// Keeps the ledger's list of nodes as the mesh has it: who there is, where they are paid, what they serve.
pub async fn keep_nodes(coordinator: Arc<Coordinator>, store: Arc<dyn Store>) {
    let mut known: HashMap<NodeId, Entry> = HashMap::new();
    let mut ticks = tokio::time::interval(REGISTER);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let adverts = coordinator.providers();
        let gone: Vec<_> =
            known.keys().filter(|node| adverts.iter().all(|advert| advert.peer != **node)).copied().collect();
        for node in gone {
            known.remove(&node);
            if let Err(error) = store.withdraw_node_models(&node.to_string()).await {
                tracing::warn!(%node, %error, "the ledger does not hear that a node is gone");
            }
        }
        for advert in adverts {
            let (now, entry) = (Instant::now(), Entry::of(&advert, coordinator.name()));
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    tracing::warn!(node = %advert.peer, error, "the ledger does not take a node");
                    continue;
                }
            };
            // A write that waits for the disk for each advert of each node, every 45 seconds, would tell nobody more.
            let fresh = |before: &Entry| before.says(&entry) && now - before.written < SIGN_OF_LIFE;
            if known.get(&advert.peer).is_some_and(fresh) {
                continue;
            }
            match entry.write(store.as_ref()).await {
                Ok(()) => drop(known.insert(advert.peer, entry)),
                Err(error) => tracing::warn!(node = %advert.peer, %error, "the ledger does not take a node"),
            }
        }
    }
}

/// What the ledger holds of a node.
#[derive(Debug)]
struct Entry {
    node: Node,
    model: NodeModel,
    written: Instant,
}

impl Entry {
    /// What an advert says, of the `model` under which sessions are recorded: the node's own name for it says nothing,
    /// and a new one with each advert would fill the ledger.
    fn of(advert: &Advert, model: &str) -> Result<Self, String> {
        let shard = &advert.shard;
        let wallet = shard.wallet.map(|wallet| WalletAddress::from_bytes(wallet.0)).transpose();
        let node_id = advert.peer.to_string();
        let node = Node {
            wallet: wallet.map_err(|error| error.to_string())?,
            gpu_model: (!shard.device.is_empty()).then(|| shard.device.clone()),
            vram_gb: (shard.device_mib > 0).then_some(shard.device_mib / 1024),
            location: (!shard.region.is_empty()).then(|| shard.region.clone()),
            ..Node::new(node_id.clone(), UnixMillis::now())
        };
        let model = NodeModel {
            node_id,
            model_id: model.to_owned(),
            layers_start: shard.span.start(),
            layers_end: shard.span.end(),
            quantization: shard.kernel_class.clone(),
        };
        Ok(Self { node, model, written: Instant::now() })
    }

    /// Whether it says the same, but for when the node was seen.
    fn says(&self, other: &Self) -> bool {
        self.model == other.model && Node { last_seen: other.node.last_seen, ..self.node.clone() } == other.node
    }

    async fn write(&self, store: &dyn Store) -> Result<(), NodeError> {
        store.upsert_node(&self.node).await?;
        store.upsert_node_model(&self.model).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(last_seen: i64, region: &str, end: u32) -> Entry {
        let node = Node { location: Some(region.into()), ..Node::new("node", UnixMillis::new(last_seen).unwrap()) };
        let model = NodeModel {
            node_id: "node".into(),
            model_id: "model".into(),
            layers_start: 0,
            layers_end: end,
            quantization: "class".into(),
        };
        Entry { node, model, written: Instant::now() }
    }

    #[test]
    fn an_advert_that_says_the_same_later_is_nothing_new() {
        let before = entry(1000, "eu", 10);
        assert!(before.says(&entry(46_000, "eu", 10)));
        assert!(!before.says(&entry(1000, "us", 10)) && !before.says(&entry(1000, "eu", 11)));
    }
}
