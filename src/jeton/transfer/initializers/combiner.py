"""Combiner: the weighted mean of what other initializers give.

Source: this project, docs/transfer.md; averaging estimates with unlike errors, as TokenAdapt does
with its local and global one (https://arxiv.org/abs/2505.09738).
Differs from the source: any registered initializers, any number of them.
Cost: that of its parts together.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import EmbeddingInitializer, InitInput, InitResult
from jeton.transfer.matching import match_tokens


@dataclass(frozen=True, slots=True)
class Combiner:
    """Options.

    Attributes:
        parts: Names of initializers with their weights: "ridge:2,focus:1". A weight may be left
            out; they are divided by their sum.
    """

    parts: str = "ridge:1,tokenadapt:2"

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        parse_parts(self.parts)

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        from jeton.transfer.registry import INITIALIZERS

        is_shared = torch.tensor(
            [match.is_shared for match in match_tokens(inputs.source, inputs.destination)]
        )
        totals: list[Tensor | None] = [None, None, None]
        for name, weight in parse_parts(self.parts):
            method: EmbeddingInitializer = INITIALIZERS.create(name)
            if not method.copies_shared:
                raise ConfigError(f"{name} does not copy shared rows and cannot be combined")
            part = method.initialize(inputs)
            given = (part.input_embeddings, part.output_embeddings, part.output_bias)
            totals = [
                None if rows is None else blend(total, rows, weight, is_shared)
                for total, rows in zip(totals, given, strict=True)
            ]
            counts = (part.num_copied, part.num_composed, part.num_fallback)
            del part, given  # one part at a time: they may be large
        dtype = inputs.input_embeddings.dtype
        new_input, new_output, new_bias = (
            None if total is None else total.to(dtype) for total in totals
        )
        assert new_input is not None
        return InitResult(new_input, new_output, new_bias, *counts)


def parse_parts(text: str) -> list[tuple[str, float]]:
    """Return names with weights that sum to one.

    Example:
        >>> parse_parts("ridge:3,focus")
        [('ridge', 0.75), ('focus', 0.25)]
    """
    parts = []
    for item in text.split(","):
        name, _, weight = item.strip().partition(":")
        try:
            parts.append((name, float(weight) if weight else 1.0))
        except ValueError:
            raise ConfigError(f"{item!r} is not NAME:WEIGHT") from None
    total = sum(weight for _, weight in parts)
    if total <= 0 or any(not name or weight < 0 or name == "combiner" for name, weight in parts):
        raise ConfigError(
            f"parts must name other initializers with weights above 0, got {text!r}",
            hint="for example --set parts=ridge:2,focus:1",
        )
    return [(name, weight / total) for name, weight in parts]


def blend(total: Tensor | None, part: Tensor, weight: float, is_shared: Tensor) -> Tensor:
    """Return a running weighted sum with one more part in it; shared rows are the part's.

    Args:
        total: Of the parts before, in float32 or wider, changed in place; None for the first part.
        part: Shape (destination vocab_size, ...).
        weight: Of the part.
        is_shared: Rows that all parts copy bit for bit, shape (destination vocab_size,).
    """
    wide = part.to(torch.promote_types(part.dtype, torch.float32))
    total = wide * weight if total is None else total.add_(wide, alpha=weight)
    total[is_shared] = wide[is_shared]
    return total
