"""Random checkpoints of every architecture, as `transformers` makes and saves them."""

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

SMALL = {
    "vocab_size": 2048,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}


def rope(parameters):
    """`rope_parameters` is the name since transformers 5, `rope_scaling` and `rope_theta` were before."""
    if "rope_parameters" in LlamaConfig().to_dict():
        return {"rope_parameters": parameters}
    scaling = dict(parameters)
    return {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling}


def small():
    """Name and configuration of one small model for each architecture."""
    experts = {"num_experts_per_tok": 2}
    return {
        "llama": LlamaConfig(**SMALL, tie_word_embeddings=False),
        "llama-tied-rope3": LlamaConfig(**SMALL, tie_word_embeddings=True, **rope(LLAMA3_ROPE)),
        "mistral-window": MistralConfig(**SMALL, head_dim=64, sliding_window=96),
        "qwen2": Qwen2Config(**SMALL),
        "qwen3": Qwen3Config(**SMALL, head_dim=64),
        "mixtral": MixtralConfig(**SMALL, num_local_experts=4, **experts, sliding_window=None),
        "qwen3-moe": Qwen3MoeConfig(
            **SMALL, head_dim=64, num_experts=8, moe_intermediate_size=256, norm_topk_prob=True, **experts
        ),
    }


def llama3_8b():
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        bos_token_id=128000,
        eos_token_id=128001,
        tie_word_embeddings=False,
        **rope({"rope_type": "default", "rope_theta": 500000.0}),
    )


def make(config, folder, device):
    """Saves a random model in bf16; the same one every time. Larger weights than the usual 0.02 for the small ones:
    logits of a model that does nothing but pass its input on would agree whatever the layers compute."""
    if (folder / "config.json").exists():
        return
    torch.manual_seed(7)
    if config.hidden_size <= 512:
        config.initializer_range = 0.05
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    # Biases and norms start at 0 and 1, where a mistake with them would not show.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
    part = folder.with_suffix(".part")
    model.save_pretrained(part)
    part.rename(folder)
