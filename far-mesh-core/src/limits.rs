//! Bounds on everything a stranger can send. Each says why it has its value.

use std::time::Duration;

/// Longest frame on a shard stream: a chunk of [`MAX_CHUNK_TOKENS`] rows of [`MAX_HIDDEN`] f32 values, and its header.
pub const MAX_FRAME_BYTES: usize = MAX_CHUNK_TOKENS * MAX_HIDDEN * 4 + 4096;

/// Most positions in one step. A longer prompt is sent in several: a chunk never delays another session for long.
pub const MAX_CHUNK_TOKENS: usize = 512;

/// Widest hidden state (Llama 3.1 405B has 16384).
pub const MAX_HIDDEN: usize = 16_384;

/// Most decoder layers of a model (Llama 3.1 405B has 126).
pub const MAX_LAYERS: u32 = 512;

/// Most hops in a route: more than layers would be absurd, more than this is too slow to be of use.
pub const MAX_HOPS: usize = 64;

/// Most steps of one session that may be on their way at once: enough to keep every hop of a short route busy in prefill.
pub const MAX_STEPS_IN_FLIGHT: usize = 8;

/// Most bytes of a control message (Open, Refuse, Account): a few addresses and a text.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// Most bytes of one advert, signature included.
pub const MAX_ADVERT_BYTES: usize = 2048;

/// Most positions one receipt tells of: its two signatures and their checks, some 300 us, are spread over them.
pub const MAX_RECEIPT_TOKENS: u32 = 32;

/// Least time a hop gets before it is asked for a sign of life.
pub const HOP_DEADLINE_FLOOR: Duration = Duration::from_millis(250);

/// How long a chain of hops may take to open, connections and handshakes included.
pub const OPEN_DEADLINE: Duration = Duration::from_secs(10);
