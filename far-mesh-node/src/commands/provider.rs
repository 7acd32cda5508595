//! `far-mesh provider run`.

use far_mesh_core::{
    id::Span,
    model::{ModelConfig, Source},
    peer::{Node, ServeConfig, Wallet},
    provider::{Provider, Rebalance, Terms},
    route::placement::{self, Holder},
    shard::{self, Batching, Load, plan_span},
    task::Tasks,
};
use serde_json::json;

use super::{CommandError, Stop, device::Chosen, join, shard::load, until_interrupted};
use crate::{
    cli::ProviderRunArgs,
    config::{Config, Layers, Sessions},
    health,
    models::{self, Model},
    progress::Progress,
};

/// Positions the arena has room for, a session: a conversation of some pages. One session may take the room of several.
const SESSION_TOKENS: usize = 2048;

/// Sessions the arena has room for where nobody says how many: a dozen conversations and some to spare.
const SESSIONS: usize = 16;

/// Part of the free memory that `--layers auto` takes: the rest is for activations, buffers and other programs.
const SHARE_OF_FREE: (u64, u64) = (4, 5);

/// Loads a span, serves it and offers it until asked to end.
///
/// # Errors
/// [`CommandError`] when it cannot start.
pub async fn run(args: ProviderRunArgs, config: Config) -> Result<(), CommandError> {
    let mut stop = Stop::listen()?;
    let remedy = "nothing was announced; run this again";
    let (node, provider) = Box::pin(until_interrupted(remedy, start(&config))).await?;
    let (listener, http) = join::listen_http(&config).await?;
    let provider = std::sync::Arc::new(provider);
    let tasks = Tasks::new();
    let seen = (node.clone(), std::sync::Arc::downgrade(&provider));
    tasks.spawn_graceful(health::serve(listener, tasks.cancelled(), move || {
        state(&seen.0, seen.1.upgrade().as_deref())
    }));
    join::announce(&join::ready("provider", &node, &http), args.mesh.json)?;
    stop.asked(args.mesh.until_stdin_closes).await;
    tracing::info!("finishing live sessions; press ctrl-C again to end at once");
    stop.finish(async {
        tasks.shutdown().await;
        if let Some(provider) = std::sync::Arc::into_inner(provider) {
            provider.shutdown().await;
        }
        node.shutdown().await;
    })
    .await;
    Ok(())
}

async fn start(config: &Config) -> Result<(Node, Provider), CommandError> {
    let device = Chosen::find(config.device).await?;
    let Model { name, path, hash, .. } = models::resolve(&config.model, &config.data_dir, Progress::detect()).await?;
    let node = join::join(config).await?;
    let max_sessions = config.max_sessions.map(Sessions::get);
    let arena_tokens = max_sessions.unwrap_or(SESSIONS) * SESSION_TOKENS;
    let batching = Batching { prefix_sharing: config.prefix_sharing.into(), ..Batching::of(device.choice()) };
    let span = match config.layers {
        Layers::Span(span) => span,
        Layers::Auto => {
            let file = Source::open(&path)?;
            let all = ModelConfig::read(&file)?.all_layers();
            let load = Load { device: device.choice(), precision: config.weights(), arena_tokens, batching };
            let fits = plan_span(&file, &load, memory(config, &device))?;
            let adverts = node.adverts(config.weights().hash(hash)).await.unwrap_or_default();
            let others = adverts.iter().filter(|advert| advert.peer != node.id());
            let holders: Vec<_> = others.map(Holder::from_advert).collect();
            let chosen = placement::place(all.len(), &holders, fits.len(), None);
            if let Some(chosen) = chosen {
                tracing::info!("{} of {all} fit: {chosen} (nodes there: {})", fits.len(), holders.len());
            }
            chosen.map_or(fits, |chosen| chosen.span)
        }
    };
    let threads = config.threads.get().get();
    let shard = shard::Config {
        model: path,
        hash,
        span: Some(span),
        head: false,
        device: device.choice(),
        precision: config.weights(),
        threads,
        arena_tokens,
        batching,
        isa: None,
    };
    let again = shard.clone();
    let shard = load(shard, &format!("loading layers {span}")).await?;
    let info = shard.info();
    tracing::info!(%span, packed_bytes = info.packed_bytes, arena_bytes = info.arena_bytes, "loaded");
    let terms = Terms {
        model_name: name,
        wallet: config.wallet.map(|wallet| Wallet(*wallet.as_bytes())),
        price_nano_far: price_of(config, span, info.layers),
        region: config.region.clone().unwrap_or_default(),
        bandwidth_kib_s: config.bandwidth.map_or(0, |size| u32::try_from(size.0 >> 10).unwrap_or(u32::MAX).max(1)),
        max_sessions,
        device: device.name(threads),
        device_mib: u32::try_from(device.total_bytes() >> 20).unwrap_or(u32::MAX),
    };
    let movable = config.layers == Layers::Auto && span.len() < info.layers;
    let provider = Provider::start(node.clone(), shard, terms).await?;
    if let Some(interval) = config.rebalance_interval.interval().filter(|_| movable) {
        let room = std::sync::Arc::new(move || share_of_free(&device));
        let drain = ServeConfig::default().drain;
        provider.keep_placed(Rebalance { interval, shard: again, room, drain });
    }
    Ok((node, provider))
}

fn state(node: &Node, provider: Option<&Provider>) -> serde_json::Value {
    json!({
        "ok": provider.is_some(),
        "role": "provider",
        "peer_id": node.id().to_string(),
        "connected": node.connected_peers().len(),
        "reachability": node.reachability().as_str(),
        "addresses": node.reached_at().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "layers": provider.map(|provider| [provider.span().start(), provider.span().end() - 1]),
        "moving": provider.and_then(Provider::moving).map(|found| format!("{} -> {}", found.from, found.to)),
        "sessions": provider.map(Provider::sessions),
        "free_tokens": provider.map(Provider::free_tokens),
    })
}

/// The price of a span: its share of what all layers cost, rounded up.
fn price_of(config: &Config, span: Span, layers: u32) -> u64 {
    let whole = u128::from(config.price_per_token.per_token().nano().unsigned_abs());
    u64::try_from((whole * u128::from(span.len())).div_ceil(u128::from(layers.max(1)))).unwrap_or(u64::MAX)
}

/// What weights, caches and workspace may take.
fn memory(config: &Config, device: &Chosen) -> u64 {
    config.max_memory.map_or_else(|| share_of_free(device), |limit| limit.0)
}

fn share_of_free(device: &Chosen) -> u64 {
    let (part, whole) = SHARE_OF_FREE;
    device.free_bytes() / whole * part
}
