"""The dense cache of jeton for plain transformers: the bits of `DynamicCache`, without its copies.

`DynamicCache` concatenates all keys and values in every step. This one writes new rows into
preallocated memory that grows by doubling.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache as NativeCache
from transformers.configuration_utils import PreTrainedConfig

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.kv.memory import chunk_error
from jeton.lm.cache import SlotCache, SlotLayer, make_cache

_UNLIMITED = 1 << 40
_CALLED_NO_DECODER = {"gpt_neox", "gpt_neox_japanese"}  # decoders, whatever their config says


class DenseLayer(SlotLayer):
    """A slot layer that refuses a change of place, type or batch, and knows the moves of beams."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new rows; return those that the new tokens can see.

        Args:
            key_states: Shape (batch, kv_heads, seq, head_dim).
            value_states: Shape (batch, kv_heads, seq, value_head_dim).
            args: What some models pass along; not used.
            kwargs: What some models pass along; not used.
        Raises:
            ConfigError: another device, dtype or batch size than that of the rows so far, or no
                memory for the new ones.
        """
        if self.is_initialized:
            if not self.used and self.keys.shape[:2] != key_states.shape[:2]:
                self.is_initialized = False  # an emptied cache takes any batch
            else:
                check_same_place(self.keys, key_states)
        try:
            return super().update(key_states, value_states)
        except (MemoryError, RuntimeError) as error:
            told = chunk_error(key_states.shape[2], error, key_states.device)
            if told is None:
                raise
            raise told from error

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the texts of the batch in another order."""
        self._pick(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some texts of the batch."""
        self._pick(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every text of the batch."""
        if self.is_initialized:
            self._pick(torch.arange(self.keys.shape[0]).repeat_interleave(repeats))

    def _pick(self, indices: Tensor) -> None:
        if self.is_initialized:
            index = indices.to(self.keys.device)
            self.keys = self.keys.index_select(0, index)
            self.values = self.values.index_select(0, index)


class Cache(NativeCache):
    """A preallocated cache for `past_key_values`, bit-identical to `DynamicCache`.

    Example:
        >>> import torch
        >>> from jeton.testing.models import tiny_model
        >>> model = tiny_model("llama")
        >>> ids = torch.tensor([[1, 2, 3]])
        >>> cache = Cache(model.config)
        >>> ours = model.generate(ids, max_new_tokens=4, do_sample=False, past_key_values=cache)
        >>> torch.equal(ours, model.generate(ids, max_new_tokens=4, do_sample=False))
        True
        >>> cache.get_seq_length()
        6
    """

    def __init__(self, config: PreTrainedConfig, *, max_length: int | None = None) -> None:
        """Make an empty cache.

        Args:
            config: Of the model.
            max_length: Tokens after which the preallocation stops to double; the model's own
                limit when None.
        Raises:
            ConfigError: `max_length` is below 1.
            UnsupportedModelError: an encoder, or the layers are not all plain attention, full or
                sliding.
        """
        decoder = config.get_text_config(decoder=True)
        if getattr(config, "is_encoder_decoder", False):
            raise UnsupportedModelError(
                f"{config.model_type} is an encoder-decoder; this cache is for decoders"
            )
        is_encoder = getattr(decoder, "is_decoder", None) is False
        if is_encoder and decoder.model_type not in _CALLED_NO_DECODER:
            raise UnsupportedModelError(
                f"{decoder.model_type} is an encoder; this cache is for decoders",
                hint="set is_decoder=True in its config, if it is to write text",
            )
        if max_length is not None and max_length < 1:
            raise ConfigError(f"max_length must be at least 1, got {max_length}")
        limit = max_length or getattr(decoder, "max_position_embeddings", None) or _UNLIMITED
        found = make_cache(decoder, limit)
        if not isinstance(found, SlotCache):
            raise UnsupportedModelError(
                f"{decoder.model_type} has layers that are no plain attention",
                hint="leave past_key_values to transformers for this model",
            )
        windows = [layer.window for layer in found.native.layers]  # type: ignore[union-attr]
        super().__init__(layers=[DenseLayer(window, limit) for window in windows])


def check_same_place(held: Tensor, new: Tensor) -> None:
    """Refuse rows of another device, dtype or batch size.

    Raises:
        ConfigError: they differ.
    """
    if (held.device, held.dtype, held.shape[0]) == (new.device, new.dtype, new.shape[0]):
        return
    for name in ("device", "dtype"):
        before, now = getattr(held, name), getattr(new, name)
        if before != now:
            raise ConfigError(
                f"the cache holds keys on {name} {before}, the new ones are on {name} {now}",
                hint="start a new cache after moving a model",
            )
    raise ConfigError(
        f"the cache holds {held.shape[0]} texts, the new tokens are of {new.shape[0]}",
        hint="start a new cache for another batch",
    )
