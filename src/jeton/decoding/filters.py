"""The sampling's filters over the nodes of a verified tree, each node with its own context."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jeton.decoding.sampling import Sampling
from jeton.errors import ConfigError
from jeton.lm import sampling as plain
from jeton.lm.tree import TokenTree

Processor = Callable[[Tensor, Tensor], Tensor]
"""A `LogitsProcessor` of transformers: (input_ids (1, seq), scores (1, vocab)) -> scores."""


@torch.inference_mode()
def filter_row(row: Tensor, token_ids: Sequence[int], sampling: Sampling) -> Tensor:
    """Return logits whose softmax is the law of the next token.

    The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p.

    Args:
        row: Shape (vocab,), padded rows of the matrix already dropped.
        token_ids: The tokens before it.
        sampling: What to apply.
    """
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(token_ids, device=row.device)
        row = plain.repetition_penalty(row, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return row
    row = plain.apply_temperature(row, sampling.temperature)
    if sampling.top_k:
        row = plain.top_k(row, min(sampling.top_k, row.shape[-1]))
    if sampling.top_p < 1:
        row = plain.top_p(row, sampling.top_p)
    if sampling.min_p > 0:
        row = plain.min_p(row, sampling.min_p)
    return row


class TreeLogits:
    """The target's logits at the nodes of a tree; a node is filtered when it is first asked for.

    A tree has many nodes and its accepted path few: sorting for top-p only where it matters is
    what keeps sampling as fast as greedy decoding.
    """

    def __init__(
        self,
        raw: Tensor,
        tree: TokenTree,
        context: Sequence[int],
        sampling: Sampling,
        processors: Sequence[Processor] = (),
        hidden: Tensor | None = None,
    ) -> None:
        """Wrap the logits of a tree.

        Args:
            raw: Shape (nodes, vocab), float32, padded rows of the matrix already dropped.
            tree: Node 0 is the last token of the context.
            context: Tokens so far.
            sampling: The filters.
            processors: Applied first, each to the context of its node.
            hidden: The target's last hidden states, shape (nodes, hidden), for verifiers that
                need them.
        """
        self.raw, self.hidden = raw, hidden
        self.is_filtered = bool(processors) or not sampling.is_plain_greedy
        self._tree, self._context = tree, context
        self._sampling, self._processors = sampling, processors
        self._rows: dict[int, Tensor] = {}

    def __getitem__(self, node: int) -> Tensor:
        """Return the filtered logits after a node, shape (vocab,)."""
        if not self.is_filtered:
            return self.raw[node]
        if node not in self._rows:
            self._rows[node] = self._filter(node)
        return self._rows[node]

    def _filter(self, node: int) -> Tensor:
        row = self.raw[node]
        if not self._processors and self._sampling.repetition_penalty == 1.0:
            return filter_row(row, (), self._sampling)
        path = [self._tree.token_ids[i] for i in self._tree.path_to(node)[1:]]
        token_ids = [*self._context, *path]
        if self._processors:
            seen = torch.tensor([token_ids], device=row.device)
            for process in self._processors:
                row = process(seen, row[None])[0]
            if not bool((row > float("-inf")).any()):
                raise ConfigError(
                    f"the logits processors leave no token after {len(token_ids)} tokens",
                    hint="allow at least one token everywhere, such as the end of the text",
                )
        return filter_row(row, token_ids, self._sampling)
