"""Tiny seeded models of many families: random weights, real architectures, milliseconds to make."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from jeton.errors import UnknownMethodError

_COMMON: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_WINDOW = 6  # smaller than any prefix of the tests, so that trees cross it
_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": _WINDOW},
    "gemma2": {"head_dim": 8, "sliding_window": _WINDOW, "query_pre_attn_scalar": 8},
    "gemma3": {"head_dim": 8, "sliding_window": _WINDOW, "query_pre_attn_scalar": 8},
    "gpt2": {},
    "gpt_neox": {},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "phi3": {"sliding_window": _WINDOW},
    "mamba": {"state_size": 8, "time_step_rank": 4},
    "qwen3_next": {
        "head_dim": 8,
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "mlp_only_layers": [0, 1, 2, 3],
    },
}
_MODEL_TYPES = {"gemma3": "gemma3_text"}
_LAYER_TYPES = {  # both kinds of attention, which the default patterns show only in deep models
    "gemma2": ["sliding_attention", "full_attention"],
    "gemma3": ["sliding_attention", "full_attention"],
}

CHAIN_ONLY_FAMILIES = ("mamba", "qwen3_next")
FAMILIES = tuple(name for name in _CONFIGS if name not in CHAIN_ONLY_FAMILIES)


def tiny_model(family: str, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Return a random model of a family in evaluation mode, float32, on the CPU.

    Args:
        family: One of `FAMILIES` or `CHAIN_ONLY_FAMILIES`.
        seed: Of the weights; the global generators are left as they were.
        overrides: Fields of the configuration.
    Raises:
        UnknownMethodError: there is no such family.

    Example:
        >>> tiny_model("gpt2").config.vocab_size
        64
    """
    if family not in _CONFIGS:
        raise UnknownMethodError(f"no tiny model {family!r}; there are: {', '.join(_CONFIGS)}")
    fields = {**_COMMON, **_CONFIGS[family]}
    if family in _LAYER_TYPES:
        fields["layer_types"] = _LAYER_TYPES[family]
    config = AutoConfig.for_model(_MODEL_TYPES.get(family, family), **{**fields, **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        _spread(model)
    model.eval()
    return model


def _spread(model: PreTrainedModel) -> None:
    """Draw larger weights: with those of a fresh model every context gives nearly equal logits."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
