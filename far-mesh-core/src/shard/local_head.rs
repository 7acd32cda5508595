//! The final norm and output matrix of this machine as a [`Head`].

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;

use super::{config::Info, dispatch::Dispatch, local_hop::check_width};
use crate::{
    activation::Activation,
    hop::{Head, HopError},
};

/// Computes logits on this machine's device.
pub struct LocalHead {
    info: Arc<Info>,
    dispatch: Dispatch,
}

impl LocalHead {
    pub(super) fn new(info: Arc<Info>, dispatch: Dispatch) -> Self {
        Self { info, dispatch }
    }
}

impl Head for LocalHead {
    /// Cancel-safe: a dropped future wastes at most one product.
    fn logits(&self, hidden: Activation) -> BoxFuture<'_, Result<Vec<f32>, HopError>> {
        Box::pin(async move {
            // Of any type: layers on a GPU may give bf16 to a head on the CPU.
            check_width(&self.info, &hidden)?;
            let answer = self.dispatch.logits(hidden).await?;
            answer.await.unwrap_or(Err(HopError::Closed))
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
