//! `far-mesh coordinator`.

use std::{sync::Arc, time::Duration};

use far_ledger::{
    Ledger, Store, UnixMillis,
    store::{Kept, UpkeepError},
};
use far_mesh_core::{
    coordinator::{self, Coordinator},
    task::Tasks,
};

use super::{CommandError, Stop, books, join, until_interrupted};
use crate::{
    cli::CoordinatorArgs,
    config::{Config, StorePrompts},
    engine::{MeshEngine, keep_nodes},
    http::{KeyAccess, Options, Server},
    metering::{Meter, Terms, upkeep},
    models,
    progress::Progress,
};

/// How long the first look for providers may take: a request that comes before its end would be refused. A mesh that
/// answers no sooner is not waited for; the coordinator finds its providers later.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Serves the HTTP API until asked to end.
///
/// # Errors
/// [`CommandError`] when it cannot start.
pub async fn run(args: CoordinatorArgs, config: Config) -> Result<(), CommandError> {
    if config.redis_url.is_some() {
        tracing::warn!("{} has no effect: coordinators share nothing in this version", config.origin("redis_url"));
    }
    let mut stop = Stop::listen()?;
    let remedy = "nothing was served; run this again";
    let (node, coordinator) = Box::pin(until_interrupted(remedy, start(&config))).await?;
    let ledger = Ledger::open(books::location(&config)).await?;
    take_up(&ledger, &config, &node.id().to_string()).await?;
    let (listener, http) = join::listen_http(&config).await?;
    let (tasks, writing) = (Tasks::new(), Tasks::new());
    tasks.spawn(keep_nodes(Arc::clone(&coordinator), Arc::new(ledger.clone())));
    tasks.spawn(upkeep(ledger.clone()));
    let terms = Terms {
        price: config.price_per_token,
        fee: config.fee,
        store_prompts: config.store_prompts == StorePrompts::On,
    };
    let (meter, writers) = Meter::new(ledger.clone(), terms, node.id());
    writing.spawn_graceful(writers.run(writing.cancelled()));
    let engine = Arc::new(MeshEngine::new(Arc::clone(&coordinator)));
    let access = Arc::new(KeyAccess::new(ledger.clone(), config.keys_required()));
    let server = Server::new(engine, meter, access, Options::default());
    tasks.spawn_graceful(server.serve(listener, tasks.cancelled()));
    tell_access(&config);
    join::announce(&join::ready("coordinator", &node, &http), args.mesh.json)?;
    stop.asked(args.mesh.until_stdin_closes).await;
    tracing::info!("finishing live streams; press ctrl-C again to end at once");
    stop.finish(async {
        tasks.shutdown().await;
        // After the last session: what waits is written.
        writing.shutdown().await;
        coordinator.shutdown().await;
        ledger.close().await;
        node.shutdown().await;
    })
    .await;
    Ok(())
}

/// Ends what this coordinator left running when it was killed, and says how long what is kept. Nobody else runs sessions
/// under its name: its key is held by this process alone.
async fn take_up(ledger: &Ledger, config: &Config, own: &str) -> Result<(), UpkeepError> {
    let left = ledger.release_left(own, UnixMillis::now()).await?;
    if left > 0 {
        tracing::warn!(
            sessions = left,
            "sessions that were cut off when this coordinator ended are closed, and cost nothing"
        );
    }
    for (kept, days) in [
        (Kept::Prompts, config.keep_prompts),
        (Kept::Receipts, config.keep_receipts),
        (Kept::Metrics, config.keep_metrics),
    ] {
        if let Some(days) = days {
            ledger.set_retention(kept, days.get()).await?;
        }
    }
    Ok(())
}

/// Who may send requests, in the log: the default depends on the address.
fn tell_access(config: &Config) {
    let (http, decided_by) = (&config.http, config.origin("require_keys"));
    if config.keys_required() {
        tracing::info!(%http, %decided_by, "requests need an API key: far-mesh keys create NAME makes one");
    } else if config.http.is_loopback() {
        tracing::info!(%http, %decided_by, "requests need no API key: this machine alone reaches the API");
    } else {
        tracing::warn!(%http, %decided_by, "requests need no API key, and others reach the API: whoever does computes for free");
    }
}

async fn start(config: &Config) -> Result<(far_mesh_core::peer::Node, Arc<Coordinator>), CommandError> {
    let model = models::resolve(&config.model, &config.data_dir, Progress::detect()).await?;
    let node = join::join(config).await?;
    let meter = Progress::detect().begin("loading the head", None);
    let settings = coordinator::Config {
        name: model.name,
        path: model.path,
        hash: model.hash,
        precision: config.weights(),
        threads: config.threads.get().get(),
        other_class: config.other_kernel_class.into(),
        region: config.region.clone(),
    };
    let started = Coordinator::start(node.clone(), settings, move |done, total| {
        meter.set_total(total);
        meter.set(done);
    });
    let coordinator = started.await?;
    coordinator.surveyed(FIRST_LOOK).await;
    Ok((node, Arc::new(coordinator)))
}
