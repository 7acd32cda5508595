//! `far-mesh provider run`.

use std::fs;

use far_mesh_core::{
    id::Span,
    model::{self, gguf},
    peer::{Node, Wallet},
    provider::{Provider, Terms},
    route::Coverage,
    shard::{self, PlanError, Shard, plan_span},
    task::Tasks,
};
use serde_json::json;

use super::{CommandError, join, stopped, until_interrupted};
use crate::{
    cli::ProviderRunArgs,
    config::{Config, Layers},
    health,
    models::{self, Model},
    progress::Progress,
};

/// Positions that all sessions together may hold: a dozen conversations. Memory is taken as they grow.
const ARENA_TOKENS: usize = 32_768;

/// Part of the free memory that `--layers auto` takes: the rest is for activations, buffers and other programs.
const SHARE_OF_FREE: (u64, u64) = (4, 5);

/// Loads a span, serves it and offers it until asked to end.
///
/// # Errors
/// [`CommandError`] when it cannot start.
pub async fn run(args: ProviderRunArgs, config: Config) -> Result<(), CommandError> {
    let remedy = "nothing was announced; run this again";
    let (node, provider) = until_interrupted(remedy, start(&config)).await?;
    let (listener, http) = join::listen_http(&config).await?;
    let provider = std::sync::Arc::new(provider);
    let tasks = Tasks::new();
    let seen = (node.clone(), std::sync::Arc::downgrade(&provider));
    tasks.spawn_graceful(health::serve(listener, tasks.cancelled(), move || {
        state(&seen.0, seen.1.upgrade().as_deref())
    }));
    join::announce(&join::ready("provider", &node, &http), args.mesh.json)?;
    stopped(args.mesh.until_stdin_closes).await?;
    tracing::info!("finishing live sessions; press ctrl-C again to end at once");
    let finish = async {
        tasks.shutdown().await;
        if let Some(provider) = std::sync::Arc::into_inner(provider) {
            provider.shutdown().await;
        }
        node.shutdown().await;
    };
    tokio::select! {
        () = finish => Ok(()),
        again = stopped(false) => again,
    }
}

async fn start(config: &Config) -> Result<(Node, Provider), CommandError> {
    let Model { name, path, hash, .. } = models::resolve(&config.model, &config.data_dir, Progress::detect()).await?;
    let node = join::join(config).await?;
    let span = match config.layers {
        Layers::Span(span) => span,
        Layers::Auto => {
            let file = gguf::File::open(&path)?;
            let layers = model::ModelConfig::from_gguf(&file).map_err(PlanError::from)?.layers;
            let fits = plan_span(&file, memory(config), ARENA_TOKENS)?;
            let adverts = node.adverts(hash).await.unwrap_or_default();
            let span = neediest(layers, fits.len(), adverts.iter().map(|advert| advert.shard.span));
            tracing::info!(%span, "the widest span that fits, where the fewest nodes serve");
            span
        }
    };
    let shard = shard::Config {
        model: path,
        hash,
        span: Some(span),
        head: false,
        precision: config.precision.into(),
        threads: config.threads.get().get(),
        arena_tokens: ARENA_TOKENS,
        isa: None,
    };
    let shard = load(shard, &format!("loading layers {span}")).await?;
    let info = shard.info();
    tracing::info!(%span, packed_bytes = info.packed_bytes, arena_bytes = info.arena_bytes, "loaded");
    let terms = Terms {
        model_name: name,
        wallet: config.wallet.map(|wallet| Wallet(*wallet.as_bytes())),
        price_nano_far: price_of(config, span, info.layers),
        region: config.region.clone().unwrap_or_default(),
        device: format!("cpu, {} threads", config.threads),
        device_mib: u32::try_from(available_bytes().unwrap_or(0) >> 20).unwrap_or(u32::MAX),
    };
    let provider = Provider::start(node.clone(), shard, terms).await?;
    Ok((node, provider))
}

/// Loads a shard where blocking is allowed.
pub(super) async fn load(config: shard::Config, label: &str) -> Result<Shard, CommandError> {
    let meter = Progress::detect().begin(label, None);
    let loading = tokio::task::spawn_blocking(move || {
        Shard::load(config, &mut |done, total| {
            meter.set_total(total);
            meter.set(done);
        })
    });
    Ok(loading.await.map_err(|_| CommandError::Aborted)??)
}

fn state(node: &Node, provider: Option<&Provider>) -> serde_json::Value {
    json!({
        "ok": provider.is_some(),
        "role": "provider",
        "peer_id": node.id().to_string(),
        "connected": node.connected_peers().len(),
        "layers": provider.map(|provider| [provider.span().start(), provider.span().end() - 1]),
        "sessions": provider.map(Provider::sessions),
        "free_tokens": provider.map(Provider::free_tokens),
    })
}

/// The price of a span: its share of what all layers cost, rounded up.
fn price_of(config: &Config, span: Span, layers: u32) -> u64 {
    let whole = u128::from(config.price_per_token.per_token().nano().unsigned_abs());
    u64::try_from((whole * u128::from(span.len())).div_ceil(u128::from(layers.max(1)))).unwrap_or(u64::MAX)
}

/// The first of the spans of `len` layers whose layers are served by the fewest nodes.
fn neediest(layers: u32, len: u32, served: impl Iterator<Item = Span>) -> Span {
    let coverage = Coverage::of(layers, served);
    let counts = coverage.counts();
    let starts = 0..=layers.saturating_sub(len);
    let served_in =
        |start: &u32| counts.iter().skip(*start as usize).take(len as usize).map(|n| u64::from(*n)).sum::<u64>();
    let start = starts.min_by_key(served_in).unwrap_or(0);
    Span::new(start, start + len).unwrap_or_else(|_| unreachable!("a planned span has layers"))
}

fn memory(config: &Config) -> u64 {
    let (part, whole) = SHARE_OF_FREE;
    config.max_memory.map_or_else(|| available_bytes().unwrap_or(0) / whole * part, |limit| limit.0)
}

/// Memory that programs can have without swapping; `None` where the system does not say.
fn available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_goes_where_the_fewest_serve() {
        let span = |text: &str| text.parse::<Span>().unwrap();
        let check = |len, served: &[&str], want: &str| {
            assert_eq!(neediest(30, len, served.iter().map(|s| span(s))), span(want), "{served:?}");
        };
        check(30, &[], "0..30");
        check(10, &[], "0..10");
        check(10, &["0..10"], "10..20");
        check(10, &["0..10", "20..30"], "10..20");
        check(12, &["0..12", "12..30"], "0..12");
        check(30, &["0..30"], "0..30");
    }
}
