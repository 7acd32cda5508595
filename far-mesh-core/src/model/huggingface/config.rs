//! From `config.json` to [`ModelConfig`].

use serde_json::Value;

use super::{
    Folder,
    folder::class_of,
    rope::rope,
    settings::{Settings, shortened},
};
use crate::{
    id::Span,
    kernel::AttentionShape,
    limits::{MAX_HIDDEN, MAX_LAYERS},
    model::{
        Architecture, ConfigError, ModelConfig,
        config::{MAX_CONTEXT, MAX_FEED_FORWARD, MAX_VOCABULARY},
        experts::{Experts, MAX_EXPERTS},
    },
};

/// Entries that this module reads.
const READ: &[&str] = &[
    "architectures",
    "attention_bias",
    "decoder_sparse_step",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_bias",
    "mlp_only_layers",
    "moe_intermediate_size",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "partial_rotary_factor",
    "quantization_config",
    "rms_norm_eps",
    "rope_interleaved",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
];

/// Entries that change no result of a forward pass: notes, training, and what the tokenizer's files say, too.
const WITHOUT_EFFECT: &[&str] = &[
    "attention_dropout",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "is_llama_config",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "return_dict",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
];

/// Reads and checks the settings of a folder.
pub(in crate::model) fn config_of(folder: &Folder) -> Result<ModelConfig, ConfigError> {
    let settings = Settings::new(folder.settings());
    let class = class_of(folder.settings()).ok_or_else(|| settings.missing("architectures"))?;
    let architecture =
        Architecture::of_class(class).ok_or_else(|| ConfigError::Architecture { found: class.to_owned() })?;
    refuse_what_is_not_applied(settings)?;

    let hidden = settings.number("hidden_size", MAX_HIDDEN as u64)? as usize;
    let heads = settings.number("num_attention_heads", MAX_HIDDEN as u64)? as usize;
    let kv_heads = settings.optional("num_key_value_heads", heads as u64)?.map_or(heads, |heads| heads as usize);
    if !heads.is_multiple_of(kv_heads) {
        return Err(settings.bad("num_key_value_heads", format!("a divisor of the {heads} heads")));
    }
    let head_dim = match settings.optional("head_dim", MAX_HIDDEN as u64)? {
        Some(head_dim) => head_dim as usize,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(settings.bad("num_attention_heads", format!("a divisor of the width {hidden}"))),
    };
    if !head_dim.is_multiple_of(2) || heads * head_dim > 4 * MAX_HIDDEN {
        return Err(settings.bad("head_dim", "even and within the limits"));
    }
    let layers = settings.number("num_hidden_layers", MAX_LAYERS.into())? as u32;
    let (rope_theta, rope_scaling) = rope(settings, matches!(architecture.name, "llama" | "mistral"))?;
    Ok(ModelConfig {
        name: folder.path().file_name().map_or_else(|| class.to_owned(), |name| name.to_string_lossy().into_owned()),
        architecture,
        layers,
        hidden,
        attention: AttentionShape { heads, kv_heads, head_dim, window: window(settings, architecture, layers)? },
        feed_forward: settings.number("intermediate_size", MAX_FEED_FORWARD)? as usize,
        vocabulary: settings.number("vocab_size", MAX_VOCABULARY)? as usize,
        norm_eps: settings.float("rms_norm_eps", None)?,
        rope_theta,
        rope_scaling,
        context_tokens: settings.number("max_position_embeddings", MAX_CONTEXT)? as u32,
        // No class that we run ties them unless it is told to.
        tied_head: settings.flag("tie_word_embeddings")?.unwrap_or(false),
        experts: experts(settings, architecture, layers)?,
        span: Span::new(0, layers).map_err(|error| settings.bad("num_hidden_layers", error.to_string()))?,
    })
}

