//! Reads the list again when its file changes.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc;

use super::Members;
use crate::peer::command::Command;

/// How often the file is looked at: an operator who adds a node waits this long.
const INTERVAL: Duration = Duration::from_secs(2);

/// Looks at the file until the node ends. A list that may not follow the one in force is named in the log, once, and
/// changes nothing.
pub(in crate::peer) async fn watch(path: PathBuf, mut held: Members, node: mpsc::WeakSender<Command>) {
    let mut seen = stamp(&path).await;
    loop {
        tokio::time::sleep(INTERVAL).await;
        if node.strong_count() == 0 {
            return;
        }
        let now = stamp(&path).await;
        if now == seen {
            continue;
        }
        seen = now;
        let from = path.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || Members::read(&from)).await else { return };
        match read.and_then(|new| held.succeeded_by(&new).map(|()| new)) {
            Ok(new) => {
                tracing::info!(version = new.version(), nodes = new.len(), "a new member list is in force");
                held = new.clone();
                let Some(node) = node.upgrade() else { return };
                if node.send(Command::Members(new)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(%error, path = %path.display(), "the member list in force stays"),
        }
    }
}

/// When the file was changed, and how long it is.
async fn stamp(path: &PathBuf) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
