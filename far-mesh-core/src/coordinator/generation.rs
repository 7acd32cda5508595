//! A request on its way through the mesh.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use tokio_util::sync::CancellationToken;

use crate::{
    id::SessionId,
    peer::RemoteHop,
    session::{self, Event, GenerateError},
    token::Message,
};

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A text to go on with, as it stands.
    Text(String),
    /// A conversation, for the model's chat template.
    Chat(Vec<Message>),
    /// Token ids, as they stand.
    Tokens(Vec<u32>),
}

/// A session whose first event has come: the stream of all its events. Dropping it cancels the session on every hop.
#[derive(Debug)]
pub struct Generation {
    pub(super) session: SessionId,
    pub(super) prompt_tokens: u32,
    pub(super) route: Vec<RemoteHop>,
    pub(super) first: Option<Event>,
    pub(super) rest: session::Generation,
    pub(super) _live: Live,
}

/// One of the sessions that run.
#[derive(Debug)]
pub(super) struct Live(Arc<AtomicUsize>);

impl Generation {
    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Positions of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    /// As [`session::Generation::canceller`].
    pub fn canceller(&self) -> CancellationToken {
        self.rest.canceller()
    }

    /// The hops it runs along.
    pub fn route(&self) -> &[RemoteHop] {
        &self.route
    }
}

impl Stream for Generation {
    type Item = Result<Event, GenerateError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        Pin::new(&mut self.rest).poll_next(cx)
    }
}

impl Live {
    pub(super) fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
