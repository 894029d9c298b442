"""Multivariate: draw new rows from the normal law of the source's rows.

Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models",
https://nlp.stanford.edu/~johnhew/vocab-expansion.html; as the baseline "multivariate" of Mundra
et al. 2024, https://arxiv.org/abs/2407.05841.
Differs from the source: nothing; shared rows are copied.
Cost: the covariance of the source's rows and its Cholesky factor.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import compose

_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Multivariate:
    """Options.

    Attributes:
        scale: Factor of the covariance; 0 gives every new token the mean row. Hewitt has 1e-5 for
            few new tokens, Mundra et al. 1.
    """

    scale: float = 1.0

    copies_shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.scale < 0:
            raise ConfigError(f"scale must not be negative, got {self.scale}")

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        matches = match_tokens(inputs.source, inputs.destination)
        new_ids = [i for i, match in enumerate(matches) if not match.is_shared]
        result = compose(inputs, matches, {})
        if not new_ids:
            return result
        generator = torch.Generator().manual_seed(inputs.seed)
        num_used = inputs.source.vocab_size
        self._draw(result.input_embeddings, inputs.input_embeddings[:num_used], new_ids, generator)
        if inputs.output_embeddings is not None and result.output_embeddings is not None:
            rows = inputs.output_embeddings[:num_used]
            self._draw(result.output_embeddings, rows, new_ids, generator)
        return replace(result, num_composed=len(new_ids), num_fallback=0)

    def _draw(
        self, result: Tensor, rows: Tensor, new_ids: list[int], generator: torch.Generator
    ) -> None:
        """Fill the rows `new_ids` of `result` in place."""
        mean, factor = normal_of(rows)
        for block in torch.tensor(new_ids).split(_BLOCK):
            noise = torch.randn((len(block), rows.shape[1]), generator=generator)
            result[block] = (mean + self.scale**0.5 * noise @ factor.T).to(result.dtype)


def normal_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of rows and a lower triangular L with L L' their covariance, in float32.

    A little is added to the diagonal, so that few or dependent rows have a factor too.
    """
    exact = rows.float()
    mean = exact.mean(0)
    centred = exact - mean
    covariance = centred.T @ centred / len(centred)
    size = covariance.diagonal().mean().clamp_min(1e-30)
    covariance.diagonal().add_(1e-5 * size)
    return mean, torch.linalg.cholesky(covariance)
