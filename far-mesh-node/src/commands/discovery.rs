//! `far-mesh discovery`.

use far_mesh_core::{peer::identity, task::Tasks};
use serde_json::json;

use super::{CommandError, Stop, join, until_interrupted};
use crate::{cli::DiscoveryArgs, config::Config, health};

/// Runs a node that others bootstrap from, until it is asked to end. A key file of a private mesh that does not exist is
/// made: the first node of a mesh is this one.
///
/// # Errors
/// [`CommandError`] when it cannot start.
pub async fn run(args: DiscoveryArgs, config: Config) -> Result<(), CommandError> {
    let mut stop = Stop::listen()?;
    let psk = config.psk.as_deref().map(identity::load_or_create_psk).transpose()?;
    let node = until_interrupted("nothing was served; run this again", join::join_with(&config, psk)).await?;
    let (listener, http) = join::listen_http(&config).await?;
    let tasks = Tasks::new();
    let seen = node.clone();
    tasks.spawn_graceful(health::serve(listener, tasks.cancelled(), move || {
        json!({ "ok": true, "role": "discovery", "peer_id": seen.id().to_string(), "connected": seen.connected_peers().len() })
    }));
    join::announce(&join::ready("discovery", &node, &http), args.mesh.json)?;
    stop.asked(args.mesh.until_stdin_closes).await;
    stop.finish(async {
        tasks.shutdown().await;
        node.shutdown().await;
    })
    .await;
    Ok(())
}
