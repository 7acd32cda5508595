//! A mesh of real processes on loopback.

use std::{ffi::OsString, path::Path};

use far_mesh_client::Client;
use far_mesh_core::peer::identity;
use far_mesh_node::local::{LocalConfig, LocalMesh, Part};
use tempfile::TempDir;

/// Layers of the model the tests run.
const LAYERS: u32 = 30;

/// Discovery, providers and a coordinator, in a private mesh of their own.
#[derive(Debug)]
pub struct Testnet {
    /// Discovery and providers.
    pub mesh: LocalMesh,
    /// Serves HTTP.
    pub coordinator: Part,
    dir: TempDir,
}

impl Testnet {
    /// Starts everything on ports of the system's choice.
    ///
    /// # Panics
    /// When a part does not come up.
    pub async fn start(providers: u32) -> Self {
        Self::start_with(providers, &[]).await
    }

    /// The same with flags for providers and coordinator.
    ///
    /// # Panics
    /// As [`Testnet::start`].
    pub async fn start_with(providers: u32, flags: &[&str]) -> Self {
        Self::start_each(providers, flags, flags).await
    }

    /// The same with flags for providers, and others for the coordinator.
    ///
    /// # Panics
    /// As [`Testnet::start`].
    pub async fn start_each(providers: u32, provider: &[&str], coordinator: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder for the mesh: {error}"));
        let psk = dir.path().join("mesh.key");
        identity::load_or_create_psk(&psk).unwrap_or_else(|error| panic!("no key for the mesh: {error}"));
        let owned = |flags: &[&str]| flags.iter().map(OsString::from).collect::<Vec<_>>();
        let config = LocalConfig {
            program: crate::program(),
            model: crate::model(),
            layers: LAYERS,
            providers,
            dir: dir.path().to_owned(),
            psk,
            provider_flags: owned(provider),
        };
        let mesh = LocalMesh::start(config).await.unwrap_or_else(|error| panic!("the mesh does not start: {error}"));
        let coordinator = mesh.coordinator("127.0.0.1:0", owned(coordinator)).await;
        let coordinator = coordinator.unwrap_or_else(|error| panic!("the coordinator does not start: {error}"));
        Self { mesh, coordinator, dir }
    }

    /// Folder of the parts: `discovery`, `provider-1`..., `coordinator` (with `ledger.sqlite`), and `mesh.key`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Base URL of the coordinator.
    pub fn http(&self) -> &str {
        self.coordinator.ready.http.as_deref().unwrap_or_default()
    }

    /// A client of the coordinator.
    ///
    /// # Panics
    /// When the coordinator's URL is none.
    pub fn client(&self) -> Client {
        Client::new(self.http()).unwrap_or_else(|error| panic!("{} is no coordinator: {error}", self.http()))
    }

    /// Ends every part the polite way. What they wrote is there until the folder is dropped.
    pub async fn stop(self) -> TempDir {
        self.coordinator.stop(std::time::Duration::from_secs(10)).await;
        self.mesh.stop().await;
        self.dir
    }
}
