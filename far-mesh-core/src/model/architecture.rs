//! What sets one architecture apart from another: a row a model family.

/// How an architecture differs from the decoder all of them share (norms, attention with rotary positions, gated
/// feed-forward).
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Its name in GGUF's `general.architecture`.
    pub name: &'static str,
    /// Its class in the `architectures` of a Hugging Face `config.json`.
    pub class: &'static str,
    /// Rows of the query and key matrices stand in GGUF's rotary order, which pairs neighbours; llama.cpp's converter
    /// reorders them for Llama and its close kin alone. Never so in safetensors.
    pub(super) rotary_rows: bool,
    /// Queries, keys and values have a bias.
    pub(super) qkv_bias: bool,
    /// Each head's query and key is normed before it is rotated.
    pub(super) qk_norm: bool,
    /// All layers have a sliding window where the metadata name one.
    pub(super) window: bool,
    /// Layers may have experts, and this is what Hugging Face checkpoints call them.
    pub(super) experts: Option<&'static ExpertNames>,
    /// Weights of the experts that were chosen always sum to one. Else the file says whether they do.
    pub(super) sums_to_one: bool,
}

/// Names of a mixture of experts' tensors below `model.layers.N`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpertNames {
    /// What all of them begin with.
    pub(super) block: &'static str,
    pub(super) gate: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
}

const MIXTRAL: ExpertNames = ExpertNames { block: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" };
const QWEN: ExpertNames = ExpertNames { block: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };

/// Llama itself: the others say what differs.
const LLAMA: Architecture = Architecture {
    name: "llama",
    class: "LlamaForCausalLM",
    rotary_rows: true,
    qkv_bias: false,
    qk_norm: false,
    window: true,
    experts: None,
    sums_to_one: true,
};

/// Architectures this version runs.
pub const ARCHITECTURES: &[Architecture] = &[
    // Llama 1 to 3, SmolLM; GGUF files of Mistral and Mixtral name it, too.
    Architecture { experts: Some(&MIXTRAL), ..LLAMA },
    Architecture { name: "mistral", class: "MistralForCausalLM", ..LLAMA },
    Architecture { name: "mixtral", class: "MixtralForCausalLM", experts: Some(&MIXTRAL), ..LLAMA },
    Architecture {
        name: "qwen2",
        class: "Qwen2ForCausalLM",
        rotary_rows: false,
        qkv_bias: true,
        window: false,
        ..LLAMA
    },
    Architecture {
        name: "qwen3",
        class: "Qwen3ForCausalLM",
        rotary_rows: false,
        qk_norm: true,
        window: false,
        ..LLAMA
    },
    Architecture {
        name: "qwen3moe",
        class: "Qwen3MoeForCausalLM",
        rotary_rows: false,
        qk_norm: true,
        window: false,
        experts: Some(&QWEN),
        sums_to_one: false,
        ..LLAMA
    },
];

impl Architecture {
    /// The architecture of this name in GGUF files, if it is one of [`ARCHITECTURES`].
    pub fn find(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|architecture| architecture.name == name)
    }

    /// The architecture of this class in Hugging Face checkpoints, if it is one of [`ARCHITECTURES`].
    pub fn of_class(class: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|architecture| architecture.class == class)
    }

    /// Names of all [`ARCHITECTURES`].
    pub(super) fn names() -> Vec<&'static str> {
        ARCHITECTURES.iter().flat_map(|architecture| [architecture.name, architecture.class]).collect()
    }
}
