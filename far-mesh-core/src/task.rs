//! Tasks that are never detached: each group is cancelled and joined by its owner.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A group of tasks with one end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Tasks {
    /// An empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that ends with this one but can end before it.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), cancel: self.cancel.child_token() }
    }

    /// Fires when the group is asked to end.
    pub fn cancelled(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs `future` until it ends or the group is asked to.
    ///
    /// Cancellation drops the future at its next await point.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let cancel = self.cancel.clone();
        self.tracker.spawn(async move {
            cancel.run_until_cancelled(future).await;
        });
    }

    /// Runs `future` to its own end; it watches [`Tasks::cancelled`] itself.
    pub fn spawn_graceful<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(future);
    }

    /// Asks every task to end and waits for all of them.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
