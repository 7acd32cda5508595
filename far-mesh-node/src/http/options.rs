//! Bounds of the server. Each default says why it has its value.

use std::time::Duration;

use crate::metering::HELD;

/// Bounds of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Open connections; one more is answered 503 at once. Far below the usual 1024 to 4096 files of a process times
    /// the three that a session may hold.
    pub max_connections: usize,
    /// Sessions generated at once; one more is answered 429.
    pub max_sessions: usize,
    /// Bytes of a request's body: ten times the text that fills a context of 32768 tokens.
    pub max_body_bytes: usize,
    /// How long a connection may take to send a request's head, idle time between requests included.
    pub header_timeout: Duration,
    /// How long a request's body may take to arrive: 1 MiB at 280 kbit/s.
    pub body_timeout: Duration,
    /// How long a client may leave an answer unread before it is hung up on.
    pub write_timeout: Duration,
    /// Pause after which a stream gets a comment, so that no proxy takes it for dead: half of the usual 30 s.
    pub keep_alive: Duration,
    /// How long a session may take, clients that read slowly included: less than what it may cost is held ([`HELD`]), and
    /// a context of 128 Ki tokens at little more than three a second.
    pub session: Duration,
    /// How long live streams may go on once the server is asked to end.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 512,
            max_sessions: 256,
            max_body_bytes: 1024 * 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            session: HELD / 2,
            drain: Duration::from_secs(30),
        }
    }
}

/// Choices of one request (`n`).
pub(super) const MAX_CHOICES: i64 = 8;
/// Prompts of one request of `/v1/completions`.
pub(super) const MAX_PROMPTS: usize = 16;
/// Sessions of one request: prompts times choices.
pub(super) const MAX_SESSIONS_PER_REQUEST: usize = 32;
/// Events of a session that wait for its client: a second of fast output.
pub(super) const EVENTS_AHEAD: usize = 256;
