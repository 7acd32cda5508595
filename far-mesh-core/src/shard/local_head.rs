//! The final norm and output matrix of this machine as a [`Head`].

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{config::Info, local_hop::check_activation, queue::LogitsJob, worker::Command};
use crate::{
    activation::Activation,
    hop::{Head, HopError},
};

/// Computes logits on this machine's device.
pub struct LocalHead {
    info: Arc<Info>,
    commands: mpsc::Sender<Command>,
}

impl LocalHead {
    pub(super) fn new(info: Arc<Info>, commands: mpsc::Sender<Command>) -> Self {
        Self { info, commands }
    }
}

impl Head for LocalHead {
    /// Cancel-safe: a dropped future wastes at most one product.
    fn logits(&self, hidden: Activation) -> BoxFuture<'_, Result<Vec<f32>, HopError>> {
        Box::pin(async move {
            check_activation(&self.info, &hidden)?;
            let (reply, result) = oneshot::channel();
            let command = Command::Logits(LogitsJob { hidden, reply });
            self.commands.send(command).await.map_err(|_| HopError::Closed)?;
            result.await.unwrap_or(Err(HopError::Closed))
        })
    }

    fn vocabulary(&self) -> usize {
        self.info.vocab
    }
}

impl fmt::Debug for LocalHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHead").field("vocabulary", &self.info.vocab).finish_non_exhaustive()
    }
}
