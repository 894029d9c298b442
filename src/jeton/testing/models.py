"""Tiny seeded models of many families: random weights, real architectures, milliseconds to make."""

import dataclasses
import string
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from jeton.core.vocabulary import Vocabulary
from jeton.errors import UnknownMethodError
from jeton.lm.load import LanguageModel

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


def tiny_tokenizer() -> Tokenizer:
    """Return a byte-level BPE tokenizer: `<s>`, the 256 bytes, and a dozen merges.

    Example:
        >>> tiny_tokenizer().encode("the then").tokens
        ['the', 'Ġthe', 'n']
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", *alphabet]
    merges = []
    for left, right in ("th", "he", "in", "er", "an", "Ġt", "Ġa", "re", "on", "at"):
        merges.append((left, right))
    merges += [("th", "e"), ("Ġ", "the"), ("in", "g"), ("an", "d")]
    tokens += ["".join(pair) for pair in merges]
    vocab = {token: token_id for token_id, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def tiny_fallback_tokenizer(*, has_metaspace: bool = False) -> Tokenizer:
    """Return a BPE with byte fallback as of SentencePiece: `<s>`, bytes, a dozen merges, letters.

    Args:
        has_metaspace: Whether the space is put before a text by a pre-tokenizer (Mistral), not by
            a normalizer (Llama 2).

    Example:
        >>> tiny_fallback_tokenizer().encode("the then é").tokens
        ['▁the', '▁the', 'n', '▁', '<0xC3>', '<0xA9>']
    """
    merges = [(pair[0], pair[1]) for pair in ("th", "he", "in", "er", "an", "▁t", "▁a", "re", "▁▁")]
    merges += [("th", "e"), ("▁", "the"), ("▁t", "he"), ("in", "g"), ("an", "d")]
    letters = sorted("▁abcdefghijklmnopqrstuvwxyz0123456789()<|>_:")
    tokens = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["".join(pair) for pair in merges] + letters
    vocab = {token: token_id for token_id, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    if has_metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def tiny_unigram_tokenizer() -> Tokenizer:
    """Return a Unigram model with byte fallback: `<unk>`, bytes, a few pieces, letters.

    Example:
        >>> tiny_unigram_tokenizer().encode("the é").tokens
        ['▁the', '▁', '<0xC3>', '<0xA9>']
    """
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", 0.0) for byte in range(256))]
    pieces += [("▁", -3.0), ("▁the", -2.0), ("th", -4.0), ("he", -4.5), ("qx", -9.0), ("ing", -5.0)]
    pieces += [(letter, -6.0 - place / 9) for place, letter in enumerate(string.ascii_lowercase)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    back = [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=False)]
    tokenizer.decoder = decoders.Sequence(back)
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def tiny_language_model(
    family: str = "llama", seed: int = 0, *, has_bos: bool = True, **overrides: Any
) -> LanguageModel:
    """Return a tiny model with `tiny_tokenizer`'s vocabulary; its text has no meaning.

    Args:
        family: As for `tiny_model`.
        seed: Of the weights.
        has_bos: Whether the vocabulary names `<s>` its BOS.
        overrides: Fields of the configuration.
    """
    model = tiny_model(family, seed, **{"vocab_size": 288, **overrides})
    vocabulary = Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())
    bos = 0 if has_bos else None
    vocabulary = dataclasses.replace(vocabulary, bos_token_id=bos, eos_token_id=None)
    return LanguageModel(model, None, vocabulary, f"tiny-{family}")


def _spread(model: PreTrainedModel) -> None:
    """Draw larger weights: with those of a fresh model every context gives nearly equal logits."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.normal_(0.0, 1.5 / parameter.shape[1] ** 0.5)
