"""Random rows: the baseline that every other initializer has to beat.

Source: the initializer range of the models themselves; as a baseline of tokenizer transfer in
Minixhofer et al. 2022, "WECHSEL", https://arxiv.org/abs/2112.06598, table 2.
Differs from the source: rows are drawn from a normal law with the mean and spread of each column
of the source, so that their size fits any model; shared rows are copied.
Cost: none.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import compose

_BLOCK = 8192  # rows drawn at a time; bounds the memory beside the result


@dataclass(frozen=True, slots=True)
class Random:
    """Copy what is shared, draw what is new."""

    copies_shared: ClassVar[bool] = True

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = [i for i, match in enumerate(matches) if not match.is_shared]
        result = compose(inputs, matches, {})
        generator = torch.Generator().manual_seed(inputs.seed)
        num_used = inputs.source.vocab_size
        _draw(result.input_embeddings, inputs.input_embeddings[:num_used], new_ids, generator)
        if result.output_embeddings is not None and inputs.output_embeddings is not None:
            _draw(result.output_embeddings, inputs.output_embeddings[:num_used], new_ids, generator)
        return replace(result, num_composed=len(new_ids), num_fallback=0)


def _draw(result: Tensor, rows: Tensor, new_ids: list[int], generator: torch.Generator) -> None:
    """Fill the rows `new_ids` of `result` in place."""
    if not new_ids:
        return
    exact = rows.float()
    mean, spread = exact.mean(0), exact.std(0, correction=0)
    for block in torch.tensor(new_ids).split(_BLOCK):
        noise = torch.randn((len(block), rows.shape[1]), generator=generator)
        result[block] = (mean + noise * spread).to(result.dtype)
