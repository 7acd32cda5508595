//! What a provider grants to the nodes that call it.

use std::time::Duration;

/// Bounds of a [`super::Server`].
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Most sessions at once; the room for tokens at the hop is bounded apart.
    pub max_sessions: usize,
    /// Most sessions of one coordinator.
    pub max_sessions_per_peer: usize,
    /// Most positions that the sessions of one coordinator may reach together, where it has more than one: what a
    /// coordinator has opened keeps its room whether it is used or not, and the rest is for others.
    pub max_tokens_per_peer: u64,
    /// Most streams at once that have not yet become part of a session.
    pub max_greetings: usize,
    /// Most of them from one node.
    pub max_greetings_per_peer: usize,
    /// How long a stream may take to say what it is for, and how long it is kept for a session not yet opened.
    pub greeting_deadline: Duration,
    /// A session without a step for this long is given up, whether its coordinator has lost its power or only keeps the
    /// room: signs of life alone do not hold it.
    pub idle: Duration,
    /// Most bytes of results that all sessions keep for the node that may take the next hop's place.
    pub kept_bytes: u64,
    /// Most of them of one session; a longer one is run again from the hop before when its next hop is lost.
    pub kept_bytes_per_session: u64,
    /// How long sessions may go on after [`super::Server::shutdown`] was called.
    pub drain: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            // A session holds three streams with 16 KiB read buffers: 512 take 24 MiB.
            max_sessions: 512,
            max_sessions_per_peer: 128,
            // Who knows the arena says how much of it ([`crate::provider::Provider`]).
            max_tokens_per_peer: u64::MAX,
            max_greetings: 512,
            // A coordinator that serves many callers opens their sessions in bursts.
            max_greetings_per_peer: 64,
            greeting_deadline: Duration::from_secs(5),
            // Longer than any pause of a coordinator between two tokens.
            idle: Duration::from_secs(120),
            // 128 sessions of 2048 positions of width 1024 in f32, or 16 of width 8192; in use only as sessions grow.
            kept_bytes: 1 << 30,
            // 8192 positions of width 8192 in two bytes.
            kept_bytes_per_session: 128 << 20,
            // An answer of a few hundred tokens.
            drain: Duration::from_secs(5),
        }
    }
}
