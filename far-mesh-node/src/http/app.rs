//! What all routes share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use far_mesh_core::{id::SessionId, task::Tasks};
use tokio::sync::Semaphore;

use super::{access::Access, engine::Engine, options::Options, rate::Rate};
use crate::metering::Meter;

/// What all routes share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) meter: Meter,
    pub(super) access: Arc<dyn Access>,
    pub(super) options: Options,
    /// One permit a live session.
    pub(super) permits: Arc<Semaphore>,
    /// The live sessions' tasks; asked to end when the server's patience is over.
    pub(super) tasks: Tasks,
    pub(super) rate: Rate,
    /// Unix time of the start, in seconds.
    pub(super) started: u64,
    live: Mutex<HashMap<SessionId, Arc<AtomicU32>>>,
}

impl App {
    pub(super) fn new(engine: Arc<dyn Engine>, meter: Meter, access: Arc<dyn Access>, options: Options) -> Self {
        Self {
            engine,
            meter,
            access,
            permits: Arc::new(Semaphore::new(options.max_sessions)),
            options,
            tasks: Tasks::new(),
            rate: Rate::new(),
            started: unix_seconds(),
            live: Mutex::default(),
        }
    }

    /// Lists a session as live until what is returned is dropped.
    pub(super) fn enlist(self: &Arc<Self>, session: SessionId) -> Enlisted {
        let tokens = Arc::new(AtomicU32::new(0));
        self.lock().insert(session, tokens.clone());
        Enlisted { app: self.clone(), session, tokens }
    }

    /// Number of live sessions.
    pub(super) fn live_sessions(&self) -> usize {
        self.lock().len()
    }

    /// Tokens of a live session so far.
    pub(super) fn live_tokens(&self, session: SessionId) -> Option<u32> {
        self.lock().get(&session).map(|tokens| tokens.load(Ordering::Relaxed))
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<AtomicU32>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A live session's place in the list.
pub(super) struct Enlisted {
    app: Arc<App>,
    session: SessionId,
    tokens: Arc<AtomicU32>,
}

impl Enlisted {
    /// Counts a token.
    pub(super) fn count(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
        self.app.rate.count();
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.app.lock().remove(&self.session);
    }
}

/// Now, in seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
