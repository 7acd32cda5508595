//! Accepts streams, reads what each is for, and starts or feeds sessions.

use std::{fmt, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ServeConfig,
    admission::{Admission, Place, Slot},
    kept::Budget,
    meters::Meters,
    rendezvous::{Offer, Rendezvous},
    session,
};
use crate::{
    hop::Hop,
    id::{NodeId, SessionId},
    peer::wire::{BoxedStream, Dialer, Fault, Frame, Link},
    task::Tasks,
};

/// How long sessions may take to tell their coordinators that the node shuts down.
const FAREWELL: Duration = Duration::from_millis(500);

/// A span being served. Dropping it ends every session at once; [`Server::shutdown`] lets them finish.
pub struct Server {
    shared: Arc<Shared>,
    tasks: Tasks,
}

/// What all sessions of a server use.
pub(super) struct Shared {
    pub(super) dialer: Arc<dyn Dialer>,
    pub(super) hop: Arc<dyn Hop>,
    pub(super) config: ServeConfig,
    pub(super) admission: Arc<Admission>,
    pub(super) rendezvous: Arc<Rendezvous>,
    pub(super) kept: Arc<Budget>,
    /// Ends every session, politely.
    pub(super) stop: CancellationToken,
    draining: CancellationToken,
    /// Sessions with room at the hop.
    pub(super) live: Count,
    /// Session tasks, those included that only wait for their coordinator to leave.
    pub(super) present: Count,
}

/// A number that can be watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(watch::Sender<usize>);

/// One of a [`Count`] until dropped.
#[derive(Debug)]
pub(super) struct Counted(watch::Sender<usize>);

/// Serves `hop` on the streams of `incoming`, each with the authenticated identity of who opened it.
///
/// Must be called in a tokio runtime. `dialer` opens the streams to the next hops.
pub fn serve(
    dialer: Arc<dyn Dialer>,
    incoming: impl Stream<Item = (NodeId, BoxedStream)> + Send + 'static,
    hop: Arc<dyn Hop>,
    config: ServeConfig,
) -> Server {
    let shared = Arc::new(Shared {
        dialer,
        hop,
        admission: Arc::new(Admission::new(&config)),
        kept: Arc::new(Budget::new(config.kept_bytes, config.kept_bytes_per_session)),
        config,
        rendezvous: Arc::default(),
        stop: CancellationToken::new(),
        draining: CancellationToken::new(),
        live: Count::default(),
        present: Count::default(),
    });
    let tasks = Tasks::new();
    tasks.spawn(accept(Arc::clone(&shared), incoming, tasks.clone()));
    Server { shared, tasks }
}

impl Server {
    /// Sessions that have room at the hop.
    pub fn sessions(&self) -> usize {
        *self.shared.live.0.borrow()
    }

    /// The number of sessions as it changes.
    pub fn watch_sessions(&self) -> watch::Receiver<usize> {
        self.shared.live.0.subscribe()
    }

    /// Refuses new sessions, lets those there are go on for at most [`ServeConfig::drain`], tells the coordinators of
    /// the rest that this node closes, and returns when no task is left.
    pub async fn shutdown(&self) {
        self.shared.draining.cancel();
        self.shared.live.none_left(self.shared.config.drain).await;
        self.shared.stop.cancel();
        self.shared.present.none_left(FAREWELL).await;
        self.tasks.shutdown().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.cancelled().cancel();
    }
}

impl Shared {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

impl Count {
    pub(super) fn enter(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }

    /// Waits until none is left, at most for `limit`: who has not gone by then is not waited for.
    async fn none_left(&self, limit: Duration) {
        let mut count = self.0.subscribe();
        let _ = timeout(limit, count.wait_for(|count| *count == 0)).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn accept(shared: Arc<Shared>, incoming: impl Stream<Item = (NodeId, BoxedStream)>, tasks: Tasks) {
    let mut incoming = std::pin::pin!(incoming);
    let mut meters = Meters::default();
    while let Some((peer, stream)) = incoming.next().await {
        match shared.admission.enter(peer, Place::Greeting, 0) {
            Ok(slot) => {
                let link = Link::accepted(stream).metered(meters.of(peer, &shared.dialer));
                tasks.spawn(greet(Arc::clone(&shared), peer, link, slot));
            }
            // Closed without a word: an answer would cost more than the stream.
            Err(_) => tracing::debug!(%peer, "stream closed: too many of this node's wait to be greeted"),
        }
    }
}

/// Reads what a stream is for and hands it on.
async fn greet(shared: Arc<Shared>, peer: NodeId, mut link: Link, slot: Slot) {
    match timeout(shared.config.greeting_deadline, link.recv()).await {
        Ok(Ok(Frame::Open(open))) => session::run(shared, peer, link, *open, slot).await,
        Ok(Ok(Frame::Attach(attach))) => attach_to(&shared, attach.session, peer, link).await,
        Ok(Ok(Frame::Resume(resume))) => match shared.rendezvous.resumed(resume.session, peer) {
            // A second before the first is in use is dropped, and so closed.
            Some(session) => drop(session.try_send(link)),
            None => {
                let reason = format!("session {} of this coordinator is not open here", resume.session);
                session::refuse(&mut link, Fault::Refused(reason)).await;
            }
        },
        Ok(Ok(frame)) => tracing::debug!(%peer, kind = ?frame.kind(), "stream closed: not a greeting"),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "stream closed: not a greeting");
            session::refuse(&mut link, Fault::Refused(error.to_string())).await;
        }
        Err(_) => tracing::debug!(%peer, "stream closed: it said nothing"),
    }
}

/// Brings a data stream to its session, now or when that is opened; the stream's greeting place is kept meanwhile.
async fn attach_to(shared: &Shared, session: SessionId, peer: NodeId, mut link: Link) {
    match shared.rendezvous.offer(session, peer) {
        // A session that ended in this moment drops the stream.
        Offer::Taken(deliver) => drop(deliver.send(link)),
        Offer::Parked(mut parked) => {
            let claimed = tokio::select! {
                claimed = timeout(shared.config.greeting_deadline, &mut parked.claimed) => claimed.ok(),
                // It hung up, or sends before it may.
                _ = link.recv() => None,
            };
            match claimed {
                Some(Ok(deliver)) => drop(deliver.send(link)),
                _ => tracing::debug!(%peer, %session, "stream closed: its session was not opened in time"),
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("hop", &self.shared.hop)
            .field("config", &self.shared.config)
            .field("sessions", &self.sessions())
            .finish_non_exhaustive()
    }
}
