//! A private mesh on loopback that a test builds part by part.

use std::{
    ffi::OsString,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use far_mesh_client::{Client, Options};
use far_mesh_core::{
    coordinator::{self, Coordinator},
    id::{ModelHash, Span},
    model::{Precision, model_hash},
    peer::{self, Keypair, Node, RemoteHop, RemoteRoute, StepTime, identity},
};
use far_mesh_node::local::Part;
use futures::future::join_all;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::process::until;

/// The model's layers in three.
pub(crate) const THIRDS: [&str; 3] = ["0..10", "10..20", "20..30"];

/// How long a part may take to start or to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static TURN: Mutex<()> = Mutex::const_new(());

/// A discovery node and the folder of all parts. It waits until the mesh of the test before is gone.
pub(crate) struct Mesh {
    discovery: Part,
    dir: TempDir,
    parts: AtomicUsize,
    _turn: MutexGuard<'static, ()>,
}

/// A coordinator in this process.
pub(crate) struct Inside {
    pub(crate) node: Node,
    pub(crate) coordinator: Coordinator,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let turn = TURN.lock().await;
        let dir = tempfile::tempdir().unwrap();
        let psk = dir.path().join("mesh.key");
        identity::load_or_create_psk(&psk).unwrap();
        let args = args(&["discovery"], dir.path().join("discovery"), psk, None);
        let discovery = start(String::from("discovery"), args).await;
        Self { discovery, dir, parts: AtomicUsize::new(0), _turn: turn }
    }

    pub(crate) fn psk(&self) -> PathBuf {
        self.dir.path().join("mesh.key")
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.discovery.ready.listen[0]
    }

    /// A provider process of these layers, announced when this returns.
    pub(crate) async fn provider(&self, layers: &str) -> Part {
        self.part(&["provider", "run"], &format!("provider {layers}"), &["--layers", layers]).await
    }

    /// Several, started at once.
    pub(crate) async fn providers(&self, layers: &[&str]) -> Vec<Part> {
        join_all(layers.iter().map(|layers| self.provider(layers))).await
    }

    /// A coordinator process; it may not know the providers yet.
    pub(crate) async fn coordinator(&self) -> Part {
        self.part(&["coordinator"], "coordinator", &[]).await
    }

    /// A coordinator process that knows who serves every layer.
    pub(crate) async fn ready_coordinator(&self) -> (Part, Client) {
        let coordinator = self.coordinator().await;
        let client = client(&coordinator);
        until(PATIENCE, "the coordinator finds the providers", async || {
            let health = client.health().await.map_err(|error| error.to_string())?;
            if health.mesh.ok { Ok(()) } else { Err(health.mesh.detail) }
        })
        .await;
        (coordinator, client)
    }

    /// A node of this process in the mesh.
    pub(crate) async fn node(&self) -> Node {
        let mut config = peer::Config::new(Keypair::generate_ed25519());
        config.psk = Some(identity::load_psk(&self.psk()).unwrap());
        config.bootstrap = vec![self.bootstrap().parse().unwrap()];
        let node = Node::spawn(config).await.unwrap();
        node.bootstrapped(PATIENCE).await.unwrap();
        node
    }

    /// A coordinator of this process that knows who serves every layer.
    pub(crate) async fn inside(&self, providers: usize) -> Inside {
        let node = self.node().await;
        let config = coordinator::Config {
            name: "model".into(),
            path: far_mesh_tests::model(),
            hash: hash(),
            precision: Precision::Packed,
            threads: 2,
            other_class: Default::default(),
            region: None,
        };
        let coordinator = Coordinator::start(node.clone(), config, |_, _| ()).await.unwrap();
        until(PATIENCE, "the coordinator finds the providers", async || match coordinator.providers().len() {
            found if found == providers => Ok(()),
            found => Err(format!("{found} of {providers}")),
        })
        .await;
        Inside { node, coordinator }
    }

    /// A part with flags of its own.
    pub(crate) async fn part(&self, command: &[&str], name: &str, flags: &[&str]) -> Part {
        let folder = format!("{}-{}", command[0], self.parts.fetch_add(1, Ordering::Relaxed));
        let mut args = args(command, self.dir.path().join(folder), self.psk(), Some(self.bootstrap()));
        args.extend(["--model".into(), far_mesh_tests::model().into()]);
        args.extend(flags.iter().map(OsString::from));
        start(name.to_owned(), args).await
    }

    /// Kills every process and waits until it is gone; the polite end has its own test.
    pub(crate) async fn stop(mut self, parts: impl IntoIterator<Item = Part>) {
        join_all(parts.into_iter().map(|mut part| async move { part.kill().await })).await;
        self.discovery.kill().await;
    }
}

impl Inside {
    pub(crate) async fn stop(self) {
        self.coordinator.shutdown().await;
        self.node.shutdown().await;
    }
}

/// A client that takes the first answer.
pub(crate) fn client(coordinator: &Part) -> Client {
    let url = coordinator.ready.http.as_deref().unwrap();
    Client::with_options(url, Options { attempts: 1, ..Options::default() }).unwrap()
}

/// The hash under which providers serve the model.
pub(crate) fn hash() -> ModelHash {
    static HASH: std::sync::OnceLock<ModelHash> = std::sync::OnceLock::new();
    *HASH.get_or_init(|| {
        let cache = tempfile::tempdir().unwrap();
        model_hash(&far_mesh_tests::model(), cache.path(), &mut |_, _| ()).unwrap()
    })
}

pub(crate) fn span(text: &str) -> Span {
    text.parse().unwrap()
}

/// What providers of these tests advertise: packed weights on a CPU. A receipt of another class is refused.
const KERNEL_CLASS: &str = "cpu-int8b32-f32/1";

/// A provider as a hop of a route.
pub(crate) fn hop(provider: &Part, layers: &str) -> RemoteHop {
    RemoteHop {
        node: provider.ready.peer_id.parse().unwrap(),
        addrs: provider.ready.listen.iter().map(|addr| addr.parse().unwrap()).collect(),
        span: span(layers),
        kernel_class: KERNEL_CLASS.to_owned(),
        expected: StepTime { base: Duration::from_millis(50), per_token: Duration::from_millis(2) },
        promised: Duration::ZERO,
    }
}

/// Providers as one hop, driven from `node`.
pub(crate) fn route(node: &Node, hops: Vec<RemoteHop>) -> RemoteRoute {
    RemoteRoute::new(Arc::new(node.clone()), hops).unwrap()
}

fn args(command: &[&str], folder: PathBuf, psk: PathBuf, bootstrap: Option<&str>) -> Vec<OsString> {
    let mut args: Vec<OsString> = command.iter().map(OsString::from).collect();
    args.extend(["--data-dir".into(), folder.into(), "--psk".into(), psk.into()]);
    args.extend(["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"].map(OsString::from));
    args.extend(bootstrap.into_iter().flat_map(|addr| ["--bootstrap".into(), addr.into()]));
    args
}

async fn start(name: String, args: Vec<OsString>) -> Part {
    let started = Part::start(&far_mesh_tests::program(), &name, args, PATIENCE).await;
    started.unwrap_or_else(|error| panic!("{error}"))
}
