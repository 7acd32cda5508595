//! Measures in turn: one process, mesh, one process, mesh, so that a slow minute of the machine meets both.

use std::{path::Path, sync::Arc, time::Duration};

use far_mesh_core::{
    coordinator::{self, Coordinator},
    hop::{Head, Hop, HopError},
    kernel::{Pool, read_bandwidth},
    peer::{self, Keypair, Node, identity},
    shard::{self, DeviceChoice, Shard},
};

use super::{
    measure::{Speed, Subject, median},
    report::{Figures, MeshFigures, Report, Sessions, peak_rss_bytes, ratio, round},
};
use crate::{
    cli::BenchArgs,
    commands::{
        CommandError,
        device::Chosen,
        parts, print, print_json,
        shard::{all_layers, load},
        until_interrupted,
    },
    config::Config,
    local::{LocalConfig, LocalMesh},
    models::{self, Model},
    progress::Progress,
};

/// Positions of the arena: a prompt and the same again, which finds the first one's pages; more where more sessions are asked
/// for. All of it is in use after a while, since pages are kept as long as nobody needs the room.
const ARENA_TOKENS: usize = 1024;
/// Positions of a session, in whole pages.
const SESSION_TOKENS: usize = 128;
/// How long memory is read to measure its bandwidth.
const BANDWIDTH_TIME: Duration = Duration::from_millis(500);
/// How long the coordinator may take to find the providers.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// Runs the benchmark.
///
/// # Errors
/// [`CommandError`]; whatever was started is ended before it returns.
pub async fn run(args: BenchArgs, config: Config) -> Result<(), CommandError> {
    let dir = parts::folder(&config, "bench-")?;
    let report = until_interrupted("nothing was measured", Box::pin(measure(&args, &config, dir.path()))).await?;
    if args.json { print_json(&report) } else { print(&report.table()) }
}

async fn measure(args: &BenchArgs, config: &Config, dir: &Path) -> Result<Report, CommandError> {
    let progress = Progress::detect();
    let model = models::resolve(&config.model, &config.data_dir, progress).await?;
    let device = Chosen::find(config.device).await?;
    let one = Alone::load(&model, config, device.choice(), args.sessions.unwrap_or(0).into()).await?;
    let rounds = args.rounds.into();
    let pairs = match args.providers {
        0 => in_turn(&one.subject, None, rounds, progress).await?,
        providers => {
            progress.say(&format!("starting {providers} providers"));
            let layers = one.shard.info().layers;
            let mesh = Together::start(&model, layers, providers.into(), config, dir).await?;
            let measured =
                in_turn(&one.subject, Some(&mesh.subject(one.subject.info.clone())?), rounds, progress).await;
            mesh.stop().await;
            measured?
        }
    };
    let sessions = match args.sessions {
        Some(count) => {
            progress.say(&format!("{count} sessions at once"));
            let mut rates = Vec::with_capacity(rounds);
            for _ in 0..rounds {
                rates.push(one.subject.together(count.into()).await?);
            }
            Some(Sessions { count, total_tokens_per_s: round(median(rates)) })
        }
        None => None,
    };
    let packed_bytes = one.shard.info().packed_bytes;
    one.shard.shutdown().await;
    // Before the bandwidth: its buffer is larger than the model.
    let peak_rss_bytes = peak_rss_bytes();
    progress.say("measuring memory bandwidth");
    let threads = config.threads.get().get();
    let bandwidth = tokio::task::spawn_blocking(move || read_bandwidth(&Pool::new(threads), BANDWIDTH_TIME));
    let bandwidth = bandwidth.await.map_err(|_| CommandError::Aborted)?;
    let alone: Vec<Speed> = pairs.iter().map(|(alone, _)| *alone).collect();
    let both: Vec<(Speed, Speed)> = pairs.iter().filter_map(|(alone, mesh)| Some((*alone, (*mesh)?))).collect();
    let together: Vec<Speed> = both.iter().map(|(_, mesh)| *mesh).collect();
    Ok(Report {
        one_process: Figures::of(&alone),
        mesh: (!both.is_empty()).then(|| MeshFigures {
            figures: Figures::of(&together),
            providers: args.providers,
            decode_ratio: ratio(&both, |speed| speed.decode),
            prefill_ratio: ratio(&both, Speed::prefill),
        }),
        packed_bytes,
        peak_rss_bytes,
        read_bandwidth_gb_per_s: round(bandwidth / 1e9),
        sessions,
    })
}

