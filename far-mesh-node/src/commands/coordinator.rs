//! `far-mesh coordinator`.

use std::{sync::Arc, time::Duration};

use far_ledger::{Ledger, Store};
use far_mesh_core::{
    coordinator::{self, Coordinator},
    task::Tasks,
};

use super::{CommandError, Stop, books, join, until_interrupted};
use crate::{
    cli::CoordinatorArgs,
    config::Config,
    engine::{MeshEngine, keep_nodes},
    http::{OpenAccess, Options, Server},
    metering::Meter,
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
    let store: Arc<dyn Store> = Arc::new(Ledger::open(books::location(&config)).await?);
    let meter = Meter::new(Arc::clone(&store), config.price_per_token, node.id());
    let (listener, http) = join::listen_http(&config).await?;
    let tasks = Tasks::new();
    tasks.spawn(keep_nodes(Arc::clone(&coordinator), Arc::clone(&store)));
    let engine = Arc::new(MeshEngine::new(Arc::clone(&coordinator)));
    let server = Server::new(engine, meter, Arc::new(OpenAccess), Options::default());
    tasks.spawn_graceful(server.serve(listener, tasks.cancelled()));
    join::announce(&join::ready("coordinator", &node, &http), args.mesh.json)?;
    stop.asked(args.mesh.until_stdin_closes).await;
    tracing::info!("finishing live streams; press ctrl-C again to end at once");
    stop.finish(async {
        tasks.shutdown().await;
        coordinator.shutdown().await;
        store.close().await;
        node.shutdown().await;
    })
    .await;
    Ok(())
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
