"""SentinelLMs: a passkey permutes the token ids and turns the embedding space of a model.

Source: Mishra et al. 2023, "SentinelLMs: Encrypted Input Adaptation and Fine-tuning of Language
Models for Private and Secure Inference", https://arxiv.org/abs/2312.17342
Differs from the source: the turned space is turned back by the layers themselves, which is exact
for models with RMS norms and linear layers, so that nothing is fine-tuned; other models get the
permutation alone.
Cost: one pass over the weights.

This is obfuscation, not encryption: whoever sees many texts finds frequent ids by their counts, and
whoever holds the original weights finds the permutation by comparing row lengths. It hides the text
from a casual look at ids and rows, and ties a served model to whoever has the key.
"""

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jeton.errors import ConfigError, TokenizerMismatchError, UnsupportedModelError

WARNING = (
    "a locked model is obfuscated, not encrypted: token frequencies survive, and row lengths "
    "betray the permutation to anyone who holds the original weights"
)
_INTO = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # read the residual stream
_OUT = ("o_proj", "down_proj")  # write to it


@dataclass(frozen=True)
class Key:
    """What a passkey stands for.

    Attributes:
        new_id: Locked id of each plain id, shape (vocab_size,).
        old_id: Plain id of each locked id, shape (vocab_size,).
        seed: Of the rotation.
    """

    new_id: np.ndarray
    old_id: np.ndarray
    seed: int

    @classmethod
    def derive(cls, passkey: str, vocab_size: int) -> "Key":
        """Return the key of a passkey, by scrypt; the same everywhere.

        Example:
            >>> key = Key.derive("open sesame", 5)
            >>> key.unlock(key.lock([0, 1, 4]))
            [0, 1, 4]
        """
        if not passkey or vocab_size < 2:
            raise ConfigError("a key needs a passkey and at least two ids")
        digest = hashlib.scrypt(passkey.encode(), salt=b"jeton.sentinel", n=2**12, r=8, p=1)
        ids, rotation = int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:32], "big")
        old_id = np.random.Generator(np.random.PCG64(ids)).permutation(vocab_size)
        return cls(np.argsort(old_id), old_id, rotation % 2**63)

    def lock(self, token_ids: Sequence[int]) -> list[int]:
        """Return what the locked model reads in place of plain ids."""
        return self._mapped(token_ids, self.new_id)

    def unlock(self, token_ids: Sequence[int]) -> list[int]:
        """Return plain ids of what the locked model wrote."""
        return self._mapped(token_ids, self.old_id)

    @staticmethod
    def _mapped(token_ids: Sequence[int], table: np.ndarray) -> list[int]:
        ids = np.asarray(token_ids, dtype=np.int64)
        if len(ids) and not (ids.min() >= 0 and ids.max() < len(table)):
            raise TokenizerMismatchError(f"ids must lie in [0, {len(table)}), got {ids.tolist()}")
        found: list[int] = table[ids].tolist()
        return found


def lock_model(model: Any, key: Key, *, rotate: bool = True) -> Any:
    """Return a copy of a model that speaks locked ids; its logits are those of the model, permuted.

    Args:
        model: A causal LM with as many embedding rows as the key has ids.
        key: From `Key.derive`.
        rotate: Whether the residual stream is turned as well, so that rows are no copies.
    Raises:
        TokenizerMismatchError: the model has another number of rows.
        UnsupportedModelError: `rotate` on a model whose layers are of other kinds than Llama's.
    """
    warnings.warn(WARNING, stacklevel=2)
    locked = copy.deepcopy(model)
    embedding, head = locked.get_input_embeddings(), locked.get_output_embeddings()
    if embedding.weight.shape[0] != len(key.new_id):
        raise TokenizerMismatchError(
            f"the key has {len(key.new_id)} ids, the model {embedding.weight.shape[0]} rows",
            hint="derive the key with the model's number of rows",
        )
    order = torch.from_numpy(key.old_id)
    is_tied = head is None or head.weight is embedding.weight
    with torch.no_grad():
        embedding.weight.copy_(embedding.weight[order])
        if not is_tied:
            head.weight.copy_(head.weight[order])
        if getattr(head, "bias", None) is not None:
            head.bias.copy_(head.bias[order])
        if rotate:
            _rotate(locked, key.seed, is_tied=is_tied)
    for config in (locked.config, locked.generation_config):
        for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(config, field, None)
            if isinstance(value, int) and value >= 0:
                setattr(config, field, key.lock([value])[0])
            elif isinstance(value, list):
                setattr(config, field, key.lock(value))
    return locked


def _rotate(model: Any, seed: int, *, is_tied: bool) -> None:
    """Turn the residual stream by an orthogonal matrix, in place."""
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    final = getattr(decoder, "norm", None)
    if layers is None or final is None or any(not _is_like_llama(layer) for layer in layers):
        raise UnsupportedModelError(
            f"the residual stream of {type(model).__name__} cannot be turned exactly",
            hint="pass rotate=False: the ids alone are permuted then",
        )
    if is_tied and not bool((final.weight == final.weight[0]).all()):
        # The last norm's weights belong to the output matrix alone.
        raise UnsupportedModelError(
            "the model ties its matrices and its last norm has unequal weights",
            hint="untie it first (`tie_word_embeddings=False`), or pass rotate=False",
        )
    turn = _orthogonal(model.get_input_embeddings().weight.shape[1], seed)
    for layer in layers:
        for norm, names in (
            (layer.input_layernorm, _INTO[:3]),
            (layer.post_attention_layernorm, _INTO[3:]),
        ):
            for name in names:
                module = _linear(layer, name)
                _assign(module.weight, (module.weight.double() * norm.weight.double()) @ turn)
            norm.weight.fill_(1)
        for name in _OUT:
            module = _linear(layer, name)
            _assign(module.weight, turn.T @ module.weight.double())
            if module.bias is not None:
                _assign(module.bias, turn.T @ module.bias.double())
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    _assign(embedding.weight, embedding.weight.double() @ turn)
    if not is_tied:
        _assign(head.weight, (head.weight.double() * final.weight.double()) @ turn)
        final.weight.fill_(1)


def _is_like_llama(layer: Any) -> bool:
    """Whether a layer is two RMS norms with weights that multiply, attention and a gated MLP."""
    norms = ("input_layernorm", "post_attention_layernorm")
    children = dict(layer.named_children())
    if set(children) != {"self_attn", "mlp", *norms}:
        return False
    is_rms = all(
        type(children[n]).__name__.endswith("RMSNorm")
        and not type(children[n]).__name__.startswith("Gemma")
        for n in norms
    )
    return is_rms and all(isinstance(_linear(layer, n), nn.Linear) for n in (*_INTO, *_OUT))


def _linear(layer: Any, name: str) -> Any:
    return getattr(layer.self_attn, name, None) or getattr(layer.mlp, name, None)


def _orthogonal(size: int, seed: int) -> Tensor:
    """Return a random orthogonal matrix in float64, by QR of a Gaussian one."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn((size, size), generator=generator, dtype=torch.float64))
    turn: Tensor = q * r.diagonal().sign()
    return turn


def _assign(parameter: Tensor, value: Tensor) -> None:
    parameter.copy_(value.to(parameter.dtype))
