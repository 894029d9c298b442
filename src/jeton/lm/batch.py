"""Several texts of different lengths, each with a token tree of its own, in one forward.

Every text has its own slots in the rows of the cache, so that nothing is moved when one text
accepts more than another; what a text does not use is masked. A text that has ended leaves, and
its rows with it. Prompts are read one at a time by a `Runner`, which wastes nothing on padding and
gives their keys the bits that they have alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.cache import SlotCache
from jeton.lm.lean import KEY_STEP
from jeton.lm.runner import Runner, Verified
from jeton.lm.tree import TokenTree


class _RaggedLayer(DynamicLayer):
    """Keys and values of one layer, shape (2, batch, kv_heads, capacity, head_dim)."""

    rows: Tensor
    slots: Tensor
    visible: int

    def write_both(self, new: Tensor, slots: Any, visible: int) -> tuple[Tensor, Tensor]:
        """Write new rows of shape (2, batch, kv_heads, nodes, head_dim) to slots of each text.

        Args:
            new: Keys and values.
            slots: Shape (batch, nodes).
            visible: Rows to return.
        """
        batch = torch.arange(slots.shape[0], device=slots.device)[:, None]
        self.rows.permute(1, 3, 0, 2, 4)[batch, slots] = new.permute(1, 3, 0, 2, 4)
        return self.rows[0, :, :, :visible], self.rows[1, :, :, :visible]

    def write(
        self, key_states: Tensor, value_states: Tensor, slots: Any, visible: int
    ) -> tuple[Tensor, Tensor]:
        """Write as `write_both` does."""
        return self.write_both(torch.stack([key_states, value_states]), slots, visible)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write where the runner said before the forward."""
        return self.write(key_states, value_states, self.slots, self.visible)

    def get_seq_length(self) -> int:
        """Return a length that the model must not use: positions and masks are given."""
        return self.visible - self.slots.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return what the given mask has."""
        return self.visible, 0


class BatchRunner:
    """A model and the texts that it has read; `texts` are in the order of the prompts left.

    Attributes:
        lengths: Committed tokens of each text.
    """

    def __init__(self, runner: Runner) -> None:
        """Take the model of a runner, which then reads the prompts.

        Args:
            runner: Whose own text is dropped.
        Raises:
            UnsupportedModelError: the model's cache does not show every row, or it takes no trees.
        """
        cache = runner._cache
        if type(cache) is not SlotCache or cache.plain_layers is None or not runner.supports_trees:
            raise UnsupportedModelError(
                f"{type(runner.model).__name__} has windows, recurrent layers or masks of its own: "
                "its texts are decoded one by one",
                hint="call generate for each text",
            )
        self.runner, self._cache = runner, cache
        self.lengths: list[int] = []
        self._layers: list[_RaggedLayer] = []
        self._pending: list[TokenTree] = []

    def prefill(self, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Read the prompts; return the logits after each, shape (num_embeddings,), float32."""
        if not prompts:
            raise ConfigError("there are no prompts")
        capacity = max(map(len, prompts)) + 2 * KEY_STEP
        self.lengths, logits = [len(prompt) for prompt in prompts], []
        self._layers = []
        for index, prompt in enumerate(prompts):
            self.runner.reset()
            logits.append(self.runner.prefill(list(prompt)))
            for number, layer in enumerate(self._cache.plain_layers or []):
                if not index:
                    _, kv_heads, _, size = layer.keys.shape
                    shape = (2, len(prompts), kv_heads, capacity, size)
                    self._layers.append(_RaggedLayer())
                    self._layers[-1].rows = layer.keys.new_zeros(shape)
                rows = self._layers[number].rows
                rows[0, index, :, : len(prompt)] = layer.keys[0, :, : len(prompt)]
                rows[1, index, :, : len(prompt)] = layer.values[0, :, : len(prompt)]
        self.runner.reset()
        return logits

    def verify(self, trees: Sequence[TokenTree], *, hidden: bool = False) -> list[Verified]:
        """Run one forward over a tree of each text; the nodes stay provisional until `commit`."""
        if len(trees) != len(self.lengths) or not all(map(len, trees)):
            raise ConfigError(f"{len(self.lengths)} texts need as many trees with nodes")
        nodes = max(map(len, trees))
        visible = -(-(max(self.lengths) + nodes) // KEY_STEP) * KEY_STEP
        self._reserve(visible)
        device, starts = self.runner.device, self.lengths
        slots = torch.tensor([[s + i for i in range(nodes)] for s in starts], device=device)
        padding = [nodes - len(tree) for tree in trees]
        ids = [tree.token_ids + [0] * p for tree, p in zip(trees, padding, strict=True)]
        positions = [
            [start + depth for depth in tree.depths] + [0] * p
            for tree, start, p in zip(trees, starts, padding, strict=True)
        ]
        seen = self._seen(trees, nodes, visible).to(device)
        logits, states = self._forward(ids, positions, seen, slots, visible, hidden=hidden)
        self._pending = list(trees)
        return [
            Verified(
                tree, logits[i, : len(tree)], None if states is None else states[i][: len(tree)]
            )
            for i, tree in enumerate(trees)
        ]

    def commit(self, paths: Sequence[Sequence[int]]) -> None:
        """Keep one path of each text's tree."""
        if len(paths) != len(self._pending):
            raise ConfigError(f"{len(self._pending)} trees need as many paths, got {len(paths)}")
        sources: list[tuple[int, int, int]] = []  # text, from, to
        for text, (path, tree) in enumerate(zip(paths, self._pending, strict=True)):
            if not tree.is_path(path):
                raise ConfigError(f"nodes {list(path)} are no path from a root of tree {text}")
            start = self.lengths[text]
            sources += [(text, start + n, start + i) for i, n in enumerate(path) if n != i]
            self.lengths[text] += len(path)
        self._pending = []
        if sources:
            texts, old, new = torch.tensor(sources, device=self.runner.device).t()
            for layer in self._layers:
                rows = layer.rows.permute(1, 3, 0, 2, 4)
                rows[texts, new] = rows[texts, old]  # the right side is a copy

    def keep(self, texts: Sequence[int]) -> None:
        """Let all texts but these leave; the others keep their order."""
        index = torch.tensor(list(texts), device=self.runner.device)
        for layer in self._layers:
            layer.rows = layer.rows.index_select(1, index)
        self.lengths = [self.lengths[text] for text in texts]

    def _reserve(self, visible: int) -> None:
        """Move to rows of double capacity where these are too few."""
        if visible <= self._layers[0].rows.shape[3]:
            return
        for layer in self._layers:
            shape = list(layer.rows.shape)
            used, shape[3] = shape[3], 2 * visible
            grown = layer.rows.new_zeros(shape)
            grown[:, :, :, :used] = layer.rows
            layer.rows = grown

    def _seen(self, trees: Sequence[TokenTree], nodes: int, visible: int) -> Tensor:
        """Return which rows each node attends to, shape (batch, nodes, visible), bool."""
        seen = torch.zeros(len(trees), nodes, visible, dtype=torch.bool)
        for text, tree in enumerate(trees):
            start, real = self.lengths[text], len(tree)
            seen[text, :real, :start] = True
            seen[text, :real, start : start + real] = torch.from_numpy(tree.ancestor_mask())
            seen[text, real:, 0] = True  # padding must attend to something
        return seen

    def _forward(
        self,
        ids: list[list[int]],
        positions: list[list[int]],
        seen: Tensor,
        slots: Tensor,
        visible: int,
        *,
        hidden: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits (batch, nodes, num_embeddings) and the last hidden states."""
        runner, device = self.runner, self.runner.device
        inputs, at = torch.tensor(ids, device=device), torch.tensor(positions, device=device)
        plan = runner._lean if runner._uses_lean() else None
        with torch.inference_mode():
            if plan is not None:
                mask = torch.zeros((), dtype=plan.dtype, device=device).where(seen, float("-inf"))
                logits, last = plan.forward(
                    inputs, at.flatten(), mask, self._layers, slots, slice(None)
                )
                shape = (*inputs.shape, -1)
                states = last.to(runner.model.dtype).view(shape) if hidden else None
                return logits.view(shape), states
            for layer in self._layers:
                layer.slots, layer.visible = slots, visible
                layer.is_initialized = True
            bias: Tensor = seen[:, None]
            if runner._additive is not None:
                lowest = torch.finfo(runner._additive).min
                bias = torch.zeros((), dtype=runner._additive, device=device).where(bias, lowest)
            output = runner.model(
                input_ids=inputs,
                position_ids=at,
                attention_mask=bias,
                past_key_values=Cache(layers=list(self._layers)),
                use_cache=True,
                output_hidden_states=hidden,
            )
        return output.logits.float(), output.hidden_states[-1] if hidden else None
