//! How much a peer sends on its shard streams, all of them together: who sends too much is slowed, then dropped.
//!
//! Every stream that a peer opened is read through the peer's [`Meter`]. A frame costs two additions to shared atomics, no
//! lock and no memory. Above the limits the stream is read later, so that the peer's own window stops it; one that presses on
//! against that finds its streams closed, and at last its connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::Dialer;
use crate::{
    id::NodeId,
    peer::quota::{SharedPace, Verdict},
};

/// Frames a second in the long run: the 128 sessions that one coordinator may have at 1,000 tokens a second each, or all 512
/// of a hop that come from the hop before it at 256. On two cores 32 sessions at once reach 1,500 steps a second together.
const FRAMES_PER_SECOND: u64 = 131_072;

/// Frames at once: two seconds of them, for a replay of long sessions after a loss.
const FRAMES_AT_ONCE: u64 = 262_144;

/// Bytes a second in the long run: more than a link of 10 Gbit/s carries, so only what is as near as this machine is ever
/// slowed by it. A hop's device uses a fraction: 3,000 positions a second of a 4096-wide model in f32 are 47 MiB.
const BYTES_PER_SECOND: u64 = 2 << 30;

/// Bytes at once: 128 of the longest frames there are.
const BYTES_AT_ONCE: u64 = 4 << 30;

/// Longest time for which a peer may be slowed without a rest. A burst is over by then; a flood is not.
const SLOWED_AT_MOST: Duration = Duration::from_secs(10);

/// Streams that are closed for it before the peer's connections are.
const CLOSED_STREAMS: u32 = 4;

/// What a peer may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) frames_per_second: u64,
    pub(crate) frames_at_once: u64,
    pub(crate) bytes_per_second: u64,
    pub(crate) bytes_at_once: u64,
    pub(crate) slowed_at_most: Duration,
}

/// Counts what one peer sends.
pub(crate) struct Meter {
    peer: NodeId,
    dialer: Arc<dyn Dialer>,
    frames: SharedPace,
    bytes: SharedPace,
    slowed_at_most: Duration,
    started: Instant,
    /// Since when the peer has been slowed, in nanoseconds after `started` and at least 1; 0 when it has rested since.
    slowed_since: AtomicU64,
    closed: AtomicU32,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            frames_per_second: FRAMES_PER_SECOND,
            frames_at_once: FRAMES_AT_ONCE,
            bytes_per_second: BYTES_PER_SECOND,
            bytes_at_once: BYTES_AT_ONCE,
            slowed_at_most: SLOWED_AT_MOST,
        }
    }
}

impl Meter {
    /// A meter of `peer`; `dialer` hangs up on it when it comes to that.
    pub(crate) fn new(peer: NodeId, dialer: Arc<dyn Dialer>, allowance: Allowance, now: Instant) -> Self {
        Self {
            peer,
            dialer,
            frames: SharedPace::new(allowance.frames_per_second, allowance.frames_at_once, now),
            bytes: SharedPace::new(allowance.bytes_per_second, allowance.bytes_at_once, now),
            slowed_at_most: allowance.slowed_at_most,
            started: now,
            slowed_since: AtomicU64::new(0),
            closed: AtomicU32::new(0),
        }
    }

    /// Counts a frame of `bytes` that was read at `now`.
    pub(super) fn count(&self, bytes: usize, now: Instant) -> Verdict {
        let rested = self.is_rested(now);
        let ahead = self.frames.take(1, now).max(self.bytes.take(bytes as u64, now));
        let since = self.slowed_since.load(Ordering::Relaxed);
        let at = nanos(now.saturating_duration_since(self.started)).max(1);
        if rested || ahead.is_zero() {
            if rested && since != 0 {
                self.slowed_since.store(0, Ordering::Relaxed);
                self.closed.store(0, Ordering::Relaxed);
            }
            return if ahead.is_zero() { Verdict::Now } else { Verdict::After(ahead) };
        }
        if since == 0 {
            tracing::debug!(peer = %self.peer, "slowed: it sends more than it may on its shard streams");
            self.slowed_since.store(at, Ordering::Relaxed);
            return Verdict::After(ahead);
        }
        if at.saturating_sub(since) < nanos(self.slowed_at_most) {
            return Verdict::After(ahead);
        }
        self.close();
        Verdict::TooFast
    }

    /// Whether the peer has earned all that it took: forgetting it then forgives nothing.
    pub(crate) fn is_rested(&self, now: Instant) -> bool {
        self.frames.is_rested(now) && self.bytes.is_rested(now)
    }

    fn close(&self) {
        let Self { peer, slowed_at_most, .. } = self;
        match self.closed.fetch_add(1, Ordering::Relaxed) {
            0 => tracing::warn!(%peer, "stream closed: it sent more than it may for {slowed_at_most:?} without a rest"),
            closed if closed + 1 >= CLOSED_STREAMS => {
                if closed + 1 == CLOSED_STREAMS {
                    tracing::warn!(%peer, "dropped: it goes on after {CLOSED_STREAMS} of its streams were closed");
                }
                // Whoever comes back in this state goes at once.
                self.dialer.hang_up(*peer);
            }
            _ => tracing::debug!(%peer, "stream closed: it sends more than it may"),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("peer", &self.peer)
            .field("frames", &self.frames)
            .field("bytes", &self.bytes)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
