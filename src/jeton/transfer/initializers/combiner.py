"""Combiner: the weighted mean of what other initializers give.

Source: this project, docs/transfer.md; averaging estimates with unlike errors, as TokenAdapt does
with its local and global one (https://arxiv.org/abs/2505.09738).
Differs from the source: any registered initializers, any number of them.
Cost: that of its parts together.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import EmbeddingInitializer, InitInput, InitResult


@dataclass(frozen=True, slots=True)
class Combiner:
    """Options.

    Attributes:
        parts: Names of initializers with their weights: "ridge:2,focus:1". A weight may be left
            out; they are divided by their sum.
    """

    parts: str = "ridge:1,tokenadapt:1,focus:1"

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        parse_parts(self.parts)

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        from jeton.transfer.registry import INITIALIZERS

        parts = parse_parts(self.parts)
        results = []
        for name, _ in parts:
            method: EmbeddingInitializer = INITIALIZERS.create(name)
            if not method.copies_shared:
                raise ConfigError(f"{name} does not copy shared rows and cannot be combined")
            results.append(method.initialize(inputs))
        weights = [weight for _, weight in parts]
        new_input = _mean([r.input_embeddings for r in results], weights)
        assert new_input is not None
        return replace(
            results[0],
            input_embeddings=new_input,
            output_embeddings=_mean([r.output_embeddings for r in results], weights),
            output_bias=_mean([r.output_bias for r in results], weights),
        )


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


def _mean(matrices: list[Tensor | None], weights: list[float]) -> Tensor | None:
    """Return the weighted mean; entries that all agree on stay as they are."""
    first = matrices[0]
    if first is None:
        return None
    given = [matrix for matrix in matrices if matrix is not None]
    mean = sum(
        w * m.to(torch.promote_types(m.dtype, torch.float32))
        for w, m in zip(weights, given, strict=True)
    )
    is_equal = torch.ones_like(first, dtype=torch.bool)
    for matrix in given[1:]:
        is_equal &= matrix == first
    return torch.where(is_equal, first, torch.as_tensor(mean).to(first.dtype))
