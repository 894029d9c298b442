"""The cache that a `Runner` takes when a policy is attached: drafts are provisional."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig

from jeton.errors import UnsupportedModelError
from jeton.kv.budget_layer import BudgetLayer
from jeton.kv.select_layer import SelectLayer
from jeton.lm.cache import SlotCache, SlotLayer, make_cache
from jeton.lm.tree import TokenTree

Layer = BudgetLayer | SelectLayer


class PolicyCache:
    """Slot layers where attention slides, policy layers where it is full.

    Attributes:
        native: What the model takes as its cache.
    """

    can_take_trees: ClassVar[bool] = True
    can_truncate: ClassVar[bool] = False

    def __init__(
        self,
        config: PreTrainedConfig,
        max_length: int,
        make_layer: Callable[[int], Layer],
        track: Callable[[dict[int, Layer]], None],
        attention: str,
    ) -> None:
        """Make an empty cache.

        Args:
            config: Of the decoder.
            max_length: As for `Runner`.
            make_layer: Makes the policy layer of a layer index.
            track: Is told the policy layers, again after a fork.
            attention: The model's own attention, whose masks it takes.
        Raises:
            UnsupportedModelError: layers of other kinds than attention.
        """
        plain = make_cache(config, max_length)
        if not isinstance(plain, SlotCache):
            raise UnsupportedModelError(
                f"{config.model_type} has recurrent layers, which a runner's policy cannot hold",
                hint="use `with attach(model, policy): model.generate(...)`",
            )
        self.attention = attention
        self._plain = plain
        self._track = track
        self._layers: list[SlotLayer | Layer] = []
        for index, layer in enumerate(plain.native.layers):
            assert isinstance(layer, SlotLayer)
            self._layers.append(layer if layer.window is not None else make_layer(index))
        self._manage()

    def _manage(self) -> None:
        self.native = Cache(layers=list(self._layers))
        self._track({layer.index: layer for layer in self._policy_layers()})
        for layer in self._policy_layers():
            layer.is_managed = True

    def _policy_layers(self) -> list[Layer]:
        return [layer for layer in self._layers if not isinstance(layer, SlotLayer)]

    @property
    def room(self) -> int:
        """Most tokens that a path of a draft may have now."""
        return min(layer.room for layer in self._policy_layers())

    def begin(self, num_new: int) -> None:
        """Prepare for a forward whose tokens may be dropped."""
        for layer in self._policy_layers():
            layer.begin()

    def keep(self, length: int, rows: Sequence[int]) -> bool:
        """Keep `length` tokens and then the tokens of these slots; always possible."""
        nodes = [row - length for row in rows]
        for layer in self._layers:
            if isinstance(layer, SlotLayer):
                layer.keep(length, rows)
            else:
                layer.keep(nodes)
        return True

    def settle(self, length: int) -> None:
        """Do nothing: layers learn it at the next forward."""

    def fork(self, length: int) -> "PolicyCache":
        """Return an independent copy of the committed tokens."""
        other = object.__new__(PolicyCache)
        other.__dict__.update(self.__dict__)
        other._layers = [
            layer.fork(length) if isinstance(layer, SlotLayer) else layer.fork()
            for layer in self._layers
        ]
        other._manage()
        return other

    def reset(self) -> None:
        """Forget everything."""
        for layer in self._layers:
            layer.reset()

    def mask(self, tree: TokenTree, *, additive: torch.dtype | None, device: torch.device) -> Any:
        """Return the mask of a dense cache; policy layers are told the tree besides."""
        for layer in self._policy_layers():
            layer.parents = tree.parents
        # The plain layers hold nothing when all layers obey the policy: tell how much they would.
        first = self._plain.native.layers[0]
        assert isinstance(first, SlotLayer)
        used, first.used = first.used, self.native.get_seq_length()
        try:
            return self._plain.mask(tree, additive=additive, device=device)
        finally:
            first.used = used
