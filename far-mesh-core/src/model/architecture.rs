//! What sets one architecture apart from another: a row a model family.

/// How an architecture differs from the decoder all of them share (norms, attention with rotary positions, gated
/// feed-forward).
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Its name in GGUF's `general.architecture`.
    pub name: &'static str,
    /// Rows of the query and key matrices stand in GGUF's rotary order, which pairs neighbours; llama.cpp's converter
    /// reorders them for Llama and its close kin alone.
    pub(super) rotary_rows: bool,
    /// Queries, keys and values have a bias.
    pub(super) qkv_bias: bool,
    /// Each head's query and key is normed before it is rotated.
    pub(super) qk_norm: bool,
    /// All layers have a sliding window where the metadata name one.
    pub(super) window: bool,
}

/// Llama itself: the others say what differs.
const LLAMA: Architecture =
    Architecture { name: "llama", rotary_rows: true, qkv_bias: false, qk_norm: false, window: true };

/// Architectures this version runs.
pub const ARCHITECTURES: &[Architecture] = &[
    // Llama 1 to 3, SmolLM; Mistral files name it, too.
    LLAMA,
    Architecture { name: "mistral", ..LLAMA },
    Architecture { name: "qwen2", rotary_rows: false, qkv_bias: true, window: false, ..LLAMA },
    Architecture { name: "qwen3", rotary_rows: false, qk_norm: true, window: false, ..LLAMA },
];

impl Architecture {
    /// The architecture of this name, if it is one of [`ARCHITECTURES`].
    pub fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|architecture| architecture.name == name)
    }

    /// Names of all [`ARCHITECTURES`].
    pub(super) fn names() -> Vec<&'static str> {
        ARCHITECTURES.iter().map(|architecture| architecture.name).collect()
    }
}