/// The experts, where the settings count any.
fn experts(
    settings: Settings<'_>,
    architecture: &'static Architecture,
    layers: u32,
) -> Result<Option<Experts>, ConfigError> {
    let keys = ["num_local_experts", "num_experts"];
    let Some(key) = settings.first(&keys) else { return Ok(None) };
    if keys.iter().any(|other| settings.get(other).is_some_and(|value| Some(value) != settings.get(key))) {
        return Err(settings.bad("num_experts", "what num_local_experts is"));
    }
    if architecture.experts.is_none() {
        return Err(ConfigError::NotApplied(format!("{key} in a {}", architecture.class)));
    }
    let count = settings.number(key, MAX_EXPERTS)? as usize;
    let used = settings.number("num_experts_per_tok", count as u64)? as usize;
    let normalized = match architecture.sums_to_one {
        true if settings.flag("norm_topk_prob")? == Some(false) => {
            return Err(ConfigError::NotApplied(format!("norm_topk_prob = false in a {}", architecture.class)));
        }
        true => true,
        false => settings.flag("norm_topk_prob")?.unwrap_or(false),
    };
    let width = match settings.get("moe_intermediate_size") {
        Some(_) => "moe_intermediate_size",
        None => "intermediate_size",
    };
    let step = settings.optional("decoder_sparse_step", u64::from(MAX_LAYERS))?.unwrap_or(1) as u32;
    let listed = settings.array("mlp_only_layers")?.unwrap_or_default();
    let listed: Option<Vec<u32>> = listed.iter().map(|value| value.as_u64()?.try_into().ok()).collect();
    let listed = listed.ok_or_else(|| settings.bad("mlp_only_layers", "an array of layers"))?;
    let dense = (0..layers).filter(|layer| listed.contains(layer) || !(layer + 1).is_multiple_of(step)).collect();
    let feed_forward = settings.number(width, MAX_FEED_FORWARD)? as usize;
    Ok(Some(Experts { count, used, feed_forward, normalized, dense }))
}

/// Positions a query sees, where all layers are alike.
fn window(
    settings: Settings<'_>,
    architecture: &'static Architecture,
    layers: u32,
) -> Result<Option<usize>, ConfigError> {
    let window = settings.optional("sliding_window", MAX_CONTEXT)?.map(|window| window as usize);
    if architecture.name == "mistral" && !settings.has("sliding_window") {
        return Err(settings.bad("sliding_window", "a number, or null for none: what its absence means has changed"));
    }
    let Some(window) = window else { return Ok(None) };
    if architecture.name == "qwen3moe" && settings.flag("use_sliding_window")? == Some(true) {
        return Err(ConfigError::NotApplied(format!("sliding_window {window} with use_sliding_window")));
    }
    // Qwen has windows in some of its layers, and only where it is told to.
    if settings.flag("use_sliding_window")? == Some(false)
        || !architecture.window && settings.get("use_sliding_window").is_none()
    {
        return Ok(None);
    }
    let first = match architecture.window {
        true => 0,
        false => settings
            .get("max_window_layers")
            .and_then(Value::as_u64)
            .ok_or_else(|| settings.bad("max_window_layers", "the number of layers without a window"))?,
    };
    let windowed = match settings.array("layer_types")? {
        Some(types) => types.iter().filter(|kind| kind.as_str() == Some("sliding_attention")).count() as u64,
        None => u64::from(layers).saturating_sub(first),
    };
    match windowed {
        0 => Ok(None),
        all if all == u64::from(layers) => Ok(Some(window)),
        some => Err(ConfigError::NotApplied(format!("sliding_window {window} in {some} of its {layers} layers"))),
    }
}

fn refuse_what_is_not_applied(settings: Settings<'_>) -> Result<(), ConfigError> {
    if settings.get("quantization_config").is_some() {
        return Err(ConfigError::QuantizedFolder);
    }
    let unknown = |key: &&str| !key.starts_with('_') && !READ.contains(key) && !WITHOUT_EFFECT.contains(key);
    if let Some(key) = settings.keys().find(unknown) {
        let found = settings.get(key).map(shortened).unwrap_or_default();
        return Err(ConfigError::UnknownSetting { key: key.to_owned(), found });
    }
    for key in ["attention_bias", "mlp_bias", "rope_interleaved"] {
        if settings.flag(key)? == Some(true) {
            return Err(ConfigError::NotApplied(format!("{key} = true")));
        }
    }
    if settings.float("partial_rotary_factor", Some(1.0))? != 1.0 {
        return Err(settings.bad("partial_rotary_factor", "1"));
    }
    let kinds = settings.array("layer_types")?.unwrap_or_default();
    let known = |kind: &&Value| !matches!(kind.as_str(), Some("full_attention" | "sliding_attention"));
    if let Some(kind) = kinds.iter().find(known) {
        return Err(ConfigError::NotApplied(format!("layers of type {}", shortened(kind))));
    }
    match settings.text("hidden_act")? {
        Some("silu") | None => Ok(()),
        Some(_) => Err(settings.bad("hidden_act", "silu")),
    }
}
