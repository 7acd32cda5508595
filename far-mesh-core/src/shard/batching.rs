//! How a shard shares its device and its cache between sessions.

use super::DeviceChoice;

/// Settings of a shard's queue and cache. The defaults suit a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most positions of one forward: the steps of decoding sessions and parts of prompts together. At least
    /// [`Batching::LEAST_STEP_TOKENS`]. Who decodes waits for one forward at most, so a greater number serves prompts
    /// and a smaller one the pace of answers.
    pub step_tokens: usize,
    /// Whose sessions read each other's pages where their prompts begin alike.
    pub prefix_sharing: PrefixSharing,
    /// Most bytes of outgoing activations that are kept beside shared pages, in host memory. A hop that has others after
    /// it must send theirs on: without them it computes a prompt again whose pages it has.
    pub output_bytes: usize,
}

/// Whose sessions may share pages of the cache.
///
/// Pages are found by a hash of all that went into them, which each shard computes from what it was sent: nobody can
/// have a page taken for what it is not. What sharing does tell is time: who sends the first 32 positions or more of
/// somebody's prompt sees from the haste of the answer that it was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefixSharing {
    /// Nobody's: for those to whom even the time of an answer tells too much.
    Off,
    /// Those that the same node opened, and among each other those of this machine. The node that opens a session has
    /// seen its prompt, and a node learns nothing of what others ask.
    #[default]
    Owner,
    /// Everybody's, where all who may open sessions trust each other.
    All,
}

impl Batching {
    /// Fewest positions of one forward: below it a page of a prompt would not fit beside the steps of decoding sessions.
    pub const LEAST_STEP_TOKENS: usize = 8;
}

impl Batching {
    /// The defaults of a device: a GPU is the faster a position the more there are, and a forward of 1024 takes one less
    /// time than 128 take a processor.
    pub fn of(device: DeviceChoice) -> Self {
        match device {
            DeviceChoice::Cpu => Self::default(),
            DeviceChoice::Cuda(_) => Self { step_tokens: 1024, ..Self::default() },
        }
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            // The kernels are as fast a position with 64 rows as with 512, and a forward of 128 takes a CPU some 40 ms for
            // a small model: an answer beside a long prompt still flows.
            step_tokens: 128,
            prefix_sharing: PrefixSharing::default(),
            // The prompts of a few hundred sessions: 900 pages of a hidden state of 576, 128 of one of 4096.
            output_bytes: 64 << 20,
        }
    }
}