/// A first round warms caches, connections and threads and is not counted.
async fn in_turn(
    one: &Subject,
    mesh: Option<&Subject>,
    rounds: usize,
    progress: Progress,
) -> Result<Vec<(Speed, Option<Speed>)>, CommandError> {
    let mut pairs = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let alone = one.measure().await?;
        let together = match mesh {
            Some(mesh) => Some(mesh.measure().await?),
            None => None,
        };
        if round > 0 {
            let (decode, prefill) = together.map_or((String::new(), String::new()), |mesh| {
                (format!(" and {:.0}", mesh.decode), format!(" and {:.0}", mesh.prefill()))
            });
            progress.say(&format!(
                "round {round} of {rounds}: decode {:.0}{decode}, prefill {:.0}{prefill} tok/s",
                alone.decode,
                alone.prefill()
            ));
            pairs.push((alone, together));
        }
    }
    Ok(pairs)
}

/// All layers and the head in this process.
struct Alone {
    shard: Shard,
    subject: Subject,
}

impl Alone {
    async fn load(model: &Model, config: &Config, device: DeviceChoice, sessions: usize) -> Result<Self, CommandError> {
        let shard = shard::Config {
            model: model.path.clone(),
            hash: model.hash,
            span: Some(all_layers(&model.path)?),
            head: true,
            device,
            precision: config.weights(),
            threads: config.threads.get().get(),
            arena_tokens: ARENA_TOKENS.max(sessions * SESSION_TOKENS),
            batching: shard::Batching::of(device),
            isa: None,
        };
        let shard = load(shard, "loading all layers").await?;
        let hop: Arc<dyn Hop> = shard.hop().ok_or(HopError::Closed)?;
        let head: Arc<dyn Head> = shard.head().ok_or(HopError::Closed)?;
        let (info, prompts) = (shard.info().clone(), Arc::default());
        let subject = Subject { hop, head, model: info.hash, info, prompts };
        Ok(Self { shard, subject })
    }
}

/// Providers as processes, the coordinator in this one.
struct Together {
    mesh: LocalMesh,
    node: Node,
    coordinator: Coordinator,
}

impl Together {
    async fn start(
        model: &Model,
        layers: u32,
        providers: u32,
        config: &Config,
        dir: &Path,
    ) -> Result<Self, CommandError> {
        let psk = dir.join("mesh.key");
        let key = identity::load_or_create_psk(&psk)?;
        let mesh = LocalMesh::start(LocalConfig {
            program: parts::own_program()?,
            model: model.path.clone(),
            layers,
            providers,
            dir: dir.to_owned(),
            psk,
            provider_flags: parts::provider_flags(config),
        })
        .await?;
        let mut settings = peer::Config::new(Keypair::generate_ed25519());
        settings.psk = Some(key);
        settings.bootstrap = mesh.bootstrap().parse().into_iter().collect();
        let node = Node::spawn(settings).await?;
        node.bootstrapped(JOIN_DEADLINE).await?;
        let settings = coordinator::Config {
            name: model.name.clone(),
            path: model.path.clone(),
            hash: model.hash,
            precision: config.weights(),
            threads: config.threads.get().get(),
            other_class: config.other_kernel_class.into(),
            region: None,
        };
        let coordinator = Coordinator::start(node.clone(), settings, |_, _| ()).await?;
        Ok(Self { mesh, node, coordinator })
    }

    fn subject(&self, info: shard::Info) -> Result<Subject, CommandError> {
        let head = self.coordinator.head().ok_or(HopError::Closed)?;
        Ok(Subject { hop: self.coordinator.route(0, 1), head, model: info.hash, info, prompts: Arc::default() })
    }

    async fn stop(self) {
        self.coordinator.shutdown().await;
        self.node.shutdown().await;
        self.mesh.stop().await;
    }
}
