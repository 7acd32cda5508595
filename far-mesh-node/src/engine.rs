//! The mesh behind the HTTP layer: a [`Coordinator`] as an [`Engine`], and its providers in the ledger.

use std::{collections::HashMap, sync::Arc, time::Duration};

use far_ledger::{Node, NodeModel, Store, UnixMillis, WalletAddress};
use far_mesh_client::schema::PartHealth;
use far_mesh_core::{
    coordinator::{Coordinator, PromptError},
    id::NodeId,
    peer::Advert,
    route::{Coverage, PlanError},
    session::{GenerateError, Request},
    token::{EncodeError, Tokenizer},
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture};

use crate::http::{
    DEFAULT_MAX_TOKENS, Engine, EngineError, GenerateCall, Generation, Offer, RouteHop, ServedModel, Vocabulary,
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
        ServedModel {
            name: self.coordinator.name().to_owned(),
            hash: info.hash,
            layers: info.layers,
            context_tokens: info.context_tokens,
            offers: self.coordinator.providers().iter().map(offer).collect(),
        }
    }

    async fn generate(&self, call: GenerateCall) -> Result<Generation, EngineError> {
        let info = self.coordinator.info();
        if call.model != info.hash {
            return Err(EngineError::Gone { model: call.model });
        }
        let wanted = call.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let prompt =
            self.coordinator.encode(&call.prompt).map_err(|error| refused(error, wanted, info.context_tokens))?;
        let left = info.context_tokens.saturating_sub(u32::try_from(prompt.len()).unwrap_or(u32::MAX));
        let max_tokens = call.max_tokens.unwrap_or_else(|| DEFAULT_MAX_TOKENS.min(left.max(1)));
        let request = Request { prompt, max_tokens, sampling: call.sampling, stop: call.stop, logprobs: call.logprobs };
        let generation = self.coordinator.generate(request).await?;
        let coordinator = Arc::clone(&self.coordinator);
        Ok(Generation {
            session: generation.session(),
            prompt_tokens: generation.prompt_tokens(),
            route: generation.route().iter().map(|hop| RouteHop { node: Some(hop.node), span: hop.span }).collect(),
            vocabulary: Arc::new(Tokens(Arc::clone(self.coordinator.tokenizer()))),
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

    fn start(&self, call: GenerateCall) -> BoxFuture<'_, Result<Generation, EngineError>> {
        self.generate(call).boxed()
    }
}

fn offer(advert: &Advert) -> Offer {
    let shard = &advert.shard;
    let step_ns = f64::from(shard.layer_time_ns) * f64::from(shard.span.len());
    Offer {
        node: advert.peer,
        span: shard.span,
        tokens_per_second: (step_ns > 0.0).then(|| 1e9 / step_ns),
        region: (!shard.region.is_empty()).then(|| shard.region.clone()),
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
    let mut known: HashMap<NodeId, u64> = HashMap::new();
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
            if known.get(&advert.peer) == Some(&advert.seq) {
                continue;
            }
            match register(store.as_ref(), &advert).await {
                Ok(()) => drop(known.insert(advert.peer, advert.seq)),
                Err(error) => tracing::warn!(node = %advert.peer, error, "the ledger does not take a node"),
            }
        }
    }
}

async fn register(store: &dyn Store, advert: &Advert) -> Result<(), String> {
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
    store.upsert_node(&node).await.map_err(|error| error.to_string())?;
    let model = NodeModel {
        node_id,
        model_id: shard.model_name.clone(),
        layers_start: shard.span.start(),
        layers_end: shard.span.end(),
        quantization: shard.kernel_class.clone(),
    };
    store.upsert_node_model(&model).await.map_err(|error| error.to_string())
}
