//! What every node does before it serves: its key, its folder, its place in the mesh.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
    time::Duration,
};

use far_mesh_core::peer::{self, Node, PreSharedKey, identity};
use tokio::net::TcpListener;

use super::CommandError;
use crate::{config::Config, local::Ready};

/// How long a start waits for a bootstrap node: it may be starting too.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);

/// A node with the identity kept in the data folder, connected to the mesh where bootstrap nodes were named.
pub(super) async fn join(config: &Config) -> Result<Node, CommandError> {
    let psk = config.psk.as_deref().map(identity::load_psk).transpose()?;
    join_with(config, psk).await
}

/// The same with a key of a private mesh that was read already.
pub(super) async fn join_with(config: &Config, psk: Option<PreSharedKey>) -> Result<Node, CommandError> {
    make_folder(&config.data_dir)?;
    // One key a role: a coordinator beside a provider or a discovery node is another node.
    let key = config.data_dir.join(format!("{}.key", config.role.name()));
    let keypair = identity::load_or_create(&key)?;
    hold(&key)?;
    let mut mesh = peer::Config::new(keypair);
    mesh.listen = config.listen.clone();
    mesh.bootstrap = config.bootstrap.clone();
    mesh.psk = psk;
    mesh.known_peers = Some(config.data_dir.join(format!("{}.peers", config.role.name())));
    mesh.members = config.members.clone();
    mesh.external = config.external.clone();
    mesh.relay = config.relay_role();
    mesh.upnp = config.asks_router();
    let node = Node::spawn(mesh).await?;
    if let Err(error) = node.bootstrapped(JOIN_DEADLINE).await {
        node.shutdown().await;
        return Err(error.into());
    }
    Ok(node)
}

/// Keeps others from running a node with this key: two with one key would be one peer that answers for both.
fn hold(key: &Path) -> Result<(), CommandError> {
    let failed = |source| CommandError::KeyHeld { path: key.to_owned(), source };
    let file = File::open(key).map_err(failed)?;
    match file.try_lock() {
        // Held open for as long as the process lives; the system then lets go of it, however the process ends.
        Ok(()) => {
            std::mem::forget(file);
            Ok(())
        }
        Err(TryLockError::WouldBlock) => Err(CommandError::KeyInUse { path: key.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

pub(super) fn make_folder(path: &Path) -> Result<(), CommandError> {
    fs::create_dir_all(path).map_err(|source| CommandError::Write { path: path.to_owned(), source })
}

/// The socket of the HTTP server, and the base URL it has.
pub(super) async fn listen_http(config: &Config) -> Result<(TcpListener, String), CommandError> {
    let failed = |source| CommandError::Http { addr: config.http.to_string(), source };
    let listener = TcpListener::bind((config.http.host(), config.http.port())).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, format!("http://{addr}")))
}

/// The ready line of a node.
pub(super) fn ready(role: &str, node: &Node, http: &str) -> Ready {
    let listen = node.listen_addrs().iter().map(ToString::to_string).collect();
    Ready::new(role, node.id().to_string(), listen, Some(http.to_owned()))
}

/// Tells that a node serves: a line of JSON for a program, some lines for a person.
pub(super) fn announce(ready: &Ready, json: bool) -> Result<(), CommandError> {
    if json {
        return super::print_json(ready);
    }
    tracing::info!(role = ready.role, peer = ready.peer_id, http = ready.http, "ready");
    for addr in &ready.listen {
        tracing::info!("listening on {addr}");
    }
    Ok(())
}
